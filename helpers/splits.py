"""Splits: rows to learn from, to choose by and to judge by; near copies are always on one side."""

import random
import warnings
from collections import Counter, defaultdict
from itertools import chain

from helpers import InputError
from helpers.parameters import refuse_out_of_range
from helpers.rows import shown

SPLITS = ("train", "val", "test")
MORE_ROWS = "add rows to the classes, or give files of val and test rows beside train"
"""The remedy where too few rows can be divided."""


def groups_of(rows: list[int], labels: list[str], clusters: list[int]) -> dict[str, set[int]]:
    """The clusters of each class.

    Args:
        rows: places in `labels` and `clusters`.
        labels: of all rows.
        clusters: numbers of near copies, of all rows.
    """
    groups = defaultdict(set)
    for i in rows:
        groups[labels[i]].add(clusters[i])
    return groups


def find_rare(given: list[str], labels: list[str], clusters: list[int]) -> dict[str, int]:
    """Classes that cannot be both learned and judged, with their number of training rows.

    Where a split must be cut from the training rows, these are the classes with a single training
    row, or with rows that are all near copies of one another, unless a row of the class is already
    held out.

    Args:
        given: the source's split of each row.
        labels: of each row.
        clusters: numbers of near copies, of each row.
    """
    if {"val", "test"} <= set(given):
        return {}
    held = {label for split, label in zip(given, labels) if split != "train"}
    train = [i for i, split in enumerate(given) if split == "train"]
    counts = Counter(labels[i] for i in train)
    return {
        label: counts[label]
        for label, groups in sorted(groups_of(train, labels, clusters).items())
        if len(groups) == 1 and label not in held
    }


def fold_counts(share: float) -> tuple[int, int]:
    """How many folds to take, and of how many, so that they hold about a given share of the rows.

    A single fold is taken where it comes within an eighth of the share, otherwise several.

    Args:
        share: above 0 and at most 0.5.
    """
    single = round(1 / share)
    several = ((round(share * folds), folds) for folds in range(2, single + 10))
    tried = chain([(1, single)], several)  # one of many folds always meets a small share
    return next((k, n) for k, n in tried if k and abs(k / n / share - 1) < 1 / 8)


