"""The review file: least certain rows first, a drop-down of each row's options, later a source."""

import re
import zipfile

import pytest
from openpyxl import load_workbook

from helpers import InputError, classify, review, sources, writers
from helpers.sources import Article

MENUS = [
    ["Art", "Law"],
    ["Law", "Art"],
    ["Sports", "A, B", '"x"', "=1+1"],
    [f"长类别{n}" for n in range(90)],
]


def judged(number, probability, options, look=True, text=None, **row):
    text = text or f"第{number}号文章。"
    whole = {"id": f"row-{number}", "source_id": None, "text": text, "category": options}
    article = Article(f"my.xlsx row {number}", {"text": text}, whole | {"output": None} | row, None)
    sure = probability is not None
    second = options[1] if sure else None
    note = None if sure else "does not fit"
    return classify.Judged(
        article, options[0] if sure else None, probability, second, 0.1, look, note
    )


ROWS = [
    judged(1, 0.9, MENUS[0]),
    judged(2, 0.4, MENUS[1], source_id="=2+2"),
    judged(3, 0.99, MENUS[0], look=False),
    judged(4, 0.6, MENUS[2], text="=cmd|' /C calc'!A1"),
    judged(5, None, MENUS[3]),
    classify.Judged(
        Article("my.xlsx row 6", {}, None, "no text"), None, None, None, None, True, ""
    ),
]


def write(path, rows, **options):
    with review.write_review(path, **options) as book:
        assert list(book.watch(rows)) == rows
    return book


def cells(path):
    page = load_workbook(path)["review"]
    head, *rows = page.iter_rows()
    names = [cell.value for cell in head]
    return page, [dict(zip(names, row, strict=True)) for row in rows]


def test_rows_to_look_at_come_least_certain_first(tmp_path):
    book = write(tmp_path / "r.xlsx", ROWS)
    _, rows = cells(tmp_path / "r.xlsx")
    assert [row["probability"].value for row in rows] == [None, 0.4, 0.6, 0.9]
    assert [row["id"].value for row in rows] == [
        "my.xlsx row 5",
        "=2+2",
        "my.xlsx row 4",
        "my.xlsx row 1",
    ]
    assert {row["output"].value for row in rows} == {None}
    assert rows[2]["text"].data_type == rows[1]["id"].data_type == "s"
    assert rows[0]["note"].value == "does not fit"
    assert "4 rows" in book.about() and "1 that cannot be asked" in book.about()
    assert not [path for path in tmp_path.iterdir() if path.name != "r.xlsx"]


def test_each_row_offers_its_own_options(tmp_path):
    write(tmp_path / "r.xlsx", ROWS)
    page, rows = cells(tmp_path / "r.xlsx")
    lists = load_workbook(tmp_path / "r.xlsx")["options"]
    assert lists.sheet_state == "hidden"
    for row, menu in zip(rows, [MENUS[3], MENUS[1], MENUS[2], MENUS[0]], strict=True):
        [validation] = [
            v for v in page.data_validations.dataValidation if row["output"].coordinate in v.sqref
        ]
        assert validation.type == "list" and not validation.showDropDown  # True would hide the list
        where = validation.formula1.removeprefix("options!").replace("$", "")
        offered = [cell.value for line in lists[where] for cell in line]
        assert set(offered) == set(menu) and len(validation.formula1) < 255


def test_filled_in_it_is_a_source(tmp_path):
    path = tmp_path / "r.xlsx"
    write(path, ROWS)
    book = load_workbook(path)
    page = book["review"]
    column = [cell.value for cell in page[1]].index("output") + 1
    page.cell(2, column).value = "长类别7"
    page.cell(4, column).value = "A, B"
    book.save(path)
    rows = list(sources.read_source(str(path)).splits["train"])
    assert [row["output"] for row in rows] == ["长类别7", None, "A, B", None]
    assert [set(row["category"]) for row in rows] == [set(MENUS[i]) for i in (3, 1, 2, 0)]
    assert rows[2]["text"] == "=cmd|' /C calc'!A1" and rows[1]["source_id"] == "=2+2"
    old = tmp_path / "old.jsonl"
    old.write_text('{"text": "画家。", "category": ["Art", "Law"], "output": "Art"}\n')
    both = list(sources.read_source([str(old), str(path)]).splits["train"])
    assert len({row["id"] for row in both}) == 5 and both[0]["output"] == "Art"


def test_articles_longer_than_a_cell_end_there_and_it_is_said(tmp_path):
    long = "😀\x07" * 20_000
    book = write(tmp_path / "r.xlsx", [judged(1, 0.5, MENUS[0], text=long)])
    [row] = sources.read_source(str(tmp_path / "r.xlsx")).splits["train"]
    assert long.startswith(row["text"]) and len(row["text"]) > 6_000
    assert writers.excel_length(row["text"]) <= 32_767
    assert "1 articles end after 32767 characters" in book.about()


