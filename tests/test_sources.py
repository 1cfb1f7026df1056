"""Every kind of source, sound or malformed: a fault gives a clear line or a counted skip, never a
traceback.
"""

import ast
import csv
import gzip
import io
import json
import re
import tracemalloc

import openpyxl
import pyarrow
import pytest
import yaml
from pyarrow import parquet

from helpers import InputError, files, lines, locations, readers, sources
from helpers.parameters import read_yaml
from helpers.rows import LAYOUT, as_yaml

GOOD = {"text": "球队在加时赛中取胜", "category": ["Sports", "Art"], "output": "Sports"}
OTHER = {"text": "画家举办展览", "category": ["Sports", "Art"], "output": "Art"}


def write(path, *rows, encoding="utf-8"):
    lines = "".join(
        (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n"
        for row in rows
    )
    content = lines.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def write_csv(path, rows, encoding="utf-8"):
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))
    return str(path)


def rows_of(source, **options):
    return [
        {k: row[k] for k in GOOD} for row in sources.read_source(source, **options).splits["train"]
    ]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_json_lines(tmp_path, name, encoding):
    assert rows_of(write(tmp_path / name, GOOD, OTHER, encoding=encoding)) == [GOOD, OTHER]


def test_parquet(tmp_path):
    parquet.write_table(pyarrow.Table.from_pylist([GOOD, OTHER] * 300), tmp_path / "rows.parquet")
    (tmp_path / "rows.parquet.gz").write_bytes(
        gzip.compress((tmp_path / "rows.parquet").read_bytes())
    )
    assert (
        rows_of(str(tmp_path / "rows.parquet"))
        == rows_of(str(tmp_path / "rows.parquet.gz"))
        == [GOOD, OTHER] * 300
    )


def test_folder_of_splits_in_mixed_formats(tmp_path):
    write(tmp_path / "train.jsonl.gz", GOOD)
    write_csv(tmp_path / "validation.csv", [OTHER])
    write(tmp_path / "test.jsonl", {"text": "没有标签", "category": ["A", "B"]})
    splits = sources.read_source(str(tmp_path)).splits
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 1, "val": 1, "test": 1}
    assert splits["test"][0]["output"] is None
    assert splits["train"][0]["id"] == "train-1"


def test_other_columns_and_the_set_of_labels(tmp_path):
    path = write_csv(
        tmp_path / "rows.csv",
        [
            {"content": "甲", "label": 3},
            {"content": "乙", "label": 1},
            {"content": "丙", "label": ""},
        ],
    )
    rows = rows_of(path, columns={"text": "content", "category": None, "output": "label"})
    assert rows == [
        {"text": "甲", "category": ["1", "3"], "output": "3"},
        {"text": "乙", "category": ["1", "3"], "output": "1"},
        {"text": "丙", "category": ["1", "3"], "output": None},
    ]


def test_nul_padding_is_removed_and_counted(tmp_path):
    found = sources.read_source(write(tmp_path / "rows.jsonl", GOOD, GOOD | {"text": "正文\0\0\0"}))
    assert found.padded == 1 and found.splits["train"][1]["text"] == "正文"
    path = write_csv(tmp_path / "rows.csv", [{"text": "正文\0\0", "label": name} for name in "AB"])
    found = sources.read_source(path, {"category": None, "output": "label"})
    assert found.padded == 2 and found.splits["train"][1]["text"] == "正文"


def test_articles_with_lost_characters_are_counted(tmp_path):
    broken = GOOD | {"text": "昨天下午\ufffd\ufffd市图书馆举办读书会"}
    found = sources.read_source(write(tmp_path / "rows.jsonl", GOOD, broken))
    assert found.broken == 1 and found.splits["train"][1]["text"] == broken["text"]


BAD_ROWS = {
    "truncated": (json.dumps(GOOD)[:-9], "line 2: invalid JSON"),
    "no object": ("[1, 2]", "line 2: expected an object"),
    "nested too deep": ("[" * 100_000, "line 2: invalid JSON"),
    "missing text": (
        {"category": ["A", "B"], "output": "A"},
        "line 2: no column 'text' for text; there are 'category', 'output'",
    ),
    "missing options": ({"text": "x", "output": "A"}, "line 2: no column 'category'"),
    "empty text": (GOOD | {"text": "\0 \u3000\n"}, "line 2: a row needs a non-empty `text`"),
    "text of another type": (GOOD | {"text": 7}, "line 2: a row needs a non-empty `text`"),
    "lone surrogate": (
        '{"text": "\\ud800", "category": ["A", "B"], "output": "A"}',
        "line 2: the text is no valid Unicode",
    ),
    "no options": (GOOD | {"category": []}, "line 2: `category` must be a non-empty list"),
    "empty option": (
        GOOD | {"category": ["Sports", " "]},
        "line 2: `category` must be a non-empty list",
    ),
    "options in options": (GOOD | {"category": ["Sports", ["Art"]]}, "line 2: a list is no label"),
    "several labels": (GOOD | {"output": ["Sports", "Art"]}, "line 2: a list is no label"),
    "a column twice": (
        json.dumps(GOOD)[:-1] + ', "text": "again"}',
        "line 2: two columns of one name: 'text'",
    ),
    "a number of 5,000 digits": (
        '{"text": "x", "category": ["A", "B"], "n": ' + "9" * 5000 + "}",
        "line 2: invalid JSON",
    ),
    "options that are no list": (GOOD | {"category": "[Sports"}, "line 2: the options are no list"),
    "repeated options": (
        GOOD | {"category": ["Sports", "Sports"]},
        "line 2: `category` repeats an option",
    ),
    "label not offered": (
        GOOD | {"output": "Law"},
        "line 2: the label is not among its options: 'Law'",
    ),
    "two labels": (
        GOOD | {"output": "Law;War"},
        "line 2: the label is not among its options: 'Law;War'",
    ),
}


