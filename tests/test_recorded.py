"""What the pages say about figures that were recorded once."""

import json
import re
import sys

import pytest

from helpers import ROOT
from tools import recorded, results


def make_record(shares):
    """A record of trainings named rank8, rank8-seed43, …, with these shares of right answers."""
    own = {name: {"accuracy": share, "ci95": [0, 1], "n": 200} for name, share in shares.items()}
    models = {name: {"generate": value, "score": value} for name, value in own.items()}
    # by itself, each may be luck; together with the classifier, those with "-x" are not
    p = {name: 0.2 for name in shares} | {
        f"{name} + svm": 0.01 if "-x" in name else 0.06 for name in shares
    }
    seeds = {name: int(name.partition("-seed")[2] or 42) for name in shares}
    return {
        "date": "2026-01-02",
        "device": "two cores",
        "settings": {"Training": "7 steps of 2 rows, learning rate 0.1, seed 42"},
        "trainings": {name: {"seed": seed} for name, seed in seeds.items()},
        "metrics": {
            "models": models | {"base-plain": models["rank8"]},
            "hybrid": own,
            "baselines": {"tfidf_svm": {"accuracy": 0.4}},
            "mcnemar": [{"a": name, "b": "tfidf_svm", "p": value} for name, value in p.items()],
        },
    }


@pytest.mark.parametrize(
    ("other", "verdict"),
    [(0.93, "tell you which setting is the best"), (0.5, "differ by more than the seed")],
)
def test_the_seeds_table_says_what_chance_does(tmp_path, monkeypatch, other, verdict):
    monkeypatch.setattr(recorded, "RESULTS", tmp_path)
    assert "Nothing has been recorded" in recorded.seed_tables()
    shares = {"rank8-x": 0.90, "rank8-x-seed43": 0.94, "rank8": other, "rank8-seed43": other}
    content = json.dumps(make_record(shares))
    (tmp_path / "sample-seeds.json").write_text(content, encoding="utf-8")
    page = recorded.seed_tables()
    assert "| seed 42 | seed 43 | mean | standard deviation |" in page
    assert "| rank8-x | 90.0 | 94.0 | 92.0 | 2.8 |" in page
    assert "moved rank8-x by 4.0 points" in page and verdict in page
    assert "base-plain" not in page and "200 test rows" in page
    assert "trained for 7 steps of 2 rows, learning rate 0.1. Every" in page
    assert "Of these 4 trainings, 0 alone" in page and "and 2 together with it" in page
    assert "each training by itself" in page


def test_lengths_are_counted_by_the_models_own_tokenizer():
    """Chapter 1 also counts with Qwen's, and a record is sorted by name."""
    record = recorded.read_results("fudan")
    assert next(iter(record["summary"]["tokens"])) == "Qwen"
    own = record["summary"]["tokens"]["gemma-3-270m"]
    said = f"{own['median']:,} tokens, the longest {own['max']:,} (tokenizer of gemma-3-270m)"
    section = recorded.run_parts(record)["facts"]
    assert said in section
    share = record["summary"]["longer"]["4096"]
    assert f"{100 * share:.0f} % have more than 4,096" in section
    assert f"none of these in {100 * (1 - share) ** 10:.1f} % of draws" in section
    assert recorded.ten_rows({"256": 0.5}) == ""


def test_the_findings_on_the_real_corpus_are_counted_from_its_records():
    page = (ROOT / "book" / "real-corpus.md").read_text(encoding="utf-8")
    alone, together, over_svm = [], [], []
    for name in ("fudan-quick", "fudan-bare", "fudan-heads", "fudan-lengths"):
        metrics = recorded.read_results(name)["metrics"]
        right = metrics["baselines"]["tfidf_svm"]["accuracy"]
        for pair in metrics["mcnemar"]:
            if pair["b"] == "tfidf_svm" and pair["a"] in metrics["models"]:
                ahead = metrics["models"][pair["a"]]["score"]["accuracy"] > right
                alone.append((pair["p"] < 0.05, ahead))
            if pair["b"] == "tfidf_svm" and pair["a"].endswith(" + svm"):
                over_svm.append(pair["p"] < 0.05)
            if pair["a"] == f"{pair['b']} + svm":
                both = metrics["hybrid"][pair["b"]]["accuracy"]
                ahead = both > metrics["models"][pair["b"]]["score"]["accuracy"]
                together.append(pair["p"] < 0.05 and ahead)
    assert ((True, True) not in alone) and ((True, False) in alone)
    assert "no tuned model was better than the linear" in page and "some were worse" in page
    assert f"In {sum(together)} of {len(together)} short trainings the pair was better" in page
    assert len(over_svm) == len(together) and not any(over_svm)
    assert "and in none of them better than the classifier alone" in page
    tests = recorded.read_results("fudan-lengths")["metrics"]["mcnemar"]
    p = {(pair["a"], pair["b"]): pair["p"] for pair in tests}
    alike = [("head-128", "head-1024"), ("head-256", "ends-256"), ("head-512", "ends-512")]
    assert "rows of 128 tokens did as well as rows of 1,024, and the beginning of an" in page
    assert all(p[pair] > 0.05 for pair in alike)
    epoch = recorded.read_results("fudan")["metrics"]
    p = {(pair["a"], pair["b"]): pair["p"] for pair in epoch["mcnemar"]}
    both = "rank16-prompt + svm"
    assert p[both, "tfidf_svm"] < 0.05 < p[both, "rank16-prompt"]
    assert "After the whole epoch it is better than the classifier, and cannot be told" in page
    ahead = {
        point["rows"]: point["accuracy"] > point["svm"] for point in epoch["curve"]["rank16-prompt"]
    }
    first = min(rows for rows in ahead if ahead[rows])
    assert all(ahead[rows] == (rows >= first) for rows in ahead)
    assert f"from its {first}th row on, and behind before" in page


