"""The figures that chapter 5 keeps in eval/metrics.json, as plain values for JSON."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.files import DAMAGE, read_json


def records(frame: pd.DataFrame) -> list[dict]:
    """A table's lines as plain numbers and words for JSON; what is missing is None."""
    return json.loads(frame.to_json(orient="records", double_precision=10))


def thin(cascade: pd.DataFrame, points: int = 50) -> list[list[float]]:
    """A cascade's curve as at most `points` pairs of share asked and accuracy, its ends included.

    Args:
        cascade: columns asked and accuracy; see hybrid.cascade.
        points: most pairs.
    """
    ordered = cascade.sort_values("asked", kind="stable")[["asked", "accuracy"]]
    places = np.unique(np.linspace(0, len(ordered) - 1, points).round().astype(int))
    return [[float(value) for value in line] for line in ordered.to_numpy()[places]]


def settled(results: dict, path: Path) -> dict:
    """The figures to write: those in the file if only the baselines' seconds have changed.

    So a chapter that runs again by hand does not make anything out of date that depends on them.

    Args:
        results: see `metrics.score_shares`.
        path: the file that they are written to, and that may hold earlier ones.
    """

    def untimed(figures: dict) -> str:
        baselines = {
            name: {key: value for key, value in summary.items() if key != "seconds"}
            for name, summary in figures["baselines"].items()
        }
        return json.dumps(figures | {"baselines": baselines}, sort_keys=True)

    try:
        before = read_json(path)
        return before if untimed(before) == untimed(results) else results
    except DAMAGE:  # or there is none
        return results