@pytest.mark.parametrize("row, says", BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_is_named_or_counted(tmp_path, row, says):
    path = write(tmp_path / "rows.jsonl", GOOD, row, OTHER)
    with pytest.raises(InputError) as error:
        sources.read_source(path)
    assert (
        says in str(error.value)
        and str(tmp_path) in str(error.value)
        and "\n" not in str(error.value)
    )
    assert "; " in str(error.value)  # what to do
    found = sources.read_source(path, on_bad_row="skip")
    assert len(found.splits["train"]) == 2
    assert sum(found.skipped.values()) == 1 and next(iter(found.skipped)) in str(error.value)


def bad_files(folder):
    folder.mkdir()
    yield write(folder / "empty.jsonl"), "holds no rows"
    (folder / "latin.jsonl").write_bytes(b'{"text": "\xff\xff\xff"}\n' * 5)
    yield str(folder / "latin.jsonl"), "neither UTF-8 nor GB18030"
    (folder / "utf16.jsonl").write_bytes(json.dumps(GOOD).encode("utf-16-le"))
    yield str(folder / "utf16.jsonl"), "UTF-16 without a mark"
    (folder / "late.jsonl").write_bytes(
        (json.dumps(GOOD) + "\n").encode() * 20_000 + b'{"text": "\xff\xff\xff"}\n'
    )
    yield str(folder / "late.jsonl"), "late.jsonl line 20001: a byte that is not sound"
    (folder / "broken.jsonl.gz").write_bytes(gzip.compress(json.dumps(GOOD).encode() * 1000)[:60])
    yield str(folder / "broken.jsonl.gz"), "cannot be read"
    (folder / "no.jsonl.gz").write_bytes(b"this is no gzip file")
    yield str(folder / "no.jsonl.gz"), "cannot be read"
    (folder / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    yield str(folder / "broken.parquet"), "no sound Parquet file"
    (folder / "wide.csv").write_text("text,category,output\na,A|B,A,too,many\n")
    yield str(folder / "wide.csv"), "more fields than the header names"
    (folder / "rows.xlsx").write_bytes(b"PK")
    yield str(folder / "rows.xlsx"), "no sound .xlsx file"
    (folder / "rows.xls").write_bytes(b"\xd0\xcf")
    (folder / "rows.ndjson").write_text("{}")
    yield str(folder / "rows.ndjson"), "unknown kind of file; name it .jsonl"
    (folder / "table.csv").write_text("<table><tr><td>text</td></tr></table>")
    yield str(folder / "table.csv"), "a table of a web page; save it as .xlsx or .csv"
    yield str(folder / "rows.xls"), "unknown kind of file; save it as .xlsx"
    (folder / "folder.jsonl").mkdir()
    yield str(folder / "folder.jsonl"), "no training rows"
    (folder / "two").mkdir()
    write(folder / "two" / "train.jsonl", GOOD)
    write_csv(folder / "two" / "train.csv", [GOOD])
    yield str(folder / "two"), "keep one file for train"
    yield str(folder / "nowhere.jsonl"), "no such file or folder"
    yield "nowhere", "no such file or folder"


def test_a_bad_file_is_one_line(tmp_path):
    for path, says in bad_files(tmp_path / "bad"):
        with pytest.raises(InputError) as error:
            sources.read_source(path)
        assert says in str(error.value), path
        assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_one_class_without_options_column(tmp_path):
    path = write_csv(
        tmp_path / "rows.csv", [{"text": "甲", "output": "A"}, {"text": "乙", "output": "A"}]
    )
    with pytest.raises(InputError, match=r"holds 1 class\(es\)"):
        sources.read_source(path, columns={"category": None})


def test_rows_of_ten_megabytes_are_read_and_endless_lines_are_not(tmp_path):
    assert (
        len(rows_of(write(tmp_path / "long.jsonl", GOOD | {"text": "长" * 3_500_000}))[0]["text"])
        == 3_500_000
    )
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wb", compresslevel=1) as bomb:
        for _ in range(70):
            bomb.write(b" " * 2**20)
    with pytest.raises(InputError, match="longer than 64 MiB"):
        sources.read_source(str(tmp_path / "bomb.jsonl.gz"))


def test_a_bomb_of_many_lines_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "EXPANSION_LIMIT", 50)
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wb", compresslevel=1) as bomb:
        for _ in range(300):
            bomb.write((b" " * 2**20)[:-1] + b"\n")
    with pytest.raises(InputError, match="50-fold"):
        sources.read_source(str(tmp_path / "bomb.jsonl.gz"))


def test_an_unreadable_file_is_one_line(tmp_path, monkeypatch):
    path = write(tmp_path / "rows.jsonl", GOOD)

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(lines, "open_bytes", refused)
    with pytest.raises(InputError, match=r"cannot be read: PermissionError"):
        sources.read_source(path)


def test_a_hub_gives_a_folder_of_the_revision_that_is_read_as_any_other(tmp_path, monkeypatch):
    fetches = []
    write(
        tmp_path / "train.jsonl", {"prompt": "甲", "answer": "A"}, {"prompt": "乙", "answer": "B"}
    )

    def fetch(source, revision):
        fetches.append((source, revision))
        return tmp_path

    monkeypatch.setattr(locations, "fetch_dataset", fetch)
    read = sources.read_source("damo/zh_cls_fudan-news", revision="v1.2")
    assert fetches == [("damo/zh_cls_fudan-news", "v1.2")]
    assert [row["category"] for row in read.splits["train"]] == [["A", "B"]] * 2
    (tmp_path / "train.jsonl").rename(tmp_path / "all.jsonl")
    with pytest.raises(InputError, match=r"no training rows.*it holds all\.jsonl"):
        sources.read_source("hf:owner/name")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"on_bad_row": "ignore"}, "on_bad_row is 'ignore'; it must be one of: error, skip"),
        ({"columns": {"body": "text"}}, "columns maps body; only text, category and output can be"),
        ({"columns": {"text": 3}}, "columns maps text to 3; .* column's name, in quotes"),
        ({"columns": {"text": None}}, "columns maps text to None; it must be a column's name$"),
        ({"columns": {"category": "output"}}, "maps two of text, category and output to one colu"),
        ({"columns": "{text: body}"}, "columns is '{text: body}'; it maps text, category and"),
        ({"columns": {"text:正文": None}}, "maps text:正文; .* a space belongs behind the colon"),
        ({"columns": {"category": "None"}}, "'None'; where none is meant, YAML says null"),
        ({"sheet": "Sheet1"}, "train.jsonl has no sheets; `sheet` is for .xlsx files"),
        ({"revision": "v1"}, "'sample' is no hub's data set; leave `revision` out"),
    ],
)
def test_bad_arguments_are_one_line(options, says):
    with pytest.raises(InputError, match=says):
        sources.read_source("sample", **options)


