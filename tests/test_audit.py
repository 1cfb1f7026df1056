"""The label audit finds labels that were flipped on purpose."""

import random

import numpy as np
import pytest

from helpers import audit, duplicates


@pytest.fixture(scope="module")
def rows(sample):
    return sample["train"]


@pytest.fixture(scope="module")
def clusters(rows):
    return duplicates.near_duplicate_clusters(row["text"] for row in rows)


def test_flipped_labels_stand_among_the_first(rows, clusters):
    """3 % of the labels, each to another option of its row."""
    rng = random.Random(0)
    flipped = {row["id"] for row in rng.sample(rows, round(0.03 * len(rows)))}
    changed = []
    for row in rows:
        others = [option for option in row["category"] if option != row["output"]]
        changed.append(row | ({"output": rng.choice(others)} if row["id"] in flipped else {}))
    ranked = audit.suspects(changed, clusters)
    first = [name in flipped for name in ranked["id"][:20]]
    assert np.mean(first) >= 0.5  # at most 0.9, for 18 are flipped; by chance 0.03
    assert ranked["self_confidence"].is_monotonic_increasing and (ranked["margin"] > 0).all()
    assert (ranked["label"] != ranked["suggested"]).all()


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_few_rows_give_an_empty_table_or_a_sound_one(rows, n):
    ranked = audit.suspects(rows[:n], list(range(n)))
    assert set(ranked.columns) == {
        *("id", "source_id", "label", "suggested", "self_confidence", "margin")
    }


def test_given_probabilities_are_used():
    rows = [
        {"id": str(i), "category": ["a", "b"], "output": "a" if i < 5 else "b"} for i in range(10)
    ]
    sure = [np.array([0.9, 0.1])] * 5 + [np.array([0.1, 0.9])] * 5
    assert audit.suspects(rows, list(range(10)), sure).empty
    sure[0] = np.array([0.05, 0.95])
    ranked = audit.suspects(rows, list(range(10)), sure)
    assert list(ranked["id"]) == ["0"] and ranked["suggested"][0] == "b"
    assert audit.suspects(rows, list(range(10)), np.array(sure)).equals(ranked)  # an array serves


def test_a_suggestion_is_likelier_than_the_label():
    """The second row reaches the low threshold of b, but its own label a is still likelier."""
    rows = [
        {"id": str(i), "category": ["a", "b"], "output": label} for i, label in enumerate("aabb")
    ]
    given = [np.array([p, 1 - p]) for p in (0.95, 0.6, 0.7, 0.6)]
    ranked = audit.suspects(rows, list(range(4)), given)
    assert "1" not in list(ranked["id"]) and (ranked["margin"] > 0).all()


def test_a_class_of_one_fold_alone_is_not_judged():
    """Its rows are copies, so they are held out together and nothing is learned of the class."""
    words = {"a": "球队比赛进球", "b": "股市银行利率", "c": "小麦播种收成"}
    rows = [
        {
            "id": f"{label}{i}",
            "text": f"{words[label]}第{i}号",
            "category": list("abc"),
            "output": label,
        }
        for label in "abc"
        for i in range(6)
    ]
    clusters = [*range(12), *[12] * 6]
    shares = audit.out_of_sample(rows, clusters)
    assert [values is None for values in shares] == [row["output"] == "c" for row in rows]
    assert "c" not in set(audit.suspects(rows, clusters)["label"])


def test_three_rows_of_three_classes_teach_nothing_of_one_another():
    rows = [
        {"id": label, "text": f"第{label}号", "category": list("abc"), "output": label}
        for label in "abc"
    ]
    assert audit.out_of_sample(rows, [0, 1, 2]) == [None] * 3
    assert audit.suspects(rows, [0, 1, 2]).empty


def test_rows_of_one_option_do_not_raise_what_their_class_must_reach():
    rows = [{"id": f"r{n}", "category": ["a", "b"], "output": "ab"[n % 2]} for n in range(20)]
    probabilities = [np.array([0.7, 0.3] if n % 2 == 0 else [0.3, 0.7]) for n in range(20)]
    probabilities[1] = np.array([0.8, 0.2])  # labelled b
    found = audit.suspects(rows, [*range(20)], probabilities)
    assert list(found["id"]) == ["r1"]
    single = [{"id": f"s{n}", "category": ["a"], "output": "a"} for n in range(50)]
    more = audit.suspects(rows + single, [*range(70)], probabilities + [np.array([1.0])] * 50)
    assert list(more["id"]) == ["r1"]
