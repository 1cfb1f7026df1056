"""A review file: the rows that a person should look at, least certain first, with drop-downs.

Once filled in, it can be used as a source as it is: `text`, `category` (the options) and `output`
(the label) have the names that helpers.sources expects, and rows without a label count as
unlabelled.
"""

import json
import string
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from helpers import InputError
from helpers.writers import EXCEL_TEXT, excel_length, whole_file, workbook, xlsx_cell

COLUMNS = ("id", "text", "answer", "probability", "second", "output", "category", "note")
"""The sheet's columns; `output` is empty, for the person's label."""
WIDTHS = {"id": 18, "text": 90, "answer": 18, "second": 18, "output": 18, "category": 40}
UNLEARNED = "no label that the adapter learned"
"""The note beside an answer that is among the row's options but that was never learned."""
MOST_ROWS = 10_000
"""The most rows in a file, more than a person looks through; the rest wait for the next round."""


class Review:
    """Collects rows in a scratch file, so that memory stays small, and writes the workbook.

    Args:
        path: the .xlsx file.
        scratch: a binary file.
        every: whether to collect all rows, not only those whose `look` is set.
    """

    def __init__(self, path: Path, scratch, every: bool):
        self.path, self.scratch, self.every = path, scratch, every
        self.places: list[tuple[float, int]] = []  # probability, place in the scratch file
        self.unasked = self.cut = 0

    def watch(self, rows: Iterable) -> Iterator:
        """Pass the rows on as they are, and take down those that a person should see.

        Args:
            rows: see classify.Judged.
        """
        for judged in rows:
            if judged.look or self.every:
                self.add(judged)
            yield judged

    def add(self, judged) -> None:
        """Take a row down; one that cannot be asked, without article or choice, is only counted."""
        row = judged.article.row
        if row is None:
            self.unasked += 1
            return
        probability = -1.0 if judged.probability is None else judged.probability
        self.places.append((probability, self.scratch.seek(0, 2)))
        values = {"id": row["source_id"] or judged.article.place, "text": row["text"]}
        values |= {"answer": judged.answer, "probability": judged.probability}
        values |= {"second": judged.second, "category": row["category"], "note": judged.note}
        self.scratch.write(json.dumps(values).encode() + b"\n")

    def rows(self) -> Iterator[dict]:
        """The rows for the sheet, least certain first."""
        for _, place in sorted(self.places)[:MOST_ROWS]:
            self.scratch.seek(place)
            values = json.loads(self.scratch.readline())
            if excel_length(values["text"]) > EXCEL_TEXT:
                values["text"] = cell_text(values["text"])
                self.cut += 1
            yield values

    def fill(self, page, lists) -> None:
        """Fill the sheet that a person sees, and the hidden one that its drop-downs read."""
        from openpyxl.styles import Alignment, Font

        lists.sheet_state = "hidden"
        page.freeze_panes = "A2"
        letters = dict(zip(COLUMNS, string.ascii_uppercase))
        for name, letter in letters.items():
            page.column_dimensions[letter].width = WIDTHS.get(name, 12)
        heads = [xlsx_cell(page, name) for name in COLUMNS]
        for cell in heads:
            cell.font = Font(bold=True)
        page.append(heads)
        menus: dict[frozenset, object] = {}  # a drop-down for each set of options
        for number, values in enumerate(self.rows(), 2):
            options, key = values["category"], frozenset(values["category"])
            if key not in menus:
                lists.append([xlsx_cell(lists, option) for option in options])
                menus[key] = drop_down(len(menus) + 1, len(options))
                page.data_validations.append(menus[key])
            menus[key].add(f"{letters['output']}{number}")
            cells = [xlsx_cell(page, shown(name, values.get(name))) for name in COLUMNS]
            for cell in cells:
                cell.alignment = Alignment(wrap_text=True, vertical="top")
            # as text: otherwise Excel turns the label 1-2 into a date, and 01 into 1
            cells[COLUMNS.index("output")].number_format = "@"
            page.append(cells)

    def about(self) -> str:
        """What a person should do with the file, on one line."""
        listed_rows = min(len(self.places), MOST_ROWS)
        way = (
            "the least certain first; choose a label in the column output, and the file is a source"
        )
        rows = f"{listed_rows} row{'s' * (listed_rows != 1)}"
        line = f"{rows}, {way}" if listed_rows else "there is no row to fill in"
        line = f"{self.path.name}: {line}"
        if len(self.places) > MOST_ROWS:
            line += f"; {len(self.places) - MOST_ROWS} surer rows wait for a later round"
        if self.unasked:
            line += f"; {self.unasked} that cannot be asked stand in the table alone"
        if self.cut:
            line += f"; {self.cut} articles end after {EXCEL_TEXT} characters, as Excel's cells do"
        return line


