"""Sources: rows out of files, folders or hubs; every row checked, nothing dropped in silence,
memory bounded.

A row is a dict with `id` ("<split>-<number>"), `text` (str), `category` (list of str, the options
offered for this row) and `output` (str, the label, or None). This is the layout of ModelScope's
swift/zh_cls_fudan-news; other layouts are mapped to it by `columns`.
"""

import ast
import csv
import gzip
import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset, Features, List, Value

from helpers import ROOT, InputError, one_line
from helpers.files import need
from helpers.hubs import fetch_dataset

SAMPLE = ROOT / "data" / "sample"
SPLITS = {"train": ("train",), "val": ("val", "validation", "dev"), "test": ("test",)}
"""Splits, and the names that files and hubs give them."""
FORMATS = (".jsonl", ".csv", ".parquet")
LAYOUT = {"text": "text", "category": "category", "output": "output"}
KNOWN_LAYOUTS = {"damo/zh_cls_fudan-news": {"text": "prompt", "category": None, "output": "answer"}}
FEATURES = Features(
    {
        "id": Value("string"),
        "text": Value("large_string"),
        "category": List(Value("string")),
        "output": Value("string"),
    }
)
LINE_LIMIT = 64 * 2**20
"""Longest line that is read, in bytes."""
EXPANSION_LIMIT = 200
"""A gzipped file beyond 256 MiB may grow by this factor; text grows by three to ten, a bomb by a
thousand.
"""
EMPTY = "\0\ufeff \t\r\n\u3000"


class BadRow(InputError):
    """A row that is not sound: `reason` is the kind of fault, the message names file and row as
    well.
    """

    def __init__(self, where: str, reason: str, detail: str = ""):
        super().__init__(f"{where}: {reason}{detail}")
        self.reason = reason


class Source(NamedTuple):
    """What `read_source` found."""

    splits: dict[str, Dataset]
    """Checked rows by split ("train", "val", "test"), memory-mapped."""
    skipped: dict[str, int]
    """How many rows were skipped, by reason; empty unless on_bad_row is "skip"."""
    padded: int
    """Rows whose text held NUL characters, which were removed."""


def read_source(
    source: str,
    columns: dict[str, str | None] | None = None,
    revision: str | None = None,
    on_bad_row: str = "error",
) -> Source:
    """The checked rows of `source`.

    source: "sample" (packaged); a .jsonl, .csv or .parquet file, gzipped or not (it becomes the
    train split); a folder of such files named after the splits; a ModelScope id such as
    "swift/zh_cls_fudan-news"; or "hf:owner/name" on Hugging Face. Relative paths start at the
    project's root. Text files are UTF-8 or GB18030.
    columns: which of the source's columns holds `text`, `category` (the options: a list, a JSON or
    Python list in a string, or a separated string) and `output`; category None gives every row the
    set of all labels as its options.
    revision: of a hub's data set. on_bad_row: "error" stops at the first row that is not sound,
    "skip" counts it. Raises InputError for a source that is missing, unreadable or of an unknown
    kind, naming the remedy.
    """
    if on_bad_row not in ("error", "skip"):
        raise InputError(f"on_bad_row is {on_bad_row!r}; it must be 'error' or 'skip'")
    files = find_splits(source)
    columns = LAYOUT | (columns or KNOWN_LAYOUTS.get(source, {}))
    if unknown := columns.keys() - LAYOUT.keys():
        raise InputError(
            f"columns maps {', '.join(sorted(unknown))}; only text, category and output can be mapped"
        )
    if files is None:
        files = find_splits(str(fetch_dataset(source, revision)))
    readers = {split: (lambda path=path: read_file(path)) for split, path in files.items()}
    if "train" not in readers:
        raise InputError(
            f"source {source!r} has no training rows; a folder needs at least a train file ({', '.join(FORMATS)})"
        )
    counts = Counts()
    labels = None if columns["category"] else all_labels(readers, columns)
    splits = {
        split: to_arrow(lambda s=split, r=read: checked(s, r, columns, labels, on_bad_row, counts))
        for split, read in readers.items()
    }
    empty = [split for split, rows in splits.items() if not len(rows)]
    if empty:
        raise InputError(
            f"source {source!r}: {', '.join(empty)} holds no rows"
            + (f"; all were skipped: {counts.text()}" if counts.skipped else "")
        )
    return Source(splits, dict(counts.skipped), counts.padded)


class Counts:
    """What was met on the way."""

    def __init__(self):
        self.skipped: Counter = Counter()
        self.padded = 0

    def text(self) -> str:
        return ", ".join(f"{count} × {reason}" for reason, count in self.skipped.most_common())


