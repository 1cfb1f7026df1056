"""Writers: tables as .csv, .xlsx or .jsonl, whole or not at all, that run nothing when opened."""

import csv
import datetime
import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

from helpers import Fault, InputError
from helpers.encodings import decode
from helpers.lines import LINE_LIMIT

FORMS = (".csv", ".xlsx", ".jsonl")
EXCEL_ROWS, EXCEL_COLUMNS, EXCEL_TEXT = 1_048_576, 16_384, 32_767
"""The most that a sheet of Excel holds: rows, columns, and characters (UTF-16 units) in a cell."""
FORMULA = re.compile(r"[ \u3000]*[=+\-@＝＋－＠\t\r\n]")
"""The beginning of a text that a spreadsheet may run as a formula."""
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*([eE][+-]?\d+)?%?")
LATER_FORMULAS = [
    re.compile(
        # where a field may begin, also the first one of a line
        rf'((?:^|[{separator}\r\n])(?:"|[^\S{separator}\r\n])*)'
        # no number, unless it goes on behind a decimal comma as a formula: -3,5*…
        r'(?![+-][\d.,%]+"?,(?!"*\s*[\d.]*(?:[eE][+-]?\d+)?[+\-*/^&=<>%:]))'
        # one of the last signs follows: without it a formula neither calls nor fetches anything
        rf"(?=[=+\-@＝＋－＠][^{separator}\r\n]*[(|!（｜！])"
    )
    for separator in ";\t"
]
"""Places in a line of a CSV file from which a spreadsheet may run what follows. They matter where
it divides lines at semicolons or tabs, for then a quote inside a field holds nothing together.
"""
ESCAPE = re.compile(r"_(?=x[0-9A-Fa-f]{4}_)")
"""The beginning of what a workbook would read as one of its own escapes, such as _x000A_."""
CONTROL = re.compile("[\x00-\x08\x0b-\x1f]")
"""Control characters, which the XML of a workbook can hold only as escapes."""
NO_CHARACTER = re.compile("[\ud800-\udfff\ufffe\uffff]")
"""Halves of characters, and code points that are never characters."""


def check_target(path: Path, forms: tuple[str, ...] = FORMS) -> None:
    """Refuse a file that could not be written, before any work is done for it.

    Args:
        path: the file.
        forms: endings that it may have.

    Raises:
        InputError: for another ending, a folder that is missing or cannot be written.
    """
    try:
        scratch_of(path).exists()  # raises where its name, longer than that of `path`, is too long
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); name another file"
        ) from None
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file's name in it")
    if path.exists() and not os.access(path, os.W_OK):
        raise InputError(f"{path} may not be written; name another file")
    if path.suffix.lower() not in forms:
        raise InputError(f"{path}: unknown ending; a table is written as {', '.join(forms)}")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; make it first, or name another")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(
            f"{path.parent} cannot be written ({error.strerror}); name another folder"
        ) from None


def write_table(path: Path, columns: list[str], rows: Iterable[list]) -> None:
    """Write a table, whole or not at all.

    Args:
        path: .csv (UTF-8 with the mark that Excel looks for), .xlsx or .jsonl.
        columns: names, in order.
        rows: of values, in the columns' order; a generator is fine.

    Raises:
        InputError: when the disk is full or the file cannot be written.
    """
    writer = {".csv": write_csv, ".xlsx": write_xlsx, ".jsonl": write_lines}[path.suffix.lower()]
    with whole_file(path) as scratch:
        writer(scratch, columns, rows)


def scratch_of(path: Path) -> Path:
    """The hidden file in which a file is written until it is whole."""
    return path.with_name(f".{path.name}.unfinished{path.suffix}") if path.name else path


@contextmanager
def whole_file(path: Path):
    """A scratch file beside a file, which takes its place when the block ends without an error.

    A symbolic link stays one: the file behind it is written.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    scratch = scratch_of(target)
    try:
        yield scratch
        scratch.replace(target)
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({error.strerror}); make room, or name another file"
        ) from None
    finally:
        scratch.unlink(missing_ok=True)


def plain(value):
    """A value as a text, number, truth value or None; dates become texts."""
    if isinstance(value, str):
        return NO_CHARACTER.sub("\ufffd", value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None
        if value == value.to_integral_value():
            return int(value)
        # a float holds about 16 digits
        return float(value) if Decimal(repr(float(value))) == value else str(value)
    if isinstance(value, datetime.datetime):
        return str(without_midnight(value))
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return NO_CHARACTER.sub("\ufffd", decode(value))
        except Fault:
            return value.decode("utf-8", "replace")
    if isinstance(value, list | tuple | dict):
        text = json.dumps(finite(value), ensure_ascii=False, default=str)
        return NO_CHARACTER.sub("\ufffd", text)
    return NO_CHARACTER.sub("\ufffd", str(value))


def without_midnight(value: datetime.datetime) -> datetime.date:
    """The date alone where the time is midnight, for a workbook gives every date with that time."""
    at_midnight = value.timetz() == datetime.time()  # never equal where there is a time zone
    return value.date() if at_midnight else value


def is_excel_time(value) -> bool:
    """Whether a value is a date or time that Excel can hold: from 1900 on, without a time zone and
    in whole milliseconds.
    """
    if not isinstance(value, datetime.date | datetime.time):
        return False
    whole = getattr(value, "microsecond", 0) % 1000 == getattr(value, "nanosecond", 0) == 0
    return whole and getattr(value, "tzinfo", None) is None and getattr(value, "year", 1900) >= 1900


def finite(value):
    """A value with None for each NaN and infinity, which neither JSON nor a cell can hold."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_formula(text: str) -> bool:
    """Whether a spreadsheet might run a text; "-5" is a number and harmless."""
    return bool(FORMULA.match(text)) and not NUMBER.fullmatch(text)


