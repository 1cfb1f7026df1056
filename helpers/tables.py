"""Tables: files whose first record names the columns (.csv, .tsv, .xlsx), read strictly.

What may be read in two ways is refused with file and line, never guessed.
"""

import csv
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, iterparse

from helpers import Fault, InputError, one_line
from helpers.lines import ESCAPED, LINE_LIMIT, form_of, line_fault, read_lines, refuse_bomb
from helpers.rows import COLUMN_NAMES, clean, is_prose, no_names, shown, spelling, usual_columns
from helpers.swallowed import Watch, opening_line

SEPARATOR_LINE = re.compile(r'"?sep= ?([,;|\t，；])"?[,;\t]*\s*', re.IGNORECASE)
SPACED, BEGINS = (
    "a space before a quote",
    "; take it away: a field in quotes begins with the quote",
)
NUL_AT_QUOTE = re.compile('\0+(?=")|(?<=")\0+|^\0+(?=[\r\n]*$)')
"""NUL characters that would hide a quote, or make an empty line a record."""
BURIED_QUOTE = re.compile('\ufeff+(?=")')
TOP_ROW = re.compile("[A-Z]+1:[A-Z]+1")
"""Cells of a sheet's first row."""
NO_TITLE = "the first line must name every column, no title"
TRUE = ("1", "true")
"""How XML writes a truth value that is true."""
Rows = Iterator[tuple[str, dict | Fault]]
"""For each row its place ("line 3"), and its columns or what is wrong with it."""


def read_csv(path: Path) -> Rows:
    """Rows of a file with a header line and commas between fields, or tabs in a .tsv file.

    A first line such as `sep=;`, which Excel writes and reads, names another separator.
    """
    csv.field_size_limit(LINE_LIMIT)
    _, first = next(read_lines(path), (0, ""))
    named = SEPARATOR_LINE.fullmatch(first)
    delimiter = named[1] if named else "\t" if form_of(path) == ".tsv" else ","
    return with_header(path, csv_records(path, delimiter, skipped=1 if named else 0))


def csv_records(
    path: Path, delimiter: str, skipped: int = 0
) -> Iterator[tuple[str, list[str], Fault | None]]:
    """Records of a CSV file: place, fields, and what is wrong with their bytes or quotes.

    Args:
        path: the file.
        delimiter: between fields.
        skipped: how many lines at the beginning are not records.
    """
    lines: list[str] = []  # of the record at hand

    def physical_lines():
        for _, line in islice(read_lines(path), skipped, None):
            # joined files have a byte-order mark between them, which would hide a quote behind it
            line = line if lines else BURIED_QUOTE.sub("", line.lstrip("\ufeff"))
            lines.append(line)
            yield NUL_AT_QUOTE.sub("", line)

    def refuse(line: int, reason: str, way: str = ""):
        raise InputError(
            f"{path} line {line}: {reason}; a quote inside a quoted field is written twice "
            f'(""), and a field that begins with one is quoted as a whole{way}'
        )

    def refuse_swallowed(line: int | None):
        if line is None:
            return
        way = "; if all of these lines are one text, save the file as .xlsx or .jsonl"
        refuse(line, "a quote opens here and swallows whole rows", way)

    reader = csv.reader(physical_lines(), delimiter=delimiter, strict=True)
    mark = re.escape(delimiter)
    spaced = re.compile(rf'(^|{mark}) +"(?=[^"{mark}\r\n])', re.MULTILINE)
    quoted = re.compile(' +"([^"]|"")*" *| +"[^"]*')  # a whole field, or one torn across lines
    watch = Watch(delimiter)
    while True:
        first = skipped + reader.line_num + 1
        lines.clear()
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            other = re.search('"([,;|\t，；])"', lines[0])
            if not watch.width and other and other[1] != delimiter:
                raise separated(path, f"line {first}", other[1]) from None
            if delimiter != "\t" and spaced.search(lines[0]):
                raise InputError(f"{path} line {first}: {SPACED}{BEGINS}") from None
            opening = first + opening_line(lines, delimiter)
            refuse(opening, f"a quoted field begins here and does not end soundly ({error})")
        refuse_swallowed(watch.add(first, lines, fields))
        if fields:
            record = "".join(lines)
            fault = line_fault(record)
            if delimiter != "\t" and spaced.search(record):
                if any(map(quoted.fullmatch, fields)) or len(fields) != watch.width:
                    fault = Fault(SPACED, BEGINS)
            yield f"line {first}", fields, fault
    refuse_swallowed(watch.end())