def find_splits(source: str) -> dict[str, Path] | None:
    """Files by split for a local source, None for a hub's id."""
    path = SAMPLE if source == "sample" else ROOT / source
    if path.is_dir():
        found = {}
        for split, names in SPLITS.items():
            candidates = [
                path / f"{name}{form}{end}"
                for name in names
                for form in FORMATS
                for end in ("", ".gz")
            ]
            there = [candidate for candidate in candidates if candidate.is_file()]
            if len(there) > 1:
                raise InputError(
                    f"{path} holds {' and '.join(file.name for file in there)}; keep one file for {split}"
                )
            found |= {split: there[0]} if there else {}
        return found
    if path.is_file():
        return {"train": path}
    named = source.removeprefix("hf:")
    if (
        named.count("/") == 1
        and not named.startswith((".", "~", "/"))
        and not named.endswith((*FORMATS, ".gz", ".json"))
    ):
        return None
    raise InputError(
        f"source {source!r}: no such file or folder, and not a hub id; give 'sample', a file, a folder or owner/name"
    )


def read_file(path: Path) -> Iterator[tuple[str, dict]]:
    """Each row of a file as (where it stands, columns)."""
    form = "".join(path.suffixes[-2:]).removesuffix(".gz") if path.suffix == ".gz" else path.suffix
    form = "." + form.rsplit(".", 1)[-1]
    readers = {".jsonl": read_jsonl, ".csv": read_csv, ".parquet": read_parquet}
    if form not in readers:
        raise InputError(f"{path}: unknown kind of file; use {', '.join(FORMATS)} (also gzipped)")
    try:
        yield from readers[form](path)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: neither UTF-8 nor GB18030 ({error.reason} after a good start); convert the file to UTF-8"
        ) from None
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {one_line(error)}") from None


def open_bytes(path: Path):
    """The file's bytes, decompressed."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file in UTF-8 or GB18030, at most LINE_LIMIT bytes each."""
    encoding, total = find_encoding(path), 0
    with open_bytes(path) as file:
        number = 0
        while line := file.readline(LINE_LIMIT + 1):
            number += 1
            total += len(line)
            if len(line) > LINE_LIMIT:
                raise InputError(
                    f"{path} line {number}: longer than {LINE_LIMIT >> 20} MiB; one row a line, please"
                )
            if (
                path.suffix == ".gz"
                and total > 2**28
                and total > EXPANSION_LIMIT * path.stat().st_size
            ):
                raise InputError(
                    f"{path}: grows more than {EXPANSION_LIMIT}-fold when unpacked, which no text does; it is not read"
                )
            yield (
                number,
                line.decode("utf-8-sig" if number == 1 and encoding == "utf-8" else encoding),
            )


def find_encoding(path: Path) -> str:
    """ "utf-8" or "gb18030", judged by the first megabyte. Raises UnicodeDecodeError for
    neither.
    """
    with open_bytes(path) as file:
        start = file.read(2**20)
    whole = start[: start.rfind(b"\n") + 1] or start
    for encoding in ("utf-8", "gb18030"):
        try:
            whole.decode(encoding)
            return encoding
        except UnicodeDecodeError as error:
            if error.end >= len(whole) and not whole.endswith(
                b"\n"
            ):  # a character cut at the megabyte
                return encoding
            last = error
    raise last


def read_jsonl(path: Path) -> Iterator[tuple[str, dict]]:
    """Rows of a file with one JSON object a line; a line that is none comes as its error."""
    for number, line in read_lines(path):
        where = f"{path} line {number}"
        if not line.strip(EMPTY):
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            detail = (
                f" ({error.msg} at column {error.colno})"
                if isinstance(error, json.JSONDecodeError)
                else " (nested too deep)"
            )
            yield where, BadRow(where, "invalid JSON", detail)
            continue
        yield (
            where,
            row
            if isinstance(row, dict)
            else BadRow(where, "expected an object with text, category and output"),
        )


def read_csv(path: Path) -> Iterator[tuple[str, dict]]:
    """Rows of a CSV file with a header line."""
    csv.field_size_limit(LINE_LIMIT)
    reader = csv.DictReader(line.replace("\0", "") for _, line in read_lines(path))
    try:
        for row in reader:
            where = f"{path} line {reader.line_num}"
            yield where, BadRow(where, "more fields than the header names") if None in row else row
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: {error}") from None


def read_parquet(path: Path) -> Iterator[tuple[str, dict]]:
    """Rows of a Parquet file, a small batch at a time."""
    import pyarrow
    from pyarrow import parquet

    file = path
    if path.suffix == ".gz":
        with open_bytes(path) as packed:
            content = packed.read(2**31)
        if len(content) > max(2**28, EXPANSION_LIMIT * path.stat().st_size):
            raise InputError(
                f"{path}: grows more than {EXPANSION_LIMIT}-fold when unpacked; it is not read"
            )
        file = io.BytesIO(content)
    try:
        number = 0
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield f"{path} row {number}", row
    except pyarrow.ArrowException as error:
        raise InputError(f"{path} is no sound Parquet file: {one_line(error)}") from None


