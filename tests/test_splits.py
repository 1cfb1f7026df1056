"""Splits are stratified, no near copy is on both sides, rare classes are named but do no harm."""

import random
from collections import Counter

import pytest
from conftest import with_copies

from helpers import InputError, duplicates, splits


def test_splits_are_disjoint_stratified_and_repeatable():
    texts, labels = with_copies(200, 40)
    clusters = duplicates.near_duplicate_clusters(texts)
    made, again = (
        splits.make_splits(["train"] * 240, labels, clusters, 0.1, 0.3, {}, seed=1)
        for _ in range(2)
    )
    assert made == again
    assert sorted(i for rows in made.values() for i in rows) == list(range(240))
    sides = {name: {clusters[i] for i in rows} for name, rows in made.items()}
    assert not (
        sides["train"] & sides["val"]
        or sides["train"] & sides["test"]
        or sides["val"] & sides["test"]
    )
    for rows in made.values():
        assert 0.35 < sum(labels[i] == "A" for i in rows) / len(rows) < 0.65


def test_splits_are_the_same_on_every_machine():
    labels = ["AB"[i % 2] for i in range(40)]
    made = splits.make_splits(
        ["train"] * 40, labels, list(range(40)), 0.25, 0.25, {"test": 3}, seed=7
    )
    assert made["test"] == [33, 13, 11]


def test_a_labelled_test_split_stays_and_its_copies_leave_train():
    texts, labels = with_copies(100, 1)
    given = ["train"] * 100 + ["test"]
    made = splits.make_splits(
        given, labels, duplicates.near_duplicate_clusters(texts), 0.1, 0.3, {}, seed=1
    )
    assert made["test"] == [100]
    assert 0 not in made["train"] + made["val"]
    assert len(made["train"]) + len(made["val"]) == 99


def test_too_few_rows_to_split_is_one_line():
    with pytest.raises(InputError, match="too few"):
        splits.make_splits(["train"] * 4, list("AAAA"), [0, 1, 2, 3], 0.1, 0.3, {}, seed=1)
    with pytest.raises(InputError, match="1 of 2 classes can be divided \\(not 'B'\\)"):
        split([*"A" * 20, "B"], list(range(21)), rare_classes="train")
    with pytest.raises(InputError, match="no labelled row"):
        splits.make_splits(["test"], ["A"], [0], 0.1, 0.3, {}, seed=1)


def with_rare(rare_clusters, classes="ABC", rows=20):
    labels = [label for label in classes for _ in range(rows)] + ["天文"] * len(rare_clusters)
    return labels, list(range(len(classes) * rows)) + [1000 + number for number in rare_clusters]


def split(labels, clusters, **choices):
    return splits.make_splits(
        ["train"] * len(labels), labels, clusters, 0.1, 0.3, {}, seed=3, **choices
    )


@pytest.mark.parametrize(("copies", "says"), [([0], "'天文' (1 row)"), ([0, 0], "'天文' (2 rows")])
def test_a_rare_class_is_named_and_there_is_a_choice(copies, says):
    labels, clusters = with_rare(copies)
    with pytest.raises(InputError) as error:
        split(labels, clusters)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert "too few" not in str(error.value) and "rare_classes" in str(error.value)

    places = split(labels, clusters, rare_classes="train")
    rare = set(range(60, 60 + len(copies)))
    assert rare <= set(places["train"]) and len(places["test"]) >= 15
    assert sorted(i for rows in places.values() for i in rows) == list(range(len(labels)))

    places = split(labels, clusters, rare_classes="drop")
    assert sorted(i for rows in places.values() for i in rows) == list(range(60))


def test_no_remedy_is_named_that_cannot_help():
    with pytest.raises(InputError, match="no two classes are left; add rows") as error:
        split([*"A" * 60, "B"], list(range(61)))
    assert "'B' (1 row)" in str(error.value) and "rare_classes" not in str(error.value)


@pytest.mark.parametrize("seed", range(6))
def test_two_rows_beside_one_frequent_class_are_enough(seed):
    labels = [*"A" * 58, *"BB"]
    places = splits.make_splits(["train"] * 60, labels, list(range(60)), 0.1, 0.3, {}, seed=seed)
    assert {labels[i] for i in places["train"]} == set("AB") and all(places.values())


@pytest.mark.parametrize("seed", range(12))
def test_two_rows_go_where_they_can(seed):
    labels, clusters = with_rare([0, 1])
    places = splits.make_splits(["train"] * 62, labels, clusters, 0.1, 0.3, {}, seed=seed)
    assert sorted(i for rows in places.values() for i in rows) == list(range(62))
    assert {"A", "B", "C", "天文"} == {labels[i] for i in places["train"]}


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_classes_every_one_is_learned_and_no_copy_straddles(seed):
    rng = random.Random(seed)
    labels = [rng.choice("ABCDEFGH"[: rng.randint(2, 8)]) for _ in range(rng.randint(20, 80))]
    clusters = [rng.randrange(len(labels)) for _ in labels]
    places = split(labels, clusters, rare_classes="train")
    assert all(places.values())
    assert {labels[i] for i in places["train"]} == set(labels)
    sides = [{clusters[i] for i in rows} for rows in places.values()]
    assert sum(map(len, sides)) == len(set().union(*sides)) == len(set(clusters))


