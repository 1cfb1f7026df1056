"""Values and formats: what is a label, and what in a file is refused rather than guessed."""

import bz2
import csv
import gzip
import json
import lzma
import re
import uuid
import zipfile
from decimal import Decimal

import numpy as np
import openpyxl
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from helpers import Fault, InputError
from helpers.readers import column_names, read_file
from helpers.rows import LAYOUT, check_row, label_of, options_of, spelling, text_of


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("体育", "体育"),
        ("\ufeff\u3000体 育\u200b\xa0\n", "体 育"),
        (0, "0"),
        (-3, "-3"),
        (True, "True"),
        (False, "False"),
        (1.0, "1"),
        (-0.0, "0"),
        ("1.0", "1"),
        ("1.00", "1"),
        ("1.10", "1.10"),
        ("1.", "1."),
        ("01.0", "01.0"),
        (Decimal("2.00"), "2"),
        (np.int64(5), "5"),
        (np.float32(5), "5"),
        (np.bool_(True), "True"),
        (np.str_("a"), "a"),
        ("体育".encode(), "体育"),
        ("体育新闻".encode("gb18030"), "体育新闻"),
        (None, None),
        (float("nan"), None),
        (np.float64("nan"), None),
        ("", None),
        (" \t\r\n\u3000\xa0\u200b\u2060\ufeff\x85\u2028\0", None),
    ],
)
def test_what_a_label_is(value, label):
    assert label_of(value) == label


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (["a", "b"], "a list is no label"),
        ([], "a list is no label"),
        (np.array(["a", "b"]), "a list is no label"),
        ({"a": 1}, "a dict is no label"),
        (b"\xff\xff\xff", "neither UTF-8 nor GB18030"),
        (0.5, "not whole"),
        (float("inf"), "not whole"),
        (1e300, "not whole"),
        ("nan", "a gap written as text"),
        ("#N/A", "a gap written as text"),
        ("#SPILL!", "a gap written as text"),
        ("-1.#IND", "a gap written as text"),
        ("\ud800", "no valid Unicode"),
    ],
)
def test_what_no_label_is(value, reason):
    with pytest.raises(Fault, match=reason):
        label_of(value)


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (["体育", 1, True, 2.0], ["体育", "1", "True", "2"]),
        (("a", " b"), ["a", "b"]),
        (np.array(["a", "b"]), ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("['a', 'b',\n 'c']", ["a", "b", "c"]),
        ("(1, 2)", ["1", "2"]),
        ("a\nb\r\nc\n", ["a", "b", "c"]),
        ("a\rb", ["a", "b"]),
        ("a\tb", ["a", "b"]),
        ("a|b|", ["a", "b"]),
        ("a, b, ", ["a", "b"]),
        ("a，b", ["a", "b"]),
        ("a;b", ["a", "b"]),
        ("体育；财经；", ["体育", "财经"]),
        ("体育、财经", ["体育", "财经"]),
        ("商业、财经|体育", ["商业、财经", "体育"]),
        ("Social Media|Art", ["Social Media", "Art"]),
        ("1、12、3", ["1", "12", "3"]),
        ("A,AB,B,O", ["A", "AB", "B", "O"]),
        ("体育", ["体育"]),
        (["Social Media"], ["Social Media"]),
        ("体育|财经".encode(), ["体育", "财经"]),
    ],
)
def test_options_in_any_form(value, options):
    assert options_of(value) == options


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "non-empty list"),
        (float("nan"), "non-empty list"),
        (7, "non-empty list"),
        ({"a": 1}, "non-empty list"),
        ("", "non-empty list"),
        ([], "non-empty list"),
        ("a||b", "option 2 of 3 is empty"),
        ("|a|b", "option 1 of 3 is empty"),
        (["a", None], "option 2 of 2 is empty"),
        (["a", "\u3000"], "option 2 of 2 is empty"),
        (["a", ["b"]], "a list is no label"),
        (["a", "a "], "repeats an option"),
        ([1, "1"], "repeats an option"),
        ("['a' 'b']", "without commas"),
        ("['a'\n 'b']", "without commas"),
        ("['a', 'b' 'c']", "without commas"),
        ("[0 1 2]", "no list"),
        ("[a, b]", "no list"),
        ("{'a', 'b'}", "no list"),
        ('{"a": 1}', "no list"),
        ("('a')", "no list"),
        ("体育 财经", "separated by spaces"),
        ("体育\u3000财经", "separated by spaces"),
        ("a，b,c", "separated in two ways"),
        ("1、体育 2、财经", "numbered options"),
        ("Ａ，体育Ｂ，财经Ｃ，艺术", "numbered options"),
        ("1, arts 2, sports", "numbered options"),
        ("a|b\nc", "separated in two ways"),
        ("'a','b'", "in quotes without brackets"),
    ],
)
def test_doubtful_options_are_refused(value, reason):
    with pytest.raises(Fault, match=reason):
        options_of(value)


@pytest.mark.parametrize(
    "value", [None, 7, "\u3000\u200b\0", b"", ["a"], b"\xff\xff\xff", "\ud800"]
)
def test_what_no_article_is(value):
    with pytest.raises(Fault):
        text_of(value)
    assert text_of("正文".encode()) == text_of("正文".encode("gb18030")) == "正文"


