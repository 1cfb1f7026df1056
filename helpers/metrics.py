"""What predictions are worth: shares with intervals, tests between settings, confidence.

Every statistic is a library's.
"""

import numpy as np
import pandas as pd

NONE = " "
"""Stands for an answer that is none: no class can be called so, for white space is taken off."""


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share; it always holds the share itself.

    Rounding can put a bound a hair beyond the share: it is clipped here, where it is computed.

    Args:
        right: how many of them.
        n: rows; of none the interval is (0, 1).
    """
    from statsmodels.stats.proportion import proportion_confint

    if not n:
        return 0.0, 1.0
    low, high = proportion_confint(right, n, method="wilson")
    return min(max(float(low), 0.0), right / n), max(min(float(high), 1.0), right / n)


def accuracy(correct) -> dict:
    """A share of true values with its interval.

    Args:
        correct: true or false, one a row.

    Returns:
        "accuracy", "ci95" (low and high, see `wilson`) and "n".
    """
    correct = np.asarray(correct, dtype=bool)
    low, high = wilson(int(correct.sum()), len(correct))
    share = float(correct.mean()) if len(correct) else 0.0
    return {"accuracy": share, "ci95": [low, high], "n": len(correct)}


def correct(predictions: list[dict], mode: str) -> np.ndarray:
    """Which rows a mode (see scoring.MODES) got right."""
    return np.array([line[mode]["prediction"] == line["label"] for line in predictions], bool)


def answer_summary(labels: list[str], answers: list[str | None]) -> dict:
    """What one list of answers amounts to: the figures that every model and baseline gets.

    Args:
        labels: of the rows.
        answers: to the rows, None where there is none.

    Returns:
        What `accuracy` gives, and "macro_f1".
    """
    share = accuracy([answer == label for answer, label in zip(answers, labels)])
    return share | {"macro_f1": macro_f1(labels, answers)}


def summary(predictions: list[dict], modes: tuple[str, ...]) -> dict:
    """What one model's predictions amount to.

    Args:
        predictions: see scoring.predict.
        modes: of scoring.MODES.

    Returns:
        By mode what `answer_summary` gives, for generate also "valid", the share of answers that
        are an option at all; and "seconds_a_row". Without rows all of them are 0.
    """
    labels = [line["label"] for line in predictions]
    result = {}
    for mode in modes:
        result[mode] = answer_summary(labels, [line[mode]["prediction"] for line in predictions])
    if "generate" in modes:
        valid = [line["generate"]["prediction"] is not None for line in predictions]
        result["generate"]["valid"] = sum(valid) / max(len(valid), 1)
    seconds = sum(line["seconds"] for line in predictions)
    return result | {"seconds_a_row": seconds / max(len(predictions), 1)}


def mcnemar_p(first, second) -> float:
    """Exact two-sided p of McNemar's test for two settings judged on the same rows.

    Args:
        first: right or wrong, one a row.
        second: the same of the other.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    first, second = np.asarray(first, bool), np.asarray(second, bool)
    table = [[int((a & b).sum()) for b in (second, ~second)] for a in (first, ~first)]
    return float(mcnemar(table, exact=True).pvalue)


def macro_f1(labels: list[str], predictions: list[str | None]) -> float:
    """Mean over the classes of F1; an answer that is no class counts against its class only.

    Args:
        labels: of the rows; those that occur are the classes. Of no row the mean is 0.
        predictions: answers to them, None where there is none.
    """
    from sklearn.metrics import f1_score

    if not labels:
        return 0.0
    guesses = [guess or NONE for guess in predictions]
    return float(
        f1_score(labels, guesses, labels=sorted(set(labels)), average="macro", zero_division=0)
    )


