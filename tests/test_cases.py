"""Inputs on which reading once failed, rebuilt with sixty short rows of three classes."""

import csv
import io
import json

import pyarrow
import pytest
from pyarrow import parquet

from helpers import InputError, duplicates, sources, splits

CLASSES = {
    "体育": "{n}号选手跑完了最后一圈，看台上的{n}面旗子还在摇。",
    "财经": "第{n}家小店的账本合上了，这个月结余{n}元。",
    "农业": "东边{n}亩麦子黄了，合作社请来{n}台收割机。",
}
OPTIONS = list(CLASSES)
BY_LABELS = {"category": None, "output": "label"}


def news(count=60):
    """Rows in the project's layout, each with another text."""
    return [
        {"text": CLASSES[label].format(n=n + 11) * 2, "category": OPTIONS, "output": label}
        for n in range(count)
        for label in [OPTIONS[n % 3]]
    ]


def save_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def table(rows, columns, end="\n"):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end)
    writer.writerow(columns)
    writer.writerows([row[column] for column in columns] for row in rows)
    return text.getvalue()


def save(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def train_of(path, **choices):
    return list(sources.read_source(path, **choices).splits["train"])


def labels_of(path, **choices):
    return [row["output"] for row in train_of(path, **choices)]


def refusal(path, **choices):
    with pytest.raises(InputError) as error:
        sources.read_source(path, **choices)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_duplicate_ids(tmp_path):
    rows = [{"id": f"{n % 6}.txt"} | row for n, row in enumerate(news())]
    read = train_of(save_lines(tmp_path / "rows.jsonl", rows))
    assert [row["id"] for row in read] == [f"train-{n}" for n in range(1, 61)]
    assert [row["source_id"] for row in read] == [row["id"] for row in rows]
    assert [row["output"] for row in read] == [row["output"] for row in rows]


def test_labels_that_are_not_a_number(tmp_path):
    rows = [
        {"text": row["text"], "label": float("nan") if n % 10 == 0 else row["output"]}
        for n, row in enumerate(news())
    ]
    path = save_lines(tmp_path / "rows.jsonl", rows)
    assert "NaN" in open(path, encoding="utf-8").read()
    read = train_of(path, columns=BY_LABELS)
    assert read[0]["category"] == sorted(OPTIONS)
    assert [row["output"] for row in read].count(None) == 6


def test_labels_that_are_integers(tmp_path):
    rows = [{"text": row["text"], "label": n % 3} for n, row in enumerate(news())]
    labels = labels_of(save_lines(tmp_path / "rows.jsonl", rows), columns=BY_LABELS)
    assert labels == ["0", "1", "2"] * 20


def test_a_label_column_of_another_name(tmp_path):
    rows = [{**row, "label": row["output"]} for row in news()]
    for row in rows:
        del row["output"]
    path = save_lines(tmp_path / "rows.jsonl", rows)
    for columns in (None, {"category": None}):
        text = refusal(path, columns=columns)
        assert "no column 'output' for output; there are 'text', 'category', 'label'" in text
        assert "map them with `columns`" in text
    assert labels_of(path, columns={"output": "label"}) == OPTIONS * 20


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("choice", ["train", "drop"])
def test_a_rare_class(tmp_path, count, choice):
    rare = [
        {"text": f"望远镜里第{n}颗星偏红，像一盏远灯。" * 3, "output": "天文"} for n in (1, 222)
    ]
    rows = [{"text": row["text"], "output": row["output"]} for row in news()] + rare[:count]
    read = train_of(save_lines(tmp_path / "rows.jsonl", rows), columns={"category": None})
    labels = [row["output"] for row in read]
    # texts of a class are alike on purpose, so each row is made a group of its own
    clusters = list(range(len(read)))
    if count == 1:
        with pytest.raises(InputError, match=r"'天文' \(1 row\)"):
            splits.make_splits(["train"] * 61, labels, clusters, 0.1, 0.3, {}, 1)
    places = splits.make_splits(["train"] * len(read), labels, clusters, 0.1, 0.3, {}, 1, choice)
    where = [split for split, chosen in places.items() for i in chosen if labels[i] == "天文"]
    if count == 1:
        assert where == (["train"] if choice == "train" else [])
    else:
        assert len(where) == 2 and "train" in where
    assert len(set(duplicates.digests(row["text"] for row in read))) == len(read)


def test_one_bad_byte(tmp_path):
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in news()]
    lines[40] = lines[40].replace("圈".encode(), b"\xe5\x9c").replace("麦".encode(), b"\xe9\xba")
    lines[40] = lines[40].replace("账".encode(), b"\xe8\xb4")
    path = save(tmp_path / "rows.jsonl", b"\n".join(lines))
    assert "rows.jsonl line 41: a byte that is not sound" in refusal(path)
    found = sources.read_source(path, on_bad_row="skip")
    assert len(found.splits["train"]) == 59 and list(found.skipped.values()) == [1]


def test_line_ends_of_old_macs(tmp_path):
    rows = [row | {"category": "|".join(OPTIONS)} for row in news()]
    content = table(rows, ["text", "category", "output"], end="\r")
    assert "\n" not in content
    read = train_of(save(tmp_path / "rows.csv", content))
    assert [row["text"] for row in read] == [row["text"] for row in rows]


def test_parquet_with_text_as_bytes(tmp_path):
    rows = [row | {"text": row["text"].encode()} for row in news()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    read = train_of(str(tmp_path / "rows.parquet"))
    assert [row["text"] for row in read] == [row["text"] for row in news()]


def test_shards_of_a_hub(tmp_path):
    for split, rows in (("train", news(40)), ("test", news(20))):
        name = f"{split}-00000-of-00001.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
    found = sources.read_source(str(tmp_path)).splits
    assert {split: len(rows) for split, rows in found.items()} == {"train": 40, "test": 20}


def test_a_table_of_excel_in_gbk_to_classify(tmp_path):
    rows = [{"正文": row["text"], "类别": row["output"]} for row in news()]
    content = table(rows, ["正文", "类别"], end="\r\n").encode("gbk")
    path = save(tmp_path / "excel.csv", content)
    columns = {"text": "正文", "category": None, "output": "类别"}
    read = list(sources.read_articles(path, columns, options=OPTIONS))
    assert [article.row["text"] for article in read] == [row["text"] for row in news()]
    assert [article.row["output"] for article in read] == [row["output"] for row in news()]
    with pytest.raises(InputError, match="there are '正文', '类别': map them with `columns`"):
        sources.read_articles(path, options=OPTIONS)


@pytest.mark.parametrize(
    "extra", ["▁▂▃▄▅▆▇", "<bos><end_of_turn><|im_end|>[PAD]</s>", "{0} %s \\n"]
)
def test_characters_that_mean_something_elsewhere(tmp_path, extra):
    rows = [row | {"text": extra + row["text"] + extra} for row in news()]
    read = train_of(save_lines(tmp_path / "rows.jsonl", rows))
    assert [row["text"] for row in read] == [row["text"] for row in rows]


def test_a_long_label(tmp_path):
    long = "国内/" * 30 + "农业"
    rows = [
        row | {"category": [*OPTIONS[:2], long], "output": long if n % 3 == 2 else row["output"]}
        for n, row in enumerate(news())
    ]
    assert labels_of(save_lines(tmp_path / "rows.jsonl", rows))[2::3] == [long] * 20
