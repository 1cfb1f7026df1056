"""Class-balanced training rows: all classes occur equally often, as rows of rare ones repeat."""

import random


def balanced_rows(rows: list[dict], seed: int) -> list[dict]:
    """As many rows as there are, drawn so that every class occurs equally often.

    A class with too few rows has them repeated, each of them once before any comes again; one with
    too many loses some. If the rows cannot be shared out evenly, some classes, chosen at random,
    get one row more.

    Args:
        rows: with a label each.
        seed: decides which rows stay, and their order.
    """
    chance, by_label = random.Random(seed), {}
    for row in rows:
        by_label.setdefault(row["output"], []).append(row)
    labels = sorted(by_label)
    share, left = divmod(len(rows), max(len(labels), 1))
    luckier, drawn = set(chance.sample(labels, left)), []
    for label in labels:
        own, wanted = by_label[label], share + (label in luckier)
        rounds, rest = divmod(wanted, len(own))
        drawn += own * rounds + chance.sample(own, rest)
    chance.shuffle(drawn)
    return drawn


def balance_note(rows: list[dict], drawn: list[dict]) -> str:
    """One sentence on what balancing did.

    Args:
        rows: those before balancing.
        drawn: see `balanced_rows`.
    """
    counts = {row["output"]: 0 for row in rows}
    for row in drawn:
        counts[row["output"]] += 1
    different = len({row["id"] for row in drawn})
    return (
        f"{len(counts)} classes with {min(counts.values())} to {max(counts.values())} rows each: "
        f"{different} of {len(rows)} rows are in, {len(drawn) - different} times one comes again"
    )