def with_header(path: Path, records: Iterator, padded: bool = False) -> Rows:
    """Rows of a table whose first record names the columns.

    Args:
        path: the file.
        records: place, fields and fault of each. Blank records at the end are ignored.
        padded: whether a record may lack empty fields at its end, or have more of them than there
            are columns.
    """
    names: list[str] = []
    blank: list[str] = []
    first = True  # until a row was met
    for where, fields, fault in records:
        if is_blank(fields) and not fault:
            blank.append(where)
        elif not names:
            if fault and fault.reason == SPACED:
                raise InputError(f"{path} {where}: {fault}")
            names, blank = header_names(path, where, fields), []
        else:
            yield from ((place, dict.fromkeys(filter(None, names))) for place in blank)
            blank = []
            if padded:  # a sheet has cells as far as anything was ever written or painted
                while len(fields) > len(names) and is_blank(fields[-1:]):
                    fields = fields[:-1]
                fields = fields + [None] * (len(names) - len(fields))
            row = table_row(names, fields, first)
            first = False
            raw = row.raw if isinstance(row, Fault) else row
            yield where, Fault(fault.reason, fault.detail, mended(raw)) if fault else row


def is_blank(fields: list) -> bool:
    """Whether no field holds anything to see."""
    return all(field is None or (isinstance(field, str) and not clean(field)) for field in fields)


def mended(raw: dict) -> dict:
    """Columns with the sign U+FFFD in place of each byte that is not sound."""
    return {
        name: ESCAPED.sub("\ufffd", value) if isinstance(value, str) else value
        for name, value in raw.items()
    }


def header_names(path: Path, where: str, fields: list) -> list[str]:
    """Names of the columns, "" for one without; raises InputError for what is no header."""
    names = ["" if field is None else clean(str(field).replace("\0", "")) for field in fields]
    for name, count in Counter(filter(None, names)).items():
        if count > 1:
            raise InputError(f"{path} {where}: {count} columns are called {name!r}; rename one")
    form = form_of(path)
    if len(names) == 1 and form in (".csv", ".tsv"):
        other = next((mark for mark in "\t;，|," if mark in names[0]), None)
        if other in ("，", ",") and is_prose(re.split("[，,]", names[0])):
            raise InputError(f"{path} {where}: no names of columns{no_names(names)}")
        if other:
            raise separated(path, where, other)
    return names


def separated(path: Path, where: str, mark: str) -> InputError:
    """The error for a file whose columns are separated by another mark than its name says."""
    kind = {"\t": ".tsv", ",": ".csv"}.get(mark)
    way = f"name the file {kind}" if kind else "save it with commas, or as .xlsx"
    if kind == form_of(path):
        way = "take the quotes around whole lines away"
    return InputError(f"{path} {where}: the columns are separated by {mark!r}; {way}")