def test_a_source_of_bad_rows_alone_says_why(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"body": "甲", "output": "A"}, {"output": "B"})
    with pytest.raises(
        InputError, match=r"all were skipped, the first for line 1: no column 'text'"
    ):
        sources.read_source(path, on_bad_row="skip")
    with pytest.raises(InputError, match=r"holds 0 class\(es\).*line 1: no column 'text' for text"):
        sources.read_source(path, {"category": None}, on_bad_row="skip")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ([], r"source is \[\]; give one source, or a list of them"),
        (7, "source is 7; give one source"),
        (["sample", 7], r"source is \['sample', 7\]; give one source"),
        ("sample.txt", "'sample.txt': no such file or folder, and not a hub id; give 'sample'"),
        ("https://huggingface.co/datasets/owner/name/tree/main", "this data set is hf:owner/name"),
        ("https://modelscope.cn/datasets/swift/news", "this data set is swift/news"),
        ("https://example.org/files/news.csv", "download the file first"),
        ("http://example.org/news.csv", "download the file first"),
        ("", "give one source"),
    ],
)
def test_what_no_source_is(source, says):
    with pytest.raises(InputError, match=says):
        sources.read_source(source)


def test_ids_are_ours_and_the_source_keeps_its_own(tmp_path):
    rows = [GOOD | {"id": "1.txt"}, OTHER | {"id": "1.txt"}, GOOD | {"id": 0}, OTHER, "no JSON"]
    rows.append(GOOD | {"id": ["a", 1]})
    found = sources.read_source(write(tmp_path / "rows.jsonl", *rows), on_bad_row="skip")
    assert found.splits["train"]["id"] == [f"train-{number}" for number in (1, 2, 3, 4, 6)]
    assert found.splits["train"]["source_id"] == ["1.txt", "1.txt", "0", None, "['a', 1]"]


def test_sources_are_read_one_behind_the_other(tmp_path):
    old = write(
        tmp_path / "old.jsonl", {"text": "甲", "label": 0}, "no JSON", {"text": "乙", "label": 1}
    )
    (tmp_path / "more").mkdir()
    write_csv(tmp_path / "more" / "train.csv", [{"text": "丙", "label": 2}])
    write(tmp_path / "more" / "test.jsonl", {"text": "丁", "label": 0})
    columns = {"category": None, "output": "label"}
    given = [old, str(tmp_path / "more")]
    splits = sources.read_source(given, columns, on_bad_row="skip").splits
    assert splits["train"]["id"] == ["train-1", "train-3", "train-4"]
    assert splits["train"]["text"] == ["甲", "乙", "丙"] and splits["test"]["id"] == ["test-1"]
    assert set(map(tuple, splits["train"]["category"])) == {("0", "1", "2")}
    with pytest.raises(InputError, match="twice"):
        sources.read_source([old, old], columns)


def test_rows_that_notebook_01_wrote(tmp_path):
    path = write(tmp_path / "rows.jsonl", GOOD | {"id": 7}, OTHER | {"text": "a\u2028b\x85c\0"})
    rows = list(sources.read_source(path).splits["train"])
    files.write_jsonl(tmp_path / "run" / "train.jsonl", rows)
    assert sources.read_rows(tmp_path / "run" / "train.jsonl") == rows
    assert rows[0]["source_id"] == "7" and rows[1]["text"] == "a\u2028b\x85c"


def test_rows_of_a_run_are_checked_as_any_other(tmp_path):
    row = GOOD | {"id": "train-1", "source_id": None}
    faults = {
        "line 2: the id 'train-1' is that of line 1 already": [row, row],
        "line 1: a row's `id` must be a text": [row | {"id": None}],
        "line 1: the label is not among its options": [row | {"output": "Law"}],
        "holds no rows": [],
    }
    for says, rows in faults.items():
        with pytest.raises(InputError, match=says):
            sources.read_rows(write(tmp_path / "train.jsonl", *rows))
    with pytest.raises(InputError, match=r"notebooks/01-dataset-exploration\.ipynb makes it"):
        sources.read_rows(tmp_path / "nowhere.jsonl")


def test_faulty_labels_are_no_class_and_are_counted(tmp_path):
    rows = [{"text": "甲", "output": value} for value in ("A", "\u3000B ", "B", float("nan"), None)]
    rows += [{"text": "乙", "output": ["A", "B"]}, {"text": " ", "output": "only in a bad row"}]
    path = write(tmp_path / "rows.jsonl", *rows)
    found = sources.read_source(path, {"category": None}, on_bad_row="skip")
    assert found.splits["train"]["output"] == ["A", "B", "B", None, None]
    assert found.splits["train"][0]["category"] == ["A", "B"]
    assert found.skipped == {"a list is no label": 1, "a row needs a non-empty `text`": 1}
    with pytest.raises(InputError, match="line 6: a list is no label"):
        sources.read_source(path, {"category": None})


def shards(folder, split, count, missing=()):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        if number not in missing:
            row = GOOD | {"text": f"{split} {number}"}
            name = f"{split}-{number:05}-of-{count:05}.parquet"
            parquet.write_table(pyarrow.Table.from_pylist([row]), folder / name)


@pytest.mark.parametrize("place", ["", "data"])
def test_shards_are_read_in_order(tmp_path, place):
    shards(tmp_path / place, "train", 3)
    shards(tmp_path / place, "validation", 1)
    write(tmp_path / "test.jsonl", OTHER)
    splits = sources.read_source(str(tmp_path)).splits
    assert splits["train"]["text"] == ["train 0", "train 1", "train 2"]
    assert splits["train"]["id"] == ["train-1", "train-2", "train-3"]
    assert len(splits["val"]) == len(splits["test"]) == 1


def test_a_test_split_may_lie_elsewhere(tmp_path):
    train = write(tmp_path / "rows.jsonl", GOOD, OTHER)
    (tmp_path / "held").mkdir()
    write(tmp_path / "held" / "test.jsonl", OTHER)
    splits = sources.read_source([train, str(tmp_path / "held")]).splits
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 2, "test": 1}
    with pytest.raises(InputError, match="no training rows"):
        sources.read_source(str(tmp_path / "held"))


def test_a_missing_shard_is_named(tmp_path):
    shards(tmp_path, "train", 3, missing=[1])
    with pytest.raises(InputError, match="shard 00001-of-00003 of train is missing; 2 of 3"):
        sources.read_source(str(tmp_path))