def save(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(path, **choices):
    return [row if isinstance(row, dict) else str(row) for _, row in read_file(path, **choices)]


GOOD_TABLE = 'text,output\n"第一行\n\n第二行, ""引""",A\n说"好",B\n'
GOOD_ROWS = [{"text": '第一行\n\n第二行, "引"', "output": "A"}, {"text": '说"好"', "output": "B"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_a_table_in_any_encoding(tmp_path, encoding):
    assert rows_of(save(tmp_path / "a.CSV", GOOD_TABLE.encode(encoding))) == GOOD_ROWS
    tabs = GOOD_TABLE.replace(",", "\t").replace("行\t ", "行, ")
    assert rows_of(save(tmp_path / "a.tsv", tabs.encode(encoding))) == GOOD_ROWS
    packed = gzip.compress(GOOD_TABLE.encode(encoding))
    assert rows_of(save(tmp_path / "a.csv.gz", packed)) == GOOD_ROWS


@pytest.mark.parametrize("mark", [";", "\t", "|", ",", "；"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030"])
def test_a_first_line_may_name_the_separator(tmp_path, mark, encoding):
    table = GOOD_TABLE.replace("text,output", f"text{mark}output")
    table = table.replace('",A', f'"{mark}A').replace('",B', f'"{mark}B')
    table = table.replace('说"好"', '"说""好"""').replace('""",B', f'"""{mark}B')
    file = save(tmp_path / "a.csv", f"sep={mark}\r\n{table}".encode(encoding))
    assert rows_of(file) == GOOD_ROWS
    places = [where for where, _ in read_file(file)]
    assert places == ["line 3", "line 6"]  # as an editor counts them
    save(tmp_path / "b.csv", f"sep={mark}\ntext{mark}output\n甲{mark}A\n" + '"乙\n')
    with pytest.raises(InputError, match=r"b\.csv line 4: a quoted field begins here"):
        rows_of(tmp_path / "b.csv")


TRADITIONAL = [
    "聯隊昨晚在主場以三比一擊敗對手，教練賽後表示球員們的體能和戰術都有明顯進步。",
    "中央銀行宣布調降存款準備率，分析師認為這項措施有助於緩解企業的資金壓力。",
    "農業部門今年推廣新的灌溉技術，讓種植稻米和蔬菜的農民節省了將近一半的水費。",
    "電腦",
]


@pytest.mark.parametrize("text", TRADITIONAL)
@pytest.mark.parametrize("encoding", ["big5", "cp950", "big5hkscs"])
def test_big5_is_refused_and_never_read_as_something_else(tmp_path, text, encoding):
    file = save(tmp_path / "a.csv", f"text,output\n{text},A\n".encode(encoding))
    with pytest.raises(InputError, match=r"a\.csv is written in Big5; convert it: iconv -f BIG5"):
        rows_of(file)
    with pytest.raises(Fault, match="Big5"):
        text_of(text.encode(encoding))


CANTONESE = (
    "尋日主場球隊贏咗場波，啲球迷一直喺度打氣，佢哋話呢場波好睇到唔捨得走。"
    "今日股市升咗三百點，啲散戶都幾開心，不過專家話唔好咁快入市。"
)


def test_big5_with_characters_of_hong_kong_is_refused_too(tmp_path):
    file = save(tmp_path / "a.csv", f"text,output\n{CANTONESE},體育\n".encode("big5hkscs"))
    with pytest.raises(InputError, match=r"is written in Big5; .*Hong Kong's: -f BIG5-HKSCS"):
        rows_of(file)


@pytest.mark.parametrize("text", [*TRADITIONAL[:3], CANTONESE, "汽车", "体育新闻", "朱镕基与鎔"])
def test_gb18030_is_not_taken_for_big5(tmp_path, text):
    file = save(tmp_path / "a.csv", f"text,output\n{text},A\n".encode("gb18030"))
    assert rows_of(file) == [{"text": text, "output": "A"}]


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_chinese_labels_of_english_articles_tell_the_encoding(tmp_path, encoding):
    labels = ["农业/科技", "体育", "Finance"]
    table = "".join(f"Exports rose again in the third quarter.,{label}\n" for label in labels)
    file = save(tmp_path / "a.csv", f"text,output\n{table}".encode(encoding))
    assert [row["output"] for row in rows_of(file)] == labels


@pytest.mark.parametrize(
    "text",
    [
        "Hello, hello\nHello, hello\nI am gone",
        "2 eggs, beaten\n3 apples, chopped\n4 onions, chopped\nsalt",
        "x = f(a, b)\ny = g(a, b)\nreturn x",
    ],
)
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_lines_of_an_article_that_look_like_rows_are_read(tmp_path, text, quoting):
    table = pd.DataFrame({"text": [text, "Rain on me"] * 3, "output": ["pop", "rock"] * 3})
    table.to_csv(tmp_path / "a.csv", index=False, quoting=quoting)
    assert [row["text"] for row in rows_of(tmp_path / "a.csv")] == [text, "Rain on me"] * 3


@pytest.mark.parametrize("mark", [",", "\t"])
@pytest.mark.parametrize("key", ["number", "uuid"])
def test_a_stray_quote_is_found_by_the_keys_of_rows(tmp_path, mark, key):
    """There are no labels, and no index that counts up."""
    names = [82_935 + 37 * n if key == "number" else uuid.UUID(int=n**9) for n in range(60)]
    lines = [f"{name}{mark}第{n}条消息" for n, name in enumerate(names)]
    lines[20] = f'{names[20]}{mark}"双11来了吗'
    lines[28] = f'{names[28]}{mark}这是双11"'
    file = save(
        tmp_path / ("a.csv" if mark == "," else "a.tsv"),
        "\n".join(["id,text".replace(",", mark), *lines]),
    )
    with pytest.raises(InputError, match=r"line 22: a quote opens here and swallows whole rows"):
        rows_of(file)


def test_numbers_within_an_article_are_no_keys(tmp_path):
    article = "The city grew.\n200,000 people came\n300,000 left\nand 1,000 stayed"
    table = pd.DataFrame({"id": [101, 7_301, 9_450], "text": ["a", article, "b"]})
    table.to_csv(tmp_path / "a.csv", index=False)
    assert rows_of(tmp_path / "a.csv")[1]["text"] == article


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path, end):
    table = f'text,output{end}甲\u2028乙\x85\x0b\x0c\x1c,A{end}"丙{end}丁",B{end}'
    rows = [
        {"text": "甲\u2028乙\x85\x0b\x0c\x1c", "output": "A"},
        {"text": f"丙{end}丁", "output": "B"},
    ]
    assert rows_of(save(tmp_path / "a.csv", table)) == rows
    lines = end.join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert rows_of(save(tmp_path / "a.jsonl", lines)) == rows
    assert rows_of(save(tmp_path / "a.json", f"[{lines.replace('}' + end, '},' + end)}]")) == rows


def test_a_line_end_between_two_reads(tmp_path):
    first = json.dumps({"text": "x" * (2**20 - 13)}) + "\r\n"
    assert len(first) == 2**20 + 1
    places = [where for where, _ in read_file(save(tmp_path / "a.jsonl", first + '{"text": "y"}'))]
    assert places == ["line 1", "line 2"]


UNSOUND_TABLES = {
    "an unclosed quote": ('text,output\na,A\n"b,B\nc,C\n', "line 3: a quoted field begins here"),
    "an unclosed quote below a field of two lines": (
        'text,output\n"a\n",A\n"x\ny","b\nc,C\n',
        "line 5: a quoted field begins here",
    ),
    "a stray quote that another closes": (
        'text,output\na,A\n"b,B\nc,A\nd",B\ne,A\n',
        "line 3: a quote opens here and swallows whole rows",
    ),
    "a stray quote in the first row": (
        'text,output\n"b,B\nc,A\nd,B\ne,A\nf",A\n',
        "line 2: a quote opens here and swallows whole rows",
    ),
    "a stray quote that swallows one row, the first": (
        'text,output\n"a,A\nb",B\nc,A\n',
        "line 2: a quote opens here and swallows whole rows",
    ),
    "a stray quote in the last column that swallows one row": (
        'output,text\nA,a\nB,"b\nC,c"\nA,d\nB,e\nC,f\n',
        "line 3: a quote opens here and swallows whole rows",
    ),
    "lines that are quoted as a whole": (
        '"text,output"\n"a,A"\n',
        "take the quotes around whole lines away",
    ),
    "two stray quotes at the beginning of fields": (
        'text,output\na,A\n"b,B\nc,C\n"d,A\n',
        "line 3: a quoted field begins here",
    ),
    "a quote that ends within a field": ('text,output\n"a" b,A\n', "line 2: a quoted field begins"),
    "two columns of one name": (
        "text,output, text\na,A,b\n",
        "line 1: 2 columns are called 'text'",
    ),
    "semicolons": ("text;output\na;A\n", "separated by ';'; save it with commas"),
    "tabs": ("text\toutput\na\tA\n", r"separated by '\t'; name the file .tsv"),
    "semicolons between quotes": ('"text";"output"\n"a";"A"\n', "separated by ';'; save it with"),
    "tabs between quotes": (
        '"text"\t"output"\n"a"\t"A"\n',
        r"separated by '\t'; name the file .tsv",
    ),
    "names of columns behind spaces": (
        '"output", "text"\nA, "a"\n',
        "line 1: a space before a quote",
    ),
    "commas of full width": ("正文，类别\n甲，A\n", "separated by '，'"),
}


@pytest.mark.parametrize("content, says", UNSOUND_TABLES.values(), ids=UNSOUND_TABLES.keys())
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_doubtful_table_is_refused_at_its_line(tmp_path, content, says, end):
    path = save(tmp_path / "a.csv", content.replace("\n", end))
    with pytest.raises(InputError) as error:
        rows_of(path)
    assert says in str(error.value) and "a.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_lines_of_an_article_are_no_swallowed_rows(tmp_path):
    rows = [["text", "output"], ["Hello, world\nand, more\nlines, of it", "A"], ["x, y\nz", "B"]]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert [list(row.values()) for row in rows_of(tmp_path / "a.csv")] == rows[1:]
    turned = [row[::-1] for row in rows]
    with (tmp_path / "b.csv").open("w", newline="") as file:
        csv.writer(file).writerows(turned)
    assert [list(row.values()) for row in rows_of(tmp_path / "b.csv")] == turned[1:]


def test_a_row_that_does_not_fit_the_header_is_a_bad_row_of_its_line(tmp_path):
    table = "text,category,output\na,A|B\nb,A|B,A\nc,A|B,A,too many\n"
    rows = list(read_file(save(tmp_path / "a.csv", table)))
    assert [where for where, _ in rows] == ["line 2", "line 3", "line 4"]
    assert str(rows[0][1]) == "fewer fields than the header names (2 of 3)"
    assert str(rows[2][1]) == "more fields than the header names (4 of 3)"
    assert rows[0][1].raw == {"text": "a", "category": "A|B"}


def test_a_table_of_r_whose_numbers_have_no_name_says_so(tmp_path):
    table = '"text"\t"label"\n"1"\t"甲"\t"A"\n"2"\t"乙"\t"B"\n'
    fault = rows_of(save(tmp_path / "a.tsv", table))[0]
    assert "(3 of 2); if rows begin with their number, name this column" in str(fault)
    rows = rows_of(save(tmp_path / "a.tsv", '"number"\t' + table))
    assert rows[1] == {"number": "2", "text": "乙", "label": "B"}


def test_a_space_before_a_quote_is_named(tmp_path):
    table = (
        'output, text\nA, "他说，""好""。"\nB, "a, b"\nA, "Yes" or "no"\nB," ""c"" "\nA,"x , "\n'
    )
    rows = rows_of(save(tmp_path / "a.csv", table))
    assert all("a space before a quote; take it away" in str(row) for row in rows[:2])
    assert [row["text"] for row in rows[2:]] == [' "Yes" or "no"', ' "c" ', "x , "]
    rows = rows_of(save(tmp_path / "c.csv", 'output, text\nA, "Hello there\nSo, we went"\nB,x\n'))
    assert "a space before a quote" in str(rows[0]) and rows[-1]["text"] == "x"
    with pytest.raises(InputError, match="line 2: a space before a quote"):
        rows_of(save(tmp_path / "b.csv", 'output, text\nA, "x,""y"" z"\n'))


def test_a_title_is_told_from_a_second_header(tmp_path):
    rows = rows_of(save(tmp_path / "a.csv", "新闻数据,\ntext,output\n甲,A\ntext,output\n"))
    assert "the first line must name every column, no title" in rows[0]
    assert "convert the files before they are joined" in rows[2]
    book, page = workbook(tmp_path, ["新闻数据", None], ["text", "output"], ["甲", "A"])
    page.merge_cells("A1:B1")
    book.save(tmp_path / "title.xlsx")
    with pytest.raises(InputError, match=r"A1:B1 are merged; .*if they are a title, delete row 1"):
        rows_of(tmp_path / "title.xlsx")


def test_columns_without_a_name(tmp_path):
    index = ",text,output\n0,a,A\n1,b,B\n"  # as pandas writes it
    assert rows_of(save(tmp_path / "a.csv", index))[0] == {"": "0", "text": "a", "output": "A"}
    shifted = "text,output,\na,A,\n今天, 天气,A\n"
    first, second = rows_of(save(tmp_path / "b.csv", shifted))
    assert first == {"text": "a", "output": "A"}
    assert second.startswith("a value in a column without a name: 'A'; quote what holds commas")


def test_files_that_were_joined(tmp_path):
    content = "\ufefftext,output\na,A\n\ufefftext,output\nb,B\n"
    read = rows_of(save(tmp_path / "a.csv", content))
    assert read[::2] == [{"text": "a", "output": "A"}, {"text": "b", "output": "B"}]
    assert read[1] == "the header once more, as where files were joined"
    content = '\ufeff{"text": "a"}\n\ufeff{"text": "b"}\n'
    assert rows_of(save(tmp_path / "a.jsonl", content)) == [{"text": "a"}, {"text": "b"}]


def test_rows_of_nothing_count_within_and_not_behind(tmp_path):
    rows = list(read_file(save(tmp_path / "a.csv", "\ntext,output\n\na,A\n,\nb,B\n,\n,\n")))
    assert [where for where, _ in rows] == ["line 4", "line 5", "line 6"]
    assert rows[1][1] == {"text": None, "output": None}


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_a_bad_byte_is_a_bad_row(tmp_path, form, encoding):
    rows = [{"text": f"第{n}篇文章讲的是球队", "output": "体育"} for n in range(9)]
    if form == "csv":
        text = "text,output\n" + "".join(f"{row['text']},体育\n" for row in rows)
    else:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        text = "\n".join(lines) if form == "jsonl" else f"[{', '.join(lines)}]"
    content = text.encode(encoding).replace("4篇".encode(encoding), b"4\xff")
    read = list(read_file(save(tmp_path / f"a.{form}", content)))
    assert [row for _, row in read if isinstance(row, dict)] == rows[:4] + rows[5:]
    where, fault = read[4]
    assert where == {"csv": "line 6", "jsonl": "line 5", "json": "row 5"}[form]
    assert "(0xff, behind '" in str(fault)


def test_lines_of_another_encoding_are_bad_rows(tmp_path):
    line = '{"text": "球队在加时赛中取胜了"}\n'
    gbk = (line.encode("gb18030") * 9 + line.encode()).replace(b"\n\n", b"\n")
    read = rows_of(save(tmp_path / "a.jsonl", gbk))
    assert read[:9] == [json.loads(line)] * 9 and "UTF-8 in a file of GB18030" in read[9]
    read = rows_of(save(tmp_path / "b.jsonl", line.encode() * 9 + line.encode("gb18030")))
    assert read[:9] == [json.loads(line)] * 9 and "a byte that is not sound" in read[9]


def test_a_bad_byte_in_english_is_no_chinese(tmp_path):
    content = b'{"text": "plain"}\n' * 5 + b'{"text": "caf\xe9 au lait"}\n'
    assert "a byte that is not sound" in rows_of(save(tmp_path / "a.jsonl", content))[5]


UNSOUND_ARRAYS = {
    "an object around": ('{"data": [{"text": "a"}]}', "keep the list behind 'data'"),
    "over several lines": ('{\n "text": "a"\n}', "write each object on a line of its own"),
    "an end too early": ('[{"text": "a"}, {"text": "b"}', "row 2: the array does not end"),
    "an element cut off": ('[{"text": "a"}, {"text": ', "row 2: invalid JSON"),
    "no comma": ('[{"text": "a"} {"text": "b"}]', "no comma behind row 1"),
    "two arrays": ('[{"text": "a"}]\n[{"text": "b"}]', "more behind the end of the array"),
    "nothing": ("", "expected an array"),
}


@pytest.mark.parametrize("content, says", UNSOUND_ARRAYS.values(), ids=UNSOUND_ARRAYS.keys())
def test_an_unsound_array_is_one_line(tmp_path, content, says):
    with pytest.raises(InputError, match=says):
        rows_of(save(tmp_path / "a.json", content))


BY_ROWS = [{"text": "甲" * 9, "label": "A"}, {"text": "乙" * 9, "label": "B"}]
WRAPPED = {
    "columns, as pandas writes by default": (
        {"text": {"0": "甲", "1": "乙"}, "label": {"0": "A", "1": "B"}},
        "holds the columns, so write an object for each row",
    ),
    "lists by name": ({"text": ["甲", "乙"], "label": ["A", "B"]}, "holds the columns"),
    "rows by number": ({"0": BY_ROWS[0], "1": BY_ROWS[1]}, "holds the columns"),
    "a table with its schema": (
        {"schema": {"fields": []}, "data": BY_ROWS},
        "keep the list behind 'data', and nothing around it",
    ),
    "rows beside a version": ({"version": "1", "data": BY_ROWS}, "keep the list behind 'data'"),
    "rows of two splits": (
        {"train": BY_ROWS, "test": BY_ROWS},
        "write the lists behind 'train', 'test' into files of their own",
    ),
}


@pytest.mark.parametrize("size", [1, 150_000], ids=["short", "longer than a read"])
@pytest.mark.parametrize("content, says", WRAPPED.values(), ids=WRAPPED.keys())
def test_one_object_that_holds_all_rows_is_no_row(tmp_path, content, says, size):
    text = json.dumps(content, ensure_ascii=False).replace("甲", "甲" * size)
    with pytest.raises(InputError, match=f"expected an array of objects.*{says}"):
        rows_of(save(tmp_path / "a.json", text))


def test_a_row_of_objects_in_lists_is_a_row(tmp_path):
    row = {"text": "甲" * 500_000, "marks": [{"text": "甲"}]}
    assert rows_of(save(tmp_path / "a.json", json.dumps(row, ensure_ascii=False))) == [row]
    lines = json.dumps(row, ensure_ascii=False) + '\n{"text": "乙"}\n'
    assert rows_of(save(tmp_path / "b.json", lines)) == [row, {"text": "乙"}]
    odd = '{"marks": [{"text": "甲"}]}\n{"text": "乙"}\n'  # not sound, but the file holds lines
    assert len(rows_of(save(tmp_path / "c.json", odd))) == 2


def test_an_array_larger_than_a_read(tmp_path):
    rows = [{"text": "长" * size, "n": size} for size in (1, 400_000, 1_500_000, 2, 3)]
    text = json.dumps([*rows, 5, "x"], ensure_ascii=False, indent=1)
    read = rows_of(save(tmp_path / "a.json", text))
    assert read[:5] == rows and all("expected an object" in row for row in read[5:])
    assert rows_of(save(tmp_path / "b.json", '[{"a": 1, "a": 2}, {"a": 3}]')) == [
        "two columns of one name: 'a'",
        {"a": 3},
    ]


def workbook(path, *rows, sheets=()):
    book = openpyxl.Workbook()
    book.active.title = "一"
    for row in rows:
        book.active.append(row)
    for sheet in sheets:
        book.create_sheet(sheet).append(["text", sheet])
    return book, book.active


def add_sheet(book, title, *rows):
    sheet = book.create_sheet(title)
    for row in rows:
        sheet.append(row)
    return sheet


def test_a_workbook(tmp_path):
    book, page = workbook(
        tmp_path,
        ["text", "output", None],
        ["甲\n乙_x000D_", 1.0],
        [None, None],
        ["丙", True],
        [None, " "],
        sheets=["二"],
    )
    page["A7"] = ""
    book["二"].append(["丁", "A"])
    book.save(tmp_path / "a.xlsx")
    rows = list(read_file(tmp_path / "a.xlsx"))
    assert rows == [
        ("sheet '一' row 2", {"text": "甲\n乙\r", "output": 1}),
        ("sheet '一' row 3", {"text": None, "output": None}),
        ("sheet '一' row 4", {"text": "丙", "output": True}),
    ]
    assert rows_of(tmp_path / "a.xlsx", sheet="二") == [{"text": "丁", "二": "A"}]
    assert column_names(tmp_path / "a.xlsx", "二") == ["text", "二"]
    with pytest.raises(InputError, match="has no sheet '三'; there are '一', '二'"):
        rows_of(tmp_path / "a.xlsx", sheet="三")
    with pytest.raises(InputError, match="has no sheets"):
        rows_of(save(tmp_path / "a.csv", GOOD_TABLE), sheet="一")


def test_a_gap_between_rows_of_a_workbook_keeps_their_numbers(tmp_path):
    book, page = workbook(tmp_path, ["text", "output"])
    page["A5"], page["B5"] = "甲", "A"
    book.save(tmp_path / "a.xlsx")
    assert [where for where, _ in read_file(tmp_path / "a.xlsx")] == [
        "row 2",
        "row 3",
        "row 4",
        "row 5",
    ]


def test_cells_that_would_be_read_as_empty_are_refused(tmp_path):
    book, page = workbook(tmp_path, ["text", "output"], ["甲", "A"], ["乙", None])
    page.merge_cells("B2:B3")
    book.save(tmp_path / "merged.xlsx")
    with pytest.raises(InputError, match="cells B2:B3 are merged"):
        rows_of(tmp_path / "merged.xlsx")
    book, page = workbook(tmp_path, ["text", "output"], ["甲", '=CONCAT("A","B")'])
    book.save(tmp_path / "formula.xlsx")
    with pytest.raises(InputError, match="the formula in B2 has no value"):
        rows_of(tmp_path / "formula.xlsx")


def test_headers_and_failed_formulas_of_a_workbook(tmp_path):
    book, page = workbook(tmp_path, ["text", "text"], ["甲", "A"])
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="row 1: 2 columns are called 'text'"):
        rows_of(tmp_path / "a.xlsx")
    book, page = workbook(tmp_path, ["text", "output"], ["甲", "#N/A"])
    page["B2"].data_type = "e"
    book.save(tmp_path / "b.xlsx")
    with pytest.raises(Fault, match="a CellError is no label: #N/A"):
        label_of(next(row["output"] for _, row in read_file(tmp_path / "b.xlsx")))


def test_parquet_of_every_type(tmp_path):
    columns = {
        "text": pyarrow.array(["甲".encode(), "乙".encode()], pyarrow.binary()),
        "long": pyarrow.array(["甲", "乙"], pyarrow.large_string()),
        "category": pyarrow.array([["A", "B"]] * 2),
        "output": pyarrow.array(["A", None]).dictionary_encode(),
        "number": pyarrow.array([1.0, None]),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    first, second = rows_of(tmp_path / "a.parquet")
    assert text_of(first["text"]) == first["long"] == "甲" and first["category"] == ["A", "B"]
    assert (first["output"], second["output"]) == ("A", None)
    assert (label_of(first["number"]), label_of(second["number"])) == ("1", None)


def test_parquet_that_is_not_sound(tmp_path):
    table = pyarrow.table([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="2 columns are called 'text'"):
        rows_of(tmp_path / "a.parquet")
    raw = pyarrow.array(["甲".encode(), b"\xff\xfe", "丙".encode()], pyarrow.binary())
    as_text = pyarrow.Array.from_buffers(pyarrow.string(), 3, raw.buffers())
    parquet.write_table(pyarrow.table({"text": as_text}), tmp_path / "b.parquet")
    assert rows_of(tmp_path / "b.parquet") == [
        {"text": "甲"},
        "a byte that is not sound in the file's encoding (0xff)",
        {"text": "丙"},
    ]


SPELLINGS = [
    ("AI", "ＡＩ"),
    ("Sports", "sports"),
    ("caf\u00e9", "cafe\u0301"),
    ("体育", "体\u200b育"),
    ("体育", "体 育"),
    ("A-B", "A\u2010B"),
    ("❤", "❤\ufe0f"),
    ("1", "01"),
    ("文化", "⽂化"),
]


@pytest.mark.parametrize(("one", "other"), SPELLINGS)
def test_spellings_of_one_label(one, other):
    assert spelling(one) == spelling(other)
    with pytest.raises(Fault, match="spells an option in two ways: ") as fault:
        options_of([one, "其他", other])
    first, second = str(fault.value).partition(": ")[2].split(" and ")
    assert first != second  # a reader must see how they differ


@pytest.mark.parametrize(
    ("one", "other"), [("1", "-1"), ("0", "10"), ("C", "C++"), ("1.1", "1.10")]
)
def test_labels_that_are_alike_and_two(one, other):
    assert options_of([one, other]) == [one, other]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("【体育，财经】", "within brackets"),
        ("A（甲，乙），B", "within brackets"),
        ("“体育”，“财经”", "in quotes"),
        ("体育/财经", "separated by '/'"),
        (r"体育\n财经", "write a JSON list"),
    ],
)
def test_options_that_people_separate_in_other_ways(value, reason):
    with pytest.raises(Fault, match=reason):
        options_of(value)
    assert options_of("体育/健身｜财经") == ["体育/健身", "财经"]


@pytest.mark.parametrize(
    "label",
    [
        "None",
        "NULL",
        "N/A",
        "(null)",
        "[NULL]",
        "undefined",
        "-",
        "——",
        "TBD",
        "待标注",
        r"\N",
        "['体育']",
        '{"choices": ["体育"]}',
        '"体育"',
        '="007"',
    ],
)
def test_a_label_that_programs_write_is_one_where_it_is_offered(label):
    raw = {"text": "甲", "category": ["体育", label], "output": label}
    assert check_row(raw, LAYOUT, None, "1")["output"] == label
    with pytest.raises(Fault, match="is no label"):
        check_row(raw, LAYOUT, ["体育", "财经"], "1")
    assert check_row(raw | {"output": "(旧)[1"}, LAYOUT, [], "1")["output"] == "(旧)[1"


@pytest.mark.parametrize("text", ["nan", " None ", "NULL", "#N/A", "[NULL]", "#CALC!", "-"])
def test_a_gap_is_no_article(text):
    with pytest.raises(Fault, match="a gap as text"):
        text_of(text)


@pytest.mark.parametrize("code", [r"\u{:04x}", "<U+{:04X}>", "&#{};", "&#x{:x};"])
def test_codes_in_place_of_characters_are_no_text(code):
    """As where JSON was pasted into a table, or R wrote one, or a page was copied as it is."""
    title, article = (
        "".join(code.format(ord(s)) for s in text) for text in ("体育", "昨天下午比赛" * 9)
    )
    with pytest.raises(Fault, match="codes in place of characters"):
        text_of(f"{article} 2024")
    with pytest.raises(Fault, match="codes in place of characters are no label"):
        check_row({"text": "甲", "output": title}, LAYOUT, ["体育"], "1")
    assert text_of(f"朱{title[: len(title) // 2]}基会见来宾")  # a title with one rare character
    assert text_of(
        f"这个字写作 {title}，那个字写作 {title[: len(title) // 2]}，各位读者请看下面的例子再说话。"
    )


def test_a_mark_of_byte_order_hides_no_quote(tmp_path):
    content = 'output,text\nA,a\n\ufeff"B","b, c\n\ufeff""d"""\n'
    assert rows_of(save(tmp_path / "a.csv", content))[1] == {
        "output": "B",
        "text": 'b, c\n\ufeff"d"',
    }


@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_what_is_no_text_is_called_what_it_is(tmp_path, form):
    book, _ = workbook(tmp_path, ["text"], ["甲"])
    book.save(tmp_path / f"a.{form}")
    with pytest.raises(InputError, match=r"is a workbook \(.xlsx\) or a .zip by its content"):
        rows_of(tmp_path / f"a.{form}")
    parquet.write_table(pyarrow.table({"text": ["甲"]}), tmp_path / f"b.{form}")
    with pytest.raises(InputError, match=r"is a .parquet file by its content"):
        rows_of(tmp_path / f"b.{form}")
    packed = save(tmp_path / f"c.{form}", gzip.compress(GOOD_TABLE.encode()))
    with pytest.raises(InputError, match=r"is packed \(.gz\)"):
        rows_of(packed)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("\ufeff\n<!DOCTYPE html><html></html>", "is a web page, not the data"),
        ("<HTML><body>404</body></HTML>", "is a web page, not the data"),
    ],
)
def test_what_stands_in_the_place_of_data_is_said(tmp_path, content, said):
    for form in ("csv", "jsonl", "json", "xlsx", "parquet", "csv.gz", "parquet.gz"):
        with pytest.raises(InputError, match=said):
            rows_of(save(tmp_path / f"a.{form}", content))
    for form in ("csv.gz", "parquet.gz"):
        with pytest.raises(InputError, match=said):
            rows_of(save(tmp_path / f"a.{form}", gzip.compress(content.encode())))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x28\xb5\x2f\xfd\x24\x05", r"is packed \(\.zst, .*unpack it"),
        (bz2.compress(b"text\n"), r"is packed \(\.zst, \.bz2"),
        (lzma.compress(b"text\n"), "is packed"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "is packed"),
        (b"%PDF-1.7\n%\xe2\xe3", "is a PDF, which is not read"),
        (b'<?xml version="1.0"?>\n<rows/>', "is XML, which is not read"),
        (b"{\\rtf1 text}", "is a text with formats"),
        (b"ARROW1\0\0\0\0", r"write it as \.parquet"),
    ],
)
def test_a_file_that_is_not_read_says_what_it_is(tmp_path, content, said):
    for form in ("csv", "jsonl", "json", "parquet", "csv.gz"):
        whole = gzip.compress(content) if form.endswith(".gz") else content
        with pytest.raises(InputError, match=said):
            rows_of(save(tmp_path / f"a.{form}", whole))


