"""The classifiers without a language model, on texts whose class is obvious."""

import numpy as np
import pytest

from helpers import InputError, baselines


def row(text, label):
    return {"text": text, "category": ["Art", "Law"], "output": label}


def test_baselines_respect_the_options():
    train = [
        {"text": "足球 比赛 进球", "output": "Sports"},
        {"text": "法院 判决 诉讼", "output": "Law"},
        {"text": "油画 展览 画家", "output": "Art"},
    ] * 4
    test = [
        {"text": "足球 进球", "category": ["Law", "Art"]},
        {"text": "法院 诉讼", "category": ["Law", "Sports"]},
    ]
    guesses = baselines.svm_baseline(train, test)
    assert guesses[1] == "Law" and guesses[0] in ("Law", "Art")
    assert baselines.majority_baseline(train + train[:1], test)[1] == "Sports"


def test_cross_validation_never_learns_from_a_copy():
    """Every text occurs twice and shares nothing with the others, so only its copy could tell its
    label.
    """
    pairs = [
        ("甲乙丙丁", "Art"),
        ("戊己庚辛", "Law"),
        ("壬癸子丑", "Art"),
        ("寅卯辰巳", "Law"),
        ("午未申酉", "Art"),
        ("戌亥天地", "Law"),
    ]
    rows, clusters = (
        [row(*pair) for pair in pairs for _ in range(2)],
        [i for i in range(len(pairs)) for _ in range(2)],
    )
    copies_apart = [place % 2 for place in range(len(rows))]
    assert all(baselines.cross_validated(rows, copies_apart))
    assert sum(baselines.cross_validated(rows, clusters)) < len(rows) * 0.75
    assert baselines.cross_validated(rows, [0] * len(rows)) == []


def test_a_regression_on_features_answers_with_options():
    rng = np.random.default_rng(0)
    labels = ["Art", "Law", "Sports"] * 20
    places = np.arange(60) % 3
    features = np.eye(3)[places] * 4 + rng.normal(size=(60, 3))
    menus = [["Law", "Art"], ["Sports", "New", "Law"], ["New"]]
    rows = [{"category": menu} for menu in menus]
    test = np.eye(3)[[0, 2, 1]] * 4
    answers, seconds = baselines.logistic_baseline(features, labels, test, rows)
    assert answers == ["Art", "Sports", "New"] and seconds > 0
    answers, _ = baselines.logistic_baseline(
        features[places < 2], ["Art", "Law"] * 20, test[:1], rows[:1]
    )
    assert answers == ["Art"]  # for two classes, the library keeps a single column of weights
    with pytest.raises(InputError, match="two classes"):
        baselines.logistic_baseline(features[:2], ["Art", "Art"], test, rows)
