"""A review file: the rows that a person should look at, least certain first, with drop-downs.

Filled in, it is a source as it stands: `text`, `category` (the options) and `output` (the label)
are called what helpers.sources calls them, and rows without a label count as unlabelled.
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
"""The note beside an answer that only the row itself offers."""
MOST_ROWS = 10_000
"""More than a person looks through; the rest waits for the next round."""


class Review:
    """Collects rows in a scratch file, so that memory stays small, and writes the workbook.

    Args:
        path: the .xlsx file.
        scratch: a binary file.
        every: whether all rows are meant, not those alone whose `look` is set.
    """

    def __init__(self, path: Path, scratch, every: bool):
        self.path, self.scratch, self.every = path, scratch, every
        self.places: list[tuple[float, int]] = []  # probability, place in the scratch file
        self.unasked = self.cut = 0

    def watch(self, rows: Iterable) -> Iterator:
        """The rows as they are; those for a person are taken down.

        Args:
            rows: see classify.Judged.
        """
        for judged in rows:
            if judged.look or self.every:
                self.add(judged)
            yield judged

    def add(self, judged) -> None:
        """Take a row down; one that cannot be asked has no article or no choice to make."""
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
        """The rows, least certain first."""
        for _, place in sorted(self.places)[:MOST_ROWS]:
            self.scratch.seek(place)
            values = json.loads(self.scratch.readline())
            if excel_length(values["text"]) > EXCEL_TEXT:
                values["text"] = cell_text(values["text"])
                self.cut += 1
            yield values

    def write(self) -> None:
        """Write the workbook, whole or not at all."""
        with whole_file(self.path) as scratch, workbook(scratch, "review", "options") as pages:
            self.fill(*pages)

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
            options = values["category"]
            if frozenset(options) not in menus:
                lists.append([xlsx_cell(lists, option) for option in options])
                menus[frozenset(options)] = drop_down(len(menus) + 1, len(options))
                page.data_validations.append(menus[frozenset(options)])
            menus[frozenset(options)].add(f"{letters['output']}{number}")
            cells = [xlsx_cell(page, shown(name, values.get(name))) for name in COLUMNS]
            for cell in cells:
                cell.alignment = Alignment(wrap_text=True, vertical="top")
            # text: Excel would make a date of the label 1-2, and 1 of 01
            cells[COLUMNS.index("output")].number_format = "@"
            page.append(cells)

    def about(self) -> str:
        """What a person is to do with the file, on one line."""
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
    """Raise InputError where a workbook is there that holds what a person wrote, or may hold it.

    Args:
        path: of a review file that would be written anew.
    """
    from openpyxl import load_workbook

    if not path.is_file():
        return
    try:
        with closing(load_workbook(path, read_only=True)) as book:
            first, *_ = sheets = book.worksheets
            for sheet in sheets:
                sheet.reset_dimensions()  # what a file says of its size may be wrong
            ours = next(first.iter_rows(values_only=True), ()) == COLUMNS
            others = [sheet for sheet in sheets[1:] if sheet.title != "options"] if ours else sheets
            # a table may be long: no more of it is read than up to what is found
            filled = any(
                value is not None
                for sheet in others
                for row in sheet.iter_rows(values_only=True)
                for value in row
            )
            if ours and not filled:
                filled = any(map(is_filled, first.iter_rows(min_row=2, values_only=True)))
    except Exception:  # whatever openpyxl meets in a file that is no workbook
        with path.open("rb") as file:
            content = file.read(2**16).strip()
        packed = content[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # with a password, or damaged
        if packed or b"\n" in content or b"\r" in content:  # or rows under a wrong ending
            raise InputError(
                f"{path} cannot be read, so what a person wrote into it may be lost; write to "
                "another file"
            ) from None
        return
    if filled:
        what = "labels or notes of a person" if ours else "rows that a person may have written"
        raise InputError(f"{path} holds {what}, which would be lost; write to another file")


def is_filled(values: tuple) -> bool:
    """Whether a row of the sheet holds a label, or a note that was not written here."""
    row = dict(zip(COLUMNS, values))
    own_note = row["answer"] is None or row["note"] in (None, UNLEARNED)
    return row["output"] is not None or not own_note


def drop_down(row: int, count: int):
    """A choice among the cells of a row of the hidden sheet.

    Args:
        row: of the sheet "options".
        count: how many options stand there.
    """
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    # Not a list in the formula itself: that ends after 255 characters, and at every comma.
    return DataValidation(
        type="list",
        formula1=f"options!$A${row}:${get_column_letter(count)}${row}",
        allow_blank=True,
        showErrorMessage=True,
        errorTitle="label",
        error="Choose one of this row's options.",
    )


def shown(name: str, value):
    """A value as the sheet holds it: options as a JSON list, probabilities to four digits."""
    if name == "category":
        return json.dumps(value, ensure_ascii=False)
    return round(value, 4) if isinstance(value, float) else value


def cell_text(text: str) -> str:
    """The beginning of a text that fits into a cell of Excel."""
    text = text[:EXCEL_TEXT]
    while (over := excel_length(text) - EXCEL_TEXT) > 0:
        text = text[: -max(1, over // 7)]  # an escaped character is seven long
    return text


@contextmanager
def write_review(path: Path, every: bool = False) -> Iterator[Review]:
    """Take rows down while a table is written; the review file is there when the block ends.

    Args:
        path: an .xlsx file in a folder that is there.
        every: whether all rows are meant, not those alone whose `look` is set.

    Raises:
        InputError: when the disk is full.
    """
    try:
        with tempfile.TemporaryFile(dir=path.parent) as scratch:
            review = Review(path, scratch, every)
            yield review
            review.write()
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({error.strerror}); make room, or name another file"
        ) from None