@pytest.mark.parametrize(("first", "form"), [(0, "{}-of-{}"), (1, "{}-of-{}"), (0, "{:04}_of_{}")])
def test_shards_are_counted_as_their_names_do(tmp_path, first, form):
    for number in range(first, first + 12):
        write(tmp_path / f"train-{form.format(number, 12)}.jsonl", GOOD | {"text": f"{number}"})
    read = sources.read_source(str(tmp_path)).splits["train"]
    assert read["text"] == list(map(str, range(first, first + 12)))
    write(tmp_path / "train.jsonl", OTHER)
    with pytest.raises(InputError, match="keep one file for train, or one set"):
        sources.read_source(str(tmp_path))


@pytest.mark.parametrize("name", ["train_log.csv", "training_args.json", "trainer_state.json"])
def test_what_tells_of_a_training_is_left_alone(tmp_path, name):
    write_csv(tmp_path / "train.csv", [GOOD])
    write(tmp_path / name, OTHER)
    assert len(sources.read_source(str(tmp_path)).splits["train"]) == 1


@pytest.mark.parametrize("other", [("train", 1), ("train", 4)])
def test_one_set_of_shards_a_split(tmp_path, other):
    shards(tmp_path, "train", 2)
    shards(tmp_path / "data", *other)
    with pytest.raises(InputError, match="keep one file for train, or one set"):
        sources.read_source(str(tmp_path))


def test_a_folder_without_a_train_file_lists_what_it_holds(tmp_path):
    write(tmp_path / "news.jsonl", GOOD)
    with pytest.raises(InputError, match=r"no training rows.*it holds news\.jsonl: give the file"):
        sources.read_source(str(tmp_path))


def test_a_folder_of_files_that_are_not_read_says_what_to_do_with_one(tmp_path):
    (tmp_path / "train.jsonl.zst").touch()
    with pytest.raises(InputError, match=r"none of these is read \(train\.jsonl\.zst: unpack it\)"):
        sources.read_source(str(tmp_path))


def test_a_folder_below_that_holds_training_rows_is_named(tmp_path):
    """A hub's data set may have a folder for each configuration, and its files are in a cache."""
    shards(tmp_path / "tnews", "train", 1)
    shards(tmp_path / "empty", "test", 1)
    with pytest.raises(InputError, match=re.escape(f"give the folder {tmp_path}/tnews as source")):
        sources.read_source(str(tmp_path))
    assert sources.read_source(str(tmp_path / "tnews")).splits["train"]


def test_a_missing_label_column_is_named_with_a_remedy_that_works(tmp_path):
    rows = [{"content": "甲", "label": "A"}, {"content": "乙", "label": "B"}]
    path = write(tmp_path / "rows.jsonl", *rows)
    columns = {"text": "content", "category": None}
    with pytest.raises(InputError) as error:
        sources.read_source(path, columns)
    text = str(error.value)
    assert "no column 'output' for output; there are 'content', 'label'" in text
    proposed = yaml.safe_load(text.split("`-y '")[1].split("'`")[0])
    assert proposed == {"columns": columns | {"output": "label"}}
    assert ast.literal_eval(text.split("`columns = ")[1].split("`")[0]) == proposed["columns"]
    found = sources.read_source(path, **proposed)
    assert found.splits["train"]["output"] == ["A", "B"]


def test_a_test_split_whose_labels_have_another_name_is_not_unlabelled(tmp_path):
    write(tmp_path / "train.jsonl", GOOD, OTHER)
    write(tmp_path / "test.jsonl", {"text": "丁", "category": ["Sports", "Art"], "label": "Art"})
    with pytest.raises(InputError, match=r"test\.jsonl has no column 'output'.* and 'label'"):
        sources.read_source(str(tmp_path))


OWN = [
    {"标题": "一", "正文": "球队取胜", "类别": "Sports"},
    {"标题": "二", "正文": "\u3000", "类别": "Art"},
    {"标题": "三", "正文": "画展", "类别": "Opera"},
]


def test_articles_of_a_file_of_ones_own(tmp_path):
    path = write_csv(tmp_path / "own.csv", OWN, "gb18030")
    columns = {"text": "正文", "category": None, "output": "类别"}
    one, two, three = sources.read_articles(path, columns, options=["Sports", "Art"])
    assert one == ("own.csv line 2", OWN[0], one.row, None)
    assert one.row == {
        "id": "row-1",
        "source_id": None,
        "text": "球队取胜",
        "category": ["Sports", "Art"],
        "output": "Sports",
    }
    assert two == ("own.csv line 3", OWN[1], None, "a row needs a non-empty `text`")
    assert three.row["output"] == "Opera" and three.fault is None and three.row["id"] == "row-3"
    assert readers.column_names(path) == ["标题", "正文", "类别"]


def test_articles_need_no_label_and_bring_their_options_or_not(tmp_path):
    rows = [
        {"text": "甲"},
        {"text": "乙", "category": "A|B"},
        "no JSON",
        {"text": "丙", "category": ""},
    ]
    path = write(tmp_path / "own.jsonl", *rows)
    articles = list(sources.read_articles(path, options=["X", "Y"]))
    menus = [article.row and article.row["category"] for article in articles]
    assert menus == [["X", "Y"], ["A", "B"], None, ["X", "Y"]]
    assert articles[2].place == "own.jsonl line 3" and "invalid JSON" in articles[2].fault
    assert readers.column_names(path) == ["text", "category"]


@pytest.mark.parametrize("gap", [None, "", []])
def test_an_article_without_options_is_offered_all_labels(tmp_path, gap):
    rows = [{"text": "甲", "category": gap}, {"text": "乙", "category": ["A", "B"]}]
    read = list(sources.read_articles(write(tmp_path / "a.jsonl", *rows), options=["A", "C"]))
    assert [article.row["category"] for article in read] == [["A", "C"], ["A", "B"]]