def hold_out(
    rows: list[int],
    labels: list[str],
    clusters: list[int],
    share: float,
    seed: int,
    classes: int = 2,
) -> tuple[list[int], list[int]]:
    """Rows in two parts: those that stay, and about a given share of them that is held out.

    Classes have about the same shares in both parts, and no cluster is in both. A class that is a
    single cluster stays whole. Where no class has enough rows for so small a share, the part held
    out is as small as it can be.

    Args:
        rows: places in `labels` and `clusters`.
        labels: of all rows.
        clusters: numbers of near copies, of all rows.
        share: the part of the rows to hold out.
        seed: decides which rows.
        classes: how many classes at least must have more than one cluster.

    Raises:
        InputError: when too few rows can be divided.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = groups_of(rows, labels, clusters)
    single = set().union(*(group for group in groups.values() if len(group) == 1))
    free = [i for i in rows if clusters[i] not in single]
    ours, theirs = [labels[i] for i in free], [clusters[i] for i in free]
    counts = Counter(ours)
    taken, wanted = fold_counts(share)
    folds = max(2, min(wanted, max(counts.values(), default=0)))
    taken = taken if folds == wanted else 1
    if len(set(theirs)) < folds or len(counts) < classes or max(counts.values()) < folds:
        whole = [shown(label) for label in groups if label not in counts]
        named = f" (not {', '.join(whole[:5])}{' …' * (len(whole) > 5)})" if whole else ""
        raise InputError(
            f"{len(rows)} rows in {len(set().union(*groups.values()))} groups of near copies are "
            f"too few to hold out {share:.0%} of them: two classes of two groups are the least; "
            f"{len(counts)} of {len(groups)} classes can be divided{named}; {MORE_ROWS}"
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # a class with fewer rows than folds is absent from some, which does no harm here
        warnings.simplefilter("ignore", UserWarning)
        parts = [part for _, part in splitter.split(free, ours, theirs)]
    aim = share * len(free)
    if sum(map(len, parts[:taken])) > 1.5 * aim:  # a large cluster of copies lies in one of them
        parts.sort(key=lambda part: abs(len(part) - aim / taken))
    places = sorted(int(place) for part in parts[:taken] for place in part)
    held = {clusters[free[place]] for place in places}
    for label, group in groups.items():
        if group <= held:  # no row would be left to learn the class from
            held -= {min(clusters[i] for i in rows if labels[i] == label)}
    if not held:
        raise InputError(
            f"{len(rows)} rows are too few to hold out {share:.0%} of them; {MORE_ROWS}"
        )
    stay = [i for i in rows if clusters[i] not in held]
    return stay, [free[place] for place in places if clusters[free[place]] in held]


def make_splits(
    given: list[str],
    labels: list[str],
    clusters: list[int],
    val_share: float,
    test_share: float,
    limits: dict[str, int | None],
    seed: int,
    rare_classes: str = "error",
) -> dict[str, list[int]]:
    """Places of the train, val and test rows among labelled rows.

    A test or val split of the source is kept; one that is missing is cut from its training rows. A
    row in a cluster with a held-out row never stays in train.

    Args:
        given: the source's split of each row.
        labels: of each row.
        clusters: numbers of near copies, of each row.
        val_share: the part of the training rows that is held out for choices.
        test_share: the part of the training rows that is held out for judging.
        limits: the most rows of each split, drawn with `seed`; None for all.
        seed: decides the splits.
        rare_classes: what happens to the classes of `find_rare`: "error" names them, "train" keeps
            them in training alone, "drop" leaves their rows out.

    Raises:
        InputError: for a rare class, too few rows, a split that only repeats another's rows, or
            training rows of a single class.
    """
    given_values = {"val_share": val_share, "test_share": test_share, "rare_classes": rare_classes}
    given_values |= {f"{split}_limit": limit for split, limit in limits.items()}
    for name, value in given_values.items():
        refuse_out_of_range(name, value)
    rare = find_rare(given, labels, clusters)
    if rare and rare_classes == "error":
        frequent = {label for label in labels if label not in rare}
        raise InputError(rare_message(rare, remedies=len(frequent) > 1))
    sides = {
        split: [
            i
            for i, name in enumerate(given)
            if name == split and not (rare_classes == "drop" and labels[i] in rare)
        ]
        for split in SPLITS
    }
    if not sides["train"]:
        raise InputError("the training split has no labelled row")
    for split, share in (("test", test_share), ("val", val_share)):
        if not sides[split]:
            # a class of two rows gives one to test, and then has none to give to val
            classes = 1 if len({labels[i] for i in sides["test"]}) > 1 else 2
            sides["train"], sides[split] = hold_out(
                sides["train"], labels, clusters, share, seed, classes
            )
        held = {clusters[i] for i in sides[split]}
        for other in ("train", "val") if split == "test" else ("train",):
            left = [i for i in sides[other] if clusters[i] not in held]
            if sides[other] and not left:
                raise InputError(
                    f"all {len(sides[other])} rows of {other} are copies or near copies of rows "
                    f"of {split}, and no row may stand in both: give {other} rows of its own, or "
                    f"take the file of {split if other == 'train' else other} away, and one is cut "
                    "from the training rows"
                )
            sides[other] = left
    if len(only := {labels[i] for i in sides["train"]}) == 1:
        raise InputError(
            f"every training row is of the class {only.pop()!r}, from which nothing can be "
            "learned; add rows of other classes to the training split"
        )
    drawn = {}
    for split in SPLITS:
        rows = sides[split]
        random.Random(seed).shuffle(rows)
        drawn[split] = rows[: limits.get(split)]
    return drawn


def rare_message(rare: dict[str, int], remedies: bool) -> str:
    """A message that names rare classes and says what to do about them, in one line.

    Args:
        rare: see `find_rare`.
        remedies: whether at least two other classes are left, so that the book can do without the
            rare ones.
    """
    names = ", ".join(
        f"{label!r} ({count} row{'s, near copies' if count > 1 else ''})"
        for label, count in list(rare.items())[:5]
    )
    more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
    fault = f"too rare to be both learned and judged: {names}{more}"
    if not remedies:
        return f"{fault}, and without them no two classes are left; {MORE_ROWS}"
    return (
        f"{fault}; add rows, or set rare_classes to "
        "'train' (kept in training alone) or 'drop' (left out), as in `rare_classes: train` below "
        "`data:` in a profile, `rare_classes = 'train'` in the parameters cell, "
        "`-p rare_classes train` for papermill"
    )
