"""Tables that a person opens: nothing in them is run, and nothing is lost."""

import csv
import datetime
import json
import re
from decimal import Decimal

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook

from helpers import InputError, readers, writers

DANGEROUS = [
    "=cmd|' /C calc'!A1",
    "=1+1",
    "+1+cmd|' /C calc'!A1",
    "-2+3+cmd|' /C calc'!A1",
    "@SUM(1+1)",
    "\t=1+1",
    "\r=1+1",
    " =1+1",
    "＝1+1",
    "-",
]
HARMLESS = ["-5", "+3.5", "-1,234.5", "-2e10", "-7%", "体育", "a=b", "'quoted", ""]


@pytest.mark.parametrize("text", DANGEROUS)
def test_no_cell_of_a_csv_file_begins_a_formula(tmp_path, text):
    writers.write_table(tmp_path / "t.csv", ["a", text], [[text, "x"]])
    with (tmp_path / "t.csv").open(encoding="utf-8-sig", newline="") as file:
        header, row = csv.reader(file)
    assert header[1] == row[0] == "'" + text


CALL = "=cmd|' /C calc'!A1"


@pytest.mark.parametrize(
    "cells",
    [
        [f"甲;{CALL}", "x"],
        [f"甲,乙; {CALL}"],
        [f'甲;"{CALL}"'],
        [f"甲\t{CALL}"],
        [f"第一行\n{CALL}\n三"],
        [f"第一行\r\n\r\n　{CALL}"],
        ["甲;@SUM(1,1)"],
        ["甲;＝ＳＵＭ（1）"],
        ["甲;=1", "5*cmd|' /C calc'!A1"],  # where a comma is the decimal sign, it is =1,5*cmd|…
        ["甲;-3", "e5*cmd|' /C calc'!A1"],
        ["5*cmd|' /C calc'!A1"],  # after the number -3
    ],
)
def test_no_field_begins_a_formula_where_semicolons_or_tabs_separate(tmp_path, cells):
    writers.write_table(tmp_path / "t.csv", ["nr", *cells], [[7, *cells], [-3, *cells]])
    for separator in ",;\t":
        with (tmp_path / "t.csv").open(encoding="utf-8-sig", newline="") as file:
            fields = [field for line in csv.reader(file, delimiter=separator) for field in line]
        assert not [
            f for f in fields if re.match(r'[\s"]*[=+@＝-](?!3,"?甲).*[(|!（]', f, re.DOTALL)
        ]
        if separator == ",":
            read = [field.replace("'", "") for field in fields[1 : len(cells) + 1]]
            assert read == [cell.replace("'", "") for cell in cells]


@pytest.mark.parametrize("text", HARMLESS)
def test_numbers_and_plain_texts_stay_as_they_are_in_a_csv_file(tmp_path, text):
    writers.write_table(tmp_path / "t.csv", ["a", "b"], [[text, -5]])
    with (tmp_path / "t.csv").open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file))[1] == [text, "-5"]


@pytest.mark.parametrize(
    "text", ["a; -3", "议程：\n- 开幕\n- 闭幕", "题目\n=====\n--\n+ 一\n正文（完）", "x;@name"]
)
def test_lists_rules_and_numbers_within_a_cell_stay_as_they_are(tmp_path, text):
    """So does a negative number in the first column, whatever article follows."""
    for row in ([text, "Art", "0.5"], ["-1", "股市（沪）", text], ["-1,234.5", "2024年（x）"]):
        writers.write_table(tmp_path / "t.csv", ["a"], [row])
        with (tmp_path / "t.csv").open(encoding="utf-8-sig", newline="") as file:
            assert list(csv.reader(file))[1] == row


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_a_text_kept_as_bytes_is_written_as_it_was_read(encoding):
    assert writers.plain("股市今天上涨了一点".encode(encoding)) == "股市今天上涨了一点"
    assert writers.plain(b"\xff\xfe\xff") == b"\xff\xfe\xff".decode("utf-8", "replace")


@pytest.mark.parametrize("text", DANGEROUS)
def test_no_cell_of_a_workbook_is_a_formula(tmp_path, text):
    writers.write_table(tmp_path / "t.xlsx", ["a", text], [[text, -5]])
    page = load_workbook(tmp_path / "t.xlsx").active
    for cell in (page["B1"], page["A2"]):
        assert cell.data_type == "s" and cell.value.replace("_x000D_", "\r") == text
        assert cell.quotePrefix  # so that editing the cell does not make it run
    assert page["B2"].value == -5 and page["B2"].data_type == "n"


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(lambda text: "x" + text)


