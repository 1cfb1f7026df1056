"""Classifiers without a language model, to hold beside one: they too may only answer with an option
of the row.
"""

import time

import numpy as np


def svm_baseline(train: list[dict], test: list[dict]) -> tuple[list[str], float]:
    """Predictions for `test` of TF-IDF over characters 1–2 with a linear SVM, options respected,
    and seconds of training.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    started = time.perf_counter()
    pipeline = make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True), LinearSVC()
    )
    pipeline.fit([row["text"] for row in train], [row["output"] for row in train])
    seconds = time.perf_counter() - started
    classes = list(pipeline.classes_)
    margins = np.atleast_2d(pipeline.decision_function([row["text"] for row in test]))
    if len(classes) == 2:
        margins = np.stack([-margins.ravel(), margins.ravel()], 1)
    scores = [dict(zip(classes, line)) for line in margins]
    return [
        max(row["category"], key=lambda option: score.get(option, -np.inf))
        for row, score in zip(test, scores)
    ], seconds


def cross_validated(rows: list[dict], clusters: list[int]) -> list[bool]:
    """Whether the SVM is right about each row when it learns from the others: five parts at most,
    no cluster in two of them.

    Rows are left out that it could learn nothing for: everything is one cluster, or all the others
    have one label.
    """
    from sklearn.model_selection import GroupKFold

    right, parts = [], min(5, len(set(clusters)))
    for fit, held in GroupKFold(parts).split(rows, groups=clusters) if parts > 1 else ():
        learned, asked = ([rows[i] for i in side] for side in (fit, held))
        if len({row["output"] for row in learned}) > 1:
            guesses, _ = svm_baseline(learned, asked)
            right += [guess == row["output"] for guess, row in zip(guesses, asked)]
    return right


def majority_baseline(train: list[dict], test: list[dict]) -> list[str]:
    """For each test row, the option that is most frequent among the training labels."""
    labels = [row["output"] for row in train]
    return [max(row["category"], key=labels.count) for row in test]
