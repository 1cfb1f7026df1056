"""Readers: one for each file format. Every row comes with its place in the file, as columns or as a
fault.

Files are streamed. What can be read in two ways is refused, naming file and line, never guessed.
"""

import io
import json
import math
import re
import zlib
from collections import Counter
from itertools import islice
from pathlib import Path

from helpers import Fault, InputError, one_line
from helpers.encodings import decodes, encoding_of
from helpers.files import below_root
from helpers.lines import (
    GZIP,
    LINE_LIMIT,
    form_of,
    is_packed,
    line_fault,
    open_bytes,
    read_lines,
    read_text,
    refuse_bomb,
    refuse_other_kind,
)
from helpers.rows import clean, shown, usual_columns
from helpers.tables import CellError, Rows, mended, read_csv, read_xlsx

SPACE = re.compile(r"[ \t\r\n]*")
LIST_BEHIND = re.compile(r'\{\s*"(\w+)"\s*:\s*\[\s*\{')
"""The beginning of a file whose rows are in a list within an object."""
BY_COLUMNS = re.compile(r'\{\s*("[^"]*"\s*:\s*\{\s*)?"0"\s*:')
"""The beginning of a file that pandas writes by columns, or by the numbers of its rows."""
CONVERSIONS = (
    dict.fromkeys((".xls", ".xlsm", ".et", ".ods", ".numbers"), "save it as .xlsx")
    | dict.fromkeys(
        (".zip", ".7z", ".rar", ".tar", ".tgz", ".zst", ".bz2", ".xz", ".lz4"), "unpack it"
    )
    | dict.fromkeys((".feather", ".pkl", ".pickle"), "write it as .parquet")
    | dict.fromkeys((".ndjson", ".jsonlines"), "name it .jsonl")
    | dict.fromkeys((".sql", ".db", ".sqlite", ".sav", ".dta", ".rds"), "export a table as .csv")
    | {
        ".arrow": "write it as .parquet, as book/your-data.md shows",
        ".txt": "with names of columns and tabs between fields it is .tsv, and of other texts "
        "book/your-data.md shows how to make a table",
    }
)
"""What to do with a file that is not read as it is, by the ending of its name."""


def read_file(path: Path, sheet: str | None = None) -> Rows:
    """The rows of a file.

    Args:
        path: a file in one of the formats of READERS; all but .xlsx may be gzipped.
        sheet: of a workbook; None for its first.

    Raises:
        InputError: when the file is of no known kind, or cannot be read as what its name says.
    """
    form, packed = form_of(path), is_packed(path)
    if form not in READERS or (packed and form == ".xlsx"):
        way = f"; {CONVERSIONS[form]}" if form in CONVERSIONS else ""
        raise InputError(
            f"{path}: unknown kind of file{way}; use {', '.join(READERS)} (gzipped but for .xlsx)"
        )
    if sheet is not None and form != ".xlsx":
        raise InputError(
            f"{path} has no sheets; `sheet` is for .xlsx files: leave it out, or set it to null"
        )
    magic_bytes = GZIP if packed else {".xlsx": b"PK\x03\x04", ".parquet": b"PAR1"}.get(form)
    try:
        if magic_bytes:  # text formats are checked as they are read
            with path.open("rb") as file:
                refuse_other_kind(path, file.read(64), magic_bytes)
        yield from read_xlsx(path, sheet) if form == ".xlsx" else READERS[form](path)
    except (OSError, EOFError, zlib.error) as error:
        way = ""
        if packed and getattr(error, "errno", None) is None:  # the fault is in its content
            way = "; copy the file anew, or, where it is not packed, take .gz off its name"
        raise InputError(f"{path} cannot be read: {one_line(error)}{way}") from None


def column_names(file: Path | str, sheet: str | None = None, most: int | None = 100) -> list[str]:
    """Names of the columns in a file's first rows, in order.

    Args:
        file: a path below the project's root unless absolute; see `read_file`.
        sheet: of a workbook; None for its first.
        most: how many rows to look at; None for all.
    """
    names: dict[str, None] = {}
    for _, raw in islice(read_file(below_root(file), sheet), most):
        names |= dict.fromkeys((raw.raw or {}) if isinstance(raw, Fault) else raw)
    return list(names)


