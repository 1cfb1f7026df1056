"""Every kind of source, and every kind of malformed one: a clear line or a counted skip, never a
traceback.
"""

import csv
import gzip
import io
import json

import pyarrow
import pytest
from pyarrow import parquet

from helpers import InputError, sources

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


@pytest.mark.parametrize(
    "options",
    [
        '["Sports", "Art"]',
        "['Sports', 'Art']",
        "Sports，Art",
        "Sports,Art",
        "Sports、Art",
        "Sports|Art",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_csv_with_options_in_any_form(tmp_path, options, encoding):
    path = write_csv(
        tmp_path / "rows.csv", [GOOD | {"category": options, "text": "第一行\n第二行"}], encoding
    )
    assert rows_of(path) == [GOOD | {"text": "第一行\n第二行"}]


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
    "options of mixed types": (
        GOOD | {"category": ["Sports", 1]},
        "line 2: `category` must be a non-empty list",
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
    found = sources.read_source(path, on_bad_row="skip")
    assert len(found.splits["train"]) == 2
    assert sum(found.skipped.values()) == 1 and next(iter(found.skipped)) in str(error.value)


def bad_files(folder):
    folder.mkdir()
    yield write(folder / "empty.jsonl"), "holds no rows"
    (folder / "utf16.jsonl").write_bytes(json.dumps(GOOD).encode("utf-16"))
    yield str(folder / "utf16.jsonl"), "neither UTF-8 nor GB18030"
    (folder / "late.jsonl").write_bytes(
        (json.dumps(GOOD) + "\n").encode() * 20_000 + b'{"text": "\xff\xff\xff"}\n'
    )
    yield str(folder / "late.jsonl"), "neither UTF-8 nor GB18030"
    (folder / "broken.jsonl.gz").write_bytes(gzip.compress(json.dumps(GOOD).encode() * 1000)[:60])
    yield str(folder / "broken.jsonl.gz"), "cannot be read"
    (folder / "no.jsonl.gz").write_bytes(b"this is no gzip file")
    yield str(folder / "no.jsonl.gz"), "cannot be read"
    (folder / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    yield str(folder / "broken.parquet"), "no sound Parquet file"
    (folder / "wide.csv").write_text("text,category,output\na,A|B,A,too,many\n")
    yield str(folder / "wide.csv"), "more fields than the header names"
    (folder / "rows.xlsx").write_bytes(b"PK")
    yield str(folder / "rows.xlsx"), "unknown kind of file"
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
    monkeypatch.setattr(sources, "EXPANSION_LIMIT", 50)
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wb", compresslevel=1) as bomb:
        for _ in range(300):
            bomb.write((b" " * 2**20)[:-1] + b"\n")
    with pytest.raises(InputError, match="50-fold"):
        sources.read_source(str(tmp_path / "bomb.jsonl.gz"))


def test_an_unreadable_file_is_one_line(tmp_path, monkeypatch):
    path = write(tmp_path / "rows.jsonl", GOOD)

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sources, "open_bytes", refused)
    with pytest.raises(InputError, match=r"cannot be read: PermissionError"):
        sources.read_source(path)


@pytest.mark.parametrize("name", ["swift/zh_cls_fudan-news", "hf:owner/name"])
def test_a_hub_without_network_is_one_line(monkeypatch, name):
    import datasets
    import modelscope

    def unreachable(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(modelscope.MsDataset, "load", unreachable)
    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(InputError) as error:
        sources.read_source(name)
    assert "ConnectionError: no route to host" in str(error.value) and "\n" not in str(error.value)


def test_a_hub_gives_its_splits_at_the_pinned_revision(monkeypatch):
    import modelscope

    asked = []

    def load(name, split, version=None):
        asked.append((name, split, version))
        if split != "train":
            raise ValueError("no such split")
        return [{"prompt": "甲", "answer": "A"}, {"prompt": "乙", "answer": "B"}]

    monkeypatch.setattr(modelscope.MsDataset, "load", load)
    found = sources.read_source("damo/zh_cls_fudan-news", revision="v1.2")
    assert asked[0] == ("damo/zh_cls_fudan-news", "train", "v1.2")
    assert [row["category"] for row in found.splits["train"]] == [["A", "B"]] * 2


@pytest.mark.parametrize("options", [{"on_bad_row": "ignore"}, {"columns": {"body": "text"}}])
def test_bad_arguments_are_one_line(options):
    with pytest.raises(InputError):
        sources.read_source("sample", **options)