def test_a_file_that_is_not_soundly_packed_says_what_to_do(tmp_path):
    whole = gzip.compress(GOOD_TABLE.encode())
    for content in (GOOD_TABLE.encode(), whole[:-9], whole[:20] + bytes(9) + whole[29:]):
        with pytest.raises(InputError, match=r"copy the file anew, or.* take \.gz off its name"):
            rows_of(save(tmp_path / "a.csv.gz", content))
    with pytest.raises(InputError, match="is packed twice; unpack it once"):
        rows_of(save(tmp_path / "a.csv.gz", gzip.compress(whole)))
    with pytest.raises(InputError, match=r"unknown kind of file; unpack it"):
        rows_of(save(tmp_path / "a.csv.zst", whole))


def test_a_table_under_the_name_of_another_kind_is_called_what_it_is(tmp_path):
    workbook(tmp_path, ["text"], ["甲"])[0].save(tmp_path / "a.xlsx")
    parquet.write_table(pyarrow.table({"text": ["甲"]}), tmp_path / "a.parquet")
    (tmp_path / "b.xlsx").write_bytes((tmp_path / "a.parquet").read_bytes())
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.xlsx").read_bytes())
    (tmp_path / "c.xlsx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99))
    for name, said in {
        "b.xlsx": r"is a \.parquet file by its content",
        "b.parquet": r"is a workbook \(\.xlsx\)",
        "c.xlsx": r"is an old workbook \(\.xls\), or one with a password",
    }.items():
        with pytest.raises(InputError, match=said):
            rows_of(tmp_path / name)


def test_sheets_with_the_same_columns_are_not_passed_over(tmp_path):
    rows = ["text", "output"], ["甲", "A"]
    book, _ = workbook(tmp_path, *rows, sheets=["二"])
    third = add_sheet(book, "三", *rows)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="sheets '一' and '三' have the same columns; name one"):
        rows_of(tmp_path / "a.xlsx")
    assert rows_of(tmp_path / "a.xlsx", sheet="三") == [{"text": "甲", "output": "A"}]
    third.sheet_state = "hidden"
    book.save(tmp_path / "b.xlsx")
    assert len(rows_of(tmp_path / "b.xlsx")) == 1


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize(
    "array", ['[{{"text": "a"}}]', '[{}{{"text": "a"}}]', '[{{"text": "a"}},{}5]']
)
def test_an_array_in_a_file_of_lines_is_said(tmp_path, array, end):
    file = save(tmp_path / "a.jsonl", array.format(end))
    assert "an array of them is .json" in rows_of(file)[0]


