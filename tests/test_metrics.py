import numpy as np
import pandas as pd
import pytest

from helpers import metrics, plotting


def test_intervals_and_tests_are_the_textbooks():
    nine_of_ten = metrics.accuracy([True] * 9 + [False])
    assert nine_of_ten["ci95"] == pytest.approx([0.596, 0.982], abs=1e-3)
    first, second = np.array([1] * 8 + [0] * 2, bool), np.array([1] * 2 + [0] * 6 + [0] * 2, bool)
    assert metrics.mcnemar_p(first, second) == pytest.approx(2 * 0.5**6)


def test_a_summary_counts_what_is_no_option():
    def line(label, text, scored):
        return {
            "label": label,
            "seconds": 0.5,
            "generate": {"prediction": text},
            "score": {"prediction": scored},
        }

    found = metrics.summary(
        [line("A", "A", "B"), line("B", None, "B"), line("B", "A", "B")], ("generate", "score")
    )
    assert found["seconds_a_row"] == 0.5 and found["generate"]["valid"] == pytest.approx(2 / 3)
    assert (found["generate"]["accuracy"], found["score"]["accuracy"]) == (
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
    )
    assert found["score"]["macro_f1"] == pytest.approx(0.8 / 2) and found["score"]["n"] == 3


def lines(probabilities, labels):
    """Predictions between two options, with the given probability of the first option, "A"."""
    return [
        {
            "label": label,
            "score": {
                "prediction": "A" if p >= 0.5 else "B",
                "logprobs": [np.log(p) - 3, np.log(1 - p) - 3],
            },
        }
        for p, label in zip(probabilities, labels)
    ]


def test_confidence_is_the_softmax_over_the_options():
    frame = metrics.confidence(lines([0.9, 0.2], "AA"))
    assert frame["probability"].tolist() == pytest.approx([0.9, 0.8])
    assert frame["right"].tolist() == [True, False]


def test_calibration_error_is_the_weighted_gap_of_the_bins():
    frame = pd.DataFrame(
        {"probability": [0.95, 0.95, 0.95, 0.55], "right": [True, True, False, True]}
    )
    table, error = metrics.reliability(frame)
    assert table["rows"].tolist() == [1, 3]
    assert error == pytest.approx((3 * abs(0.95 - 2 / 3) + 1 * abs(0.55 - 1)) / 4)


def test_answering_only_when_sure():
    frame = pd.DataFrame({"probability": [0.6, 0.9, 0.7], "right": [False, True, True]})
    assert metrics.coverage(frame)["accuracy"].tolist() == pytest.approx([1, 1, 2 / 3])


def test_the_gain_in_macro_f1_has_an_interval_around_it():
    rng = np.random.default_rng(0)
    labels = list(rng.choice(["A", "B", "C"], 200))
    worse = [label if rng.random() < 0.5 else "A" for label in labels]
    better = [label if rng.random() < 0.9 else None for label in labels]
    gain = metrics.macro_f1_gain(labels, worse, better, list(range(200)), 1)
    assert gain["gain"] == pytest.approx(
        metrics.macro_f1(labels, better) - metrics.macro_f1(labels, worse)
    )
    assert 0 < gain["ci95"][0] < gain["gain"] < gain["ci95"][1]
    assert metrics.macro_f1_gain(labels, better, better, list(range(200)), 1)["ci95"] == [0, 0]


def test_the_quick_macro_f1_is_the_librarys():
    rng = np.random.default_rng(0)
    for _ in range(50):
        classes, n = int(rng.integers(1, 6)), int(rng.integers(1, 30))
        truth, answers = rng.integers(classes, size=n), rng.integers(classes + 1, size=n)
        names = [None if i == classes else str(i) for i in answers]
        expected = metrics.macro_f1([str(i) for i in truth], names)
        assert metrics.mean_f1(truth, answers) == pytest.approx(expected)


def test_copies_drawn_together_widen_the_interval():
    rng = np.random.default_rng(0)
    labels = list(rng.choice(["A", "B"], 40)) * 5
    first = list(rng.choice(["A", "B"], 40)) * 5
    apart = metrics.macro_f1_gain(labels, first, labels, list(range(200)), 1)["ci95"]
    together = metrics.macro_f1_gain(labels, first, labels, list(range(40)) * 5, 1)["ci95"]
    assert together[1] - together[0] > 1.5 * (apart[1] - apart[0])


def test_a_bound_never_lies_beyond_its_share():
    """Rounding used to put it there for 680 of these n at 0 right, and for 954 with all right."""
    rng = np.random.default_rng(0)
    for n in range(1, 3000):
        for right in (0, n, int(rng.integers(n + 1))):
            low, high = metrics.wilson(right, n)
            assert 0 <= low <= right / n <= high <= 1, (right, n)
    assert metrics.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [0, 1, 2, 7, 28])
@pytest.mark.parametrize("kind", ["all right", "all wrong", "one class", "one option"])
def test_odd_sizes_have_finite_figures(n, kind):
    labels = ["a"] * n if kind == "one class" else (["a", "b"] * n)[:n]
    answers = [{"a": "b", "b": "a"}[x] for x in labels] if kind == "all wrong" else labels
    lines = [
        {
            "label": label,
            "seconds": 0.1,
            "generate": {"prediction": answer},
            "score": {"prediction": answer, "logprobs": [0.0] if kind == "one option" else [0, -1]},
        }
        for label, answer in zip(labels, answers)
    ]
    assert np.isfinite(metrics.summary(lines, ("generate", "score"))["score"]["macro_f1"])
    sure = metrics.confidence(lines)
    table, error = metrics.reliability(sure)
    assert np.isfinite(error) and bool(len(table)) == (n > 0) and len(metrics.coverage(sure)) == n
    assert metrics.mcnemar_p(sure["right"], sure["right"]) == 1
    for clusters in (list(range(n)), [0] * n):
        gain = metrics.macro_f1_gain(labels, answers, labels, clusters, 0)
        assert np.isfinite([gain["gain"], *gain["ci95"]]).all()


def test_a_class_that_is_called_none_is_no_missing_answer():
    labels, nothing = ["(none)", "A"], [None, None]
    assert metrics.macro_f1(labels, nothing) == 0
    figure = plotting.confusion(labels, ["(none)", None], ["(none)", "A"])
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert ticks == ["(none)", "A", "(none)"]


def test_a_baseline_and_a_mode_of_a_model_are_judged_alike():
    answered = lines([0.9, 0.8, 0.3, 0.6], "ABBA") + lines([0.2], "A")
    labels = [line["label"] for line in answered]
    own = metrics.summary([line | {"seconds": 0} for line in answered], ("score",))["score"]
    assert own == metrics.answer_summary(labels, [line["score"]["prediction"] for line in answered])
    assert (own["accuracy"], own["n"]) == (pytest.approx(3 / 5), 5)
    assert own["macro_f1"] == pytest.approx((2 * 2 / 6 + 2 * 1 / 4) / 2)