def table_rows(table: Path) -> Iterator[list]:
    """The rows of a table as `write_table` makes it, one by one, the names of its columns first.

    Args:
        table: .csv, whose values are texts, .xlsx, whose rows may end early, or .jsonl.
    """
    if table.suffix.lower() == ".xlsx":
        from openpyxl import load_workbook

        with closing(load_workbook(table, read_only=True)) as book:
            [page] = book.worksheets  # raises for several sheets: such a workbook is not ours
            page.reset_dimensions()
            yield from map(list, page.iter_rows(values_only=True))
        return
    csv.field_size_limit(LINE_LIMIT)
    with table.open(encoding="utf-8-sig", newline="") as file:
        if table.suffix.lower() == ".csv":
            yield from csv.reader(file)
            return
        for number, line in enumerate(file):
            row = json.loads(line)
            if not number:
                yield list(row)
            yield list(row.values())


def column_names(table: Path) -> list[str]:
    """Names of the columns of a table as `write_table` makes it; none for any other file."""
    try:
        return [str(name) for name in next(table_rows(table), [])]
    except Exception:  # any kind may come from openpyxl, or for what is no text or no row
        return []


def csv_cell(value):
    """A value for a CSV file, with an apostrophe before a text that a spreadsheet would run."""
    value = plain(value)
    if isinstance(value, str) and is_formula(value):
        return "'" + value
    return value


def guarded(line: str) -> str:
    """A line of a CSV file with an apostrophe before each formula that may begin within a cell."""
    for formula in LATER_FORMULAS:
        line = formula.sub(r"\1'", line)
    return line


def write_csv(path: Path, columns: list[str], rows: Iterable[list]) -> None:
    """Write a CSV file; see `write_table`.

    Inside a cell, too, an apostrophe is put before what a spreadsheet may run: a formula behind a
    semicolon, a tab or a line end that could call or fetch something.
    """
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(SimpleNamespace(write=lambda line: file.write(guarded(line))))
        writer.writerow([csv_cell(name) for name in columns])
        for row in rows:
            writer.writerow([csv_cell(value) for value in row])


def write_lines(path: Path, columns: list[str], rows: Iterable[list]) -> None:
    """Write one JSON object a line; see `write_table`. Lists stay lists."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for row in rows:
            values = [finite(v) if isinstance(v, list | tuple | dict) else plain(v) for v in row]
            line = json.dumps(dict(zip(columns, values)), ensure_ascii=False, default=str)
            file.write(NO_CHARACTER.sub("\ufffd", line) + "\n")


def xlsx_text(text: str) -> str:
    """A text for the XML of a workbook, with control characters escaped as Excel does it."""
    return CONTROL.sub(lambda sign: f"_x{ord(sign[0]):04X}_", ESCAPE.sub("_x005F_", text))


def excel_length(value) -> int:
    """How many characters a value has in a cell, as Excel counts them."""
    value = plain(value)
    if not isinstance(value, str):
        return 0
    text = xlsx_text(value)
    return len(text) + sum(sign > "\uffff" for sign in text)  # these need two UTF-16 units


def xlsx_cell(page, value):
    """A cell for a sheet that is written row by row.

    A text stays a text, whatever it begins with, and a date stays a date.
    """
    from openpyxl.cell import WriteOnlyCell

    if is_excel_time(value):
        dated = isinstance(value, datetime.datetime)
        return WriteOnlyCell(page, without_midnight(value) if dated else value)
    value = plain(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**15:
        value = str(value)  # Excel would round it
    if not isinstance(value, str):
        return WriteOnlyCell(page, value)
    cell = WriteOnlyCell(page, xlsx_text(value))
    cell.data_type = "s"
    if is_formula(value):
        cell.quotePrefix = True  # keeps it a text when a person edits the cell
    return cell


def write_xlsx(path: Path, columns: list[str], rows: Iterable[list]) -> None:
    """Write a workbook of one sheet; see `write_table`."""
    with workbook(path, "answers") as (page,):
        page.freeze_panes = "A2"
        page.sheet_format.defaultColWidth = 20  # in a narrow column Excel shows a date as ####
        page.append([xlsx_cell(page, name) for name in columns])
        for row in rows:
            page.append([xlsx_cell(page, value) for value in row])


@contextmanager
def workbook(path: Path, *titles: str):
    """New sheets that are written row by row; the file is saved if the block ends without an error.

    Args:
        path: the .xlsx file.
        *titles: of the sheets, which the block is given.
    """
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    pages = [book.create_sheet(title) for title in titles]
    try:
        yield pages
    except BaseException:
        for page in pages:  # an unclosed page would warn when Python collects it
            page.close()
        raise
    book.save(path)
