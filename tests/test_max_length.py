"""Chapter 7: what swift makes of rows that are too long, and that cutting the body mends it."""

import numpy as np
import pytest

from helpers import max_length, templating
from helpers.templating import PromptFormat


@pytest.fixture(scope="module")
def rows(sample):
    ordered = sorted(sample["train"], key=lambda row: len(row["text"]))
    return [ordered[0], ordered[-1]]


@pytest.fixture(scope="module")
def trial(tokenizer):
    return max_length.Trial(tokenizer, True)


def test_no_setting_of_swift_keeps_a_long_row_whole(trial, rows):
    table = trial.table(max_length.whole, rows)
    assert len(table) == 9
    assert (table["training"] != "works").all()
    assert table["inference"].str.startswith("run aborted").sum() >= 6
    assert table.loc[("224", "delete"), "training"] == "row dropped"
    assert "answer" in table.loc[("224", "right"), "training"]
    assert "instruction" in table.loc[("224", "left"), "training"]


def test_with_only_the_body_cut_all_settings_work(trial, rows, tokenizer):
    table = trial.table(max_length.body_only(tokenizer, True), rows)
    assert set(table.to_numpy().ravel()) == {"works"}
    report = max_length.report(table, table)
    assert len(report["body cut"]) == 9 and report["body cut"][0]["training"] == "works"


def test_each_cut_loses_what_the_page_says(tokenizer, rows):
    left = max_length.what_is_left(tokenizer, rows[-1], 120)
    options = "，".join(rows[-1]["category"])
    assert max_length.INSTRUCTION in left["right"] and options not in left["right"]
    assert max_length.INSTRUCTION not in left["left"] and options in left["left"]
    assert max_length.INSTRUCTION in left["body only"] and options in left["body only"]


def test_shares_beyond_positions_and_the_chance_of_ten_short_rows():
    counts = np.array([100] * 9 + [5000])
    table = max_length.beyond_positions({"own": counts})
    assert table.loc["Yi-6B", "rows beyond it, by own tokenizer"] == "10.0 %"
    assert table.loc["Qwen1.5-1.8B", "rows beyond it, by own tokenizer"] == "0.0 %"
    ten = max_length.ten_short_rows(counts)
    assert ten.loc[4096, "no such row among ten"] == f"{0.9**10:.1%}"
    found = max_length.findings(*[_table()] * 2, counts)
    assert (found["beyond_yi"], found["counted"]) == (10, 10)


def _table():
    import pandas as pd

    return pd.DataFrame({"training": ["works"], "inference": ["run aborted: row too long"]})


def test_the_body_alone_gives_way(tokenizer, rows):
    cut = max_length.body_only(tokenizer, True)
    text = cut(rows[-1], 224)
    assert len(templating.encode(tokenizer, text)) < 224
    assert text.startswith(templating.EDITOR.split("{text}")[0])


def test_a_label_as_long_as_a_sentence_suits_them_too(tokenizer):
    label = "关于进一步加强农村地区饮用水水源地环境保护工作的若干问题的通知" * 4
    row = {"id": "train-1", "text": "很好用", "category": [label, "其他"], "output": label}
    longest, changes = max_length.long_row(tokenizer, [row])
    assert longest["category"] == [longest["output"]] and label.startswith(longest["output"])
    assert f"its label is cut to {len(longest['output'])} characters" in changes
    left = max_length.what_is_left(tokenizer, longest, max_length.SHORTEST)
    assert longest["output"] in left["body only"]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("很好用", 2, "its article stands there"),
        ("这是一篇很长的文章。" * 99, 60, "of its 60 options"),
        ("这是一篇很长的文章。" * 99, 2, "as it is"),
    ],
)
def test_a_row_of_any_corpus_suits_the_chapters_limits(tokenizer, text, options, said):
    menu = [f"第{i}类栏目新闻" for i in range(options)]
    row = {"id": "train-1", "text": text, "category": menu, "output": menu[-1]}
    longest, changes = max_length.long_row(tokenizer, [row | {"text": text[:-1]}, row])
    assert said in changes and longest["output"] in longest["category"]
    assert (text, len(row["category"])) == (row["text"], options)  # the given row is unchanged
    whole = max_length.whole(longest)
    assert len(templating.encode(tokenizer, whole)) > 512
    assert (
        templating.GAP
        in templating.fit(
            tokenizer, PromptFormat(templating.EDITOR, 160, True, "head+tail"), longest
        ).text
    )