def test_every_recorded_run_has_its_place_and_its_answer():
    page = (ROOT / "book" / "real-corpus.md").read_text(encoding="utf-8")
    runs = recorded.corpus_runs()
    assert len(runs) >= 5 and not any("{{ " + name not in page for name in runs)
    placed = recorded.place_runs(page)
    assert set(re.findall(r"\{\{.*?\}\}", placed)) == {"{{ study }}"}
    for record in runs.values():
        for part in filter(None, recorded.run_parts(record).values()):
            assert placed.count(part) == 1
    unnamed = recorded.place_runs("{{ fudan answer }}\n\n{{ other_runs }}")
    titles = [record["title"] for name, record in runs.items() if name != "fudan"]
    assert re.findall(r"^## (.*)$", unnamed, flags=re.M) == titles
    assert "{{" not in unnamed


def test_an_answer_counts_who_is_better_and_who_can_be_told_apart():
    record = make_record({"rank8": 0.9, "b": 0.8, "c": 0.3})
    metrics = record["metrics"]
    metrics["baselines"]["tfidf_svm"]["n"] = 1200
    for pair, p in zip(metrics["mcnemar"], (0.001, 0.2, 0.04)):
        pair["p"] = p
    metrics["mcnemar"] += [{"a": "c", "b": "rank8", "p": 0.01}, {"a": "b", "b": "rank8", "p": 0.3}]
    metrics["mcnemar"].append({"a": "base-plain", "b": "rank8", "p": 0.001})
    record["trainings"]["rank8"] |= {"max_length": 1024, "minutes": 9.0, "peak_gib": 3.0}
    record["trainings"]["b"] |= {"max_length": 128, "minutes": 2.0, "peak_gib": 2.0}
    assert recorded.answer(record) == (
        "By `score`, the 3 trainings are right on 30.0 to 90.0 % of the 1,200 test rows, and the "
        "linear SVM on 40.0 %. Of them, 1 can be told to be better than it (rank8), and 1 to be "
        "worse (c). Of 2 pairs of them that we tested, 1 can be told apart: rank8 is better than c "
        "(p = 0.01). "
        "Rows of 1,024 tokens took 4.5 times the minutes of rows of 128, and 1.5 times the memory."
    )
    metrics["mcnemar"] = metrics["mcnemar"][:1]
    assert recorded.answer(record).endswith("So rank8 is better than the linear SVM (p = 0.001).")


def test_a_head_has_no_template():
    own = {"template": None, "rank": 16, "max_length": 288, "steps": 170, "seed": 42}
    assert (
        "| head | none | 16 | 288 | its beginning | 170 | 42 | – | – |"
        in recorded.trainings_table({"head": own})
    )


def test_a_run_without_figures_is_told_what_makes_them(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["results", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"metrics\.json is missing: notebooks/05-evaluation"):
        results.main()


def test_a_threshold_that_no_test_row_reached_has_no_error():
    silent = {"target": 0.1, "threshold": 0.98, "coverage": 0, "error": None}
    answered = {"target": 0.1, "threshold": 0.5, "coverage": 0.9, "error": 0.04}
    page = recorded.decision_table({"rank8": {"model": [silent], "hybrid": [answered]}})
    assert "| rank8, model | 10 | 0.980 | 0.0 | – |" in page
    assert "| rank8, hybrid | 10 | 0.500 | 90.0 | 4.0 |" in page
