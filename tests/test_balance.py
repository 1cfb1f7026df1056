"""Training rows drawn so that all classes are equally frequent."""

from collections import Counter

import pytest

from helpers.balance import balance_note, balanced_rows
from helpers.comparison import rare_table, rarest
from tools import recorded


def make_rows(**counts):
    return [
        {"id": f"{label}-{i}", "output": label} for label, n in counts.items() for i in range(n)
    ]


@pytest.mark.parametrize(
    "counts", [{"a": 90, "b": 9, "c": 1}, {"a": 7, "b": 1}, {"a": 5}, {"a": 1, "b": 1, "c": 9}]
)
def test_every_class_occurs_equally_often_in_as_many_rows(counts):
    rows = make_rows(**counts)
    drawn = balanced_rows(rows, 42)
    assert len(drawn) == len(rows)
    shares = Counter(row["output"] for row in drawn)
    assert shares.keys() == counts.keys()
    assert max(shares.values()) - min(shares.values()) <= 1


def test_rows_of_a_rare_class_are_repeated_evenly_and_no_frequent_one_is():
    rows = make_rows(a=90, b=9, c=1)
    times = Counter(row["id"] for row in balanced_rows(rows, 42))
    assert times["c-0"] in (33, 34)
    rare = [times[f"b-{i}"] for i in range(9)]
    assert max(rare) - min(rare) <= 1 and min(rare) >= 3
    assert max(times[f"a-{i}"] for i in range(90)) == 1


def test_the_seed_alone_decides():
    rows = make_rows(a=90, b=9, c=1)
    assert balanced_rows(rows, 1) == balanced_rows(list(rows), 1)
    assert balanced_rows(rows, 1) != balanced_rows(rows, 2)
    assert rows == make_rows(a=90, b=9, c=1)


def test_the_note_counts_what_came_again():
    rows = make_rows(a=8, b=2)
    assert balance_note(rows, balanced_rows(rows, 1)) == (
        "2 classes with 5 to 5 rows each: 7 of 10 rows are in, 3 times one comes again"
    )


def test_rare_classes_are_judged_by_themselves():
    train, labels = make_rows(a=50, b=9, c=2), ["a", "a", "b", "c", "c"]
    assert rarest(train, labels, 2) == ["c", "b"]
    assert rarest(make_rows(a=50), ["a", "new"], 1) == ["new"]  # training has no row of this class
    answers = {"model": ["a", "a", "b", "c", "a"], "svm": ["a", "a", "a", "a", "a"]}
    table = rare_table(labels, answers, ["c", "b"])
    assert table.loc["model", "the rarest"] == pytest.approx((2 / 3 + 1) / 2)
    assert table.loc["model", "all classes"] == pytest.approx((0.8 + 2 / 3 + 1) / 3)
    assert table.loc["svm", "the rarest"] == 0
    rare = {"classes": ["c", "b"], "rows": 3, "macro_f1": table.to_dict("index")}
    assert "(c, b: 3 test rows)" in recorded.rare_table(rare)
    assert "| svm | 0.190 | 0.000 |" in recorded.rare_table(rare)
    assert recorded.rare_table({}) == ""
