"""The packaged corpus is what its data card says."""

import runpy
from itertools import combinations

import numpy as np
import pytest

from helpers import baselines, duplicates, locations

MODULE = runpy.run_path(str(locations.SAMPLE / "compose.py"))
NAMES = (
    "Art Literature Education Philosophy History Space Energy Electronics Communication Computer "
    "Mine Transport Enviornment Agriculture Economy Law Medical Military Politics Sports"
).split()
NAMED = dict(
    zip(
        NAMES,
        (
            "艺术 文学 教育 哲学 历史 航天 能源 电子 通信 计算机 "
            "矿业 交通 环境 农业 经济 法律 医学 军事 政治 体育"
        ).split(),
    )
)


def test_compose_makes_the_committed_files(sample):
    for split, rows in MODULE["compose"]().items():
        committed = [
            {name: row[name] for name in ("text", "category", "output")} for row in sample[split]
        ]
        assert rows == committed


@pytest.mark.parametrize("name", NAMES)
def test_paragraphs(name):
    paragraphs = MODULE["read_class"](locations.SAMPLE / "classes" / f"{name}.txt")["paragraphs"]
    assert len(set(paragraphs)) >= 30
    assert min(map(len, paragraphs)) >= 70
    assert not [line for line in paragraphs if NAMED[name] in line or name.lower() in line.lower()]


def test_size_classes_and_options(sample):
    assert (
        {row["output"] for row in sample["train"]}
        == {row["output"] for row in sample["test"]}
        == set(NAMES)
    )
    assert len(sample["train"]) >= 400 and len(sample["test"]) >= 200
    sizes = [len(row["category"]) for rows in sample.values() for row in rows]
    assert (min(sizes), max(sizes)) == (4, 15)


def test_no_test_article_uses_a_paragraph_of_a_training_article(sample):
    import re

    # the longest text between slots identifies a paragraph, whatever fills the slots
    fixed = {}
    for name in NAMES:
        for line in MODULE["read_class"](locations.SAMPLE / "classes" / f"{name}.txt")[
            "paragraphs"
        ]:
            fixed[line] = max(re.split(r"\{\w+\}", line), key=len)
    joined = {split: "\n".join(row["text"] for row in rows) for split, rows in sample.items()}
    used = {
        split: {line for line, part in fixed.items() if part in text}
        for split, text in joined.items()
    }
    assert len(used["train"]) > 400 and len(used["test"]) > 200
    assert not used["train"] & used["test"]


def grams(text, size):
    return {text[i : i + size] for i in range(len(text) - size + 1)}


def test_overlap_between_the_splits_is_small(sample):
    seen = set().union(*(grams(row["text"], 13) for row in sample["train"]))
    shares = [
        len(grams(row["text"], 13) & seen) / len(grams(row["text"], 13)) for row in sample["test"]
    ]
    assert np.mean(shares) < 0.05


def test_long_articles(sample, tokenizer):
    texts = [row["text"] for rows in sample.values() for row in rows if len(row["text"]) > 9000]
    assert sum(len(tokenizer.encode(text)) > 10_000 for text in texts) >= 5
    assert (
        max(
            len(grams(a, 8) & grams(b, 8)) / min(len(grams(a, 8)), len(grams(b, 8)))
            for a, b in combinations(texts, 2)
        )
        < 0.3
    )


def test_what_makes_real_data_hard_is_there(sample):
    texts = [row["text"] for row in sample["train"]]
    exact = len(texts) - len(set(duplicates.digests(texts)))
    assert exact >= 5
    assert len(texts) - len(set(duplicates.near_duplicate_clusters(texts))) > exact
    assert sum("【 正 文 】" in text for text in texts) >= 20
    assert sum("Abstract" in text for text in texts) >= 20


@pytest.fixture(scope="module")
def right(sample):
    """Whether the baseline that counts words is right, for each test row."""
    guesses = baselines.svm_baseline(sample["train"], sample["test"])
    return [guess == row["output"] for guess, row in zip(guesses, sample["test"])]


def test_a_linear_classifier_finds_it_neither_trivial_nor_hopeless(right):
    assert 0.75 <= np.mean(right) <= 0.97


def test_the_linear_classifier_is_as_good_as_it_was(right):
    """It is right on 235 of these 263 rows; another library may round a few otherwise."""
    assert sum(right) == pytest.approx(235, abs=3)