def with_unique_names(pairs: list[tuple[str, object]]) -> dict | Fault:
    """A JSON object, or a fault when it names a column twice; the last one is in the fault's `raw`.

    Args:
        pairs: names and values, as they stand in the file.
    """
    row = dict(pairs)
    if len(row) == len(pairs):
        return row
    name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
    return Fault("two columns of one name", f": {shown(name)}", row)


def json_fault(error: Exception) -> Fault:
    """The fault that says why a text is not JSON."""
    if isinstance(error, json.JSONDecodeError):
        return Fault("invalid JSON", f" ({error.msg} at column {error.colno})")
    deep = isinstance(error, RecursionError)
    return Fault("invalid JSON", " (nested too deep)" if deep else f" ({one_line(error)})")


def as_object(value, text: str) -> dict | Fault:
    """A JSON value as a row, or the fault that keeps it from being one.

    Args:
        value: as parsed, with the faults of `with_unique_names`.
        text: what it was parsed from.
    """
    raw = value.raw if isinstance(value, Fault) else value
    if not isinstance(raw, dict):
        way = '; columns need names, as in {"text": …}' if isinstance(value, list) else ""
        array = isinstance(value, list) and any(isinstance(one, dict) for one in value)
        way = "; an array of them is .json" if array else way
        return Fault("expected an object with text, category and output", way)
    for name, inner in raw.items():
        raw[name] = without_faults(inner)
    if fault := line_fault(text):
        return Fault(fault.reason, fault.detail, mended(raw))
    return value


def without_faults(value):
    """A JSON value within a column, where an object may name something twice and the last wins."""
    if isinstance(value, Fault):
        value = value.raw
    if isinstance(value, dict):
        return {name: without_faults(inner) for name, inner in value.items()}
    return [without_faults(inner) for inner in value] if isinstance(value, list) else value


def read_jsonl(path: Path) -> Rows:
    """Rows of a file with one JSON object per line."""
    for number, line in read_lines(path):
        if not clean(line):
            continue
        try:
            # where files were joined, a byte-order mark may stand between them
            value = json.loads(line.lstrip("\ufeff"), object_pairs_hook=with_unique_names)
            row = as_object(value, line)
        except (ValueError, RecursionError) as error:
            fault = line_fault(line) or json_fault(error)
            yield f"line {number}", Fault(fault.reason, fault.detail + way_out_of_line(line))
        else:
            yield f"line {number}", row


def way_out_of_line(line: str) -> str:
    """What a message adds where a line of a file of lines is no JSON; "" where nothing is known.

    Args:
        line: of the file.
    """
    text = clean(line)
    if text in ("[", "{") or text.startswith("[{"):
        return "; one object a line, please; an array of them is .json"
    if text.endswith("},"):
        return "; no comma belongs behind a line"
    if re.search(r"\}\s*\{", text):
        return "; one object a line, please"
    if re.match(r"\{\s*'", text):
        return "; write it with json.dumps, for Python prints a row otherwise"
    return ""


