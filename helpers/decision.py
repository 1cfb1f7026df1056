"""Decide with a promise: what a stated probability is worth, learned on val, checked on test.

An answer goes out where its probability reaches a threshold; below it a person looks. The threshold
for a target error rests on a Clopper–Pearson bound. How many of the surest rows may be answered is
tested in a fixed order, from the fewest that could pass to all, and the testing stops at the first
count that fails: so the whole search errs no oftener than one test does (fixed-sequence testing:
Angelopoulos et al. 2021, Learn then test; for selective answers: Geifman and El-Yaniv 2017).
"""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import InputError, one_line
from helpers.files import write_json

DECISION = "decision.json"
TARGETS = (0.01, 0.02, 0.05, 0.10)
"""Error rates among answered rows for which thresholds are learned."""
SETS_LEVEL = 0.9
"""Share of rows whose prediction set shall hold the label."""
FOLDS = 5


def fit_temperature(logprobs: list, places: list[int]) -> float:
    """The temperature that makes stated probabilities mean what they say (Guo et al. 2017).

    Args:
        logprobs: for each row, nats of each of its options.
        places: for each row, the place of its label among its options.

    Returns:
        Between 0.05 and 20; 1 leaves probabilities as they are, and is what no row gives.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = [(np.asarray(v, float), p) for v, p in zip(logprobs, places) if len(v) > 1]
    if not rows:
        return 1.0

    def surprise(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        return -sum(log_softmax(values * scale)[place] for values, place in rows) / len(rows)

    return math.exp(minimize_scalar(surprise, bounds=(-3.0, 3.0), method="bounded").x)


def option_probabilities(logprobs: list, temperature: float = 1.0) -> list[np.ndarray]:
    """For each row the probabilities of its options.

    Args:
        logprobs: for each row, nats of each of its options.
        temperature: what nats are divided by first.
    """
    from scipy.special import softmax

    return [softmax(np.asarray(values, float) / temperature) for values in logprobs]


def cross_fitted(fit, apply, *columns: list, folds: int = FOLDS) -> list:
    """What a fitted rule says of each row when it was fitted on the others.

    Thresholds learned on rows that a rule was fitted on would promise too much.

    Args:
        fit: takes the columns of some rows, gives a rule.
        apply: takes a rule and the same columns but the last, gives one value a row.
        *columns: lists of one length; the last are the places of the labels.
        folds: parts; as many as there are rows at most.

    Returns:
        One value a row, in order.
    """
    n = len(columns[0])
    parts = np.arange(n) % max(2, min(folds, n))
    values: list = [None] * n
    for part in sorted(set(parts)):
        fitted, held = np.flatnonzero(parts != part), np.flatnonzero(parts == part)
        rule = fit(*([column[i] for i in fitted] for column in columns))
        given = apply(rule, *([column[i] for i in held] for column in columns[:-1]))
        for i, value in zip(held, given):
            values[i] = value
    return values


def error_bound(wrong: int, answered: int, level: float = 0.95) -> float:
    """Upper Clopper–Pearson bound of an error rate, one-sided.

    Args:
        wrong: errors.
        answered: rows.
        level: how often the bound holds.
    """
    from scipy.stats import beta

    return 1.0 if wrong >= answered else float(beta.ppf(level, wrong + 1, answered - wrong))


def least_rows(target: float, rate: float = 0.0, level: float = 0.95) -> int | None:
    """How many answered rows would bear a promise, if errors came at a rate.

    Args:
        target: the promised error.
        rate: share of errors among them.
        level: how often the promise holds.

    Returns:
        None where no number would, for errors are too many.
    """
    if rate >= target:
        return None
    low, high = 1, 1
    while error_bound(math.floor(rate * high), high, level) > target:
        low, high = high, 2 * high
        if high > 10_000_000:
            return None
    while low < high:
        middle = (low + high) // 2
        enough = error_bound(math.floor(rate * middle), middle, level) <= target
        low, high = (low, middle) if enough else (middle + 1, high)
    return high


def learn(
    probabilities: list, places: list[int], targets: tuple = TARGETS, level: float = 0.95
) -> dict:
    """Thresholds and prediction sets out of validation rows.

    Args:
        probabilities: for each row, of its options.
        places: for each row, the place of its label among its options.
        targets: error rates to promise among answered rows.
        level: how often a promise holds.

    Returns:
        "n"; "targets": by target as text a threshold (None where n is too small), the bound it
        rests on, the share of rows answered, and rows_needed (how many rows would bear the promise
        at the error that was seen; None where none would); "sets": level and threshold.
    """
    surest = np.array([float(np.max(p)) for p in probabilities])
    right = np.array([int(np.argmax(p)) == i for p, i in zip(probabilities, places)], bool)
    order = np.argsort(-surest, kind="stable")
    wrong = np.cumsum(~right[order]) if len(order) else np.array([], int)
    learned = {}
    for target in targets:
        best = None
        for count in range(least_rows(target, level=level), len(order) + 1):
            bound = error_bound(int(wrong[count - 1]), count, level)
            if bound > target:
                break
            if count == len(order) or surest[order[count]] < surest[order[count - 1]]:
                best = {"threshold": float(surest[order[count - 1]]), "bound": bound}
                best["share"] = count / len(order)
        rate = float(np.mean(~right)) if len(right) else 0.0
        needed = least_rows(target, rate, level) or least_rows(target, level=level)
        learned[f"{target:g}"] = (best or {"threshold": None, "bound": None, "share": 0.0}) | {
            "rows_needed": needed
        }
    return {
        "n": len(places),
        "level": level,
        "targets": learned,
        "sets": sets(probabilities, places),
    }


def sets(probabilities: list, places: list[int], level: float = SETS_LEVEL) -> dict:
    """The probability from which an option belongs to a row's prediction set (split conformal).

    Args:
        probabilities: for each row, of its options.
        places: for each row, the place of its label.
        level: share of rows whose set shall hold the label.

    Returns:
        "level" and "threshold"; 0, so that all options stay, where the rows are too few.
    """
    labels = sorted(float(p[i]) for p, i in zip(probabilities, places))
    allowed = math.floor((1 - level) * (len(labels) + 1))  # labels that may fall below
    return {"level": level, "threshold": labels[allowed - 1] if allowed >= 1 else 0.0}


def prediction_sets(probabilities: list, threshold: float) -> list[list[int]]:
    """For each row the places of the options that are left, the likeliest first.

    Args:
        probabilities: for each row, of its options.
        threshold: see `sets`; the likeliest option always stays.
    """
    found = []
    for values in probabilities:
        order = np.argsort(-np.asarray(values), kind="stable")
        left = [int(i) for i in order if values[i] >= threshold]
        found.append(left or [int(order[0])])
    return found


def judge(decision: dict, probabilities: list, places: list[int]) -> pd.DataFrame:
    """What promises learned on val come to on other rows.

    Args:
        decision: see `learn`.
        probabilities: for each row, of its options.
        places: for each row, the place of its label.

    Returns:
        A line a target: target, threshold, coverage (share answered), answered, wrong, error among
        answered rows with its 95 % Wilson interval (low, high), rows_needed. Error is NaN where
        nothing was answered.
    """
    from helpers.metrics import wilson

    surest = np.array([float(np.max(p)) for p in probabilities])
    right = np.array([int(np.argmax(p)) == i for p, i in zip(probabilities, places)], bool)
    lines = []
    for target, learned in decision["targets"].items():
        threshold = learned["threshold"]
        answered = surest >= threshold if threshold is not None else np.zeros(len(surest), bool)
        count, wrong = int(answered.sum()), int((~right & answered).sum())
        low, high = wilson(wrong, count)
        lines.append(
            {
                "target": float(target),
                "threshold": threshold,
                "coverage": count / max(len(surest), 1),
                "answered": count,
                "wrong": wrong,
                "error": wrong / count if count else float("nan"),
                "low": low,
                "high": high,
                "rows_needed": learned["rows_needed"],
            }
        )
    return pd.DataFrame(lines)


def judge_sets(decision: dict, probabilities: list, places: list[int]) -> dict:
    """How many prediction sets hold the label, and how large they are.

    Args:
        decision: see `learn`.
        probabilities: for each row, of its options.
        places: for each row, the place of its label.

    Returns:
        "level", "held" (share of rows), "size" (mean number of options left), "n".
    """
    left = prediction_sets(probabilities, decision["sets"]["threshold"])
    held = [place in options for place, options in zip(places, left)]
    return {
        "level": decision["sets"]["level"],
        "held": float(np.mean(held)) if held else float("nan"),
        "size": float(np.mean([len(options) for options in left])) if left else float("nan"),
        "n": len(places),
    }


def write_decision(adapter: Path, decision: dict) -> None:
    """Keep beside an adapter how its probabilities are to be read.

    Args:
        adapter: its folder; gets decision.json.
        decision: "model": {"temperature", …of `learn`}, "hybrid": {"weights", …} or None.
    """
    write_json(Path(adapter) / DECISION, decision)


def read_decision(adapter: Path) -> dict | None:
    """What `write_decision` left beside an adapter; None where chapter 05 has not been there.

    Args:
        adapter: its folder.

    Raises:
        InputError: when the file is damaged.
    """
    path = Path(adapter) / DECISION
    if not path.is_file():
        return None
    try:
        decision = json.loads(path.read_text(encoding="utf-8"))
        float(decision["model"]["temperature"])
        for part in filter(None, (decision["model"], decision["hybrid"])):
            float(part["sets"]["threshold"])
            for learned in part["targets"].values():
                if learned["threshold"] is not None:
                    float(learned["threshold"])
        if decision["hybrid"]:
            for name in ("logprob", "margin"):
                float(decision["hybrid"]["weights"][name])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not sound ({one_line(error)}); remove it, and chapter 05 writes it anew"
        ) from None
    return decision
