"""A corpus at a glance: its rows, copies, headers, classes, options and lengths, as tables."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset, concatenate_datasets, disable_progress_bars

from helpers import InputError, baselines, duplicates, files, headers, sources, templating
from helpers.splits import MORE_ROWS
from helpers.survival import part_lengths

disable_progress_bars()  # they would appear on the page for passes that take no time
BATCH = 500
"""Rows held in memory at once."""
COPIED = "rows that repeat an earlier one, exactly or nearly"
TORN = "clusters that a naive split would tear apart"


def sizes(splits: dict[str, Dataset]) -> pd.DataFrame:
    """How many rows each split has, and how many of them carry a label.

    Args:
        splits: rows by split, as `sources.read_source` returns them.

    Returns:
        One column for each split.
    """
    counts = {name: [len(rows), len(places(rows, True))] for name, rows in splits.items()}
    return pd.DataFrame(counts, index=["rows", "of them labelled"])


def places(rows: Dataset, labelled: bool) -> list[int]:
    """Places of the rows that have a label, or of those that have none.

    Args:
        rows: of one split.
        labelled: whether to return those that have a label.
    """
    return [i for i, label in enumerate(rows["output"]) if (label is not None) == labelled]


def without_headers(splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """The rows with recognised headers removed from their texts.

    Args:
        splits: rows by split.
    """

    def stripped(row: dict) -> dict:
        return {"text": headers.strip_header(row["text"])}

    return {name: rows.map(stripped, load_from_cache_file=False) for name, rows in splits.items()}


def labelled(splits: dict[str, Dataset]) -> tuple[Dataset, list[str]]:
    """The rows that have a label, one split after the other.

    Args:
        splits: rows by split.

    Returns:
        The rows, and for each of them the split that it came from.

    Raises:
        InputError: when no row has a label.
    """
    parts = {name: rows.select(places(rows, True)) for name, rows in splits.items()}
    if not any(map(len, parts.values())):
        raise InputError(
            "no row of this source has a label, so there is nothing to learn from; fill the column "
            "of labels, or map the one that holds them: `columns: {output: NAME}`"
        )
    return concatenate_datasets([*parts.values()]), [name for name in parts for _ in parts[name]]


def unlabelled(splits: dict[str, Dataset]) -> Dataset:
    """The rows that have no label.

    Args:
        splits: rows by split.
    """
    return concatenate_datasets([rows.select(places(rows, False)) for rows in splits.values()])


def without_classes(
    splits: dict[str, Dataset], classes: Collection[str], menu: Sequence[str]
) -> dict[str, Dataset]:
    """The rows of all classes but some, together with the rows without a label.

    Where a row is offered all labels, those of the left-out classes are removed from its options.

    Args:
        splits: rows by split.
        classes: those to leave out.
        menu: all labels; see `sources.Source`.

    Raises:
        InputError: when no row with a label remains.
    """
    if all({None, *classes}.issuperset(rows["output"]) for rows in splits.values()):
        raise InputError(
            f"rare_classes: drop would leave no row: all {len(classes)} classes are too rare to be "
            f"both learned and judged; {MORE_ROWS}"
        )
    remaining_labels = [label for label in menu if label not in classes]

    def offered(row: dict) -> dict:
        return {"category": remaining_labels if row["category"] == list(menu) else row["category"]}

    remaining = {
        name: rows.select([i for i, label in enumerate(rows["output"]) if label not in classes])
        for name, rows in splits.items()
    }
    return {name: rows.map(offered, load_from_cache_file=False) for name, rows in remaining.items()}


def texts(rows: Dataset) -> Iterator[str]:
    """The articles of rows, a few hundred in memory at once.

    Args:
        rows: any number.
    """
    return (text for batch in rows.iter(BATCH) for text in batch["text"])


def nearest_in_length(rows: Dataset, characters: int) -> dict:
    """The row whose article comes closest to a length; the first one where several are as close.

    Args:
        rows: at least one.
        characters: the length.
    """
    distances = [abs(len(text) - characters) for text in texts(rows)]
    return rows[int(np.argmin(distances))]


def copies(
    fingerprints: list[bytes], clusters: list[int], labels: list[str], torn: int
) -> dict[str, int]:
    """How many copies a corpus has, and how many of them disagree.

    Args:
        fingerprints: one per row; see `duplicates.digests`.
        clusters: one per row; see `duplicates.near_duplicate_clusters`.
        labels: one per row.
        torn: how many clusters a split row by row would tear apart; see `duplicates.straddling`.
    """
    disagreeing = duplicates.conflicting_copies
    return {
        "rows that repeat an earlier one exactly": len(fingerprints) - len(set(fingerprints)),
        COPIED: len(clusters) - len(set(clusters)),
        "groups of exact copies with different labels": disagreeing(fingerprints, labels),
        "clusters with different labels": disagreeing(clusters, labels),
        TORN: torn,
    }


def header_fields(row_headers: list[str], most: int = 8) -> pd.DataFrame:
    """The fields that occur in headers, the most frequent first.

    Args:
        row_headers: one per row, "" where there is none.
        most: how many fields to list.

    Returns:
        One column for each field, with the per cent of all rows that have it.
    """
    counts = Counter(
        field for header in row_headers for field in set(headers.header_fields(header))
    )
    by_count = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:most]
    shares = {field: 100 * n / len(row_headers) for field, n in by_count}
    return pd.DataFrame([shares or {"(no field)": 0.0}], index=["% of rows"]).round(1)


def header_alone(rows: Dataset, row_headers: list[str], clusters: list[int]) -> float | None:
    """The share of rows whose class a linear classifier tells from the header alone.

    Args:
        rows: with labels.
        row_headers: one per row, "" where there is none; rows without a header are left out.
        clusters: one per row; rows of one cluster are held out together.

    Returns:
        0 to 1, by cross-validation; None where too few have a header.
    """
    headed = [i for i, header in enumerate(row_headers) if header]
    only_headers = [{**rows[i], "text": row_headers[i]} for i in headed]
    right = baselines.cross_validated(only_headers, [clusters[i] for i in headed])
    return float(np.mean(right)) if right else None


def write_splits(
    folder: Path, rows: Dataset, drawn: dict[str, list[int]], without_label: Dataset
) -> None:
    """Write train.jsonl, val.jsonl and test.jsonl, and unlabelled.jsonl if there are such rows.

    Args:
        folder: of the run's data. An unlabelled.jsonl of an earlier source is removed.
        rows: with labels.
        drawn: places of each split's rows; see `splits.make_splits`.
        without_label: rows that nothing can be judged by.
    """
    for name, split_places in drawn.items():
        files.write_jsonl(folder / f"{name}.jsonl", rows.select(split_places))
    if len(without_label):
        files.write_jsonl(folder / "unlabelled.jsonl", without_label)
    else:
        (folder / "unlabelled.jsonl").unlink(missing_ok=True)


def class_counts(labels: list[str], drawn: dict[str, list[int]]) -> pd.DataFrame:
    """How many rows each class has in each split, the class with the most training rows first.

    Args:
        labels: one per row.
        drawn: places of each split's rows.

    Returns:
        One line for each class, one column for each split.
    """
    names = pd.Series(labels, dtype=object)
    counts = {name: names.iloc[split_places].value_counts() for name, split_places in drawn.items()}
    table = pd.DataFrame(counts).fillna(0).astype(int)
    return table.sort_values("train", ascending=False)


def unlearned(counts: pd.DataFrame) -> list[str]:
    """Classes that have rows to be judged by but none to learn from.

    An example is a class whose training rows are all copies of held-out ones.

    Args:
        counts: see `class_counts`.
    """
    return list(counts.index[(counts["train"] == 0) & (counts.sum(axis=1) > 0)])


def menu_table(menus: list[list[str]], labels: list[str], guessed: float) -> pd.DataFrame:
    """How many options rows offer, and where the label stands among them.

    Args:
        menus: the options of each row.
        labels: one per row. Rows with one option say nothing about places; there they are left out.
        guessed: the share that guessing gets right on the test rows, 0 to 1.
    """
    offered = [len(menu) for menu in menus]
    place = [
        menu.index(label) / (len(menu) - 1) for menu, label in zip(menus, labels) if len(menu) > 1
    ]
    place = pd.Series(place, dtype=float)  # its mean is NaN without a warning where it is empty
    facts = {
        "options a row, fewest": min(offered),
        "mean": np.mean(offered),
        "most": max(offered),
        "right by chance on test, %": 100 * guessed,
        "true option: mean place (0 first, 1 last)": place.mean(),
        "it is the first, %": 100 * place.eq(0).mean(),
        "it is the last, %": 100 * place.eq(1).mean(),
    }
    return pd.Series(facts, name="value", dtype=float).dropna().round(2).to_frame()


def measure(tokenizer, rows: Dataset, bos: bool) -> pd.DataFrame:
    """How many tokens each part of each row has under the `editor` template, with nothing cut.

    Args:
        tokenizer: a fast tokenizer of transformers.
        rows: with labels.
        bos: whether each row begins with `<bos>`.

    Returns:
        One line for each row; see `survival.part_lengths` for the columns.
    """
    batches = (sources.as_rows(batch) for batch in rows.iter(BATCH))
    parts = [part_lengths(tokenizer, templating.EDITOR, batch, bos) for batch in batches]
    return pd.concat(parts, ignore_index=True)


def length_table(lengths: pd.DataFrame) -> pd.DataFrame:
    """How the lengths of rows are distributed, one line for each tokenizer.

    Args:
        lengths: tokens of whole rows, one column for each tokenizer.
    """
    table = lengths.describe(percentiles=[0.5, 0.9, 0.99]).T
    return table.fillna(0).round(0).astype(int)  # a single row has no standard deviation


def lengths_by_class(labels: list[str], tokens: np.ndarray) -> pd.DataFrame:
    """How the lengths of rows are distributed, one line for each class, the longest median first.

    Args:
        labels: one per row.
        tokens: of whole rows.
    """
    by_class = pd.DataFrame({"class": labels, "tokens": tokens}).groupby("class")["tokens"]
    table = by_class.describe(percentiles=[0.5, 0.9])[["count", "50%", "90%", "max"]]
    return table.round(0).astype(int).sort_values("50%", ascending=False, kind="stable")


def longer(tokens: np.ndarray, limits: list[int]) -> dict[int, float]:
    """The share of rows that are longer than each limit.

    Args:
        tokens: of whole rows.
        limits: in tokens.

    Raises:
        InputError: when there is no limit.
    """
    if not limits:
        raise InputError("candidate_lengths is empty; give at least one limit, such as [256]")
    return {limit: float((tokens > limit).mean()) for limit in limits}


def summary(
    *,
    source: str | list[str],
    strip_header: bool,
    drawn: dict[str, list[int]],
    classes: int,
    copied: dict[str, int],
    read: sources.Source,
    headed: int,
    alone: float | None,
    guessed: float,
    lengths: pd.DataFrame,
    too_long: dict[int, float],
    survival: pd.DataFrame,
) -> dict:
    """The content of data/summary.json.

    Args:
        source: where the rows came from, or a description in its place.
        strip_header: whether recognised headers were removed from the articles.
        drawn: places of each split's rows.
        classes: how many there are.
        copied: see `copies`.
        read: what the source gave.
        headed: rows with a recognised header.
        alone: see `header_alone`.
        guessed: the share that guessing gets right on the test rows, 0 to 1.
        lengths: tokens of whole rows, one column for each tokenizer.
        too_long: see `longer`.
        survival: see `survival.survival`.
    """
    return {
        "source": source,
        "strip_header": strip_header,
        "rows": {name: len(split_places) for name, split_places in drawn.items()},
        "classes": classes,
        "copies": copied,
        "skipped": read.skipped,
        "padded": read.padded,
        "headers": headed,
        "header_alone": alone,
        "chance": float(guessed),
        "tokens": {
            name: {
                "median": int(tokens.median()),
                "p90": int(tokens.quantile(0.9)),
                "max": int(tokens.max()),
            }
            for name, tokens in lengths.items()
        },
        "longer": {str(limit): share for limit, share in too_long.items()},
        "survival": survival.to_dict("records"),
    }


def findings(facts: dict, model: str, labelled_rows: int) -> dict:
    """The numbers that the sentences of chapter 1 quote, by name.

    Args:
        facts: see `summary`.
        model: the tokenizer whose counts are quoted.
        labelled_rows: how many all splits have, before any limit.
    """
    first_limit, first_longer = next(iter(facts["longer"].items()))
    alone, tokens = facts["header_alone"], facts["tokens"][model]
    at_384 = {line["way"]: line for line in facts["survival"] if line["max_length"] == 384}
    return {
        **{f"rows_{name}": count for name, count in facts["rows"].items()},
        "classes": facts["classes"],
        "copies": facts["copies"][COPIED],
        "torn": facts["copies"][TORN],
        "median_tokens": tokens["median"],
        "max_tokens": tokens["max"],
        "first_limit": int(first_limit),
        "first_longer": 100 * first_longer,
        "chance": 100 * facts["chance"],
        "headed": 100 * facts["headers"] / labelled_rows,
        "header_alone": 100 * (alone or 0.0),
        "header_tells": header_sentence(alone),
        "mistake": 100 * at_384["right"]["answer"],
        "mended": 100 * at_384["body only"]["all"],
    }


def header_sentence(alone: float | None) -> str:
    """What the header alone tells, in words.

    Args:
        alone: see `header_alone`.
    """
    if alone is None:
        return "there are too few of them to learn from"
    return f"the header alone tells the class of {100 * alone:.1f} % of those rows"