def test_hidden_rows_and_sheets_are_refused(tmp_path):
    rows = ["text", "output"], ["甲", "A"], ["乙", "B"]
    book, page = workbook(tmp_path, *rows, sheets=["二"])
    page.row_dimensions[3].hidden = True
    page.row_dimensions[9].hidden = True
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="row 3 is hidden"):
        rows_of(tmp_path / "a.xlsx")
    page.row_dimensions[3].hidden = False  # row 9 stays hidden, but is empty
    book.save(tmp_path / "b.xlsx")
    assert len(rows_of(tmp_path / "b.xlsx")) == 2
    page.sheet_state, book.active = "hidden", 1
    book.save(tmp_path / "c.xlsx")
    with pytest.raises(InputError, match="first sheet, '一', is hidden; name one with `sheet`"):
        rows_of(tmp_path / "c.xlsx")
    assert len(rows_of(tmp_path / "c.xlsx", sheet="一")) == 2


def without_numbers(xml):
    return re.sub(rb'(<(?:row|c)\b[^>]*?) r="\w+"', rb"\1", xml).replace(b'"1"', b"'1'")


def test_hidden_rows_and_formulas_are_found_where_nothing_is_numbered(tmp_path):
    book, page = workbook(tmp_path, ["text", "output"], ["甲", "A"], ["乙", "B"])
    book.save(tmp_path / "good.xlsx")
    assert len(rows_of(rewritten(tmp_path / "good.xlsx", without_numbers))) == 2
    page.row_dimensions[3].hidden = True
    book.save(tmp_path / "hidden.xlsx")
    with pytest.raises(InputError, match="row 3 is hidden"):
        rows_of(rewritten(tmp_path / "hidden.xlsx", without_numbers))
    page.row_dimensions[3].hidden = False
    page["B2"] = "=A1"
    book.save(tmp_path / "formula.xlsx")
    with pytest.raises(InputError, match="the formula in row 2 has no value"):
        rows_of(rewritten(tmp_path / "formula.xlsx", without_numbers))