def test_articles_are_streamed(tmp_path):
    path = write(tmp_path / "own.jsonl", *[{"text": "长" * 1000}] * 5000)
    tracemalloc.start()
    count = sum(1 for _ in sources.read_articles(path, options=["A", "B"]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5000 and peak < 12 * 2**20  # the file has 15 MB, and more as text


@pytest.mark.parametrize(
    ("columns", "options", "says"),
    [
        ({"text": "body"}, ["A"], "no column 'body' for text; there are 'text', 'label'"),
        ({"output": "label2"}, ["A"], "no column 'label2' for output.*{output: label}"),
        ({"body": "text"}, ["A"], "only text, category and output"),
        (None, None, "give `options`, or map `category`"),
    ],
)
def test_articles_with_wrong_choices_are_one_line(tmp_path, columns, options, says):
    path = write(tmp_path / "own.jsonl", {"text": "甲", "label": "A"})
    with pytest.raises(InputError, match=says):
        sources.read_articles(path, columns, options=options)
    with pytest.raises(InputError, match="no such file"):
        sources.read_articles(tmp_path / "nowhere.csv", options=["A"])


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (["二〇二四年新闻语料"], "if that is a title, delete what stands above"),
        (["第0号文章。比赛今天结束。", "体育"], "if that is an article already, write the names"),
        (["每行填一条。类别从下拉框选。"], "if it is a title or a note, delete it"),
    ],
)
def test_a_table_that_does_not_begin_with_its_header(tmp_path, first, says):
    book = openpyxl.Workbook()
    for cells in (first, ["正文", "类别"], ["比赛今天结束。", "体育"]):
        book.active.append(cells)
    book.save(tmp_path / "own.xlsx")
    for columns in (None, {"text": "正文", "category": None, "output": "类别"}):
        with pytest.raises(InputError, match="map them with `columns`.*" + says):
            sources.read_articles(tmp_path / "own.xlsx", columns, options=["体育", "财经"])


def labelled(path, *labels):
    return write(path, *({"text": f"第{n}篇", "output": label} for n, label in enumerate(labels)))


def test_a_label_spelled_in_two_ways_is_a_bad_row(tmp_path):
    path = labelled(tmp_path / "a.jsonl", "Art", "Law", "art", "art", "ＬＡＷ", "Art")
    with pytest.raises(InputError, match=r"line 3: a label spelled in two ways: 'Art' and 'art'"):
        sources.read_source(path, {"category": None})
    read = sources.read_source(path, {"category": None}, on_bad_row="skip")
    assert set(read.splits["train"]["output"]) == {"Art", "Law"}
    assert read.skipped == {"a label spelled in two ways": 3}
    rows = [GOOD, OTHER | {"category": ["sports", "Art"], "output": "sports"}]
    with pytest.raises(InputError, match="'Sports' and 'sports'"):
        sources.read_source(write(tmp_path / "b.jsonl", *rows))
    with pytest.raises(InputError, match=r"spelled otherwise than its option: 'art' and 'Art'"):
        sources.read_source(write(tmp_path / "c.jsonl", OTHER | {"output": "art"}))


@pytest.mark.parametrize(
    "joined",
    ["Art|Law", "Law,Art", "Art、Law、Art", "Art; Law", "Art#Law", "Art/Law", "Art&Law", "Art+Law"]
    + ["体 法", "体\\法", "体・法"],
)
def test_a_label_of_several_classes_is_refused(tmp_path, joined):
    one, other = ("Art", "Law") if "Art" in joined else "体法"
    path = labelled(tmp_path / "a.jsonl", one, other, joined)
    with pytest.raises(InputError, match="may be one class or several"):
        sources.read_source(path, {"category": None})
    rows_of(labelled(tmp_path / "b.jsonl", one, joined), columns={"category": None})
    path = labelled(tmp_path / "c.jsonl", "World", "News", "World News")  # English has spaces
    assert len(rows_of(path, columns={"category": None})) == 3


def test_options_that_are_the_labels_are_refused(tmp_path):
    rows = [{"text": f"第{n}篇", "category": label} for n, label in enumerate("甲乙甲")]
    path = write(tmp_path / "a.jsonl", *(row | {"output": row["category"]} for row in rows))
    with pytest.raises(InputError, match=r"single option.*category: null, output: category}"):
        sources.read_source(path)
    with pytest.raises(InputError, match="single option"):
        list(sources.read_articles(path, options=["甲", "乙"]))
    rows[0]["category"] = "甲|乙"
    assert len(rows_of(write(tmp_path / "b.jsonl", *rows, GOOD))) == 4


def test_a_mapped_label_may_be_missing_as_the_usual_one_may(tmp_path):
    columns = {"category": None, "output": "tag"}
    tagged = [{"text": "甲", "tag": "A"}, {"text": "乙"}, {"text": "丙", "tag": "B"}]
    write(tmp_path / "train.jsonl", *tagged)
    write_csv(tmp_path / "test.csv", [{"text": "丁"}])
    splits = sources.read_source(str(tmp_path), columns).splits
    assert splits["train"]["output"] == ["A", None, "B"] and splits["test"]["output"] == [None]
    other = write_csv(tmp_path / "more.csv", [{"text": "戊", "kind": "A"}])
    with pytest.raises(InputError, match=r"more\.csv has no column 'tag'.* and 'kind'"):
        sources.read_source([str(tmp_path / "train.jsonl"), other], columns)
    write_csv(tmp_path / "test.csv", [{"text": "丁", "output": "A"}])
    with pytest.raises(InputError, match=r"test\.csv: the label stands under 'output' and not"):
        sources.read_source(str(tmp_path), columns)


def test_articles_whose_columns_come_late(tmp_path):
    rows = [{"text": "甲"}] * 150 + [{"text": "乙", "tag": "B", "category": ["A", "B"]}]
    path = write(tmp_path / "a.jsonl", *rows)
    *_, last = sources.read_articles(path, {"output": "tag"}, options=["B", "C"])
    assert last.row["output"] == "B" and last.row["category"] == ["A", "B"]
    assert len(list(sources.read_articles(path))) == 151


def test_an_article_whose_label_is_spelled_otherwise_is_not_counted_wrong(tmp_path):
    path = write(tmp_path / "a.jsonl", {"text": "甲", "output": "art"})
    with pytest.raises(InputError, match=r"line 1: .*'art' and 'Art'.*\{output: null\}"):
        list(sources.read_articles(path, options=["Art", "Law"]))
    [article] = sources.read_articles(path, {"output": None}, options=["Art", "Law"])
    assert article.row["output"] is None
    [article] = sources.read_articles(path, options=["Paint", "Law"])
    assert article.row["output"] == "art"


@pytest.mark.parametrize(
    "name",
    ["eval.csv", "test.txt", "test_1.csv", "TEST.csv.zip", "测试集.csv", "test/a.csv", "test"]
    + ["testset.csv", "cnews.test.csv", "my-test.json", "测试集.txt", "评测.csv", "test.ndjson"]
    + ["testA.csv", "testdata.csv", "holdout.csv", "test.tar.gz"],
)
def test_what_seems_a_split_is_not_left_unread(tmp_path, name):
    write_csv(tmp_path / "train.csv", [GOOD])
    write_csv(tmp_path / "valid.csv", [OTHER])
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write_csv(tmp_path / name, [OTHER])
    with pytest.raises(InputError, match=r"is not read, and test would be cut") as error:
        sources.read_source(str(tmp_path))
    assert repr(name.split("/")[0]) in str(error.value)
    write_csv(tmp_path / "test.csv", [OTHER])
    assert set(sources.read_source(str(tmp_path)).splits) == {"train", "val", "test"}


