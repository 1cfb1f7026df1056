"""Sources: rows out of files, folders or hubs; every row checked, nothing dropped in silence.

Memory is bounded: rows are streamed, and what `read_source` returns is memory-mapped. What a row is
stands in helpers/rows.py, how a file is read in helpers/readers.py.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from helpers import Fault, InputError, one_line
from helpers.files import DAMAGE, below_root, need
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
    is_number,
    label_of,
    no_column,
    options_of,
    other_spelling,
    own_mapping,
    refuse_other_labels,
    shown,
    spelling,
    text_of,
    usual_columns,
)

if TYPE_CHECKING:  # a second to load, for chapter 1 alone
    from datasets import Dataset, Features


PARTING = re.compile(r"[\t\n|｜;；、，,/#&+\\]")
"""Signs that may join two classes in one label."""
WIDE_PARTING = re.compile(PARTING.pattern + r"|[\s・･·]")
"""The same and spaces and dots, for a label with Chinese characters. In English a class may hold a
space.
"""
ALIKE = "give all files the same columns"
"""The remedy where files of one source call their columns by different names."""
SPLIT_NAMES = {name: split for split, names in SPLITS.items() for name in names}
"""Splits by each name that they are given."""
KNOWN_LAYOUTS = {"damo/zh_cls_fudan-news": {"text": "prompt", "category": None, "output": "answer"}}


class Source(NamedTuple):
    """What `read_source` returns."""

    splits: dict[str, Dataset]
    """Checked rows by split ("train", "val", "test"), memory-mapped."""
    skipped: dict[str, int]
    """How many rows were skipped, by reason; empty unless on_bad_row is "skip"."""
    padded: int
    """Rows whose text held NUL characters, which were removed."""
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
    if not sources or not texts:
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
    return Source(splits, dict(reading.skipped), reading.padded, tuple(options))


def headers_removed(folder: Path) -> bool:
    """Whether chapter 1 removed recognised headers from the rows that it left in a folder.

    Args:
        folder: a run's data, with summary.json. Without that file the answer is False.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return bool(summary.get("strip_header"))
    except DAMAGE:
        return False


def refuse_codes_counted_otherwise(source: str | list[str], labels: dict[str, set[str]]) -> None:
    """Raise InputError when one split counts classes from 0 and another from 1.

    Args:
        source: as messages name it.
        labels: that occur, by split.
    """
    train = labels["train"]
    for split, others in labels.items():
        from_zero = {"0" in train, "0" in others} == {True, False}
        if from_zero and train - others and others - train and is_coded(train) and is_coded(others):
            raise InputError(
                f"source {shown(source)}: train counts classes from {min(train, key=int)} to "
                f"{max(train, key=int)} and {split} from {min(others, key=int)} to "
                f"{max(others, key=int)}; count alike in all files"
            )


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


class SingleOptions:
    """Notices a column of options that offers a single option in every row.

    Such a column holds the label, not options.

    Args:
        name: of the file.
        columns: its layout; its column for category is None where rows bring no options.
    """

    def __init__(self, name: str, columns: dict[str, str | None]):
        self.name, self.columns = name, columns
        self.single: set[str] | None = None if columns["category"] is None else set()

    def add(self, options: list[str]) -> None:
        """See the options of a row."""
        if self.single is None or len(options) > 1:
            self.single = None
        else:
            self.single.update(options)

    def refuse_labels(self, names: list[str]) -> None:
        """All rows were seen. Raises InputError when the options are labels.

        Args:
            names: of all columns of the file.
        """
        if self.single and len(self.single) > 1:
            column = self.columns["category"]
            free = [name for name in names if name not in (column, self.columns["text"])]
            other = next(usual_columns("output", free), None)
            ways = [
                f"if {who} the labels, set `columns` to "
                f"{as_yaml(own_mapping(self.columns) | {'category': None, 'output': name})}"
                for who, name in (("it holds", column), (f"{other!r} holds", other))
                if name
            ]
            raise InputError(
                f"{self.name}: column {column!r} offers a single option in every row, so that "
                f"no answer could be wrong; {', '.join(ways)}"
            )