def test_a_sheet_that_is_no_xml_is_refused(tmp_path):
    book, _ = workbook(tmp_path, ["text", "output"], ["甲", "A"])
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match=r"is no sound \.xlsx file"):
        rows_of(rewritten(tmp_path / "a.xlsx", lambda xml: xml[:-30]))


def test_sheets_that_hold_nothing_or_have_a_number_for_a_name(tmp_path):
    book, _ = workbook(tmp_path, sheets=["2024"])
    book["2024"].append(["甲", "A"])
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match=r"sheet '一' holds no rows; name one .*'一', '2024'"):
        rows_of(tmp_path / "a.xlsx")
    assert rows_of(tmp_path / "a.xlsx", sheet=2024) == [{"text": "甲", "2024": "A"}]


def rewritten(path, change):
    """A workbook in which the XML of a sheet is changed."""
    other = path.with_name(f"new-{path.name}")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if "worksheets" in name else old.read(name))
    return other


def with_prefix(xml):
    return re.sub(rb"<(/?)(?=[a-zA-Z])", rb"<\1x:", xml).replace(b"xmlns=", b"xmlns:x=")


def test_a_workbook_whose_elements_have_a_prefix(tmp_path):
    book, page = workbook(tmp_path, ["text", "output"], ["甲", "=A1"])
    book.save(tmp_path / "formula.xlsx")
    with pytest.raises(InputError, match="the formula in B2 has no value"):
        rows_of(rewritten(tmp_path / "formula.xlsx", with_prefix))
    page["B2"] = "A"
    book.save(tmp_path / "good.xlsx")
    assert len(rows_of(rewritten(tmp_path / "good.xlsx", with_prefix))) == 1
    page.merge_cells("B2:B3")
    book.save(tmp_path / "merged.xlsx")
    with pytest.raises(InputError, match="cells B2:B3 are merged"):
        rows_of(rewritten(tmp_path / "merged.xlsx", with_prefix))