def test_a_link_that_leads_nowhere_is_not_left_unread(tmp_path):
    write_csv(tmp_path / "train.csv", [GOOD])
    (tmp_path / "test.py").write_text("")
    (tmp_path / "test_notes.md").write_text("")
    write_csv(tmp_path / "latest.csv", [OTHER])
    assert set(sources.read_source(str(tmp_path)).splits) == {"train"}
    (tmp_path / "test.csv").symlink_to("nowhere.csv")
    with pytest.raises(InputError, match=r"'test\.csv' is not read"):
        sources.read_source(str(tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "train2.csv",
        "train-1.jsonl",
        "train (1).csv",
        "train_extra.csv",
        "train-v2.csv",
        "训练集2.csv",
        "train - 副本.csv",
        "train (copy).csv",
        "train_aug.csv",
        "traindata2.jsonl",
        "2_train.csv",
        "train_b.csv",
    ],
)
def test_more_training_rows_are_not_left_unread(tmp_path, name):
    write_csv(tmp_path / "train.csv", [GOOD])
    write_csv(tmp_path / name, [OTHER])
    with pytest.raises(InputError, match=r"is not read beside train\.csv; give a list"):
        sources.read_source(str(tmp_path))


def test_a_column_of_numbers_as_options_says_that_it_may_hold_labels(tmp_path):
    path = tmp_path / "a.jsonl"
    files.write_jsonl(path, [{"text": f"第{n}篇", "category": n % 3} for n in range(9)])
    with pytest.raises(InputError, match=r"not 0; a column that holds labels is mapped as in"):
        sources.read_source(str(path))
    with pytest.raises(InputError, match=r"single option in every row.*\{category: null\}"):
        list(sources.read_articles(path, None, None, ["0", "1", "2"]))


def test_a_remedy_quotes_what_yaml_would_not_read_as_a_text():
    mapping = {"text": "0", "category": None, "output": "yes"}
    said = as_yaml(mapping)
    assert said == '{text: "0", category: null, output: "yes"}' and read_yaml(said) == mapping
    assert as_yaml({"text": "正文"}) == "{text: 正文}"


def test_a_divided_row_keeps_what_its_source_called_it(tmp_path):
    divided = {"id": "train-1", "source_id": "A77.txt", "text": "甲", "category": ["A", "B"]}
    named = divided | {"source_id": "a paper", "id": "7", "output": "A"}
    files.write_jsonl(tmp_path / "a.jsonl", [divided | {"output": "A"}, named])
    read = sources.read_source(str(tmp_path / "a.jsonl")).splits["train"]
    assert read["source_id"] == ["A77.txt", "7"]


@pytest.mark.parametrize("kind", ["新闻", "A"])
def test_a_column_of_one_option_a_row_is_not_every_rows_answer(tmp_path, kind):
    path = write_csv(tmp_path / "a.csv", [{"text": f"第{n}篇", "category": kind} for n in range(3)])
    with pytest.raises(InputError, match=r"single option in every row.*\{category: null\}"):
        sources.read_articles(path, options=["A", "B"])
    read = list(sources.read_articles(path, {"category": None}, options=["A", "B"]))
    assert [article.row["category"] for article in read] == [["A", "B"]] * 3
    tags = [{"text": "甲", "category": "A|B"}, {"text": "乙", "category": kind}]
    several, single = sources.read_articles(write_csv(tmp_path / "b.csv", tags), options=["A", "B"])
    assert several.fault is None and single.fault == f"a single option, {kind!r}: no choice"


@pytest.mark.parametrize(("first", "then"), [("label", "output"), ("output", "label")])
def test_labels_under_two_names_in_one_file_are_refused(tmp_path, first, then):
    rows = [{"text": "甲", first: "A"}, {"text": "乙", first: "B"}, {"text": "丙", then: "A"}]
    path = write(tmp_path / "a.jsonl", *(json.dumps(row) for row in rows))
    for output, line in ((first, 3), (then, 1)):
        with pytest.raises(InputError, match=f"line {line}: the label stands under"):
            sources.read_source(str(path), columns={"category": None, "output": output})
    write(tmp_path / "a.jsonl", *(json.dumps(row) for row in [*rows[:2], {"text": "丙"}]))
    read = rows_of(str(path), columns={"category": None, "output": first})
    assert [row["output"] for row in read] == ["A", "B", None]


def test_a_split_of_minus_ones_has_no_labels(tmp_path):
    for split, labels in (("train", "0120"), ("test", ["-1", "-1"])):
        rows = [{"text": f"{split}{n}", "output": label} for n, label in enumerate(labels)]
        write_csv(tmp_path / f"{split}.csv", rows)
    with pytest.raises(InputError, match="every label of test is -1"):
        sources.read_source(str(tmp_path), columns={"category": None})
    rows = [{"text": f"甲{n}", "output": label} for n, label in enumerate(["-1", "0", "1"])]
    write_csv(tmp_path / "train.csv", rows)  # here it is a class like any other
    assert len(sources.read_source(str(tmp_path), columns={"category": None}).splits["test"]) == 2


def test_one_file_by_two_sources_is_refused(tmp_path):
    path = write_csv(tmp_path / "train.csv", [GOOD])
    (tmp_path / "link.csv").symlink_to(path)
    for other in (tmp_path, tmp_path / "link.csv", f"{tmp_path}/../{tmp_path.name}/train.csv"):
        with pytest.raises(InputError, match="twice, by"):
            sources.read_source([path, str(other)])


def test_files_of_a_list_are_the_splits_that_they_are_called(tmp_path):
    """As in a folder, a test file in a list is not learned from."""
    names = ("train.csv", "more.csv", "Validation.csv", "test-00000-of-00001.csv")
    paths = [write_csv(tmp_path / name, [GOOD]) for name in names]
    splits = sources.read_source(paths).splits
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 2, "val": 1, "test": 1}
    assert list(sources.read_source(paths[3]).splits) == ["train"]  # a file alone is all there is
    with pytest.raises(InputError, match="no training rows"):
        sources.read_source(paths[2:])
    for name in ("my_test.csv", "测试集.csv", "dev-v2.csv", "news.test.csv"):
        with pytest.raises(InputError, match="would be trained on") as error:
            sources.read_source([paths[0], write_csv(tmp_path / name, [GOOD])])
        assert "\n" not in str(error.value) and name in str(error.value)


