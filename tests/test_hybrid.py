"""The hybrid: its linear half equals scikit-learn's, and its weights are always numbers."""

import json

import numpy as np
import pytest

from helpers import InputError, hybrid


@pytest.fixture(scope="module")
def linear(sample):
    rows = sample["train"][:200]
    model = hybrid.fit_linear([row["text"] for row in rows], [row["output"] for row in rows])
    return model, rows


def test_margins_are_those_of_the_pipeline(linear):
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    model, rows = linear
    texts = [row["text"] for row in rows]
    pipeline = make_pipeline(hybrid.new_vectorizer(), LinearSVC(random_state=0))
    pipeline.fit(texts, [row["output"] for row in rows])
    expected = pipeline.decision_function(texts[:40])
    assert list(pipeline.classes_) == model.classes
    np.testing.assert_allclose(model.margins(iter(texts[:40]), at_once=7), expected, atol=1e-5)


def test_what_is_kept_answers_alike_and_is_no_pickle(linear, tmp_path):
    model, rows = linear
    hybrid.save_linear(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["linear.json", "linear.npz"]
    loaded = hybrid.load_linear(tmp_path)
    for mine, other in zip(
        hybrid.option_margins(model, rows[:20]), hybrid.option_margins(loaded, rows[:20])
    ):
        np.testing.assert_allclose(mine, other, atol=1e-4)
    with np.load(tmp_path / "linear.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype == np.float32 for name in arrays.files)


def test_a_damaged_linear_half_is_one_line(linear, tmp_path):
    hybrid.save_linear(linear[0], tmp_path)
    content = json.loads((tmp_path / "linear.json").read_text(encoding="utf-8"))
    (tmp_path / "linear.json").write_text(json.dumps(content | {"words": content["words"][:5]}))
    with pytest.raises(InputError, match="no sound linear classifier"):
        hybrid.load_linear(tmp_path)
    with pytest.raises(InputError, match="no sound linear classifier"):
        hybrid.load_linear(tmp_path / "nowhere")


def test_no_damage_to_the_arrays_goes_unseen(tmp_path):
    model = hybrid.fit_linear(["aa", "ab", "cc", "cd"] * 3, ["x", "x", "y", "y"] * 3)
    hybrid.save_linear(model, tmp_path)
    whole, same = (tmp_path / "linear.npz").read_bytes(), 0
    cut = [whole[:size] for size in range(0, len(whole), 13)]
    flipped = [whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :] for i in range(len(whole))]
    for damaged in cut + flipped[::7]:
        (tmp_path / "linear.npz").write_bytes(damaged)
        try:
            loaded = hybrid.load_linear(tmp_path)
        except InputError:
            continue
        np.testing.assert_allclose(loaded.weights, model.weights, atol=1e-6)  # it hit no number
        same += 1
    assert same < len(flipped[::7]) / 2


def test_saving_the_same_leaves_the_files_alone(linear, tmp_path):
    hybrid.save_linear(linear[0], tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    hybrid.save_linear(linear[0], tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times


def test_two_classes_and_options_never_learned():
    model = hybrid.fit_linear(["aa", "ab", "cc", "cd"] * 3, ["x", "x", "y", "y"] * 3)
    rows = [{"text": "aab", "category": ["new", "y", "x"]}, {"text": "?", "category": ["new"]}]
    first, second = hybrid.option_margins(model, rows)
    assert first.argmax() == 2 and first[0] < first[1] < first[2]
    assert np.isfinite(second).all() and len(second) == 1
    with pytest.raises(InputError, match="two classes"):
        hybrid.fit_linear(["a", "b"], ["x", "x"])
    with pytest.raises(InputError, match="empty"):
        hybrid.fit_linear(["", " "], ["x", "y"])
    assert model.margins([]).shape == (0, 2)


def drawn(n, seed=0, options=5):
    """Rows on which both halves know something but err independently."""
    rng = np.random.default_rng(seed)
    places = rng.integers(options, size=n)
    truth = np.eye(options)[places]
    logprobs = list(2.0 * truth + rng.normal(size=(n, options)))
    margins = list(0.8 * truth + 0.4 * rng.normal(size=(n, options)))
    return logprobs, margins, places.tolist()


def test_together_they_are_better_than_either():
    weights = hybrid.fit_weights(*drawn(300))
    logprobs, margins, places = drawn(2000, seed=1)
    together = hybrid.combine(weights, logprobs, margins)

    def right(scores):
        return np.mean([np.argmax(values) == place for values, place in zip(scores, places)])

    assert right(together) > max(right(logprobs), right(margins)) + 0.03
    assert all(values.sum() == pytest.approx(1) for values in together)
    stated = np.mean([values.max() for values in together])
    assert stated == pytest.approx(right(together), abs=0.03)  # fitting calibrates it


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [0, 1, 2, 7, 28])
def test_weights_are_numbers_on_odd_sizes(n):
    for logprobs, margins, places in (
        drawn(n),
        ([[0.0, -9.0]] * n, [[1.0, -1.0]] * n, [0] * n),  # separated perfectly
        ([[0.0, 0.0]] * n, [[0.0, 0.0]] * n, [1] * n),  # nothing to learn
        ([[0.0]] * n, [[1.0]] * n, [0] * n),  # one option a row
    ):
        weights = hybrid.fit_weights(logprobs, margins, places)
        assert np.isfinite([weights["logprob"], weights["margin"]]).all()
        assert min(weights["logprob"], weights["margin"]) >= 0
        curve = hybrid.cascade(margins, hybrid.combine(weights, logprobs, margins), places)
        assert bool(len(curve)) == (n > 0) and np.isfinite(curve["accuracy"]).all()


def test_few_rows_that_are_all_right_make_nobody_certain():
    """Eight rows are separated perfectly; without a prior, the weights would grow without bound."""
    logprobs, margins, places = drawn(8, options=2)
    logprobs = [np.where(np.arange(2) == place, 3.0, 0.0) for place in places]
    weights = hybrid.fit_weights(logprobs, margins, places)
    stated = [values.max() for values in hybrid.combine(weights, logprobs, margins)]
    assert 0.8 < np.mean(stated) < 0.999


def test_what_a_row_adds_to_all_its_options_changes_no_weight():
    logprobs, margins, places = drawn(100)
    moved = [values - 50.0 * i for i, values in enumerate(logprobs)]
    first, second = (hybrid.fit_weights(x, margins, places) for x in (logprobs, moved))
    assert first["logprob"] == pytest.approx(second["logprob"], rel=1e-3)
    assert first["margin"] == pytest.approx(second["margin"], rel=1e-3)


def test_a_cascade_follows_its_own_rule():
    """Each line is the result of asking the model where the gap is smaller than its threshold."""
    margins = [[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [0.5, 0.5], [7.0]]  # gaps 1, 3, 1, 0, none
    model = [[0.1, 0.9], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [1.0]]
    places = [1, 1, 0, 1, 0]
    curve = hybrid.cascade(margins, model, places)
    assert curve["threshold"].tolist() == [0, 1, 3, np.inf]
    assert curve["asked"].tolist() == pytest.approx([0, 0.2, 0.6, 0.8])  # one option costs no pass
    for line in curve.itertuples():
        right = []
        for linear, other, place in zip(margins, model, places):
            gap = np.inf if len(linear) == 1 else abs(linear[0] - linear[1])
            right.append(np.argmax(other if gap < line.threshold else linear) == place)
        assert line.accuracy == pytest.approx(np.mean(right))


def test_a_cascade_begins_with_the_linear_answer_and_ends_with_the_model():
    logprobs, margins, places = drawn(400)
    curve = hybrid.cascade(margins, logprobs, places)
    linear = np.mean([m.argmax() == p for m, p in zip(margins, places)])
    model = np.mean([m.argmax() == p for m, p in zip(logprobs, places)])
    assert curve["accuracy"].iloc[0] == pytest.approx(linear)
    assert curve["accuracy"].iloc[-1] == pytest.approx(model)
    assert curve["accuracy"].max() >= max(linear, model)
    assert curve["threshold"].is_monotonic_increasing