@pytest.mark.parametrize(
    "other",
    [
        pyarrow.array([2**62, None], pyarrow.timestamp("us")),
        pyarrow.array([1, None], pyarrow.timestamp("us", "Foo/Bar")),
        pyarrow.array([2**30, None], pyarrow.int32()).cast(pyarrow.date32()),
    ],
)
def test_values_that_python_cannot_hold_spoil_no_other_column(tmp_path, other):
    parquet.write_table(
        pyarrow.table({"text": ["甲", "乙"], "when": other}), tmp_path / "a.parquet"
    )
    first, second = rows_of(tmp_path / "a.parquet")
    assert (first["text"], second["text"], second["when"]) == ("甲", "乙", None)
    with pytest.raises(Fault, match="a value that cannot be read"):
        label_of(first["when"])


def test_cells_that_are_only_painted_are_no_fields(tmp_path):
    book, page = workbook(tmp_path, ["text", "output"], ["甲", "A"], ["乙", "B"])
    for cell in ("D1", "E2", "D3"):
        page[cell].fill = openpyxl.styles.PatternFill("solid", fgColor="FFFF00")
    book.save(tmp_path / "painted.xlsx")
    whole = [{"text": "甲", "output": "A"}, {"text": "乙", "output": "B"}]
    assert [row for _, row in read_file(tmp_path / "painted.xlsx")] == whole
    page["D3"] = "C"
    book.save(tmp_path / "filled.xlsx")
    fault = [row for _, row in read_file(tmp_path / "filled.xlsx")][1]
    assert isinstance(fault, Fault) and "without a name" in str(fault)


@pytest.mark.parametrize(("value", "refused"), [(b"0", True), (b"1", False)])
def test_a_formula_that_its_writer_did_not_compute_is_refused(tmp_path, value, refused):
    """Some writers store 0 with each formula and leave computing to the program that opens it."""
    book, _ = workbook(tmp_path, ["text", "output"], ["甲", "=1+0"])
    book.save(tmp_path / "a.xlsx")

    def with_value(content):
        return re.sub(rb"<v ?/>|<v></v>", b"<v>" + value + b"</v>", content)

    path = rewritten(tmp_path / "a.xlsx", with_value)
    if refused:
        with pytest.raises(InputError, match="the formula in B2 has no value"):
            rows_of(path)
    else:
        assert [row["output"] for _, row in read_file(path)] == [1]