def checked(
    split: str, read, columns: dict, labels: list[str] | None, on_bad_row: str, counts: Counts
) -> Iterator[dict]:
    """The sound rows of one split. A row that is not sound raises BadRow or is counted, as
    on_bad_row says.
    """
    for number, (where, raw) in enumerate(read(), 1):
        try:
            if isinstance(raw, BadRow):
                raise raw
            yield check_row(raw, columns, labels, where, f"{split}-{number}", counts)
        except BadRow as error:
            if on_bad_row == "error":
                raise
            counts.skipped[error.reason] += 1


def check_row(
    raw: dict, columns: dict, labels: list[str] | None, where: str, number: str, counts: Counts
) -> dict:
    """`raw` in this module's layout. Raises BadRow when it is not sound."""
    for name, column in columns.items():
        if (
            column is not None
            and column not in raw
            and not (name == "output" and column == "output")
        ):
            raise BadRow(
                where,
                f"no column {column!r} for {name}",
                f"; there are {', '.join(map(repr, raw))}: map them with `columns`",
            )
    text, label = raw[columns["text"]], raw.get(columns["output"])
    if not isinstance(text, str) or not text.strip(EMPTY):
        raise BadRow(where, "a row needs a non-empty `text`")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRow(where, "the text is no valid Unicode (a lone surrogate)") from None
    if "\0" in text:
        counts.padded += 1
        text = text.replace("\0", "")
    options = labels if labels is not None else parse_options(raw[columns["category"]], where)
    label = str(label).strip() if label is not None and str(label).strip() else None
    if label is not None and label not in options:
        raise BadRow(where, "the label is not among its options", f": {label!r} and {options}")
    return {"id": str(raw.get("id") or number), "text": text, "category": options, "output": label}


def parse_options(value, where: str) -> list[str]:
    """Options out of a list, a JSON or Python list in a string, or a separated string."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith(("[", "(")):
            try:
                value = json.loads(text)
            except json.JSONDecodeError:
                try:
                    value = ast.literal_eval(text)
                except (ValueError, SyntaxError, MemoryError, RecursionError):
                    raise BadRow(where, "the options are no list", f": {text[:60]}") from None
        else:
            separator = next((mark for mark in "\t|;；、，," if mark in text), "，")
            value = text.split(separator)
    if (
        not isinstance(value, list | tuple)
        or not value
        or not all(isinstance(option, str) and option.strip() for option in value)
    ):
        raise BadRow(where, "`category` must be a non-empty list of options")
    options = [option.strip() for option in value]
    if len(set(options)) < len(options):
        raise BadRow(where, "`category` repeats an option", f": {options}")
    return options


def all_labels(readers: dict, columns: dict) -> list[str]:
    """The sorted set of labels over all splits, for sources whose rows bring no options."""
    labels = set()
    for read in readers.values():
        labels |= {
            str(row.get(columns["output"])).strip()
            for _, row in read()
            if isinstance(row, dict) and row.get(columns["output"])
        }
    if len(labels) < 2:
        raise InputError(
            f"column {columns['output']!r} holds {len(labels)} class(es); without an options column at least two are needed"
        )
    return sorted(labels)


def as_rows(batch: dict[str, list]) -> list[dict]:
    """A batch of columns, as `Dataset.iter` gives it, as rows."""
    return [dict(zip(batch, values)) for values in zip(*batch.values())]


def to_arrow(rows: Callable[[], Iterator[dict]]) -> Dataset:
    """The rows as a memory-mapped data set, in a scratch folder that goes with the process."""
    from datasets.arrow_writer import ArrowWriter

    folder = tempfile.TemporaryDirectory(prefix="rows-")
    path = Path(folder.name) / "rows.arrow"
    with ArrowWriter(path=str(path), features=FEATURES, writer_batch_size=256) as writer:
        for row in rows():
            writer.write(row)
        count, _ = writer.finalize()
    if not count:
        return Dataset.from_dict({name: [] for name in FEATURES}, features=FEATURES)
    dataset = Dataset.from_file(str(path))
    dataset._scratch = folder  # the folder lives as long as the data set
    return dataset


def read_rows(path: Path) -> list[dict]:
    """The checked rows of one of a run's splits, in order; ids begin with the file's name.

    Raises InputError naming file and line, or the notebook that makes the file.
    """
    need(path, "01-dataset-exploration")
    rows = list(checked(path.stem, lambda: read_file(path), LAYOUT, None, "error", Counts()))
    if not rows:
        raise InputError(f"{path} holds no rows")
    return rows