@pytest.mark.parametrize(
    ("train", "test", "sound"),
    [
        ("012", "123", False),
        ("123", "012", False),
        ("0123", "123", True),
        ("012", "012", True),
        ("123", "12", True),
        ("012", "13", True),
    ],
)
def test_classes_counted_from_0_and_from_1_are_refused(tmp_path, train, test, sound):
    paths = [
        write(
            tmp_path / f"{split}.jsonl", *({"text": split + n, "output": int(n)} for n in numbers)
        )
        for split, numbers in (("train", train), ("test", test))
    ]
    if sound:
        splits = sources.read_source(paths, {"category": None}).splits
        assert set(splits) == {"train", "test"}
        return
    with pytest.raises(InputError, match=r"train counts classes from . to . and test from"):
        sources.read_source(paths, {"category": None})


def test_a_sheet_is_for_the_workbooks_of_a_list(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["no", "rows"])
    for row in (["text", "category", "output"], ["甲", "A|B", "A"]):
        book["二"].append(row) if "二" in book else book.create_sheet("二").append(row)
    book.save(tmp_path / "a.xlsx")
    more = write_csv(tmp_path / "b.csv", [GOOD])
    assert len(rows_of([str(tmp_path / "a.xlsx"), more], sheet="二")) == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("~$my.xlsx", r"~\$my\.xlsx'?.*: .*[Nn]o such file"),
        ("x" * 5000 + ".csv", "xxx'?: File name too long; give another file"),
        ("a\0b.csv", r"'a\\x00b\.csv': no file has such a name"),
    ],
    ids=["of a lock", "too long", "with a zero byte"],
)
def test_names_that_no_file_has_are_one_line(name, says):
    for read in (sources.read_source, sources.read_articles, readers.column_names):
        with pytest.raises(InputError, match=says):
            read(name)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", '[\n {\n  "text": "甲"\n }\n]\n', "no sound row: line 1: .*is .json"),
        ("a.json", '["文章一", "文章二"]', "holds no sound row: "),
        ("a.jsonl", "", "holds no rows"),
    ],
)
def test_articles_none_of_which_is_sound_say_why(tmp_path, name, content, says):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        list(sources.read_articles(tmp_path / name, options=["A", "B"]))


def test_articles_behind_many_bad_lines_are_found(tmp_path):
    (tmp_path / "a.jsonl").write_text(150 * "no row\n" + '{"text": "甲"}\n', encoding="utf-8")
    articles = list(sources.read_articles(tmp_path / "a.jsonl", options=["A", "B"]))
    assert [article.fault is None for article in articles] == 150 * [False] + [True]


def test_a_remedy_keeps_what_is_mapped_already(tmp_path):
    rows = [{"content": text, "kind": label, "output": label} for text, label in ("甲A", "乙B")]
    path = write(tmp_path / "a.jsonl", *rows)
    with pytest.raises(InputError) as error:
        rows_of(path, columns={"text": "content", "category": "kind"})
    remedy = re.search(r"set `columns` to (\{.*?\})", str(error.value))[1]
    assert [row["output"] for row in rows_of(path, columns=read_yaml(remedy))] == ["A", "B"]


def test_a_section_called_category_beside_labels_is_no_list_of_options(tmp_path):
    rows = [
        {"text": f"第{n}篇", "category": section, "label": label}
        for n, (section, label) in enumerate([("体育", "正面"), ("财经", "负面")] * 3)
    ]
    path = write(tmp_path / "a.jsonl", *rows)
    with pytest.raises(InputError) as error:
        rows_of(path)
    first, second = re.findall(
        r"if (\S+) holds? the labels, set `columns` to (\{.*?\})", str(error.value)
    )
    assert (first[0], second[0]) == ("it", "'label'")
    assert [row["output"] for row in rows_of(path, columns=read_yaml(second[1]))][:2] == [
        "正面",
        "负面",
    ]
    path = write(tmp_path / "a.jsonl", *(dict(zip(LAYOUT, row.values())) for row in rows))
    with pytest.raises(InputError, match=r"line 1: .*no list of options, map `category` to null"):
        rows_of(path)
    assert rows_of(path, columns={"category": None})[0]["category"] == ["正面", "负面"]


def test_all_that_is_missing_is_mapped_at_once(tmp_path):
    rows = [{"label": str(n % 2), "sentence": f"第{n}条", "keywords": ""} for n in range(4)]
    path = write(tmp_path / "a.jsonl", *rows)
    with pytest.raises(InputError) as error:
        rows_of(path)
    remedy = re.search(r"as in `columns: (\{.*?\})`", str(error.value))[1]
    assert read_yaml(remedy) == {"text": "sentence", "category": None, "output": "label"}
    assert [row["output"] for row in rows_of(path, columns=read_yaml(remedy))] == list("0101")


def test_locks_of_open_files_are_no_rows(tmp_path):
    (tmp_path / "train.csv").write_text("text,category,output\n甲,A|B,A\n", encoding="utf-8")
    for name in ("~$train.xlsx", "._test.csv", ".~lock.train.csv#"):
        (tmp_path / name).write_bytes(b"\x05admin")
    assert len(rows_of(str(tmp_path))) == 1