@settings(max_examples=60)
@given(text=TEXT | st.sampled_from(["x_x0041_", "x\x00\x07\x0b", "x\r\ny\rz", "x\ufffe\uffff"]))
def test_a_workbook_gives_back_what_was_written(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("book") / "t.xlsx"
    writers.write_table(path, ["text", "b"], [[text, "y"]])
    [(_, row)] = readers.read_file(path)
    expected = text.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
    assert row == {"text": expected, "b": "y"}


def test_values_of_every_kind(tmp_path):
    values = [True, None, 1.5, float("nan"), 10**18, ["a", "b"], {"k": 1}, b"x", "half \ud800"]
    names = [f"c{place}" for place in range(len(values))]
    for form in writers.FORMS:
        writers.write_table(tmp_path / f"t{form}", names, [values])
    [(_, book)] = readers.read_file(tmp_path / "t.xlsx")
    assert list(book.values()) == [
        True, None, 1.5, None, str(10**18), '["a", "b"]', '{"k": 1}', "x", "half \ufffd",
    ]  # fmt: skip
    [(_, line)] = readers.read_file(tmp_path / "t.jsonl")
    assert line["c5"] == ["a", "b"] and line["c4"] == 10**18 and line["c3"] is None
    assert (tmp_path / "t.csv").read_bytes().startswith(b"\xef\xbb\xbfc0,")


def test_dates_stay_dates_in_a_workbook_and_are_short_elsewhere(tmp_path):
    zone = datetime.timezone(datetime.timedelta(hours=8))
    values = {
        datetime.datetime(2024, 5, 1): "2024-05-01",
        datetime.date(2024, 5, 2): "2024-05-02",
        datetime.datetime(2024, 5, 1, 9, 30): "2024-05-01 09:30:00",
        datetime.time(9, 30): "09:30:00",
        # dates that Excel does not have
        datetime.datetime(1899, 5, 1): "1899-05-01",
        datetime.datetime(2024, 5, 1, tzinfo=zone): "2024-05-01 00:00:00+08:00",
        datetime.datetime(2024, 5, 1, 9, 30, 0, 7): "2024-05-01 09:30:00.000007",
        pd.Timestamp(1_714_500_000_000_000_001): "2024-04-30 18:00:00.000000001",
    }
    for form in writers.FORMS:
        names = [f"c{place}" for place in range(len(values))]
        writers.write_table(tmp_path / f"t{form}", names, [[*values]])
    [(_, line)] = readers.read_file(tmp_path / "t.csv")
    assert [*line.values()] == [*values.values()]
    [(_, line)] = readers.read_file(tmp_path / "t.jsonl")
    assert [*line.values()] == [*values.values()]
    page = load_workbook(tmp_path / "t.xlsx").active
    assert page.sheet_format.defaultColWidth > len("2024-05-01 09:30:00")  # else Excel shows ####
    [_, cells] = page.iter_rows()
    assert [cell.data_type for cell in cells] == list("ddddssss")
    assert [cell.value for cell in cells[4:]] == [*values.values()][4:]
    assert cells[0].value == datetime.datetime(2024, 5, 1) and cells[2].value.hour == 9
    assert "h" not in cells[0].number_format and "h" in cells[2].number_format


def test_decimals_keep_their_digits():
    values = ["1234567890123456789.01", "0.10", "1E+20", "NaN", "Infinity"]
    assert [writers.plain(Decimal(value)) for value in values] == [
        "1234567890123456789.01", 0.1, 10**20, None, None,
    ]  # fmt: skip


def test_a_table_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("old")

    def rows():
        yield ["x"]
        raise KeyboardInterrupt

    for form in writers.FORMS:
        with pytest.raises(KeyboardInterrupt):
            writers.write_table(path.with_suffix(form), ["a"], rows())
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"] and path.read_text() == "old"


def test_targets_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("")
    for path, says in [
        (tmp_path / "t.txt", "unknown ending"),
        (tmp_path / "no" / "t.csv", "no such folder"),
        (tmp_path / "file" / "t.csv", "no such folder"),
        (tmp_path / "folder.csv", "is a folder"),
    ]:
        with pytest.raises(InputError, match=says):
            writers.check_target(path)


def test_a_link_stays_one_and_the_file_behind_it_is_written(tmp_path):
    (tmp_path / "shared").mkdir()
    link, file = tmp_path / "answers.csv", tmp_path / "shared" / "answers.csv"
    link.symlink_to(file)
    for value in ("old", "new"):
        writers.write_table(link, ["a"], [[value]])
        assert link.is_symlink() and file.read_text("utf-8-sig").split() == ["a", value]
    assert list(tmp_path.rglob("*unfinished*")) == []


def test_a_full_disk_is_said_in_one_line(tmp_path):
    with pytest.raises(InputError, match="No space left"), writers.whole_file(tmp_path / "t.csv"):
        open("/dev/full", "w", buffering=1).write("x\n")
    assert not list(tmp_path.iterdir())


def test_lists_hold_no_number_that_json_has_not(tmp_path):
    odd = [1.5, float("nan"), {"a": float("inf")}]
    for form in ("jsonl", "csv"):
        writers.write_table(tmp_path / f"a.{form}", ["scores"], [[odd]])
        assert "NaN" not in (tmp_path / f"a.{form}").read_text(encoding="utf-8-sig")
    line = json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8"))
    assert line == {"scores": [1.5, None, {"a": None}]}
