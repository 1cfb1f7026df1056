"""Splits: who learns, who is chosen by, who is judged by; near copies always on one side."""

import random
import warnings

from helpers import InputError

SPLITS = ("train", "val", "test")


def hold_out(
    rows: list[int], labels: list[str], clusters: list[int], share: float, seed: int
) -> tuple[list[int], list[int]]:
    """`rows` (indices) in two: about 1 - `share` and `share` of them, stratified by label, no
    cluster on both sides.

    Where no class has enough rows for so small a share, the second part is as small as it can be.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    ours, groups = [labels[i] for i in rows], [clusters[i] for i in rows]
    counts = [ours.count(label) for label in set(ours)]
    folds = max(2, min(round(1 / share), max(counts, default=0)))
    if len(set(groups)) < folds or len(counts) < 2 or min(counts) < 2:
        raise InputError(
            f"{len(rows)} rows are too few to hold out {share:.0%} of them; two classes and two rows a class are the least"
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # a class rarer than the folds is absent from some: no harm here
        kept, held = next(splitter.split(rows, ours, groups))
    return [rows[i] for i in kept], [rows[i] for i in held]


def make_splits(
    given: list[str],
    labels: list[str],
    clusters: list[int],
    val_share: float,
    test_share: float,
    limits: dict[str, int | None],
    seed: int,
) -> dict[str, list[int]]:
    """Indices of the train, val and test rows among labelled rows.

    given: the source's split of each row; a test or val split of the source stays, what is missing
    is cut from its training rows. A row in a cluster with a held-out row never stays in train.
    limits: the most rows to keep of each split (None: all), drawn with `seed`.
    """
    sides = {split: [i for i, name in enumerate(given) if name == split] for split in SPLITS}
    if not sides["train"]:
        raise InputError("the training split has no labelled row")
    for split, share in (("test", test_share), ("val", val_share)):
        if not sides[split]:
            sides["train"], sides[split] = hold_out(sides["train"], labels, clusters, share, seed)
        held = {clusters[i] for i in sides[split]}
        for other in ("train", "val") if split == "test" else ("train",):
            sides[other] = [i for i in sides[other] if clusters[i] not in held]
    drawn = {}
    for split in SPLITS:
        rows = sides[split]
        random.Random(seed).shuffle(rows)
        drawn[split] = rows[: limits.get(split)]
    return drawn
