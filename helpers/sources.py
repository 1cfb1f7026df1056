"""Sources: rows out of files, folders or hubs; every row checked, nothing dropped in silence.

Memory is bounded: rows are streamed, and what `read_source` returns is memory-mapped. What a row is
stands in helpers/rows.py, how a file is read in helpers/readers.py, what only several rows show in
helpers/watches.py.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from helpers import Fault, InputError, one_line
from helpers.files import DAMAGE, below_root, need, read_json
from helpers.lines import form_of
from helpers.locations import SPLITS, Part, find_splits, source_parts
from helpers.parameters import refuse_out_of_range
from helpers.readers import column_names, read_file, read_jsonl
from helpers.rows import (
    LAYOUT,
    as_yaml,
    both,
    check_columns,
    check_row,
    clean,
    columns_of_objects,
    is_gap,
    is_number,
    no_column,
    options_of,
    other_spelling,
    own_mapping,
    python_value,
    refuse_other_labels,
    shown,
    spelling,
)
from helpers.watches import (
    FileWatch,
    SingleOptions,
    SplitWatch,
    refuse_codes_counted_otherwise,
    refuse_joined_labels,
    refuse_minus_ones,
    refuse_strange_labels,
    refuse_truths_beside_numbers,
)

if TYPE_CHECKING:  # a second to load, for chapter 1 alone
    from datasets import Dataset, Features


KNOWN_LAYOUTS = {"damo/zh_cls_fudan-news": {"text": "prompt", "category": None, "output": "answer"}}


class Source(NamedTuple):
    """What `read_source` returns."""

    splits: dict[str, Dataset]
    """Checked rows by split ("train", "val", "test"), memory-mapped."""
    skipped: dict[str, int]
    """How many rows were skipped, by reason; empty unless on_bad_row is "skip"."""
    padded: int
    """Rows whose text held NUL characters, which were removed."""
    broken: int
    """Rows whose text holds U+FFFD, the sign for a character that was lost before."""
    menu: tuple[str, ...] = ()
    """All labels, sorted: the options of rows that bring none. Empty where each brings its own."""


class Article(NamedTuple):
    """One row of a reader's own file."""

    place: str
    """Where it is, such as "my.xlsx row 3"."""
    raw: dict
    """The reader's columns in their order, as far as they could be read."""
    row: dict | None
    """The row in the project's layout; None when it is not sound."""
    fault: str | None
    """What is wrong with it; None when it is sound."""


def read_source(
    source: str | list[str],
    columns: dict[str, str | None] | None = None,
    revision: str | None = None,
    on_bad_row: str = "error",
    sheet: str | None = None,
) -> Source:
    """The checked rows of a source.

    Args:
        source: "sample" (packaged); a .jsonl, .json, .csv, .tsv, .xlsx or .parquet file (it becomes
            the train split); a folder of such files named after the splits, in it or in its `data`;
            a ModelScope id such as "swift/zh_cls_fudan-news", or "hf:owner/name"; or a list of
            these. A list is read one after the other, and a file in it called test.csv is the test
            split. Relative paths start at the project's root.
        columns: which columns hold `text`, `category` (the options) and `output` (the label).
            Where category is None, every row is offered all labels that occur.
        revision: of a hub's data set.
        on_bad_row: "error" stops at the first row that is not sound, "skip" leaves such rows out
            and counts them.
        sheet: of an .xlsx file; None for its first.

    Raises:
        InputError: for a source that is missing, unreadable or not sound, with the remedy.
    """
    refuse_out_of_range("on_bad_row", on_bad_row)
    sources = [source] if isinstance(source, str) else source
    texts = isinstance(sources, list | tuple) and all(isinstance(one, str) for one in sources)
    if not sources or not texts or "" in sources:
        raise InputError(f"source is {shown(source)}; give one source, or a list of them")
    if len(set(sources)) < len(sources):
        raise InputError(f"source {shown(source)} names one of them twice")
    parts: dict[str, list[Part]] = {}
    for one in sources:
        layout = check_columns(columns, KNOWN_LAYOUTS.get(one))
        more = source_parts(one, layout, revision, sheet, alone=len(sources) == 1)
        for split, of_split in more.items():
            parts.setdefault(split, []).extend(of_split)
    refuse_copies(source, parts)
    if "train" not in parts:
        raise InputError(f"source {shown(source)} has no training rows: none holds a train file")
    if revision is not None and all(find_splits(one) is not None for one in sources):
        raise InputError(
            f"source {shown(source)} is no hub's data set; leave `revision` out, or set it to null"
        )
    files = [part for of_split in parts.values() for part in of_split]
    if sheet is not None and all(form_of(Path(part.name)) != ".xlsx" for part in files):
        raise InputError(
            f"{files[0].name} has no sheets; `sheet` is for .xlsx files: leave it out, or set it "
            "to null"
        )
    parts = {split: parts[split] for split in SPLITS if split in parts}
    reading = Reading(on_bad_row)
    options = reading.labels([part for of_split in parts.values() for part in of_split])
    splits = {
        split: to_arrow(reading.rows(split, of_split, options)) for split, of_split in parts.items()
    }
    for split, rows in splits.items():
        if not len(rows):
            skipped = f"; all were skipped, the first for {reading.first_fault}"
            skipped = skipped if reading.skipped else ""
            raise InputError(f"source {shown(source)}: {split} holds no rows{skipped}")
    labels = {split: set(rows.unique("output")) - {None} for split, rows in splits.items()}
    refuse_minus_ones(source, labels)
    if options:
        refuse_strange_labels(source, labels)
        refuse_codes_counted_otherwise(source, labels)
    return Source(splits, dict(reading.skipped), reading.padded, reading.broken, tuple(options))


