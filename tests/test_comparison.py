"""What chapter 5 says when it compares settings."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from helpers import (
    InputError,
    comparison,
    curves,
    entrants,
    examples,
    figures,
    files,
    plotting,
    promises,
    robustness,
    settings,
    sources,
    templating,
    verdicts,
)
from helpers.adapters import WEIGHTS, AdapterHead, AdapterPrompt, adapter_digest, write_prompt
from helpers.templating import PromptFormat

PLAIN = PromptFormat(templating.PLAIN, 64, True)


def train_setting(run, name, model="gemma-3-270m", template=templating.PLAIN, val_rows=None):
    """A folder as chapter 4 leaves it, without weights."""
    adapter = run / "train" / name / "adapter"
    adapter.mkdir(parents=True)
    write_prompt(adapter, AdapterPrompt(model, PromptFormat(template, 64, True), ["a", "b"]))
    if val_rows is not None:
        (adapter.parent / "val.jsonl").write_text("{}\n" * val_rows)
    return adapter


def row(label, options=("a", "b"), text="x", key="1"):
    return {"id": key, "text": text, "category": list(options), "output": label}


def test_whatever_is_trained_is_compared_or_only_what_is_named(tmp_path):
    train_setting(tmp_path, "rank8")
    train_setting(tmp_path, "rank16", template=templating.EDITOR)
    assert list(entrants.find_settings(tmp_path, None)) == ["rank16", "rank8"]
    assert list(entrants.find_settings(tmp_path, ["rank8"])) == ["rank8"]
    train_setting(tmp_path / "numbered", "8")
    assert list(entrants.find_settings(tmp_path / "numbered", [8])) == ["8"]
    assert entrants.find_heads(tmp_path / "numbered", [8]) == {}
    settings = entrants.find_settings(tmp_path, None)
    assert list(entrants.untouched(settings)) == ["base-editor", "base-plain"]
    with pytest.raises(InputError, match="04-training"):
        entrants.find_settings(tmp_path, ["rank32"])
    with pytest.raises(InputError, match="04-training"):
        entrants.find_settings(tmp_path / "empty", None)


def test_a_setting_that_learned_from_other_rows_is_refused(tmp_path):
    """It may have learned from rows that would now judge it, because chapter 1 was run again."""
    adapter = train_setting(tmp_path, "rank8")
    rows = tmp_path / "data" / "train.jsonl"
    files.write_jsonl(rows, [row("a")])
    files.write_json(adapter.parent / settings.ROWS, {"train": files.digest(rows)})
    assert list(entrants.find_settings(tmp_path, None)) == ["rank8"]
    files.write_jsonl(rows, [row("b")])
    with pytest.raises(InputError, match=r"rank8 was trained on other rows .*notebook 04"):
        entrants.find_settings(tmp_path, None)
    head = tmp_path / "train" / "head"
    write_prompt(head / "adapter", AdapterHead("gemma-3-270m", ["a", "b"], 64, True))
    files.write_json(head / settings.ROWS, {"train": files.digest(rows)})
    assert list(entrants.find_heads(tmp_path, None)) == ["head"]
    with pytest.raises(InputError, match=r"head is a head of .*, and the other settings are of x"):
        entrants.find_heads(tmp_path, None, "x")
    files.write_jsonl(rows, [row("c")])
    with pytest.raises(InputError, match="head was trained on other rows"):
        entrants.find_heads(tmp_path, None)


def test_settings_of_two_models_are_refused(tmp_path):
    train_setting(tmp_path, "one")
    train_setting(tmp_path, "other", model="01ai/Yi-6B")
    with pytest.raises(InputError, match="one of gemma-3-270m, other of 01ai/Yi-6B"):
        entrants.find_settings(tmp_path, None)


def test_intervals_rest_on_the_rows_that_a_training_looked_at(tmp_path):
    train_setting(tmp_path, "few", val_rows=3)
    train_setting(tmp_path, "unknown")
    settings = entrants.find_settings(tmp_path, None)
    counts = entrants.rows_judged(settings, [row("a")] * 5)
    assert counts == {"few": 3, "unknown": 5}
    assert entrants.rows_judged(settings, [row("a")] * 2)["few"] == 3  # whatever its val_rows is
    log = pd.DataFrame(
        {"step": [4], "loss": [1.0], "eval_loss": [0.5], "eval_seq_acc": [2 / 3], "epoch": [0.5]}
    )
    (point,) = curves.val_curve(log, [row("a")] * 8, [row("a")] * 3, lambda *_: None)
    assert (point["n"], point["rows"], point["svm"]) == (3, 4, None)
    assert point["accuracy"] == pytest.approx(2 / 3)


def test_the_best_setting_is_chosen_by_val_and_the_lower_loss():
    def log(right, loss):
        return pd.DataFrame({"step": [2], "eval_loss": [loss], "eval_seq_acc": [right]})

    logs = {"a": log(0.5, 0.1), "b": log(0.75, 0.9), "c": log(0.75, 0.4)}
    summaries = {name: {"best_step": 2} for name in logs}
    counts = dict.fromkeys("abc", 4)
    best, table = entrants.choose_best(logs, summaries, {}, counts)
    assert best == "c" and table.loc["b", "right on val"] == 0.75
    answers = {  # the answers on val decide where a log holds no evaluation
        "a": [{"label": "x", "score": {"prediction": "x"}}],
        "b": [{"label": "x", "score": {"prediction": "y"}}],
    }
    empty = pd.DataFrame({name: [] for name in entrants.LOGGED})
    best, table = entrants.choose_best(
        {"a": empty, "b": empty}, {"a": {}, "b": {}}, answers, counts
    )
    assert best == "a" and table["loss on val"].isna().all()
    equal = {name: answers["a"] for name in ("rank8", "rank16")}  # chapter 8 knows names only
    looks = {name: empty for name in equal}
    assert entrants.choose_best(
        looks, {name: {} for name in equal}, equal, dict.fromkeys(equal, 4)
    )[0] == min(equal)


def test_four_of_four_is_no_better_than_96_of_100(tmp_path):
    """Trainings that looked at different numbers of rows are judged by the same rows, in chapters 5
    and 8 alike. So are trainings of which one did not look at any, or left no log.
    """
    shares, right = {"few": 1.0, "many": 0.96}, {"few": 1, "many": 2}
    for looked in (True, False, None):  # whether the better one looked at val; None: no log
        run = tmp_path / str(looked)
        for name, rows in {"few": 4, "many": 100}.items():
            adapter = train_setting(run, name, val_rows=rows if looked else 4)
            for file in WEIGHTS:
                (adapter / file).write_text(name)
            line = {"global_step/max_steps": "2/2", "eval_loss": 0.1, "eval_seq_acc": shares[name]}
            if not looked and name == "many":
                line = {"global_step/max_steps": "2/2", "loss": 0.1}
            if looked is not None or name == "few":
                files.write_jsonl(adapter.parent / "logging.jsonl", [line])
            files.write_json(adapter.parent / "summary.json", {"best_step": 2})
        train_setting(run, ".many.unfinished", val_rows=4)  # left by a training that was killed
        found = entrants.find_settings(run, None)
        assert list(found) == ["few", "many"]
        logs = {name: entrants.read_log(entrant) for name, entrant in found.items()}
        trainings = {name: entrants.read_summary(entrant) for name, entrant in found.items()}
        answers = {
            name: [
                {"id": i, "label": "x", "score": {"prediction": "x" if i < right[name] else "y"}}
                for i in range(3)
            ]
            for name in found
        }
        best, table = entrants.choose_best(
            logs, trainings, answers, entrants.rows_judged(found, [])
        )
        assert best == "many" and table.loc["few", "right on val"] == pytest.approx(1 / 3)
        for name, entrant in found.items():
            kept = run / "eval" / name / "val"
            files.write_jsonl(kept / "predictions.jsonl", answers[name])
            files.write_json(kept / "key.json", {"adapter": adapter_digest(entrant.adapter)})
        assert settings.best_of_run(run) == found["many"].adapter


def test_answers_on_val_that_cannot_be_compared_are_not_used(tmp_path, capsys):
    """Answers of an adapter that was retrained since, and answers to other rows."""
    for name, share in (("one", 1.0), ("other", 0.5)):
        adapter = train_setting(tmp_path, name, val_rows=len(name))
        for file in WEIGHTS:
            (adapter / file).write_text(name)
        line = {"global_step/max_steps": "2/2", "eval_loss": 0.1, "eval_seq_acc": share}
        files.write_jsonl(adapter.parent / "logging.jsonl", [line])
        files.write_json(adapter.parent / "summary.json", {"best_step": 2})
        kept = tmp_path / "eval" / name / "val"
        answer = "x" if name == "other" else "y"
        said = [{"id": 0, "label": "x", "score": {"prediction": answer}}]
        files.write_jsonl(kept / "predictions.jsonl", said)
        files.write_json(kept / "key.json", {"adapter": adapter_digest(adapter)})
    assert settings.best_of_run(tmp_path).parent.name == "other"
    assert "unevenly" not in capsys.readouterr().out
    others = [{"id": 1, "label": "x", "score": {"prediction": "x"}}]
    files.write_jsonl(kept / "predictions.jsonl", others)
    assert settings.best_of_run(tmp_path).parent.name == "one"
    assert "chosen unevenly: run chapter 5" in capsys.readouterr().out
    files.write_jsonl(kept / "predictions.jsonl", said)
    (adapter / WEIGHTS[1]).write_text("trained anew")
    assert settings.best_of_run(tmp_path).parent.name == "one"


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ([1] * 12 + [0] * 2, [0] * 12 + [1] * 2, "is better than"),
        ([0] * 12, [1] * 12, "is worse than"),
        ([1, 0, 1], [1, 0, 1], "cannot be told apart from"),
        ([1, 0, 1], [0, 1, 1], "cannot be told apart from"),
    ],
)
def test_a_verdict_says_what_mcnemar_allows(first, second, says):
    verdict = verdicts.verdict(first, second)
    assert verdict["says"] == says
    assert (verdict["p"] <= 0.05) == (says != "cannot be told apart from")


def headline_of(model, svm, p):
    """verdicts.headline for one setting, "best", with these accuracies and this p in all tests."""

    def share(value):
        return {"accuracy": value, "ci95": [value, value], "valid": 1.0, "seconds": 1.0, "ece": 0.1}

    one = {"generate": share(model), "score": share(model), "ece": 0.1}
    pairs = [("best", "tfidf_svm"), ("best + svm", "tfidf_svm"), ("best + svm", "best")]
    results = {
        "models": {"base": one, "best": one},
        "baselines": {"tfidf_svm": share(svm)},
        "hybrid": {"best": share(model)},
        "mcnemar": [{"a": a, "b": b, "p": p} for a, b in pairs],
    }
    return verdicts.headline(results, "base", "best")


@pytest.mark.parametrize(
    ("p", "words"), [(8.2e-05, "p < 0.001"), (0.0012, "p = 0.001"), (1.0, "p = 1.000")]
)
def test_no_p_reads_as_zero(p, words):
    said = headline_of(0.9, 0.8, p)
    assert [said[name] for name in ("verdict_p", "hybrid_p", "hybrid_over_model_p")] == [words] * 3
    assert verdicts.p_words(p) == words


@pytest.mark.parametrize(
    ("model", "p", "says"),
    [
        (0.9, 0.001, "earns its cost"),
        (0.7, 0.001, "does not earn its cost"),
        (0.9, 0.3, "has not been shown to earn its cost"),
        (0.7, 0.3, "has not been shown to earn its cost"),
    ],
)
def test_a_model_that_cannot_be_told_apart_is_not_called_a_waste(model, p, says):
    assert headline_of(model, 0.8, p)["earned"] == says


def pairs_of(settings, **p):
    """Tests of all pairs, with p = 0.5 unless one is given by the name "a_b"."""
    pairs = itertools.combinations(settings, 2)
    return [{"a": a, "b": b, "p": p.get(f"{a}_{b}", 0.5)} for a, b in pairs]


def test_one_small_p_among_many_pairs_is_no_difference():
    six = list("abcdef")
    said = verdicts.among_settings(pairs_of([*six, "svm"], a_b=0.03, a_svm=0.0001), six)
    assert "no difference is significant" in said and "15 pairs" in said
    said = verdicts.among_settings(pairs_of(six, a_b=0.003), six)
    assert "at least one difference is significant" in said
    said = verdicts.among_settings(pairs_of(["a", "b"], a_b=0.03), ["a", "b"])
    assert "at least one difference" in said and "one pair" in said


def test_one_setting_is_compared_with_none():
    seeds = ["rank8", "rank8-seed7"]
    for names in (["rank8"], seeds):
        tests = [{"a": name, "b": "svm", "p": 0.001} for name in names]
        tests += [{"a": "rank8", "b": "rank8-seed7", "p": 0.001}] if names == seeds else []
        said = verdicts.among_settings(tests, names)
        assert "Only one setting" in said and "significant" not in said
    said = verdicts.among_settings(
        [
            {"a": "rank8", "b": "rank8-seed7", "p": 0.001},
            {"a": "rank8", "b": "rank16", "p": 0.4},
            {"a": "rank8-seed7", "b": "rank16", "p": 0.4},
        ],
        [*seeds, "rank16"],
    )
    assert "no difference is significant" in said and "2 pairs" in said


def test_a_label_that_is_not_offered_is_named():
    assert comparison.label_places([row("b")]) == [1]
    with pytest.raises(InputError, match="row 7: its label is not among its options"):
        comparison.label_places([row("c", key="7")])


def test_articles_are_grouped_by_length_in_quarters():
    rows = [row("a", text="x" * length) for length in (1, 2, 3, 4, 50, 60, 700, 800)]
    table = comparison.by_length(rows, {"model": ["a"] * 6 + ["b"] * 2})
    assert table["rows"].sum() == len(rows)
    assert table["model"].iloc[0] == 100.0 and table["model"].iloc[-1] < 100.0
    same = comparison.by_length([row("a")] * 3, {"model": ["a", "a", "b"]})
    assert len(same) == 1 and same["model"].iloc[0] == pytest.approx(66.7)


def test_mistakes_show_text_only_where_it_may_be_shown():
    rows = [row("a", text="正文" * 50, key="1"), row("b", key="2")]
    confidence = pd.DataFrame({"probability": [0.9, 0.8], "right": [False, True]})
    hidden = examples.mistakes(rows, confidence, ["b", "b"], show_text=False)
    assert list(hidden["id"]) == ["1"] and "article" not in hidden
    shown = examples.mistakes(rows, confidence, ["b", "b"], show_text=True)
    assert shown["article"].iloc[0].startswith("正文") and len(shown["article"].iloc[0]) < 70


def test_what_is_said_of_labels_depends_on_the_source(tmp_path):
    summary = tmp_path / "summary.json"
    for content, note in (
        ({"source": "sample"}, examples.CERTAIN),
        ({"source": "mine.csv"}, examples.DISPUTABLE),
        ({"source": ["mine.csv", "yours.csv"]}, examples.DISPUTABLE),
        ([], examples.DISPUTABLE),
    ):
        summary.write_text(json.dumps(content))
        assert examples.labels_note(sources.read_summary(summary).get("source")) == note
    summary.unlink()
    assert sources.read_summary(summary) == {}


def test_the_rows_read_by_a_step_are_counted_from_the_epoch():
    log = pd.DataFrame({"step": [10, 20], "epoch": [0.5, 1.0]})
    assert curves.rows_until(log, 5, 80) == 20
    assert curves.rows_until(log, 20, 80) == 80
    assert curves.rows_until(log.assign(epoch=[2.0, 4.0]), 20, 80) == 80
    assert curves.rows_until(pd.DataFrame(), 20, 80) == 80
    log = pd.DataFrame({"step": [32, 64, 96], "epoch": [0.23703704, 0.47407407, 0.71111111]})
    assert [curves.rows_until(log, step, 539) for step in log["step"]] == [128, 256, 384]
    assert curves.rows_until(pd.DataFrame({"step": [680], "epoch": [0.9971]}), 680, 2726) == 2720


def test_seeds_of_one_setting_are_taken_together():
    table = pd.DataFrame(
        [("rank8", "score", 90.0), ("rank8-seed7", "score", 94.0), ("rank16", "score", 91.0)],
        columns=["name", "mode", "accuracy"],
    )
    spread = comparison.seed_spread(table, ["rank8", "rank8-seed7", "rank16"])
    assert list(spread.index) == [("rank8", "score")]
    assert tuple(spread.iloc[0][["count", "mean", "min", "max"]]) == (2, 92.0, 90.0, 94.0)


def test_a_thinned_cascade_keeps_its_ends():
    shares, rights = np.linspace(1, 0, 300), np.linspace(0.9, 0.8, 300)
    cascade = pd.DataFrame({"asked": shares, "accuracy": rights})
    points = figures.thin(cascade, 10)
    assert len(points) == 10
    assert points[0] == [0.0, pytest.approx(0.8)] and points[-1] == [1.0, pytest.approx(0.9)]


def test_the_ladder_leaves_out_what_has_no_cost_and_is_ordered_by_it():
    def share(value):
        return {"accuracy": value, "ci95": [value - 0.1, value + 0.1]}

    results = {
        "models": {"base-plain": {"score": share(0.3)}, "rank8": {"score": share(0.8)}},
        "hybrid": {"rank8": share(0.85)},
        "baselines": {"tfidf_svm": share(0.7)},
    }
    seconds = {"rank8": 300.0, "rank8 + svm": 301.0, "tfidf_svm": 1.0, "base-plain": float("nan")}
    table = comparison.ladder_table(results, seconds)
    assert list(table["name"]) == ["tfidf_svm", "rank8", "rank8 + svm"]
    assert table["accuracy"].iloc[0] == pytest.approx(70)


def test_figures_that_differ_in_seconds_alone_stay_as_they_are(tmp_path):
    """Otherwise, a chapter 5 run again by hand would cause chapter 8 and the pages to be remade."""
    path = tmp_path / "metrics.json"
    results = {"models": {"a": 0.5}, "baselines": {"svm": {"accuracy": 0.7, "seconds": 1.0}}}
    assert figures.settled(results, path) == results
    files.write_json(path, results)
    slower = {"models": {"a": 0.5}, "baselines": {"svm": {"accuracy": 0.7, "seconds": 9.0}}}
    assert figures.settled(slower, path) == results
    other = slower | {"models": {"a": 0.6}}
    assert figures.settled(other, path) == other
    for damaged in ("[", "[]", '{"baselines": [1]}'):
        path.write_text(damaged)
        assert figures.settled(other, path) == other


def promised(**targets):
    """In the form of decision.learn: by target, a threshold and the rows that a promise needs."""
    keys = ("threshold", "rows_needed")
    return {"n": 60, "targets": {t: dict(zip(keys, pair)) for t, pair in targets.items()}}


def test_promises_that_val_is_too_small_for_say_how_many_rows_would_do():
    mixed = promised(**{"0.01": (None, None), "0.02": (None, None), "0.1": (None, 1938)})
    note = promises.promise_note({"hybrid": mixed})
    assert "For the hybrid the 60 validation rows allow no promise" in note
    assert "at most 1 %, 2 % or 10 %" in note and "about 1,938 for 10 %." in note
    assert "No number of rows like them would do for 1 % or 2 %." in note
    some = promised(**{"0.01": (None, 300), "0.1": (0.5, 50)})
    note = promises.promise_note({"model": some})
    assert "at most 1 % of errors" in note and "about 300" in note and "No number" not in note
    assert "the one validation row allows no" in promises.promise_note({"model": some | {"n": 1}})


def test_whose_promise_it_is_stands_in_the_sentence():
    enough, few = promised(**{"0.1": (0.5, 50)}), promised(**{"0.1": (None, None)})
    note = promises.promise_note({"model": few, "hybrid": enough})
    assert "For the model the 60 validation rows allow no promise of at most 10 %" in note
    assert "For the hybrid the 60 validation rows are enough for every target." in note
    note = promises.promise_note({"model": enough, "hybrid": enough})
    assert note == "There were enough validation rows for every target of the model and hybrid."


def test_the_studys_ten_rows_show_that_it_helped_and_not_how_much():
    said = verdicts.study_intervals()
    assert said["study_rows"] == 10 and said["study_p"] == "p = 0.004"
    assert said["study_after_low"] < 60 < 98 < said["study_after_high"]


@pytest.mark.parametrize(
    ("written", "scored", "options", "says"),
    [
        ((0.00, 0.02), (0.4, 0.5), 4, "it knows more than its free answers show"),
        ((0.80, 0.89), (0.80, 0.89), 8, "its free answers show what it knows"),
        ((0.00, 0.39), (0.19, 0.81), 8, "too few to tell whether its free answers show less"),
        ((0.40, 0.50), (0.20, 0.30), 4, "which its free answers show and its scores do not"),
        ((0.00, 0.02), (0.00, 0.02), 2, "worse than guessing"),
        ((0.00, 0.02), (0.20, 0.30), 4, "its scores cannot be told from guessing"),
    ],
)
def test_the_untouched_model_is_held_against_guessing(written, scored, options, says):
    base = {"generate": {"ci95": written}, "score": {"ci95": scored}}
    said = verdicts.reading(base, [row("a", options="abcdefgh"[:options])])
    assert says in said["reading"]
    assert ("knows more" in said["reading"]) == ("knows more" in says)


def test_an_answer_that_no_label_has_keeps_its_name_in_the_confusion_matrix():
    figure = plotting.confusion(["a", "a", "b"], ["c", None, "b"], ["a", "b"])
    (mesh,) = figure.axes[0].collections
    assert mesh.get_array().tolist() == [[0, 0, 1, 1], [0, 1, 0, 0]]
    names = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert names == ["a", "b", "c", "(none)"]


def test_of_very_many_classes_the_confusion_matrix_shows_those_mistaken_most():
    classes = [f"class {n:03}" for n in range(300)]
    answers = [classes[0] if n % 3 == 0 else name for n, name in enumerate(classes)]
    answers[30] = None
    figure = plotting.confusion(classes, answers, classes)
    (mesh,) = figure.axes[0].collections
    assert mesh.get_array().shape == (40, 42)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert len(names) == 40 and set(names) <= set(classes[3::3]) and names == sorted(names)
    columns = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert columns == [*names, "(another)", "(none)"]
    assert mesh.get_array()[:, 40].sum() + mesh.get_array()[:, 41].sum() == 40
    assert figure.axes[0].get_title() == "40 of 300 classes, those mistaken most often"


def test_chance_is_the_mean_over_the_rows_menus():
    rows = [row("a"), row("a", options=("a", "b", "c", "d"))]
    base = {mode: {"ci95": (0.2, 0.5)} for mode in ("generate", "score")}
    assert verdicts.reading(base, rows)["chance"] == pytest.approx(37.5)


def test_a_training_whose_time_was_not_kept_has_words_for_it():
    assert entrants.minutes_words({"seconds": 318}) == "5.3 minutes"
    assert entrants.minutes_words({}) == "an unknown time"


def test_costs_are_those_that_were_kept():
    trainings = {"a": {"seconds": 60.0, "peak_gib": 2.5}, "b": {}, "c": {"seconds": 30.0}}
    assert entrants.costs(trainings) == {
        "a": {"train_seconds": 60.0, "peak_gib": 2.5},
        "c": {"train_seconds": 30.0, "peak_gib": None},
    }


def test_promises_are_shown_in_per_cent_and_their_absence_as_a_dash():
    frame = pd.DataFrame(
        [
            {"target": 0.02, "threshold": None, "coverage": 0.0, "answered": 0, "wrong": 0,
             "error": float("nan"), "low": 0.0, "high": 1.0, "rows_needed": 300},
            {"target": 0.1, "threshold": 0.5, "coverage": 0.9, "answered": 90, "wrong": 3,
             "error": 1 / 30, "low": 0.01, "high": 0.09, "rows_needed": None},
        ]
    )  # fmt: skip
    table = promises.promise_table({"model": frame})
    assert list(table.loc[("model", "2 %")]) == ["–", "0", "–", "–"]
    assert list(table.loc[("model", "10 %")]) == ["0.500", "90", "3.3", "1.0 – 9.0"]


def test_rows_of_one_option_are_no_sign_of_a_steady_model():
    def lines(answers):
        menus = (["a"], ["a", "b"], ["a", "b"])
        return [
            {"options": menu, "label": "a", "score": {"prediction": answer}}
            for menu, answer in zip(menus, answers)
        ]

    ways = {"as they are": "aab", "options shuffled": "aba", "header stripped": "aaa"}
    answered = {name: lines(answers) for name, answers in ways.items()}
    same = robustness.same_answers(answered, [True] * 3)
    assert list(same["rows"]) == [2, 2, 2]
    assert list(same["same answer, %"]) == [100, 0, 50]
    note = robustness.same_note(same)
    assert "0 % of 2 probed rows, and without the header to 50 % of 2 with a header." in note
    none = robustness.same_answers({name: own[:1] for name, own in answered.items()}, [True])
    assert "No probed row has a second option" in robustness.same_note(none)
    # a row without a header cannot change by losing it
    partly = robustness.same_answers(answered, [True, False, True])
    assert list(partly["rows"]) == [2, 2, 1] and list(partly["same answer, %"]) == [100, 0, 0]
    without = robustness.same_note(robustness.same_answers(answered, [False] * 3))
    assert "No probed row has a header" in without
    single = {name: own[1:2] for name, own in answered.items()}
    assert "of 1 probed row." in robustness.same_note(robustness.same_answers(single, [False]))


def test_suspects_are_shown_with_the_sources_id_only_where_there_is_one():
    train = [row("a", text="文" * 99, key="train-1"), row("b", key="train-2")]
    suspects = pd.DataFrame(
        {"id": ["train-1"], "source_id": [None], "label": ["a"], "suggested": ["b"],
         "self_confidence": [0.01234]}
    )  # fmt: skip
    table = examples.suspect_table(suspects, train, show_text=True)
    assert list(table.columns) == ["label", "suggested", "label's probability", "article"]
    assert table.loc["train-1", "label's probability"] == 0.012
    assert len(table.loc["train-1", "article"]) <= 33
    named = suspects.assign(source_id="n1")
    table = examples.suspect_table(named, train, show_text=False)
    assert table.columns[0] == "source's id" and "article" not in table


def test_a_setting_of_other_rows_is_not_chosen_from(tmp_path, capsys):
    """As when a profile's source and settings were changed: earlier trainings are still there."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("new\n")
    for name, rows, share in (("old", "before", 1.0), ("now", None, 0.5)):
        folder = train_setting(tmp_path, name).parent
        digest = rows or files.digest(tmp_path / "data" / "train.jsonl")
        files.write_json(folder / settings.ROWS, {"train": digest})
        line = {"global_step/max_steps": "2/2", "eval_loss": 0.1, "eval_seq_acc": share}
        files.write_jsonl(folder / "logging.jsonl", [line])
        files.write_json(folder / "summary.json", {"best_step": 2})
    assert settings.best_of_run(tmp_path).parent.name == "now"
    assert "data/train.jsonl holds now: old; to use one, name its" in capsys.readouterr().out
    (tmp_path / "data" / "train.jsonl").write_text("newer\n")
    assert settings.best_of_run(tmp_path).parent.name == "old"
    assert "all settings learned from other rows" in capsys.readouterr().out