@pytest.mark.parametrize(
    "lines",
    [["1,甲甲", '2,"乙乙', "3,丙丙", '4,丁"', "5,戊"], ["1,甲甲", '2,"乙乙', '3,丙丙"', "4,丁"]],
)
def test_a_stray_quote_that_swallows_numbered_rows_is_named(tmp_path, lines):
    (tmp_path / "a.csv").write_text("\n".join(["id,text", *lines]), encoding="utf-8")
    with pytest.raises(InputError, match="line 3: a quote opens here and swallows whole rows"):
        rows_of(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("header", "row", "table"),
    [
        ("text,label", "{},{}", "队名,名次\n北京队,1\n上海队,2\n广东队,0"),
        ("title,text,label", "题目,{0},{1}", "奖牌榜,金,银\n中国,40,27\n美国,40,44\n完"),
        (
            "text,year,label",
            "{},2021,{}",
            "品种,年份,产量\n水稻,2021,500\n水稻,2022,600\n小麦,2021,4",
        ),
    ],
)
@pytest.mark.parametrize("place", [0, 3])
def test_a_table_within_an_article_is_no_swallowed_rows(tmp_path, header, row, table, place):
    article = '"这是一篇不长也不短的文章，说的是第{}天的事情，没有别的内容。"'
    lines = [row.format(article.format(n), n % 3) for n in range(6)]
    lines[place] = row.format(f'"昨天公布的结果如下，供读者参考。\n{table}"', 1)
    (tmp_path / "a.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    rows = list(read_file(tmp_path / "a.csv"))
    assert len(rows) == 6 and "\n" in rows[place][1]["text"]


@pytest.mark.parametrize("length", [8, 40, 70, 300])
@pytest.mark.parametrize("header", ["label\ttext", "text\tlabel", "date\tlabel\ttext"])
@pytest.mark.parametrize("swallowed", [1, 2, 6])
def test_two_stray_quotes_swallow_rows_of_no_length(tmp_path, length, header, swallowed):
    """The rows are sorted by class, and those of one class are shorter."""
    lines = []
    for n in range(60):
        text = f"第{n}篇" + "新闻" * (length // (3 if 20 <= n < 40 else 2))
        row = {"label": ("体育", "财经", "农业")[n // 20], "date": f"2024-01-{n % 28 + 1:02}"}
        row["text"] = f'"{text}' if n == 25 else f'{text}"' if n == 25 + swallowed else text
        lines.append("\t".join(row[name] for name in header.split("\t")))
    file = save(tmp_path / "a.tsv", "\n".join([header, *lines]) + "\n")
    with pytest.raises(InputError, match=r"line 27: .*swallows whole rows.* as \.xlsx or \.jsonl"):
        rows_of(file)


@pytest.mark.parametrize("swallowed", [1, 2, 5, 20])
@pytest.mark.parametrize("header", ["label\ttext", "text\tlabel"])
def test_rows_of_a_short_class_are_swallowed_rows_too(tmp_path, header, swallowed):
    """Labels are numbers, and the rows are sorted by class."""
    lines = [
        ["字" * ((100 if c == 2 else 800) + k % 7), str(c)] for c in range(4) for k in range(40)
    ]
    lines[90][0] = '"' + lines[90][0]
    lines[90 + swallowed][0] += '"'
    step = 1 if header.startswith("text") else -1
    table = "\n".join([header, *("\t".join(line[::step]) for line in lines)])
    with pytest.raises(InputError, match="line 92: a quote opens here and swallows whole rows"):
        rows_of(save(tmp_path / "a.tsv", table + "\n"))


SWALLOWED = {
    "numbered rows, to the end of the file": 'id,text\n1,a\n2,b\n3,"c\n4,d\n5,e\n6,f"\n',
    "one row without a label": 'id,text\n8231,a\n8240,b\n8277,"c\n8300,d"\n8311,e\n',
    "from one column into another": "id,title,text,label\n1,t,a,A\n2,t,b,B\n"
    '3,"t,c,A\n4,t,d,B\n5,t,e",A\n6,t,f,B\n',
    "behind a text with a comma": 'text,label\nx,A\ny,B\n"Well,then,A\na,B\nb",B\nc,A\n',
}


@pytest.mark.parametrize("table", SWALLOWED.values(), ids=SWALLOWED)
def test_swallowed_rows_of_other_kinds(tmp_path, table):
    with pytest.raises(InputError, match="line 4: a quote opens here and swallows whole rows"):
        rows_of(save(tmp_path / "a.csv", table))


@pytest.mark.parametrize("labels", ["体育 财经 农业", "0 1 2"])
@pytest.mark.parametrize("header", ["text,label", "label,text"])
@pytest.mark.parametrize(("begin", "end"), [(19, 40), (20, 40), (0, 44)])
def test_a_class_that_was_swallowed_whole_is_noticed(tmp_path, labels, header, begin, end):
    """The rows are sorted by class, and no row outside the quotes has the swallowed class."""
    lines = [[f"{n}号" + "字" * (9 + 7 * n % 11), labels.split()[n // 20]] for n in range(60)]
    lines[begin][0], lines[end][0] = '"' + lines[begin][0], lines[end][0] + '"'
    step = 1 if header.startswith("text") else -1
    table = "\n".join([header, *(",".join(line[::step]) for line in lines)])
    says = f"line {begin + 2}: a quote opens here and swallows whole rows"
    with pytest.raises(InputError, match=says):
        rows_of(save(tmp_path / "a.csv", table + "\n"))


@pytest.mark.parametrize("header", ["title,text", "text,author"])
def test_swallowed_rows_without_labels_or_keys_are_told_by_length(tmp_path, header):
    values = [
        {
            "title": f"题{chr(0x4E00 + 37 * n)}" + "目" * (n % 5),
            "author": f"{chr(0x5E00 + 31 * n)}{chr(0x6E00 + 17 * n)}",
            "text": "新闻" * (5 + 7 * n % 11) + chr(0x4E00 + n),
        }
        for n in range(60)
    ]
    articles = [dict(row) for row in values]
    values[30]["text"], values[35]["text"] = '"' + values[30]["text"], values[35]["text"] + '"'
    names = header.split(",")
    lines = [",".join(row[name] for name in names) for row in values]
    with pytest.raises(InputError, match="line 32: a quote opens here and swallows whole rows"):
        rows_of(save(tmp_path / "a.csv", "\n".join([header, *lines]) + "\n"))
    for kind in ("甲队,3\n乙队,1\n丙队,1\n丁队,0\n戊队,0\n己队,0", "好,行\n" * 9):
        articles[30]["text"] = f"昨天的结果如下。\n{kind}\n完"
        pd.DataFrame(articles)[names].to_csv(tmp_path / "b.csv", index=False)
        assert rows_of(tmp_path / "b.csv")[30]["text"] == articles[30]["text"]


def test_rows_with_too_few_fields_tell_no_length(tmp_path):
    lines = ["title,text", *["只有一栏"] * 25, '"甲甲甲甲,乙', *["丙丙丙丙,丁"] * 5, '戊戊戊戊,己"']
    assert len(rows_of(save(tmp_path / "a.csv", "\n".join(lines)))) == 26


QUOTED = {
    "ids": ["id,text", "The town grew.\n2,000 people came."],
    "a list from two on": ["id,text", "Good:\n1, the room\n2,the staff\n3,the breakfast"],
    "addresses": ["id,text", "We met at\n12, Main Street\n34, High Street"],
    "a dialogue": ["answer,text", "Shall we go?\nYes, said Ann.\nNo, said Ben."],
    "cities": ["city,text", "The weather:\nBerlin, sunny\nMadrid, rain"],
    "a table of classes": ["city,text", "People:\nBerlin,300\nMadrid,200"],
    "log lines": ["date,text", "It went down.\n2024-01-03,up\n2024-01-04,down"],
}


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize(("header", "text"), QUOTED.values(), ids=QUOTED)
def test_a_quoted_article_that_looks_like_rows_is_read(tmp_path, header, text, quoting):
    first = header.split(",")[0]
    values = {
        "id": [str(n + 1) for n in range(60)],
        "answer": ["Yes", "No", "Maybe"] * 20,
        "city": ["Berlin", "Madrid", "Rome"] * 20,
        "date": [f"2024-{n // 28 + 1:02}-{n % 28 + 1:02}" for n in range(60)],
    }[first]
    texts = [f"Report {n} of a day by the sea and what came after" for n in range(60)]
    texts[59] = texts[7] = text
    table = pd.DataFrame({first: values, "text": texts})
    table.to_csv(tmp_path / "a.csv", index=False, quoting=quoting)
    assert [row["text"] for row in rows_of(tmp_path / "a.csv")] == texts


def test_a_list_between_stars_that_go_on_is_an_article(tmp_path):
    texts = [f"Review {n} of a place by the sea, with a view" for n in range(60)]
    texts[40] = "It was bad\n2,the staff is rude\n3,the rooms are small"
    table = pd.DataFrame({"stars": [(n % 5) + 1 for n in range(60)], "text": texts})
    table.loc[41, "stars"] = 4  # the row's own 1, the list's 2 and 3, the next row's 4
    table.to_csv(tmp_path / "a.csv", index=False)
    assert [row["text"] for row in rows_of(tmp_path / "a.csv")] == texts


def test_where_many_articles_hold_tables_none_is_swallowed_rows(tmp_path):
    texts = [f"Results {n}\nBerlin,{n % 3}\nMadrid,{n % 2}" for n in range(30)]
    table = pd.DataFrame({"text": texts, "label": [n % 3 for n in range(30)]})
    table.to_csv(tmp_path / "a.csv", index=False)
    assert [row["text"] for row in rows_of(tmp_path / "a.csv")] == texts


LISTS = {
    "lines that begin alike": "Sales rose.\nHowever, costs rose too\nHowever, margins held",
    "a poem": "O night\nThen, we talked\nThen, we left\nFinally, we slept",
    "a mail": "I agree.\n> No, he said\n> Well, I think\n> No, he said",
    "a list of cities": "Weather:\nBerlin, sunny\nMadrid, rain\nMadrid, wind",
    "a numbered list": "Good:\n1,the room\n2,the staff\n3,the breakfast",
    "thousands": "It cost:\n1,200 dollars for the flat\n3,450 dollars for the house",
}


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("labels", [["1", "2", "3", "4", "5"], ["Sports", "Art"]])
def test_lists_within_an_article_are_no_swallowed_rows(tmp_path, text, labels):
    """This holds beside labels that are numbers, and where many articles hardly exceed a line."""
    texts = [f"Review {n} of {'a place by the sea ' * (n % 7 + 1)}" for n in range(60)]
    texts[0] = texts[30] = text
    table = pd.DataFrame({"label": [labels[n % len(labels)] for n in range(60)], "text": texts})
    table.to_csv(tmp_path / "a.csv", index=False)
    assert [row["text"] for row in rows_of(tmp_path / "a.csv")] == texts


@pytest.mark.parametrize("between", [",", ",1.5,"])
def test_numbered_rows_are_found_behind_their_texts(tmp_path, between):
    lines = [f"第{n}篇{between}{n}" for n in range(9)]
    lines[3], lines[6] = '"' + lines[3], lines[6].replace("篇", '篇"')
    header = "text,price,id" if "5" in between else "text,id"
    (tmp_path / "a.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
    with pytest.raises(InputError, match="line 5: a quote opens here and swallows whole rows"):
        rows_of(tmp_path / "a.csv")


@pytest.mark.parametrize("start", [1, 7])
def test_an_article_with_a_numbered_list_is_one_article(tmp_path, start):
    """This also holds where the list happens to continue the row's own number."""
    items = "\n".join(f"{start + k},第{k}项" for k in range(3))
    (tmp_path / "a.csv").write_text(f'id,text\n1,"{items}"\n2,乙\n', encoding="utf-8")
    assert len(rows_of(tmp_path / "a.csv")) == 2


@pytest.mark.parametrize("options", ["[{{1}}]", "[{['a']: 1}]"])
def test_options_that_python_cannot_hash_are_no_list(options):
    with pytest.raises(Fault, match="the options are no list"):
        options_of(options)


def test_labels_kept_as_bytes_of_gbk_are_read_together(tmp_path):
    names = ["农业", "女", "体育", None]  # in GBK, the first two are also sound UTF-8
    table = pyarrow.table({"text": ["a"] * 4, "output": [n and n.encode("gbk") for n in names]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    rows = read_file(tmp_path / "rows.parquet")
    assert [row["output"] for _, row in rows] == names


def test_bytes_of_a_parquet_file_are_read_in_one_encoding_throughout(tmp_path):
    """This also holds where the rows of one class fill a batch; a picture is no text."""
    labels = ["小说"] * 300 + ["体育"] * 300
    table = pyarrow.table(
        {
            "text": [f"第{n}篇".encode("gbk") for n in range(600)],
            "label": [label.encode("gbk") for label in labels],
            "kind": ["女".encode("gbk")] * 599 + ["男".encode("gbk")],
            "picture": [bytes(range(99, 256)) * (n % 3) for n in range(600)],
        }
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    rows = rows_of(tmp_path / "rows.parquet")
    assert [row["label"] for row in rows] == labels
    assert [row["kind"] for row in rows] == ["女"] * 599 + ["男"]
    assert rows[299]["text"] == "第299篇" and isinstance(rows[1]["picture"], bytes)


@pytest.mark.parametrize("label", ["农业", "医药", "小说", "通知", "食品", "证券", "小学", "校园"])
def test_a_label_in_gbk_beside_english_is_no_word_of_two_scripts(tmp_path, label):
    table = f"text,output\nwheat and rain,{label}\n"
    (tmp_path / "rows.csv").write_bytes(table.encode("gbk"))
    [(_, row)] = read_file(tmp_path / "rows.csv")
    assert row["output"] == label
    words = "café|Привет|10 μm|Ωmega|naïve|за|СССР|και|אתר|صص|Һава|ư|/ɪɡ/|É|ÿ|ñ|l´été|« oui »|ǯ|м"
    for word in words.split("|"):
        (tmp_path / "rows.csv").write_text(table.replace(label, word), encoding="utf-8")
        [(_, row)] = read_file(tmp_path / "rows.csv")
        assert row["output"] == word


def test_an_object_within_a_column_may_name_something_twice(tmp_path):
    file = save(tmp_path / "a.jsonl", '{"text": "a", "meta": [{"a": 1, "a": 2}]}\n')
    assert dict(read_file(file)) == {"line 1": {"text": "a", "meta": [{"a": 2}]}}


def test_a_bad_byte_takes_no_other_column_of_its_line(tmp_path):
    content = '{"id": 7, "text": "球队在加时赛中取胜"}'.encode()
    (tmp_path / "a.jsonl").write_bytes(content[:-12] + b"\xff" + content[-12:] + b"\n")
    [(_, fault)] = read_file(tmp_path / "a.jsonl")
    assert isinstance(fault, Fault) and fault.raw["id"] == 7 and "\ufffd" in fault.raw["text"]


def test_a_comma_behind_a_line_and_columns_without_names_are_said(tmp_path):
    fault = rows_of(save(tmp_path / "a.jsonl", '{"text": "a"},\n{"text": "b"}\n'))[0]
    assert "no comma belongs behind a line" in fault
    fault = rows_of(save(tmp_path / "a.json", '[["a", "b"]]'))[0]
    assert "columns need names" in fault and ".json" not in fault


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "甲"}{"text": "乙"}', "one object a line, please"),
        ("{'text': '甲', 'label': None}", "write it with json.dumps"),
    ],
)
def test_a_line_that_is_no_json_says_how_it_should_be(tmp_path, line, said):
    read = rows_of(save(tmp_path / "a.jsonl", f'{{"text": "a"}}\n{line}\n'))
    assert read[0] == {"text": "a"} and "invalid JSON" in read[1] and said in read[1]


def test_a_list_of_articles_without_names_of_columns_is_no_table_of_odd_commas(tmp_path):
    articles = "农业部门昨天表示，今年的小麦长势良好。\n球队取胜，球迷高兴。\n"
    (tmp_path / "a.csv").write_text(articles, encoding="utf-8")
    with pytest.raises(InputError, match=r"line 1: no names of columns; .*in a line above it"):
        rows_of(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("text，output\n甲，乙\n", encoding="utf-8")
    with pytest.raises(InputError, match="the columns are separated by '，'"):
        rows_of(tmp_path / "a.csv")


def test_a_mark_of_byte_order_before_gbk_is_dropped(tmp_path):
    content = "text,output\n球队取胜,体育\n".encode("gbk")
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf" + content)
    [(_, row)] = read_file(tmp_path / "rows.csv")
    assert row == {"text": "球队取胜", "output": "体育"}


def test_the_encoding_is_told_by_the_first_bytes_that_tell(tmp_path):
    """A megabyte of English comes before Chinese in either encoding."""
    english = "".join(f'{{"text": "{number} news"}}\n' for number in range(70_000))
    for encoding in ("utf-8", "gb18030"):
        path = tmp_path / f"{encoding}.jsonl"
        path.write_bytes((english + '{"text": "法院作出判决"}\n').encode(encoding))
        rows = [row for _, row in read_file(path)]
        assert path.stat().st_size > 2**20 and rows[-1] == {"text": "法院作出判决"}


def test_signs_of_older_damage_are_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "锟斤拷锟斤拷锟斤拷锟斤拷"}\n', encoding="utf-8")
    assert rows_of(tmp_path / "a.jsonl") == [{"text": "锟斤拷" * 4}]


def test_options_that_are_numbers_have_names_too(tmp_path):
    from datasets import ClassLabel, Dataset, Features, List, Value

    options = List(ClassLabel(names=["Art", "Law"]))
    features = Features({"text": Value("string"), "category": options})
    rows = Dataset.from_dict({"text": ["甲"], "category": [[1, 0]]}, features=features)
    rows.to_parquet(tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == [{"text": "甲", "category": ["Law", "Art"]}]


def test_classes_that_are_numbers_have_the_names_written_beside_them(tmp_path):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "output": ClassLabel(names=["Art", "Law"])})
    rows = Dataset.from_dict({"text": ["甲", "乙", "丙"], "output": [1, 0, -1]}, features=features)
    rows.to_parquet(tmp_path / "a.parquet")
    read = [row["output"] for _, row in read_file(tmp_path / "a.parquet")]
    assert read == ["Law", "Art", None]


@pytest.mark.parametrize("change", ["as it is", "blank", "wider", "narrower", "long labels"])
def test_a_stray_quote_among_odd_lines_swallows_nothing(tmp_path, change):
    long = 17 if change == "long labels" else 1
    labels = [name * long for name in ("体育", "财经", "农业")]
    lines = ["text,output", *(f"第{i}篇文章讲了一件事,{labels[i % 3]}" for i in range(60))]
    lines[5] = '"' + lines[5]
    lines[8] = lines[8].replace(",", '",')
    if change == "wider":
        lines[7] = "据报道," + lines[7]
    if change in ("blank", "narrower"):
        lines.insert(7, "" if change == "blank" else "只有一个字段")
    with pytest.raises(InputError, match="line 6: a quote opens here and swallows whole rows"):
        list(read_file(save(tmp_path / "a.csv", "\n".join(lines) + "\n")))


@pytest.mark.parametrize("header", ["content,label", "Text,Output", "output,text"])
def test_another_header_among_the_rows_is_no_article(tmp_path, header):
    table = f"text,output\n甲,A\n{header}\n丙,A\n"
    rows = rows_of(save(tmp_path / "a.csv", table))
    assert rows[1].startswith("another header, as where files were joined")
    assert rows[2] == {"text": "丙", "output": "A"}


def test_a_mark_of_byte_order_between_joined_tables_is_no_text(tmp_path):
    rows = rows_of(save(tmp_path / "a.csv", "text,output\n甲,A\n\ufeff丙,A\n"))
    assert rows[1] == {"text": "丙", "output": "A"}


@pytest.mark.parametrize(
    "second",
    [
        [["text", "output"], ["丙", "A"]],
        [["output", "text", "编辑"], ["A", "丙", "x"]],
        [["正文", "label"], ["丙", "A"]],
        [["二月的文章"], ["text", "output"], ["丙", "A"]],
    ],
)
def test_a_second_sheet_of_articles_is_not_passed_over(tmp_path, second):
    rows = ["text", "output", "备注"], ["甲", "A", "x"], ["乙", "B", "y"]
    book, _ = workbook(tmp_path, *rows)
    add_sheet(book, "二月", *second)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="have the same columns; name one with `sheet`"):
        rows_of(tmp_path / "a.xlsx")
    del book["二月"]
    add_sheet(book, "统计", ["output", "数量"], ["A", 1])  # figures about labels, not articles
    book.save(tmp_path / "b.xlsx")
    assert len(rows_of(tmp_path / "b.xlsx")) == 2


def test_a_number_that_stands_for_no_class_is_named(tmp_path):
    from datasets import ClassLabel, Dataset, Features, Value

    kinds = {"text": Value("string"), "output": ClassLabel(names=["Art", "Law"])}
    data = Dataset.from_dict({"text": ["甲"], "output": [0]}, features=Features(kinds))
    data.to_parquet(str(tmp_path / "a.parquet"))
    told = parquet.read_schema(tmp_path / "a.parquet").metadata
    for values in ([0, 1, 7], [0.0, 1.0, None], [0, 1, -1]):
        table = pyarrow.table({"text": ["甲", "乙", "丙"], "output": values})
        parquet.write_table(table.replace_schema_metadata(told), tmp_path / "b.parquet")
        *first, last = rows_of(tmp_path / "b.parquet")
        assert [row["output"] for row in first] == ["Art", "Law"]
        if 7 in values:
            assert last.startswith("a number that stands for no class: 7 in 'output', of 2")
        else:
            assert last["output"] is None


def test_wide_characters_without_a_mark_are_called_so(tmp_path):
    table = "正文,类别\n上海今天下雨,天气\n股市上涨,财经\n"
    path = tmp_path / "a.csv"
    path.write_bytes(table.encode("utf-16-le"))
    with pytest.raises(InputError, match="UTF-16 without a mark; save it as UTF-8"):
        list(read_file(path))
    path.write_bytes(table.encode("utf-16"))  # with a mark
    assert rows_of(path)[1] == {"正文": "股市上涨", "类别": "财经"}
    path.write_bytes(table.encode().replace(b"\n", b"\0\n"))  # padded with NUL
    assert len(rows_of(path)) == 2
    for content in (table, "text,label\nrain,weather\nshares,business\n"):
        path.write_bytes(content.encode("utf-16-le"))
        with pytest.raises(InputError, match="UTF-16 without a mark"):
            list(read_file(path))
        path.write_bytes(content.encode().replace(b"\n", b"\n\0", 1))  # one NUL, at an odd place
        assert len(rows_of(path)) == 2


def test_nul_characters_of_a_table_hide_no_quote_and_are_seen(tmp_path):
    content = 'te\0xt\0,label\n\0"甲\0, 乙"\0,\0A\0\n\0\0\n丙\0\0,B\n\0\0\0'
    assert rows_of(save(tmp_path / "a.csv", content)) == [
        {"text": "甲\0, 乙", "label": "\0A\0"},
        {"text": "丙\0\0", "label": "B"},
    ]