def read_summary(path: Path) -> dict:
    """What chapter 1 kept about the rows of a run; see corpus.summary.

    Args:
        path: its summary.json. Without a sound file nothing is known, and the dict is empty.
    """
    try:
        summary = read_json(path)
        return summary if isinstance(summary, dict) else {}
    except DAMAGE:
        return {}


def refuse_copies(source: list[str] | str, parts: dict[str, list[Part]]) -> None:
    """Raise InputError when two of the sources hold one file, even under different names."""
    origins: dict[Path, Part] = {}
    for part in (part for of_split in parts.values() for part in of_split):
        first = origins.setdefault(Path(part.name).resolve(), part)
        if first.source != part.source:
            raise InputError(
                f"source {shown(source)} holds {part.name} twice, by {shown(first.source)} and by "
                f"{shown(part.source)}; leave one of them out"
            )


class Reading:
    """One reading of a source: checks its rows, and counts those that are not sound.

    Args:
        on_bad_row: see `read_source`.
    """

    def __init__(self, on_bad_row: str):
        self.on_bad_row = on_bad_row
        self.skipped: Counter = Counter()
        self.padded = self.broken = 0
        self.first_fault = ""
        # each label as it is spelled first, or most often, by what `spelling` makes of it
        self.spellings: dict[str, str] = {}
        self.columns: set[str] = set()  # of the files that were read to their end

    def labels(self, parts: list[Part]) -> list[str]:
        """Every label of the sound rows whose part has no column of options, sorted.

        Args:
            parts: of all splits.
        """
        parts = [part for part in parts if part.columns["category"] is None]
        if parts and all(part.columns["output"] is None for part in parts):
            raise InputError(
                f"{parts[0].name}: `columns` maps both category and output to null, so there is no "
                "label to learn; map output to the column that holds the labels"
            )
        outputs = Counter(row["output"] for row in self.rows("", parts, None))
        for label, _ in outputs.most_common():
            if label:  # the most frequent spelling counts: a typo that comes first is skipped
                self.spellings.setdefault(spelling(label), label)
        labels = {self.spellings[spelling(label)] for label in outputs if label}
        self.columns.clear()
        if parts and not outputs and not self.first_fault:
            raise InputError(f"{parts[0].name} holds no rows")
        if parts and len(labels) < 2:
            fault = f"; skipped: {self.first_fault}" if self.first_fault else ""
            raise InputError(
                f"{parts[0].name}: column {parts[0].columns['output']!r} holds {len(labels)} "
                f"class(es); without an options column at least two are needed{fault}"
            )
        if parts:
            refuse_joined_labels(parts[0].name, labels)
            refuse_truths_beside_numbers(parts[0].name, labels)
        return sorted(labels)

    def rows(self, split: str, parts: list[Part], options: list[str] | None) -> Iterator[dict]:
        """The sound rows of one split. Rows that are not sound are numbered, too.

        Args:
            split: its name; "" for a first look at all splits.
            parts: in their order.
            options: what a row is offered whose part has no column of options; None for a first
                look, which counts no faults.
        """
        number, files = 0, SplitWatch(split, self.columns)
        for part in parts:
            file = FileWatch(part.name, part.columns)
            for where, raw in part.read():
                number += 1
                try:
                    if isinstance(raw, Fault):
                        raise raw
                    file.add_columns(raw)
                    files.refuse_lost_column(raw, part.columns)
                    row = self.check(where, raw, file, options, f"{split}-{number}")
                    file.add(row)
                except Fault as fault:
                    self.skip(part.name, where, fault, counted=options is not None)
                else:
                    yield row
            file.refuse_columns()
            if options and part.columns["category"] is None:
                files.refuse_codes_beside_words(file)
            files.add(file)
        files.refuse_unlabelled()

    def check(
        self, where: str, raw: dict, file: FileWatch, options: list[str] | None, number: str
    ) -> dict:
        """A row in the project's layout, checked against those that came before it.

        Args:
            where: its place in the file.
            raw: its columns.
            file: the one that it is in; sees where the label stands.
            options: see `rows`.
            number: of the row.

        Raises:
            Fault: when the row is not sound.
        """
        first_look = options is None
        menu = (options or []) if file.columns["category"] is None else None
        row = check_row(raw, file.columns, menu, number)
        label = row["output"]
        file.labels_elsewhere.add(where, raw, label)
        # at the first look `labels` chooses among all spellings if it may leave rows out
        if label and not (first_look and self.on_bad_row == "skip"):
            first = self.spellings.setdefault(spelling(label), label)
            if first != label:
                raise Fault("a label spelled in two ways", f": {both(first, label)}")
        if not first_look:
            refuse_other_labels(row)
            self.padded += "\0" in python_value(raw[file.columns["text"]])
            self.broken += "\ufffd" in row["text"]
        return row

    def skip(self, name: str, where: str, fault: Fault, *, counted: bool) -> None:
        """Leave out a row that is not sound, or raise InputError if that is not allowed.

        Args:
            name: of its file.
            where: its place there.
            fault: what is wrong with it.
            counted: whether it is added to those that were skipped.
        """
        if self.on_bad_row == "error":
            way = "; mend or delete the row, or leave such rows out with `on_bad_row: skip`"
            way = "" if "; " in fault.detail else way  # it names one already
            raise InputError(f"{name} {where}: {fault}{way}") from None
        if counted:
            self.skipped[fault.reason] += 1
        self.first_fault = self.first_fault or f"{where}: {fault}"


