"""Promises: bounds that hold, thresholds that keep them, a file that is checked."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from helpers import InputError, decision


def drawn(n, seed, options=4, sharpness=2.5):
    """Calibrated probabilities, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    probabilities = decision.option_probabilities(list(sharpness * rng.normal(size=(n, options))))
    places = [int(rng.choice(options, p=values)) for values in probabilities]
    return probabilities, places


def test_a_temperature_undoes_what_was_overdone():
    rng = np.random.default_rng(0)
    nats = list(3 * rng.normal(size=(4000, 4)))
    places = [int(rng.choice(4, p=v)) for v in decision.option_probabilities(nats)]
    assert decision.fit_temperature([4 * v for v in nats], places) == pytest.approx(4, rel=0.1)
    assert decision.fit_temperature([], []) == 1.0
    assert decision.fit_temperature([[0.3]], [0]) == 1.0


def test_the_bound_is_clopper_and_pearsons():
    for wrong, answered in ((0, 59), (3, 200), (5, 5)):
        bound = decision.error_bound(wrong, answered)
        interval = binomtest(wrong, answered).proportion_ci(0.9, method="exact")
        assert bound == pytest.approx(interval.high)
    assert decision.least_rows(0.05) == 59  # the rule of three
    assert decision.least_rows(0.05, 0.05) is None
    assert decision.error_bound(int(0.02 * decision.least_rows(0.05, 0.02)), 100) > 0


def test_promises_are_broken_no_oftener_than_they_say():
    """300 draws of 300 validation rows; the true error is known, for labels were drawn from it."""
    broken = dict.fromkeys(("0.05", "0.1"), 0)
    for seed in range(300):
        learned = decision.learn(*drawn(300, seed), targets=(0.05, 0.1))
        fresh, _ = drawn(1000, 10_000 + seed)
        surest = np.array([values.max() for values in fresh])
        for target in broken:
            threshold = learned["targets"][target]["threshold"]
            if threshold is not None and (surest >= threshold).any():
                error = 1 - surest[surest >= threshold].mean()
                broken[target] += error > float(target)
    assert all(count <= 0.05 * 300 + 3 * np.sqrt(300 * 0.05 * 0.95) for count in broken.values())


def test_thresholds_let_more_through_for_weaker_promises():
    learned = decision.learn(*drawn(2000, 1, sharpness=5))["targets"]
    shares = [learned[f"{target:g}"]["share"] for target in decision.TARGETS]
    assert shares == sorted(shares) and shares[-1] > 0.3
    assert all(entry["bound"] is None or entry["bound"] <= float(t) for t, entry in learned.items())


@pytest.mark.parametrize("n", [0, 1, 2, 7, 28, 40])
def test_where_val_is_too_small_it_says_how_many_would_do(n):
    probabilities, places = drawn(n, 0)
    learned = decision.learn(probabilities, places)
    assert learned["targets"]["0.01"]["threshold"] is None
    assert learned["targets"]["0.01"]["rows_needed"] >= 299
    table = decision.judge(learned, probabilities, places)
    assert list(table["target"]) == list(decision.TARGETS)
    assert (table["low"] <= table["high"]).all()
    if n < 9:
        assert learned["sets"]["threshold"] == 0.0
        assert decision.prediction_sets(probabilities, 0.0) == [
            list(np.argsort(-values, kind="stable")) for values in probabilities
        ]


def test_prediction_sets_hold_the_label_as_often_as_they_say():
    held = []
    for seed in range(100):
        learned = decision.learn(*drawn(100, seed))
        held.append(decision.judge_sets(learned, *drawn(500, 5000 + seed))["held"])
    assert 0.89 < np.mean(held) < 0.93


def test_cross_fitting_judges_no_row_by_itself():
    rows = list(range(12))

    def fit(values, places):
        return set(values)

    def apply(rule, values):
        return [value not in rule for value in values]

    assert all(decision.cross_fitted(fit, apply, rows, rows))
    assert decision.cross_fitted(fit, apply, [1], [0]) == [True]


def test_what_is_written_is_read_and_damage_is_one_line(tmp_path):
    assert decision.read_decision(tmp_path) is None
    learned = decision.learn(*drawn(100, 0))
    content = {"model": learned | {"temperature": 1.5}, "hybrid": None}
    decision.write_decision(tmp_path, content)
    assert decision.read_decision(tmp_path) == json.loads(json.dumps(content))
    for damaged in ({"model": {}, "hybrid": None}, {"model": content["model"]}, []):
        (tmp_path / "decision.json").write_text(json.dumps(damaged))
        with pytest.raises(InputError, match="is not sound"):
            decision.read_decision(tmp_path)