class LabelsElsewhere:
    """Notices a file some of whose rows have their label under another usual name.

    That happens where files were joined.

    Args:
        name: of the file.
        columns: its layout.
    """

    def __init__(self, name: str, columns: dict[str, str | None]):
        self.name, self.columns, self.labelled = name, columns, False
        self.beside: set[str] = set()  # names filled beside a label: these are columns of their own
        self.places: dict[str, str] = {}  # names filled in place of a label, and where that began

    def add(self, where: str, raw: dict, label: str | None) -> None:
        """See a row: its place, the source's columns and its label."""
        column = self.columns["output"]
        self.labelled = self.labelled or label is not None
        others = [name for name in raw if name not in self.columns.values()] if column else []
        for name in usual_columns("output", others):
            if is_gap(raw[name]) or raw[name] == []:
                continue
            if label is not None:
                self.beside.add(name)
            elif column not in raw or name != "answer":  # in a review file, "answer" is a model's
                self.places.setdefault(name, where)

    def refuse_labels(self) -> None:
        """All rows were seen. Raises InputError when some have their label elsewhere."""
        name = next((name for name in self.places if name not in self.beside), None)
        if self.labelled and name is not None:
            raise InputError(
                f"{self.name} {self.places[name]}: the label stands under {name!r} and not under "
                f"{self.columns['output']!r} as in other rows; give all rows the same columns"
            )


class SplitColumn:
    """Notices a column that says of each row which split it belongs to.

    Args:
        name: of the file.
        columns: its layout.
    """

    def __init__(self, name: str, columns: dict[str, str | None]):
        self.name, self.columns = name, columns
        self.candidates: dict[str, set[str]] | None = None  # the splits that each has named so far

    def add(self, raw: dict) -> None:
        """See a row's columns."""
        if self.candidates is None:
            self.candidates = {name: set() for name in raw if name not in self.columns.values()}
        for name in list(self.candidates):
            value = raw.get(name)
            split = SPLIT_NAMES.get(value.strip().lower()) if isinstance(value, str) else None
            if split:
                self.candidates[name].add(split)
            else:
                del self.candidates[name]

    def refuse_splits(self) -> None:
        """All rows were seen. Raises InputError when a column names more than one split."""
        for name, splits in (self.candidates or {}).items():
            if len(splits) > 1:
                files = ", ".join(f"{split}.csv" for split in SPLITS if split in splits)
                raise InputError(
                    f"{self.name}: column {name!r} says which split each row belongs to; "
                    f"write each into a file of its own ({files}) in one folder, or take the "
                    "column out"
                )


class Reading:
    """One reading of a source: checks its rows, and counts those that are not sound.

    Args:
        on_bad_row: see `read_source`.
    """

    def __init__(self, on_bad_row: str):
        self.on_bad_row = on_bad_row
        self.skipped: Counter = Counter()
        self.padded = 0
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
        for label in sorted(labels):
            parting = PARTING if label.isascii() else WIDE_PARTING
            single = [clean(name) for name in parting.split(label)]
            if len(single) > 1 and labels.issuperset(single):
                raise InputError(
                    f"{parts[0].name}: the label {label!r} may be one class or several, for "
                    f"{', '.join(map(repr, single))} are classes; give a row one label, or call "
                    "that class something else"
                )
        return sorted(labels)

    def rows(self, split: str, parts: list[Part], options: list[str] | None) -> Iterator[dict]:
        """The sound rows of one split. Rows that are not sound are numbered, too.

        Args:
            split: its name; "" for a first look at all splits.
            parts: in their order.
            options: what a row is offered whose part has no column of options; None for a first
                look, which counts no faults.
        """
        number, labelled, names = 0, False, []
        # `labels` then chooses among all spellings, so none is refused yet
        counting = options is None and self.on_bad_row == "skip"
        coded: dict[bool, str] = {}  # see `refuse_codes_beside_words`
        for part in parts:
            menu = (options or []) if part.columns["category"] is None else None
            column, own = part.columns["output"], []
            single_options, others = (
                SingleOptions(part.name, part.columns),
                LabelsElsewhere(part.name, part.columns),
            )
            has_labels, part_labels = column is None, set()
            split_column = SplitColumn(part.name, part.columns)
            for where, raw in part.read():
                number += 1
                try:
                    if isinstance(raw, Fault):
                        raise raw
                    own = own or list(raw)
                    has_labels = has_labels or column in raw
                    split_column.add(raw)
                    for name in (part.columns["text"], part.columns["category"]):
                        if name in self.columns and name not in raw:
                            raise Fault(f"no column {name!r}, which other files have", f"; {ALIKE}")
                    row = check_row(raw, part.columns, menu, f"{split}-{number}")
                    label = row["output"]
                    others.add(where, raw, label)
                    if label and not counting:
                        first = self.spellings.setdefault(spelling(label), label)
                        if first != label:
                            raise Fault("a label spelled in two ways", f": {both(first, label)}")
                    if options is not None:
                        refuse_other_labels(row)
                        self.padded += "\0" in text_of(raw[part.columns["text"]])
                except Fault as fault:
                    if self.on_bad_row == "error":
                        raise InputError(f"{part.name} {where}: {fault}") from None
                    if options is not None:
                        self.skipped[fault.reason] += 1
                    self.first_fault = self.first_fault or f"{where}: {fault}"
                    continue
                single_options.add(row["category"])
                if label:
                    part_labels.add(label)
                yield row
            single_options.refuse_labels(own)
            others.refuse_labels()
            split_column.refuse_splits()
            if menu:
                refuse_codes_beside_words(part.name, part_labels, coded)
            named = [name for name in usual_columns("output", own) if name != column]
            mapped = column != LAYOUT["output"]
            if labelled and named and not has_labels:
                raise InputError(
                    f"{part.name}: the label stands under {named[0]!r} and not under {column!r} "
                    f"as in other files; {ALIKE}"
                )
            new = [name for name in own if name not in self.columns]
            if self.columns and new and not has_labels and column in self.columns:
                raise InputError(
                    f"{part.name} has no column {column!r} for output, and {shown(new[0])}, which "
                    f"other files have not; {ALIKE}"
                )
            self.columns.update(own)
            if own and not has_labels and (named or (mapped and split == "train")):
                raise InputError(f"{part.name}: {no_column('output', part.columns, own)}")
            labelled, names = labelled or has_labels, names or own
        if names and not labelled and split in ("", "train"):
            raise InputError(f"{parts[0].name}: {no_column('output', parts[0].columns, names)}")