def as_rows(batch: dict[str, list]) -> list[dict]:
    """A batch of columns, as `Dataset.iter` gives it, as rows."""
    return [dict(zip(batch, values)) for values in zip(*batch.values())]


def row_features() -> Features:
    """A row's columns, as a data set keeps them."""
    from datasets import Features, List, Value

    word = Value("string")
    kinds = {"id": word, "source_id": word, "text": Value("large_string")}
    return Features(kinds | {"category": List(word), "output": word})


def to_arrow(rows: Iterator[dict]) -> Dataset:
    """The rows as a memory-mapped data set, in a scratch folder that is deleted with it."""
    from datasets import Dataset
    from datasets.arrow_writer import ArrowWriter

    features, place = row_features(), "for rows"
    try:
        folder = tempfile.TemporaryDirectory(prefix="rows-")
        place, path = folder.name, Path(folder.name) / "rows.arrow"
        with ArrowWriter(path=str(path), features=features, writer_batch_size=256) as writer:
            for row in rows:
                writer.write(row)
            count, _ = writer.finalize()
    except OSError as error:
        raise InputError(
            f"the scratch folder {place} could not be written ({one_line(error)}); make room "
            "there, or name another place with TMPDIR"
        ) from None
    if not count:
        return Dataset.from_dict({name: [] for name in features}, features=features)
    dataset = Dataset.from_file(str(path))
    dataset._scratch = folder  # the folder lives as long as the data set
    return dataset


def read_rows(path: Path | str) -> list[dict]:
    """The rows of a file that notebook 01 wrote, in order, checked again.

    Args:
        path: a .jsonl file. A row keeps its `id` and `source_id`; a row without them gets a number.

    Raises:
        InputError: for a row that is not sound, with its file and line, and for a missing file,
            with the notebook that makes it.
    """
    path = need(path, "01-dataset-exploration")
    rows, lines = [], {}
    for number, (where, raw) in enumerate(read_jsonl(path), 1):
        try:
            if isinstance(raw, Fault):
                raise raw
            row = refuse_other_labels(check_row(raw, LAYOUT, None, f"{path.stem}-{number}"))
        except Fault as fault:
            raise InputError(f"{path} {where}: {fault}") from None
        if "source_id" in raw:
            row |= {"id": raw.get("id"), "source_id": raw["source_id"]}
        if not isinstance(row["id"], str) or not clean(row["id"]):
            raise InputError(f"{path} {where}: a row's `id` must be a text; run notebook 01 again")
        if row["id"] in lines:
            raise InputError(
                f"{path} {where}: the id {row['id']!r} is that of {lines[row['id']]} already; "
                "run notebook 01 again"
            )
        lines[row["id"]] = where
        rows.append(row)
    if not rows:
        raise InputError(f"{path} holds no rows")
    return rows


