"""Classifiers without a tuned language model; they, too, may only answer with a row's options."""

import time
from collections import Counter

import numpy as np

from helpers import InputError
from helpers.hybrid import fit_linear, option_margins


def choose(rows: list[dict], scores: list) -> list[str]:
    """For each row, the option with the highest score; the first one where several are equal.

    Args:
        rows: with their options.
        scores: for each row, one number per option.
    """
    return [row["category"][int(np.argmax(values))] for row, values in zip(rows, scores)]


def choose_among(rows: list[dict], classes: list[str], values: np.ndarray) -> list[str]:
    """For each row, the option with the highest score; options that training never saw come last.

    Args:
        rows: with their options.
        classes: those that were learned.
        values: the scores, rows × classes.
    """
    places = {label: place for place, label in enumerate(classes)}
    scores = [
        [line[places[option]] if option in places else -np.inf for option in row["category"]]
        for row, line in zip(rows, values)
    ]
    return choose(rows, scores)


def svm_baseline(train: list[dict], test: list[dict]) -> list[str]:
    """Predictions of a linear SVM on the characters and character pairs of whole articles.

    Args:
        train: rows to learn from.
        test: rows to answer.
    """
    model = fit_linear([row["text"] for row in train], [row["output"] for row in train])
    return choose(test, option_margins(model, test))


def majority_baseline(train: list[dict], test: list[dict]) -> list[str]:
    """For each test row, the option that is most frequent among the training labels."""
    frequency = Counter(row["output"] for row in train)
    return [max(row["category"], key=lambda option: frequency[option]) for row in test]


def logistic_baseline(
    train_features: np.ndarray, labels: list[str], test_features: np.ndarray, rows: list[dict]
) -> tuple[list[str], float]:
    """Predictions of a logistic regression on a frozen model's features, and seconds of training.

    Args:
        train_features: training rows × features.
        labels: of the training rows.
        test_features: test rows × features.
        rows: the test rows. An option that training never saw is the answer only where no other is
            offered.

    Raises:
        InputError: when there is only one class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(set(labels)) < 2:
        raise InputError("a logistic regression needs rows of two classes at least")
    started = time.perf_counter()
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    regression.fit(train_features, labels)
    seconds = time.perf_counter() - started
    values = regression.predict_log_proba(test_features)
    return choose_among(rows, list(regression.classes_), values), seconds


def cross_validated(rows: list[dict], clusters: list[int]) -> list[bool]:
    """Whether the SVM is right about each row when it learns from the others.

    Rows for which nothing can be learned are left out: where all rows are one cluster, or where all
    the others have one label.

    Args:
        rows: with a label each.
        clusters: one per row; rows of one cluster are held out together, in five parts at most.
    """
    from sklearn.model_selection import GroupKFold

    right, parts = [], min(5, len(set(clusters)))
    for fit, held in GroupKFold(parts).split(rows, groups=clusters) if parts > 1 else ():
        others, fresh = ([rows[i] for i in side] for side in (fit, held))
        answers = svm_answers(others, fresh) or []
        right += [answer == row["output"] for answer, row in zip(answers, fresh)]
    return right


def svm_answers(train: list[dict], rows: list[dict]) -> list[str] | None:
    """Answers of a linear SVM that learns from some rows; None where these have only one label.

    Args:
        train: rows to learn from.
        rows: those to answer.
    """
    if len({row["output"] for row in train}) < 2:
        return None
    return svm_baseline(train, rows)