def table_row(names: list[str], fields: list, is_first: bool = False) -> dict | Fault:
    """A record as columns, or a fault when it does not fit the header.

    Args:
        names: of the columns.
        fields: of the record.
        is_first: whether it is the record right below the header.
    """
    raw = {name: field for name, field in zip(names, fields) if name}
    first = str(fields[0]) if fields else ""
    if indexed := not names[0] and first.isdecimal():  # the index that pandas writes
        raw = {"": fields[0]} | raw
    if len(fields) != len(names):
        kind = "more" if len(fields) > len(names) else "fewer"
        detail = f" ({len(fields)} of {len(names)})"
        if len(names) == 1:
            detail += f"; {NO_TITLE}"
        elif is_first and first.isdecimal() and len(fields) == len(names) + 1:  # as R writes
            detail += "; if rows begin with their number, name this column in the first line, too"
        return Fault(f"{kind} fields than the header names", detail, raw)
    if [clean(str(field)) for field in fields] == names:
        return Fault("the header once more, as where files were joined", "", raw)
    if is_header(fields, names):
        way = NO_TITLE if is_first else "convert the files before they are joined"
        detail = f": {shown(list(map(str, fields)))}; {way}"
        return Fault("another header, as where files were joined", detail, raw)
    for name, field in list(zip(names, fields))[indexed:]:
        if not name and not is_blank([field]):
            way = f"quote what holds commas; {NO_TITLE}"
            detail = f": {shown(field)}; {way}"
            return Fault("a value in a column without a name", detail, raw)
    return raw


def is_header(fields: list, names: list[str]) -> bool:
    """Whether a record of two or more fields holds nothing but usual names of columns.

    Args:
        fields: of the record.
        names: of this table's columns.
    """
    words = [clean(field) for field in fields if isinstance(field, str) and len(field) <= 20]
    if len(words) < 2 or len(words) < len(fields):
        return False
    return {spelling(word) for word in words} <= COLUMN_NAMES | set(map(spelling, names))


class CellError:
    """A cell of a workbook whose formula failed."""

    def __init__(self, sign: str):
        self.sign = sign

    def __repr__(self) -> str:
        return self.sign


def read_xlsx(path: Path, sheet: str | None = None) -> Rows:
    """Rows of a sheet of a workbook; formulas give the values that were saved with them."""
    from openpyxl import load_workbook

    try:
        with zipfile.ZipFile(path) as packed:
            refuse_bomb(path, sum(member.file_size for member in packed.infolist()))
        book = load_workbook(path, read_only=True, data_only=True)
    except (InputError, OSError):
        raise
    except Exception as error:  # openpyxl raises many kinds for a file that is no workbook
        raise InputError(
            f"{path} is no sound .xlsx file ({one_line(error)}); save it as .xlsx once more, or "
            "name it .csv where it is text"
        ) from None
    try:
        pages = {page.title: page for page in book.worksheets}
        there = ", ".join(map(repr, pages))
        if not pages:
            raise InputError(
                f"{path} has no sheet that can be read; save it as an Excel workbook (.xlsx), not "
                "as Strict Open XML"
            )
        sheet = None if sheet is None else str(sheet)  # YAML takes the name 2024 for a number
        if sheet is not None and sheet not in pages:
            raise InputError(f"{path} has no sheet {sheet!r}; there are {there}")
        page = pages[sheet] if sheet is not None else book.worksheets[0]
        if sheet is None and page.sheet_state != "visible":
            raise InputError(
                f"{path}: the first sheet, {page.title!r}, is hidden; name one with `sheet`: "
                f"there are {there}"
            )
        refuse_doubtful_cells(path, page)
        others = [other for other in book.worksheets[1:] if other.sheet_state == "visible"]
        if sheet is None and others:
            refuse_alike(path, page, others)
        empty = True
        for where, row in with_header(path, sheet_records(path, page), padded=True):
            empty = False
            yield (where if len(pages) == 1 else f"sheet {page.title!r} {where}"), row
        if empty and len(pages) > 1:
            raise InputError(
                f"{path}: the sheet {page.title!r} holds no rows; name one with `sheet`: "
                f"there are {there}"
            )
    finally:
        book.close()


def sheet_records(path: Path, page) -> Iterator[tuple[str, list, None]]:
    """Records of a sheet: place and values."""
    from openpyxl.utils.escape import unescape

    page.reset_dimensions()  # the size that a file states may be wrong
    rows = enumerate(page.iter_rows(), 1)
    while True:
        try:
            number, cells = next(rows)
        except StopIteration:
            return
        except Exception as error:  # openpyxl raises many kinds for a damaged sheet
            raise InputError(f"{path} is no sound .xlsx file: {one_line(error)}") from None
        values = []
        for cell in cells:
            value = CellError(cell.value) if cell.data_type == "e" else cell.value
            values.append(unescape(value) if isinstance(value, str) else value)
        yield f"row {number}", values, None