def test_too_many_rows_wait_for_a_later_round(tmp_path, monkeypatch):
    monkeypatch.setattr(review, "MOST_ROWS", 2)
    book = write(tmp_path / "r.xlsx", ROWS)
    _, rows = cells(tmp_path / "r.xlsx")
    assert [row["probability"].value for row in rows] == [None, 0.4]
    assert "2 rows, " in book.about() and "2 surer rows wait" in book.about()


def test_a_file_without_doubtful_rows_asks_for_nothing(tmp_path):
    book = write(tmp_path / "r.xlsx", [])
    assert book.about() == "r.xlsx: there is no row to fill in"


def test_without_a_threshold_every_row_may_be_meant(tmp_path):
    write(tmp_path / "r.xlsx", ROWS, every=True)
    assert len(cells(tmp_path / "r.xlsx")[1]) == 5


def test_it_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def stops():
        yield ROWS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), review.write_review(tmp_path / "r.xlsx") as book:
        list(book.watch(stops()))
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="could not be written"):
        write(tmp_path / "none" / "r.xlsx", ROWS)


def test_a_label_that_is_typed_stays_a_text(tmp_path):
    write(tmp_path / "r.xlsx", [judged(1, 0.5, ["01", "1-2", "true"])])
    _, rows = cells(tmp_path / "r.xlsx")
    assert [row["output"].number_format for row in rows] == ["@"]


def test_labels_that_a_person_chose_are_not_written_over(tmp_path):
    path = tmp_path / "r.xlsx"
    review.refuse_filled(path)
    write(path, ROWS)
    review.refuse_filled(path)  # nobody has filled it in yet
    book = load_workbook(path)
    book["review"]["F3"] = "Art"
    book["review"].row_dimensions[3].hidden = True  # as by a filter
    book.save(path)
    with pytest.raises(InputError, match="labels or notes of a person"):
        review.refuse_filled(path)
    (tmp_path / "other.xlsx").write_text("no workbook")
    review.refuse_filled(tmp_path / "other.xlsx")
    for begins in (b"\xd0\xcf\x11\xe0", b"PK\x03\x04"):  # a workbook with a password, a damaged one
        (tmp_path / "other.xlsx").write_bytes(begins * 100)
        with pytest.raises(InputError, match="what a person wrote into it may be lost"):
            review.refuse_filled(tmp_path / "other.xlsx")


def test_a_wrong_size_in_a_workbook_hides_no_label(tmp_path):
    path = tmp_path / "r.xlsx"
    write(path, ROWS)
    book = load_workbook(path)
    book["review"]["F3"] = "Art"
    book.save(path)
    with zipfile.ZipFile(path) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in parts.items():
            packed.writestr(
                name, re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1"', content)
            )
    with pytest.raises(InputError, match="labels or notes of a person"):
        review.refuse_filled(path)


def test_notes_of_a_person_are_not_written_over(tmp_path):
    path = tmp_path / "r.xlsx"
    noted = judged(2, 0.4, MENUS[0])._replace(note=review.UNLEARNED)
    for sheet, cell in (("review", "H3"), ("mine", "A1")):
        write(path, [judged(1, 0.3, MENUS[0]), noted, judged(3, None, MENUS[0])])
        review.refuse_filled(path)  # these notes are the project's own
        book = load_workbook(path)
        if sheet not in book.sheetnames:
            book.create_sheet(sheet)
        book[sheet][cell] = "ask Li"
        book.save(path)
        with pytest.raises(InputError, match="labels or notes of a person"):
            review.refuse_filled(path)


@pytest.mark.parametrize("change", ["title", "sheet", "header", "own"])
def test_what_a_person_made_of_a_review_is_not_written_over(tmp_path, change):
    path = tmp_path / "r.xlsx"
    write(path, ROWS)
    book = load_workbook(path)
    book["review"]["F3"] = "Art"
    if change == "title":
        book["review"].insert_rows(1)
        book["review"]["A1"] = "checked by us"
    elif change == "sheet":
        book.create_sheet("notes", 0)
    elif change == "header":
        book["review"]["F1"] = "标签"
    else:  # it looks like any table of labels
        book.remove(book["options"])
        book["review"].title = "Sheet1"
        book["Sheet1"].delete_cols(1)
    book.save(path)
    with pytest.raises(InputError, match="would be lost; write to another file"):
        review.refuse_filled(path)
    with pytest.raises(InputError, match="would be lost"):
        classify.refuse_other_table(path)