def macro_f1_gain(
    labels: list[str],
    first: list[str | None],
    second: list[str | None],
    clusters: list,
    seed: int = 0,
) -> dict:
    """How much macro-F1 one list of answers has over another on the same rows.

    Args:
        labels: of the rows.
        first: answers to hold against.
        second: answers that may be better.
        clusters: rows with the same value (near duplicates) are drawn together.
        seed: of the resampling.

    Returns:
        "gain" and "ci95", percentile bootstrap over 999 resamples; of a single cluster, which can
        only be drawn whole, the widest interval there is.
    """
    from scipy.stats import bootstrap

    whole = macro_f1(labels, second) - macro_f1(labels, first)
    members = [np.flatnonzero(np.asarray(clusters) == c) for c in dict.fromkeys(clusters)]
    if len(members) < 2:
        return {"gain": whole, "ci95": [-1.0, 1.0]}
    places = {name: i for i, name in enumerate(sorted(set(labels)))}
    truth, before, after = (
        np.array([places.get(name, len(places)) for name in names])
        for names in (labels, first, second)
    )

    def gain(drawn):
        rows = np.concatenate([members[int(i)] for i in drawn])
        return mean_f1(truth[rows], after[rows]) - mean_f1(truth[rows], before[rows])

    interval = bootstrap(
        (np.arange(len(members)),),
        gain,
        n_resamples=999,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return {"gain": whole, "ci95": [float(interval.low), float(interval.high)]}


def mean_f1(truth: np.ndarray, answers: np.ndarray) -> float:
    """`macro_f1` of classes given as small numbers, 100 times as fast: it is computed 1,998 times.

    Args:
        truth: class of each row.
        answers: class answered; a number that no class has for none.
    """
    size = max(truth.max(), answers.max()) + 1
    hits = np.bincount(truth[truth == answers], minlength=size)
    actual, given = (np.bincount(values, minlength=size) for values in (truth, answers))
    present = actual > 0
    return float((2 * hits[present] / (actual + given)[present]).mean())


def confidence(predictions: list[dict]) -> pd.DataFrame:
    """How sure each answer by `score` is, in the order of the rows.

    Args:
        predictions: see scoring.predict.

    Returns:
        Columns probability (softmax over the row's options) and right.
    """
    from scipy.special import softmax

    sure = [float(softmax(line["score"]["logprobs"]).max()) for line in predictions]
    return pd.DataFrame({"probability": sure, "right": correct(predictions, "score")})


def reliability(frame: pd.DataFrame, bins: int = 10) -> tuple[pd.DataFrame, float]:
    """Mean probability and share right in bins, and the expected calibration error.

    Args:
        frame: see `confidence`.
        bins: of equal width.

    Returns:
        Columns probability, right, rows; and the mean over rows of the distance between a bin's
        first two values (Naeini et al. 2015), 0 of no row.
    """
    edges = np.linspace(0, 1, bins + 1)
    held = pd.cut(frame["probability"].clip(0, 1), edges, include_lowest=True)
    binned = frame.groupby(held, observed=True)
    table = binned.agg(
        probability=("probability", "mean"), right=("right", "mean"), rows=("right", "size")
    ).reset_index(drop=True)
    distance = (table["probability"] - table["right"]).abs()
    return table, float((distance * table["rows"]).sum()) / max(len(frame), 1)


def coverage(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy when only the surest rows are answered.

    Args:
        frame: see `confidence`.

    Returns:
        Columns coverage (share answered) and accuracy, a line for every number of rows.
    """
    ordered = frame.sort_values("probability", ascending=False, kind="stable")["right"]
    answered = np.arange(1, len(ordered) + 1)
    return pd.DataFrame(
        {"coverage": answered / len(ordered), "accuracy": ordered.cumsum().to_numpy() / answered}
    )


def surest(covered: pd.DataFrame, share: float) -> float:
    """Accuracy among the surest rows.

    Args:
        covered: see `coverage`.
        share: of the rows, 0 to 1; the nearest number of rows is taken.
    """
    return float(covered.loc[(covered["coverage"] - share).abs().idxmin(), "accuracy"])


def score_shares(results: dict) -> dict[str, dict]:
    """The accuracy of everyone that was compared, by `score`; a hybrid is called "name + svm".

    Args:
        results: "models", "heads", "hybrid" and "baselines", as in eval/metrics.json; "heads" and
            "hybrid" may be missing.

    Returns:
        What `accuracy` gives, and more, by name.
    """
    shares = {name: by_mode["score"] for name, by_mode in results["models"].items()}
    shares |= results.get("heads", {})
    shares |= {f"{name} + svm": value for name, value in results.get("hybrid", {}).items()}
    return shares | results["baselines"]