def test_an_empty_source_without_options_is_called_empty(tmp_path):
    (tmp_path / "a.csv").write_text("text,output\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"a.csv holds no rows"):
        sources.read_source(str(tmp_path / "a.csv"), columns={"category": None})


def test_the_remedy_for_a_file_without_options_works_there(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("text,output\n甲文,A\n乙文,B\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"as in `columns: {category: null}` \(null offers every"):
        sources.read_source(str(path))
    rows = sources.read_source(str(path), {"category": None}).splits["train"]
    assert list(rows["category"]) == [["A", "B"], ["A", "B"]]
    with pytest.raises(InputError, match=r"columns: {category: NAME}` below"):
        sources.read_source(str(path), {"category": "choises"})


def test_labels_of_frames_that_were_put_together_are_not_lost(tmp_path):
    """After pandas.concat, each half has its own column of labels and gaps in that of the other."""
    rows = [("甲", "A", ""), ("乙", "B", ""), ("丙", "", "A"), ("丁", "", "B")]
    path = write_csv(tmp_path / "a.csv", [dict(zip(("text", "output", "label"), r)) for r in rows])
    for output, line in (("output", 4), ("label", 2)):
        with pytest.raises(InputError, match=f"line {line}: the label stands under"):
            sources.read_source(path, columns={"category": None, "output": output})
    numbered = [("甲", "A", "0"), ("乙", "B", "1"), ("丙", "", "0")]  # a number, but no label
    numbered = [dict(zip(("text", "output", "label"), row)) for row in numbered]
    path = write_csv(tmp_path / "b.csv", numbered)
    read = rows_of(path, columns={"category": None})
    assert [row["output"] for row in read] == ["A", "B", None]
    tagged = [
        {"text": "甲", "output": "A"},
        {"text": "乙", "output": "B"},
        {"text": "丙", "labels": []},
    ]
    read = rows_of(str(write(tmp_path / "c.jsonl", *tagged)), columns={"category": None})
    assert [row["output"] for row in read] == ["A", "B", None]


def test_a_test_split_whose_label_is_called_otherwise_is_refused(tmp_path):
    write_csv(
        tmp_path / "train.csv", [{"text": "甲", "output": "A"}, {"text": "乙", "output": "B"}]
    )
    write_csv(tmp_path / "test.csv", [{"text": "丙", "Output": "A"}])
    with pytest.raises(InputError, match=r"test\.csv: the label stands under 'Output' and not"):
        sources.read_source(str(tmp_path), columns={"category": None})


@pytest.mark.parametrize("labels", [["0", "1"], ["1"], ["？"], ["待审"]])
def test_a_split_of_labels_that_train_does_not_have_is_refused(tmp_path, labels):
    for split, names in (("train", "体财农"), ("test", labels * 3)):
        rows = [{"text": f"第{n}篇{split}", "output": name} for n, name in enumerate(names)]
        write_csv(tmp_path / f"{split}.csv", rows)
    says = f"test has the labels {labels}, of which train has none"
    with pytest.raises(InputError, match=re.escape(says)):
        sources.read_source(str(tmp_path), columns={"category": None})


def test_numbers_in_one_file_and_names_in_another_are_refused(tmp_path):
    for name, labels in (("a", "体财"), ("b", "01"), ("c", "财农"), ("d", "7")):
        rows = [{"text": f"第{n}篇{name}", "output": label} for n, label in enumerate(labels)]
        write_csv(tmp_path / f"{name}.csv", rows)
    a, b, c, d = (str(tmp_path / f"{name}.csv") for name in "abcd")
    for source in ([a, b], [b, c]):
        with pytest.raises(InputError, match=r"b\.csv has codes as labels .* and .*\.csv words"):
            sources.read_source(source, columns={"category": None})
    assert len(sources.read_source([a, c, d], columns={"category": None}).menu) == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("科·幻", "科・幻"),
        ("科•幻", "科‧幻"),
        ("体育", "体育\ufe00"),
        ("葛", "葛\U000e0100"),
        ("体育", "体\u034f育"),
        ("women's", "women’s"),
        ("体育", "「体育」"),
        ("体育", "体育。"),
        ("1〜2", "1~2"),
        ("A B", "A\u2581B"),  # as tokenizers write it
    ],
)
def test_labels_that_look_alike_are_not_two_classes(tmp_path, one, other):
    path = labelled(tmp_path / "a.jsonl", one, other, "财经")
    with pytest.raises(InputError, match="line 2: a label spelled in two ways") as error:
        sources.read_source(str(path), columns={"category": None})
    first, second = re.search(r": ([^:]*) and ([^:;]*); mend", str(error.value)).groups()
    assert first != second and (second.isascii() or len(second) > 3)


def test_a_table_of_answers_is_no_table_of_labels(tmp_path):
    rows = [{"text": f"第{n}篇", "answer": "AB"[n % 2], "probability": 0.9} for n in range(4)]
    path = write_csv(tmp_path / "answers.csv", rows)
    with pytest.raises(InputError, match=r"no column 'output'.*output: NAME") as error:
        sources.read_source(path, columns={"category": None})
    assert "output: answer" not in str(error.value)


def test_classes_that_are_called_by_numbers_may_stand_beside_others(tmp_path):
    for name, labels in (("a", ["360", "163"]), ("b", ["新浪", "搜狐"])):
        rows = [{"text": f"第{n}篇{name}", "output": label} for n, label in enumerate(labels)]
        write_csv(tmp_path / f"{name}.csv", rows)
    files = [str(tmp_path / f"{name}.csv") for name in "ab"]
    assert len(sources.read_source(files, columns={"category": None}).menu) == 4


def test_a_last_shard_that_is_missing_may_be_the_first(tmp_path):
    for number in (1, 2):
        write(tmp_path / f"train-{number}-of-3.jsonl", GOOD)
    with pytest.raises(InputError, match="shard 0-of-3 of train is missing; or 3-of-3; 2 of 3"):
        sources.read_source(str(tmp_path))


def test_a_full_scratch_folder_is_one_line(tmp_path, monkeypatch):
    import datasets.arrow_writer

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(datasets.arrow_writer.ArrowWriter, "write", full)
    with pytest.raises(InputError, match=r"scratch folder .* No space left on device.* TMPDIR"):
        sources.read_source(write(tmp_path / "a.jsonl", GOOD, OTHER))


def test_no_place_for_a_scratch_folder_is_one_line(tmp_path, monkeypatch):
    def nowhere(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(sources.tempfile, "TemporaryDirectory", nowhere)
    with pytest.raises(InputError, match=r"scratch folder for rows could not .* No usable"):
        sources.read_source(write(tmp_path / "a.jsonl", GOOD, OTHER))


def test_truth_values_beside_numbers_are_not_four_classes(tmp_path):
    columns = {"category": None, "output": "label"}
    rows = [{"text": f"第{n}篇", "label": (0, True, 1, False)[n % 4]} for n in range(8)]
    with pytest.raises(InputError, match=r"truth values \('False'\) in some rows and numbers"):
        sources.read_source(write(tmp_path / "a.jsonl", *rows), columns)
    alike = [row | {"label": bool(row["label"])} for row in rows]
    found = sources.read_source(write(tmp_path / "b.jsonl", *alike), columns)
    assert found.menu == ("False", "True")


def test_without_options_and_labels_there_is_nothing_to_learn(tmp_path):
    file = write(tmp_path / "a.jsonl", GOOD, OTHER)
    with pytest.raises(InputError, match=r"maps both category and output to null.*map output to"):
        sources.read_source(file, {"category": None, "output": None})