def refuse_codes_beside_words(name: str, labels: set[str], coded: dict[bool, str]) -> None:
    """Raise InputError when one file of a source has codes as labels, and another words.

    Args:
        name: of the file at hand.
        labels: that occur in it.
        coded: the first file of codes (True) and of words (False) so far; added to.
    """
    codes = is_coded(labels)
    if len(labels) > 1 and (codes or not any(map(str.isdecimal, labels))):
        coded.setdefault(codes, name)
    if len(coded) > 1:
        raise InputError(
            f"{coded[True]} has codes as labels (0, 1, …) and {coded[False]} words; "
            "write them alike in all files"
        )


def is_coded(labels: set[str]) -> bool:
    """Whether labels are the numbers from 0 or 1 on, as programs count classes."""
    numbers = {int(label) for label in labels if re.fullmatch("[0-9]{1,9}", label)}
    least = min(numbers, default=2)
    return least < 2 and numbers == set(range(least, least + len(labels)))


def refuse_minus_ones(source: str | list[str], labels: dict[str, set[str]]) -> None:
    """Raise InputError when all labels of a split are -1, and no training row has that label.

    Data sets on hubs hide the labels of a split in this way.

    Args:
        source: as messages name it.
        labels: that occur, by split.
    """
    for split in labels.keys() - {"train"}:
        if labels[split] == {"-1"} and "-1" not in labels["train"]:
            raise InputError(
                f"source {shown(source)}: every label of {split} is -1, which no training row has; "
                "it says that labels are missing, so leave these fields empty"
            )


def refuse_strange_labels(source: str | list[str], labels: dict[str, set[str]]) -> None:
    """Raise InputError when a split shares no label with the training rows.

    One file then has numbers and the other names, or the split is of another corpus.

    Args:
        source: as messages name it; its rows are offered all labels.
        labels: that occur, by split.
    """
    for split in labels.keys() - {"train"}:
        if labels[split] and labels[split].isdisjoint(labels["train"]):
            ours, theirs = (shown(sorted(labels[one])) for one in (split, "train"))
            empty = ", or leave these fields empty if labels are missing"
            way = empty if len(labels[split]) == 1 else ""
            raise InputError(
                f"source {shown(source)}: {split} has the labels {ours}, of which train has none "
                f"({theirs}); write them alike{way}"
            )


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

    folder, features = tempfile.TemporaryDirectory(prefix="rows-"), row_features()
    path = Path(folder.name) / "rows.arrow"
    try:
        with ArrowWriter(path=str(path), features=features, writer_batch_size=256) as writer:
            for row in rows:
                writer.write(row)
            count, _ = writer.finalize()
    except OSError as error:
        raise InputError(
            f"the scratch folder {folder.name} could not be written ({one_line(error)}); make room "
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
            raise InputError(f"{path}: {no_column(key, layout, names, alone=True)}")
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


def is_gap(value) -> bool:
    """Whether a raw value is a gap."""
    try:
        return label_of(value) is None
    except Fault:
        return False