def test_a_class_of_one_row_is_fine_where_nothing_is_cut_from_training():
    labels = ["A", "B", "A", "B", "C", "A", "B", "A", "B"]
    given = ["train"] * 5 + ["val"] * 2 + ["test"] * 2
    places = splits.make_splits(given, labels, list(range(9)), 0.1, 0.3, {}, seed=1)
    assert sorted(places["train"]) == [0, 1, 2, 3, 4]


def test_a_wrong_choice_for_rare_classes_is_one_line():
    with pytest.raises(InputError, match="rare_classes is 'keep'"):
        split(*with_rare([0]), rare_classes="keep")


@pytest.mark.parametrize("share", [0.02, 0.1, 0.22, 0.25, 0.3, 0.4, 0.42, 0.5])
def test_a_share_is_held_out_to_an_eighth(share):
    labels = ["A", "B", "C", "D"] * 150
    places = splits.make_splits(["train"] * 600, labels, list(range(600)), 0.1, share, {}, seed=3)
    assert len(places["test"]) == pytest.approx(600 * share, rel=1 / 8)
    assert Counter(labels[i] for i in places["test"]).most_common()[-1][1] >= 2


def test_a_tiny_share_is_not_searched_for():
    assert splits.fold_counts(1e-9) == (1, 10**9)


@pytest.mark.parametrize("share", [0, -0.2, 0.9, 10, float("nan")])
def test_a_share_that_cannot_be_cut_is_one_line(share):
    labels = ["A", "B"] * 20
    for shares in [(share, 0.2), (0.2, share)]:
        with pytest.raises(InputError, match=f"_share is {share}"):
            splits.make_splits(["train"] * 40, labels, list(range(40)), *shares, {}, 1)


@pytest.mark.parametrize("limit", [-1, 0])
def test_a_limit_that_leaves_no_row_is_one_line(limit):
    with pytest.raises(InputError, match=f"val_limit is {limit}"):
        splits.make_splits(
            ["train"] * 40, ["A", "B"] * 20, list(range(40)), 0.2, 0.2, {"val": limit}, 1
        )


@pytest.mark.parametrize(
    ("given", "clusters", "says"),
    [
        ("train train test test", [0, 1, 0, 1], "all 2 rows of train .* rows of test"),
        (
            "train train train val test",
            [0, 1, 2, 3, 3],
            "all 1 rows of val .* take the file of val",
        ),
        (
            "train train val val test",
            [0, 1, 0, 1, 2],
            "all 2 rows of train .* take the file of val",
        ),
    ],
)
def test_a_split_that_another_has_whole_is_refused(given, clusters, says):
    given = given.split()
    labels = ["AB"[i % 2] for i in range(len(given))]
    with pytest.raises(InputError, match=says):
        splits.make_splits(given, labels, clusters, 0.1, 0.3, {}, 1, "train")


def test_rows_of_which_no_class_can_be_divided_are_too_few():
    with pytest.raises(InputError, match=r"too few to hold out.*; add rows to the classes"):
        splits.make_splits(["train"] * 5, list("ABCAC"), [0, 0, 0, 1, 2], 0.1, 0.3, {}, 1, "train")


def test_a_hundred_classes_of_two_rows_leave_none_for_val_and_the_message_says_what_helps():
    labels = [f"class {i}" for i in range(100)] * 2
    with pytest.raises(InputError, match=r"0 of 100 classes.*give files of val and test rows"):
        splits.make_splits(["train"] * 200, labels, list(range(200)), 0.1, 0.3, {}, 1)


@pytest.mark.parametrize("seed", range(3))
def test_a_large_cluster_of_copies_stays_in_training(seed):
    labels, clusters = ["AB"[i % 2] for i in range(500)], [0] * 200 + list(range(1, 301))
    drawn = splits.make_splits(["train"] * 500, labels, clusters, 0.1, 0.2, {}, seed)
    assert 0 in {clusters[i] for i in drawn["train"]}
    assert 50 <= len(drawn["test"]) <= 120 and 20 <= len(drawn["val"]) <= 60


def test_training_rows_of_a_single_class_are_refused():
    given = ["train"] * 6 + ["val"] * 4 + ["test"] * 4
    labels = ["a"] * 6 + ["a", "b"] * 4
    with pytest.raises(InputError, match="every training row is of the class 'a'"):
        splits.make_splits(given, labels, list(range(14)), 0.1, 0.3, {}, 1)
    labels[0] = "b"
    assert len(splits.make_splits(given, labels, list(range(14)), 0.1, 0.3, {}, 1)["train"]) == 6
