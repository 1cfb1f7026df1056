"""What predictions are worth: shares with intervals, tests between settings, confidence. Every
statistic is a library's.
"""

import numpy as np
import pandas as pd


def accuracy(correct) -> dict:
    """Share of true values with its 95 % Wilson interval: {"accuracy", "ci95": [low, high],
    "n"}.
    """
    from statsmodels.stats.proportion import proportion_confint

    correct = np.asarray(correct, dtype=bool)
    low, high = proportion_confint(int(correct.sum()), len(correct), method="wilson")
    return {"accuracy": float(correct.mean()), "ci95": [float(low), float(high)], "n": len(correct)}


def correct(predictions: list[dict], mode: str) -> np.ndarray:
    """Which rows `mode` (see MODES) got right."""
    return np.array([line[mode]["prediction"] == line["label"] for line in predictions])


def summary(predictions: list[dict], modes: tuple[str, ...]) -> dict:
    """What one model's predictions amount to: by mode `accuracy` and "macro_f1"; "seconds_a_row".

    "generate" has also "valid", the share of answers that are an option at all.
    """
    labels = [line["label"] for line in predictions]
    found = {}
    for mode in modes:
        guesses = [line[mode]["prediction"] for line in predictions]
        found[mode] = accuracy(correct(predictions, mode)) | {"macro_f1": macro_f1(labels, guesses)}
    if "generate" in modes:
        found["generate"]["valid"] = float(
            np.mean([line["generate"]["prediction"] is not None for line in predictions])
        )
    return found | {"seconds_a_row": float(np.mean([line["seconds"] for line in predictions]))}


def mcnemar_p(first, second) -> float:
    """Exact two-sided McNemar p for two settings judged on the same rows (arrays of
    right/wrong).
    """
    from statsmodels.stats.contingency_tables import mcnemar

    first, second = np.asarray(first, bool), np.asarray(second, bool)
    table = [[int((a & b).sum()) for b in (second, ~second)] for a in (first, ~first)]
    return float(mcnemar(table, exact=True).pvalue)


def macro_f1(labels: list[str], predictions: list[str | None]) -> float:
    """Mean over the classes of F1; an answer that is no class counts against its class only."""
    from sklearn.metrics import f1_score

    guesses = [guess or "(none)" for guess in predictions]
    return float(
        f1_score(labels, guesses, labels=sorted(set(labels)), average="macro", zero_division=0)
    )


def macro_f1_gain(
    labels: list[str], first: list[str | None], second: list[str | None], clusters: list, seed: int
) -> dict:
    """How much macro-F1 `second` has over `first` on the same rows: {"gain", "ci95"}, percentile
    bootstrap over 999 resamples.

    clusters: rows with the same value (near duplicates) are drawn together.
    """
    from scipy.stats import bootstrap

    members = [
        np.flatnonzero(np.asarray(clusters) == cluster) for cluster in dict.fromkeys(clusters)
    ]
    labels, first, second = (np.array(values, dtype=object) for values in (labels, first, second))

    def gain(drawn):
        rows = np.concatenate([members[int(i)] for i in drawn])
        return macro_f1(labels[rows], second[rows]) - macro_f1(labels[rows], first[rows])

    interval = bootstrap(
        (np.arange(len(members)),),
        gain,
        n_resamples=999,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return {
        "gain": gain(np.arange(len(members))),
        "ci95": [float(interval.low), float(interval.high)],
    }


def confidence(predictions: list[dict], mode: str = "score") -> pd.DataFrame:
    """How sure each answer is: columns probability (softmax over the row's options) and right, in
    the order of the rows.
    """
    from scipy.special import softmax

    sure = [float(softmax(line[mode]["logprobs"]).max()) for line in predictions]
    return pd.DataFrame({"probability": sure, "right": correct(predictions, mode)})


def reliability(frame: pd.DataFrame, bins: int = 10) -> tuple[pd.DataFrame, float]:
    """Mean probability and share right in bins of equal width (columns probability, right, rows),
    and the expected calibration error.

    frame: see `confidence`. The error is the mean over rows of the distance between a bin's two
    values (Naeini et al. 2015).
    """
    binned = frame.groupby(
        pd.cut(frame["probability"], np.linspace(0, 1, bins + 1), include_lowest=True),
        observed=True,
    )
    table = binned.agg(
        probability=("probability", "mean"), right=("right", "mean"), rows=("right", "size")
    ).reset_index(drop=True)
    return table, float(
        np.average((table["probability"] - table["right"]).abs(), weights=table["rows"])
    )


def coverage(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy when only the surest rows are answered: columns coverage (share answered) and
    accuracy, both 0 to 1.
    """
    ordered = frame.sort_values("probability", ascending=False, kind="stable")["right"]
    answered = np.arange(1, len(ordered) + 1)
    return pd.DataFrame(
        {"coverage": answered / len(ordered), "accuracy": ordered.cumsum().to_numpy() / answered}
    )