def read_articles(
    file: Path | str,
    columns: dict[str, str | None] | None = None,
    sheet: str | None = None,
    options: list[str] | None = None,
) -> Iterator[Article]:
    """The rows of a reader's own file, one by one, for classifying them.

    Args:
        file: as for `read_source`; below the project's root unless absolute.
        columns: as for `read_source`. Options and label may be absent.
        sheet: of an .xlsx file; None for its first.
        options: what a row is offered that brings no options of its own.

    Returns:
        An article for every row, in order; a row that is not sound comes with its fault. Here a
        label may be missing from the options.

    Raises:
        InputError: for a file that cannot be read or lacks a mapped column.
    """
    path = below_root(file)
    if not path.is_file():
        raise InputError(f"{shown(str(file))}: no such file")
    layout = check_columns(columns)
    names = column_names(path, sheet) or column_names(path, sheet, most=None)
    if not names:
        rows = read_file(path, sheet)
        fault = next((f": {where}: {row}" for where, row in rows if isinstance(row, Fault)), None)
        raise InputError(f"{path} holds no {'sound row' + fault if fault else 'rows'}")
    needed = {key for key in layout if key == "text" or key in (columns or {})}
    needed |= set() if options else {"category"}
    if {layout[key] for key in needed} - {None, *names}:
        names = column_names(path, sheet, most=None)  # JSON may bring a column late
    for key, column in layout.items():
        mapped = key == "text" or key in (columns or {})
        if mapped and column is not None and column not in names:
            rows = (raw for _, raw in read_file(path, sheet) if isinstance(raw, dict))
            nested = columns_of_objects(next(rows, {}))
            raise InputError(f"{path}: {no_column(key, layout, names, alone=True, nested=nested)}")
    if not options and layout["category"] not in names:
        raise InputError(f"{path} has no column of options; give `options`, or map `category`")
    if options and layout["category"] in names:
        refuse_single_options(path, layout, sheet)
    return articles(path, layout, sheet, options)


def refuse_single_options(path: Path, columns: dict, sheet: str | None) -> None:
    """Raise InputError when the first rows of a reader's file offer a single option each.

    Such a column holds labels, as one called `category` often does, and each row's answer would be
    its own label.
    """
    column, single = columns["category"], False
    for _, raw in islice(read_file(path, sheet), 100):
        value = None if isinstance(raw, Fault) else raw.get(column)
        if is_gap(value):
            continue
        try:
            single = len(options_of(value)) == 1
        except Fault:  # named where the row is read
            if not is_number(value):
                return
            single = True  # a column of numbers holds labels
        if not single:
            return
    if single:
        mapping = own_mapping(columns) | {"category": None}
        raise InputError(
            f"{path}: column {column!r} offers a single option in every row, so that nothing is "
            f"left to ask; to offer every row all labels, set `columns` to {as_yaml(mapping)}"
        )


def articles(
    path: Path, columns: dict, sheet: str | None, options: list[str] | None
) -> Iterator[Article]:
    """The articles that `read_articles` returns, once its arguments are checked."""
    single_options = SingleOptions(str(path), columns)
    for number, (where, raw) in enumerate(read_file(path, sheet), 1):
        place = f"{path.name} {where}"
        if isinstance(raw, Fault):
            yield Article(place, raw.raw or {}, None, str(raw))
            continue
        # A row that leaves a column out, as JSON may, has nothing there.
        whole = {column: None for column in columns.values() if column} | raw
        brings = columns["category"] is not None and not is_gap(whole[columns["category"]])
        menu = None if brings or not options else list(options)
        try:
            row = check_row(whole, columns, menu, f"row-{number}")
        except Fault as fault:
            yield Article(place, raw, None, str(fault))
            continue
        if option := other_spelling(row):
            raise InputError(
                f"{path} {where}: the label is spelled otherwise than its option: "
                f"{both(row['output'], option)}; spell it alike, or read no labels: set `columns` "
                f"to {as_yaml(own_mapping(columns) | {'output': None})}"
            )
        if menu is None:
            single_options.add(row["category"])
        if options and len(row["category"]) == 1 < len(options):
            yield Article(place, raw, None, f"a single option, {row['category'][0]!r}: no choice")
            continue
        yield Article(place, raw, row, None)
    single_options.refuse_labels([])
