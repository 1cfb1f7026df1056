"""The tables and numbers that chapter 1 shows of a corpus, for made-up corpora and odd ones."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import run_solution
from datasets import Dataset

from helpers import InputError, corpus, duplicates, files, plotting, sources, survival, templating

RECORD = "【 文献号 】1-{n}\n【 分 类 名 】{label}\n【 正 文 】"


def rows_of(texts, labels, menu=("a", "b")):
    count = len(texts)
    columns = {
        "id": [f"train-{i}" for i in range(1, count + 1)],
        "source_id": [None] * count,
        "text": texts,
        "category": [list(menu)] * count,
        "output": labels,
    }
    return Dataset.from_dict(columns, features=sources.row_features())


@pytest.fixture
def splits():
    return {
        "train": rows_of(["一", "二二", "三三三"], ["a", None, "b"]),
        "test": rows_of(["四四四四", "五五五五五"], ["b", None]),
    }


def test_rows_with_and_without_a_label_are_told_apart(splits):
    rows, given = corpus.labelled(splits)
    assert list(rows["text"]) == ["一", "三三三", "四四四四"]
    assert given == ["train", "train", "test"]
    assert list(corpus.unlabelled(splits)["text"]) == ["二二", "五五五五五"]
    assert corpus.sizes(splits).loc["of them labelled"].to_dict() == {"train": 2, "test": 1}


def test_headers_come_off_and_nothing_else_changes():
    text = RECORD.format(n=1, label="a") + "正文如下"
    stripped = corpus.without_headers({"train": rows_of([text, "无头"], ["a", "b"])})["train"]
    assert list(stripped["text"]) == ["正文如下", "无头"]
    assert list(stripped["output"]) == ["a", "b"]


def test_of_rows_equally_near_in_length_the_first_is_shown(splits):
    assert corpus.nearest_in_length(splits["train"], 2)["text"] == "二二"
    assert corpus.nearest_in_length(splits["train"], 100)["text"] == "三三三"
    assert corpus.nearest_in_length(rows_of(["一二三", "一"], ["a", "b"]), 2)["text"] == "一二三"


def test_copies_that_disagree_are_counted():
    texts = ["同一篇文章。", "同一篇 文章。", "另一篇文章。"]
    fingerprints = duplicates.digests(texts)
    counts = corpus.copies(fingerprints, [0, 0, 1], ["a", "b", "a"], torn=5)
    assert list(counts.values()) == [1, 1, 1, 1, 5]


def test_header_fields_are_shares_of_all_rows():
    table = corpus.header_fields([RECORD.format(n=1, label="a"), "", "", ""])
    assert table.loc["% of rows", "分类名"] == 25.0
    assert corpus.header_fields(["", ""]).to_numpy().tolist() == [[0.0]]  # a table, not an error


def test_a_header_that_holds_the_label_tells_it():
    labels = ["甲", "乙"] * 10
    headers = [RECORD.format(n=i % 3, label=label * 3) for i, label in enumerate(labels)]
    rows = rows_of(["正文"] * 20, labels, menu=("甲", "乙"))
    assert corpus.header_alone(rows, headers, list(range(20))) == 1.0


@pytest.mark.parametrize("headed", [0, 1])
def test_too_few_headers_tell_nothing_and_the_page_says_so(headed):
    headers = [RECORD.format(n=1, label="a")] * headed + [""] * (4 - headed)
    alone = corpus.header_alone(rows_of(["正文"] * 4, ["a", "b"] * 2), headers, list(range(4)))
    assert alone is None
    assert corpus.header_sentence(alone) == "there are too few of them to learn from"
    assert "72.5 %" in corpus.header_sentence(0.725)


def test_splits_are_written_once_and_old_unlabelled_rows_go(splits, tmp_path):
    rows, _ = corpus.labelled(splits)
    drawn = {"train": [1], "val": [0], "test": [2]}
    corpus.write_splits(tmp_path, rows, drawn, corpus.unlabelled(splits))
    assert [row["text"] for row in files.read_jsonl(tmp_path / "train.jsonl")] == ["三三三"]
    assert len(files.read_jsonl(tmp_path / "unlabelled.jsonl")) == 2
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    corpus.write_splits(tmp_path, rows, drawn, corpus.unlabelled(splits))
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    corpus.write_splits(tmp_path, rows, drawn, corpus.unlabelled({"train": rows}))
    assert not (tmp_path / "unlabelled.jsonl").exists()


def test_classes_absent_from_a_split_count_zero():
    table = corpus.class_counts(["a", "b", "b", "b"], {"train": [1, 2, 0], "val": [], "test": [3]})
    assert list(table.index) == ["b", "a"]
    assert table.to_numpy().tolist() == [[2, 0, 1], [1, 0, 0]]
    assert corpus.unlearned(table) == []


def test_a_class_that_nobody_learns_is_named():
    table = corpus.class_counts(["a", "b", "c"], {"train": [0], "val": [1], "test": [2]})
    assert sorted(corpus.unlearned(table)) == ["b", "c"]


def test_where_the_label_stands_among_the_options():
    menus = [["a", "b", "c"], ["b", "a", "c"], ["c", "b", "a"], ["a"]]
    table = corpus.menu_table(menus, ["a"] * 4, 0.5)["value"]
    assert table["true option: mean place (0 first, 1 last)"] == 0.5
    assert table["it is the first, %"] == table["it is the last, %"] == 33.33
    assert (table["options a row, fewest"], table["most"]) == (1, 3)


def test_rows_of_one_option_say_nothing_about_places():
    table = corpus.menu_table([["a"], ["b"]], ["a", "b"], 1.0)
    assert not [name for name in table.index if "it is" in name or "place" in name]
    assert not table.isna().any().any()


@pytest.mark.parametrize("bos", [True, False])
def test_parts_add_up_to_the_row_that_a_model_reads(tokenizer, bos):
    rows = rows_of(["球队昨天赢得了比赛。", "字"], ["a", "b"])
    totals = corpus.measure(tokenizer, rows, bos).sum(axis=1)
    for row, total in zip(rows, totals):
        prompt = templating.render(templating.EDITOR, row["text"], row["category"])
        answer = templating.encode_answer(tokenizer, row["output"])
        whole = bos + len(templating.encode(tokenizer, prompt)) + len(answer)
        assert abs(total - whole) <= 3  # tokens may merge at the borders of parts


def test_length_tables_of_one_row_hold_no_gaps():
    assert corpus.length_table(pd.DataFrame({"model": [7]})).loc["model", "max"] == 7
    table = corpus.lengths_by_class(["体"], np.array([7]))
    assert table.loc["体"].tolist() == [1, 7, 7, 7]


def test_limits_touch_the_rows_that_are_longer():
    assert corpus.longer(np.array([5, 6, 7, 8]), [6, 8]) == {6: 0.5, 8: 0.0}
    with pytest.raises(InputError, match="candidate_lengths is empty"):
        corpus.longer(np.array([5]), [])


@pytest.mark.parametrize("alone", [None, 0.5])
def test_the_summary_is_plain_json_and_gives_every_number_of_the_page(tokenizer, alone):
    rows = rows_of(["球队昨天赢得了比赛。", "字"], ["a", "b"])
    parts = corpus.measure(tokenizer, rows, True)
    tokens = parts.sum(axis=1)
    summary = corpus.summary(
        strip_header=False,
        source="made here",
        drawn={"train": [0], "val": [], "test": [1]},
        classes=2,
        copied=corpus.copies([b"1", b"2"], [0, 0], ["a", "b"], torn=3),
        read=sources.Source({}, {"empty text": 1}, 0, 0),
        headed=1,
        alone=alone,
        guessed=np.float64(0.5),
        lengths=pd.DataFrame({"model": tokens}),
        too_long=corpus.longer(tokens.to_numpy(), [8, 384]),
        survival=survival.survival(parts, [8, 384]),
    )
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    numbers = corpus.findings(summary, "model", labelled_rows=4)
    assert (numbers["rows_train"], numbers["rows_val"], numbers["rows_test"]) == (1, 0, 1)
    assert (numbers["copies"], numbers["torn"], numbers["classes"]) == (1, 3, 2)
    assert (numbers["first_limit"], numbers["first_longer"]) == (8, 100.0)
    assert (numbers["headed"], numbers["chance"]) == (25.0, 50.0)
    assert numbers["header_alone"] == 100 * (alone or 0)
    assert (numbers["mistake"], numbers["mended"]) == (100.0, 100.0)
    assert numbers["max_tokens"] == tokens.max()


@pytest.mark.parametrize("tokens", [[100], [100, 100], [1, 1], [3, 50_000]])
def test_lengths_are_drawn_however_alike_they_are(tokens):
    figure = plotting.length_histogram(pd.DataFrame({"m": tokens, "n": tokens}), [64, 256])
    figure.canvas.draw()
    bars = [patch for patch in figure.axes[0].collections if len(patch.get_paths())]
    assert bars and figure.axes[1].get_ylabel() == "rows that fit, %"
    plt.close(figure)


def test_one_class_of_one_row_is_drawn_with_whole_ticks():
    figure = plotting.class_counts(corpus.class_counts(["$x$"], {"train": [0], "test": []}))
    figure.canvas.draw()
    assert all(float(tick).is_integer() for tick in figure.axes[0].get_xticks())
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["$x$"]
    plt.close(figure)


def test_of_a_thousand_classes_the_largest_and_smallest_are_drawn():
    classes = [f"class {n}" for n in range(1000)]
    counts = pd.DataFrame({"train": range(1000, 0, -1), "test": 1}, index=classes)
    figure = plotting.class_counts(counts)
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == classes[:20] + classes[-20:]
    assert "20 smallest of 1,000" in axes.get_ylabel()
    plt.close(figure)


def test_a_source_without_any_label_says_what_to_fill():
    with pytest.raises(InputError, match=r"no row of this source has a label.*columns"):
        corpus.labelled({"train": rows_of(["甲", "乙"], [None, None])})


@pytest.mark.parametrize("count", [1, 7, 10, 300])
def test_the_least_limit_that_holds_nine_rows_in_ten(count):
    tokens = np.arange(count)
    left = run_solution("01-dataset-exploration", 2, np=np, tokens=tokens)
    assert left["share"] >= 90 and np.mean(tokens < left["limit"]) < 0.9


def test_a_class_that_is_left_out_is_offered_no_longer(tmp_path):
    lines = [{"text": f"第{n}天", "output": label} for n, label in enumerate("AABBC")]
    lines.append({"text": "没有标签"})
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    read = sources.read_source(str(file), {"category": None})
    assert read.menu == ("A", "B", "C")
    own = read.splits["train"].select([0]).map(lambda row: {"category": ["A", "C", "B"]})
    left = corpus.without_classes(read.splits | {"test": own}, {"C"}, read.menu)
    assert left["train"]["output"][:] == ["A", "A", "B", "B", None]
    assert left["train"]["category"][:] == [["A", "B"]] * 5
    assert left["test"]["category"][:] == [["A", "C", "B"]]  # a row's own options stay


def test_classes_that_are_all_too_rare_are_not_left_out_to_the_last_row():
    rows = {"train": rows_of(["甲", "乙", "丙"], ["a", "b", None])}
    with pytest.raises(InputError, match="drop would leave no row: all 2 classes are too rare"):
        corpus.without_classes(rows, {"a": 1, "b": 1}, ("a", "b"))