def read_json(path: Path) -> Rows:
    """Rows of a file that is one JSON array of objects, read an element at a time.

    Some programs give the same ending to a file with one object per line; this is read, too.
    """
    decoder = json.JSONDecoder(object_pairs_hook=with_unique_names)
    chunks, number, place = read_text(path), 0, 1
    text = next(chunks).lstrip()
    while text.startswith("{") and "\n" not in text and len(text) < LINE_LIMIT:
        if not (chunk := next(chunks, "")):
            break
        text += chunk  # one object, or a first row, may be longer than a read
    table = sole_object(text)
    whole = table is not None and holds_rows(table)
    in_lines = sole_object(text.partition("\n")[0]) is not None
    if in_lines and not whole:
        yield from read_jsonl(path)
        return
    if not text.startswith("["):
        way = "write each object on a line of its own"
        if whole or BY_COLUMNS.match(text):
            way = way_out_of(table or {})
        elif behind := LIST_BEHIND.match(text):
            way = f"keep the list behind {shown(behind[1])}, and nothing around it"
        raise InputError(
            f"{path}: expected an array of objects, such as [{{…}}, {{…}}], as pandas writes one "
            f"with orient='records', or an object a line; {way}"
        )
    while True:
        place = SPACE.match(text, place).end()
        if text.startswith("]", place):
            break
        fault = "the array does not end"
        try:
            value, end = decoder.raw_decode(text, place)
            row = as_object(value, text[place:end])
            end = SPACE.match(text, end).end()
        except (ValueError, RecursionError) as error:
            fault, end = json_fault(error), len(text)
        if end == len(text):  # only what follows an element shows that it is complete
            chunk = next(chunks, None)
            if chunk is None or len(text) - place > LINE_LIMIT:
                raise InputError(f"{path} row {number + 1}: {fault}")
            text, place = text[place:] + chunk, 0
            continue
        number += 1
        yield f"row {number}", row
        if text[end] not in ",]":
            raise InputError(f"{path}: no comma behind row {number}")
        place = end + (text[end] == ",")
    if clean(text[place + 1 :]) or any(map(clean, chunks)):
        raise InputError(
            f"{path}: more behind the end of the array; with a row a line it is .jsonl"
        )


def sole_object(text: str) -> dict | None:
    """The object that a text consists of; None where it holds something else.

    Args:
        text: a file, its first line, or its beginning where it is long.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def lists_of_rows(table: dict) -> list[str]:
    """The names in an object behind which a list of objects stands.

    Args:
        table: a file's only object.
    """
    return [
        name
        for name, value in table.items()
        if value and isinstance(value, list) and isinstance(value[0], dict)
    ]


def holds_rows(table: dict) -> bool:
    """Whether a file's only object holds rows and is none itself.

    It holds no text, as where pandas writes columns, or the articles stand in a list within it.

    Args:
        table: the object.
    """
    if all(isinstance(value, list | dict) for value in table.values()):
        return bool(table)
    within = [name for behind in lists_of_rows(table) for name in table[behind][0]]
    return any(usual_columns("text", within)) and not any(usual_columns("text", list(table)))


def way_out_of(table: dict) -> str:
    """What to do with a file that is one object, and should hold rows.

    Args:
        table: the object; empty for what is too long to be looked at.
    """
    names = lists_of_rows(table)
    if len(names) == 1:
        return f"keep the list behind {shown(names[0])}, and nothing around it"
    if names:
        return f"write the lists behind {', '.join(map(shown, names[:4]))} into files of their own"
    return "here one object holds the columns, so write an object for each row"


def read_parquet(path: Path) -> Rows:
    """Rows of a Parquet file, read a small batch at a time."""
    import pyarrow
    from pyarrow import parquet

    file = path
    if is_packed(path):
        with open_bytes(path) as packed:
            content = packed.read(2**31)
        refuse_bomb(path, len(content))
        refuse_other_kind(path, content[:64], b"PAR1")
        file = io.BytesIO(content)
    try:
        table = parquet.ParquetFile(file)
        for name, count in Counter(table.schema_arrow.names).items():
            if count > 1:
                raise InputError(f"{path}: {count} columns are called {name!r}; rename one")
        number, classes = 0, class_names(table.schema_arrow.metadata)
        encodings = encodings_of(table)
        for batch in table.iter_batches(batch_size=256):
            for row in batch_rows(batch, encodings):
                number += 1
                yield f"row {number}", row if isinstance(row, Fault) else with_names(row, classes)
    except InputError:
        raise
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:
        raise InputError(f"{path} is no sound Parquet file: {one_line(error)}") from None


def class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """The names that class numbers stand for, by column, where the library `datasets` kept them.

    Args:
        metadata: of the file's Arrow schema.
    """
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        features = {name: class_feature(feature) for name, feature in features.items()}
        named = {name: f for name, f in features.items() if f.get("_type") == "ClassLabel"}
        return {name: list(map(str, feature["names"])) for name, feature in named.items()}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def class_feature(feature) -> dict:
    """What `datasets` recorded about a column, or about the elements of a column of lists."""
    while isinstance(feature, list) or "feature" in feature:
        feature = feature[0] if isinstance(feature, list) else feature["feature"]
    return feature


def with_names(row: dict, classes: dict[str, list[str]]) -> dict | Fault:
    """A row with names in place of its class numbers, whether these are alone or in a list.

    The number -1 means no class. A number beyond the classes makes the row a fault.

    Args:
        row: of a Parquet file.
        classes: see `class_names`.
    """
    for column in classes.keys() & row.keys():
        names, value = dict(enumerate(classes[column])) | {-1: None, None: None}, row[column]
        numbers = value if isinstance(value, list) else [value]
        gap = isinstance(value, float) and math.isnan(value)
        if gap or not all(isinstance(number, int | float | None) for number in numbers):
            continue
        if strange := [number for number in numbers if number not in names]:
            detail = f": {shown(strange[0])} in {shown(column)}, of {len(classes[column])} classes"
            return Fault("a number that stands for no class", detail, row)
        named = [names[number] for number in numbers]
        row[column] = named if isinstance(value, list) else named[0]
    return row


def column_values(column) -> list:
    """Values of an Arrow column; if Python cannot hold one, all but gaps become a CellError."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError, KeyError):  # such as dates beyond 9999, unknown time zones
        return [CellError("a value that cannot be read") if v.is_valid else None for v in column]