def refuse_alike(path: Path, page, others: list) -> None:
    """Raise InputError when another sheet seems to hold rows, too, which nobody would read.

    It does when it shares two names of columns with the first sheet, or when both have a column of
    texts and one of labels.

    Args:
        path: the workbook.
        page: its first sheet, which is read.
        others: its other sheets that are visible.
    """

    def beginning(one) -> list[set[str]]:  # what its first three records hold, the header first
        filled = (fields for _, fields, _ in sheet_records(path, one) if not is_blank(fields))
        return [{clean(str(f)) for f in fields if f} - {""} for fields in islice(filled, 3)]

    def holds_both(names: set[str]) -> bool:  # article and label, whatever they are called
        return all(any(usual_columns(key, list(names))) for key in ("text", "output"))

    first = next(iter(beginning(page)), set())
    for other in others:
        headers = beginning(other)[:-1]  # a title may be above the header, and a row is below it
        shared = max((len(first & names) for names in headers), default=0)
        both = holds_both(first) and any(map(holds_both, headers))
        if both or 0 < min(2, len(first)) <= shared:
            raise InputError(
                f"{path}: the sheets {page.title!r} and {other.title!r} have the same columns; "
                "name one with `sheet`, or put their rows on one sheet"
            )


def refuse_doubtful_cells(path: Path, page) -> None:
    """Raise InputError for cells that would be read as empty and are not, and for hidden rows.

    Of merged cells only the first holds the value. A formula that no office program has computed
    yet has no value, or a 0 where the workbook asks for formulas to be computed when it is opened.
    A row that a filter hides may be meant to count or not.
    """
    nothing = ("", "0") if is_to_be_computed(path) else ("",)
    number = 0  # of the last row
    with page._get_source() as file:
        for element in elements(path, file):
            kind = local_name(element)
            if kind == "mergeCell":
                cells = element.get("ref", "")
                title = "; if they are a title, delete row 1" if TOP_ROW.fullmatch(cells) else ""
                raise InputError(
                    f"{path}: the cells {cells} are merged; unmerge and fill them{title}"
                )
            if kind != "row":
                continue
            said = element.get("r", "")
            number = int(said) if said.isdecimal() else number + 1
            filled = [cell for cell in element if len(cell)]  # others have a format and no content
            if filled and element.get("hidden") in TRUE:
                raise InputError(
                    f"{path}: row {number} is hidden; take the filter off, or unhide or delete "
                    "such rows"
                )
            for cell in filled:
                parts = {local_name(part): part.text or "" for part in cell}
                if "f" in parts and cell.get("t") != "str" and parts.get("v", "") in nothing:
                    where = cell.get("r") or f"row {number}"
                    raise InputError(
                        f"{path}: the formula in {where} has no value; open and save the file in "
                        "Excel, or where it is a text that begins with '=', write a .jsonl file"
                    )
            element.clear()


def is_to_be_computed(path: Path) -> bool:
    """Whether a workbook asks for its formulas to be computed when it is opened.

    The program that wrote it has then not computed them.
    """
    with zipfile.ZipFile(path) as packed:
        names = [name for name in packed.namelist() if name.endswith("workbook.xml")]
        return any(
            local_name(element) == "calcPr" and element.get("fullCalcOnLoad") in TRUE
            for name in names
            for element in elements(path, packed.open(name))
        )


def elements(path: Path, file) -> Iterator[Element]:
    """Elements of a part of a workbook, each as soon as it is complete.

    Args:
        path: the workbook, as a message names it.
        file: the part, open for reading bytes.

    Raises:
        InputError: for what is no sound XML.
    """
    try:
        for _, element in iterparse(file):
            yield element
    except ParseError as error:
        raise InputError(f"{path} is no sound .xlsx file: {one_line(error)}") from None


def local_name(element: Element) -> str:
    """The name of an element without its namespace, which programs prefix or not."""
    return element.tag.rpartition("}")[2]
