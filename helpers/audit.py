"""Which labels may be wrong: confident learning on out-of-sample probabilities.

The published rule (Northcutt, Jiang and Chuang 2021): a class's threshold is the mean probability
that its own rows give it, and a row is a suspect when the likeliest of the classes whose thresholds
it reaches is not its label. We ask for more: that class must also be likelier than the label.
Suspects are ranked by self-confidence, the probability of their own label, the least believed
first.
"""

import numpy as np
import pandas as pd

from helpers.decision import fit_temperature, option_probabilities
from helpers.hybrid import fit_linear, option_margins

FOLDS = 5


def out_of_sample(rows: list[dict], clusters: list[int]) -> list[np.ndarray | None]:
    """The probabilities of each row's options, by a linear classifier that never saw the row.

    Args:
        rows: with a label each.
        clusters: one per row; near copies share one and are held out together.

    Returns:
        One array per row, or None where nothing could be learned for a row, as where its class
        occurs only in the fold that is held out.
    """
    from sklearn.model_selection import GroupKFold

    margins: list[np.ndarray | None] = [None] * len(rows)
    parts = min(FOLDS, len(set(clusters)))
    for fit, held in GroupKFold(parts).split(rows, groups=clusters) if parts > 1 else ():
        labels = [rows[i]["output"] for i in fit]
        known_labels = set(labels)
        if len(known_labels) > 1:
            # the margin of a class that was not learned is below all others and would come first
            held = [i for i in held if rows[i]["output"] in known_labels]
            model = fit_linear([rows[i]["text"] for i in fit], labels)
            for i, values in zip(held, option_margins(model, [rows[i] for i in held])):
                margins[i] = values
    known = [i for i, values in enumerate(margins) if values is not None]
    known_margins = [margins[i] for i in known]
    places = [rows[i]["category"].index(rows[i]["output"]) for i in known]
    temperature = fit_temperature(known_margins, places)
    probabilities: list[np.ndarray | None] = [None] * len(rows)
    for i, values in zip(known, option_probabilities(known_margins, temperature)):
        probabilities[i] = values
    return probabilities


def suspects(
    rows: list[dict], clusters: list[int], probabilities: list | None = None
) -> pd.DataFrame:
    """Rows whose label may be wrong, the least believed label first.

    Args:
        rows: with a label each.
        clusters: see `out_of_sample`.
        probabilities: of each row's options, from a classifier that never saw the row; by default
            those of `out_of_sample`.

    Returns:
        Columns id, source_id, label, suggested, self_confidence (probability of the label) and
        margin (of the suggestion over it).
    """
    if probabilities is None:
        probabilities = out_of_sample(rows, clusters)
    own: dict[str, list[float]] = {}
    for row, values in zip(rows, probabilities):
        if values is not None and len(values) > 1:  # one option says nothing about others
            share = float(values[row["category"].index(row["output"])])
            own.setdefault(row["output"], []).append(share)
    thresholds = {label: float(np.mean(shares)) for label, shares in own.items()}
    lines = []
    for row, values in zip(rows, probabilities):
        if values is None:
            continue
        share = float(values[row["category"].index(row["output"])])
        confident = [
            (float(value), option)
            for value, option in zip(values, row["category"])
            if value >= thresholds.get(option, np.inf) and value > share
        ]
        if confident:
            likeliest, option = max(confident)
            line = {"id": row["id"], "source_id": row.get("source_id"), "label": row["output"]}
            line |= {"suggested": option, "self_confidence": share, "margin": likeliest - share}
            lines.append(line)
    columns = ["id", "source_id", "label", "suggested", "self_confidence", "margin"]
    frame = pd.DataFrame(lines, columns=columns)
    return frame.sort_values("self_confidence", kind="stable").reset_index(drop=True)