def refuse_filled(path: Path) -> None:
    """Raise InputError if the file is there already and holds, or may hold, what a person wrote.

    Args:
        path: of the review file that is to be written.
    """
    from openpyxl import load_workbook

    if not path.is_file():
        return
    try:
        with closing(load_workbook(path, read_only=True)) as book:
            first, *_ = sheets = book.worksheets
            for sheet in sheets:
                sheet.reset_dimensions()  # the size that a file states may be wrong
            ours = next(first.iter_rows(values_only=True), ()) == COLUMNS
            others = [sheet for sheet in sheets[1:] if sheet.title != "options"] if ours else sheets
            # a table may be long, so reading stops at the first value
            filled = any(
                value is not None
                for sheet in others
                for row in sheet.iter_rows(values_only=True)
                for value in row
            )
            if ours and not filled:
                filled = any(map(is_filled, first.iter_rows(min_row=2, values_only=True)))
    except Exception:  # openpyxl may raise anything for a file that is not a workbook
        with path.open("rb") as file:
            content = file.read(2**16).strip()
        packed = content[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # with a password, or damaged
        if packed or b"\n" in content or b"\r" in content:  # or rows in a file misnamed .xlsx
            raise InputError(
                f"{path} cannot be read, so what a person wrote into it may be lost; write to "
                "another file"
            ) from None
        return
    if filled:
        what = "labels or notes of a person" if ours else "rows that a person may have written"
        raise InputError(f"{path} holds {what}, which would be lost; write to another file")


def is_filled(values: tuple) -> bool:
    """Whether a row of the sheet holds a label, or a note that this project did not write."""
    row = dict(zip(COLUMNS, values))
    own_note = row["answer"] is None or row["note"] in (None, UNLEARNED)
    return row["output"] is not None or not own_note


def drop_down(row: int, count: int):
    """A drop-down that offers the cells of one row of the hidden sheet.

    Args:
        row: the row's number in the sheet "options".
        count: how many options the row holds.
    """
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    # A list in the formula itself may have 255 characters at most, and is split at every comma.
    return DataValidation(
        type="list",
        formula1=f"options!$A${row}:${get_column_letter(count)}${row}",
        allow_blank=True,
        showErrorMessage=True,
        errorTitle="label",
        error="Choose one of this row's options.",
    )


def shown(name: str, value):
    """A value as the sheet shows it: options as a JSON list, probabilities to four digits."""
    if name == "category":
        return json.dumps(value, ensure_ascii=False)
    return round(value, 4) if isinstance(value, float) else value


def cell_text(text: str) -> str:
    """As much of the beginning of a text as fits into a cell of Excel."""
    text = text[:EXCEL_TEXT]
    while (over := excel_length(text) - EXCEL_TEXT) > 0:
        text = text[: -max(1, over // 7)]  # an escaped character takes seven
    return text


@contextmanager
def write_review(path: Path, every: bool = False) -> Iterator[Review]:
    """Take rows down while a table is written; the review file is there when the block ends.

    Args:
        path: an .xlsx file in an existing folder.
        every: whether to collect all rows, not only those whose `look` is set.

    Raises:
        InputError: when a file cannot be written, for instance because the disk is full.
    """
    try:
        with tempfile.TemporaryFile(dir=path.parent) as scratch:
            review = Review(path, scratch, every)
            yield review
            with whole_file(path) as book, workbook(book, "review", "options") as pages:
                review.fill(*pages)
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({error.strerror}); make room, or name another file"
        ) from None