def encodings_of(table) -> dict[str, str]:
    """The encoding of each column that holds texts as bytes.

    It is told from all texts of a column together, because a short label may be sound in two
    encodings. A column of other bytes, such as pictures, has none.

    Args:
        table: an open Parquet file. Each such column is read until there is a megabyte of different
            texts beyond ASCII.
    """
    from pyarrow.types import is_nested

    encoding_by_column = {}
    for field in table.schema_arrow:
        if "binary" not in str(field.type) or is_nested(field.type):
            continue
        texts: dict[bytes, None] = {}
        size = 0
        for batch in table.iter_batches(batch_size=256, columns=[field.name]):
            for value in column_values(batch.column(field.name)):
                text = value[:4096] if isinstance(value, bytes) else b""
                if not text.isascii() and text not in texts:
                    texts[text] = None
                    size += len(text)
            if size >= 2**20:
                break
        try:
            encoding_by_column[field.name] = encoding_of(b"\n".join(texts))
        except Fault:
            pass
    return encoding_by_column


def decoded(value, encoding: str | None):
    """A value of a column; bytes become text if they are sound in the column's encoding."""
    if isinstance(value, bytes) and encoding and decodes(value, encoding):
        return value.decode(encoding)
    return value


def batch_rows(batch, encodings: dict[str, str]) -> list[dict | Fault]:
    """Rows of an Arrow batch; a row whose text is not UTF-8 comes as a fault.

    Args:
        batch: of a Parquet file.
        encodings: of the columns that hold texts as bytes; see `encodings_of`.
    """
    names = batch.schema.names
    try:
        columns = [
            [decoded(value, encodings.get(name)) for value in column_values(column)]
            for name, column in zip(names, batch.columns)
        ]
        return [dict(zip(names, values)) for values in zip(*columns)]
    except UnicodeDecodeError as error:
        if len(batch) == 1:
            detail = f" ({error.object[error.start]:#04x})"
            return [Fault("a byte that is not sound in the file's encoding", detail)]
        places = range(len(batch))
        return [row for place in places for row in batch_rows(batch.slice(place, 1), encodings)]


READERS = {
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".json": read_json,
    ".xlsx": read_xlsx,
    ".parquet": read_parquet,
}
"""The reader of each format, by the ending of a file's name."""
