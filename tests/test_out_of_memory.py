"""Chapter 6: sizes that fit, the study's riddle, and how far a card reaches."""

import json

import pandas as pd
import pytest

from helpers import ROOT, estimates, memory, models, out_of_memory, plotting, scoring


def test_the_riddles_first_explanation_meets_both_numbers():
    """By the record of the library of that time, it fits what was asked for and what was held."""
    path = ROOT / "data" / "riddle1" / "events-4.41.2.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    first, second = rows[:2]
    assert first["requested_gib"] == pytest.approx(6.44, abs=0.005)
    assert abs(first["residual_gib"]) < 0.1 < abs(second["residual_gib"])
    assert "softmax" in first["hypothesis"]


def test_todays_library_asks_for_the_same():
    table, record = out_of_memory.riddle()
    assert record["transformers"] == "4.41.2"
    assert 0 < table.iloc[0]["allocated_gib"] - table.iloc[0]["allocated today"] < 1
    # sdpa writes no scores out, so beside the logits there are weights, cache and a few states
    by_sdpa = table.loc["bfloat16 logits of every position, sdpa"]
    assert by_sdpa["requested_gib"] == pytest.approx(6.44, abs=0.005)
    assert 7 < by_sdpa["allocated today"] < by_sdpa["allocated_gib"] < 9
    shown = out_of_memory.riddle_table(table)
    assert list(shown.index[:2]) == ["A", "B"] and len(shown) == len(table)
    assert shown.map(str).map(len).to_numpy().max() <= len("never asked for")


def test_a_few_layers_of_the_scorer_show_what_all_of_them_need(monkeypatch, tokenizer):
    config = models.recorded_config("Qwen1.5-1.8B")
    tree = scoring.option_tree(tokenizer, tokenizer.eos_token_id, ["Art", "Politics", "Sports"])
    short, few = (out_of_memory.scorer_gib(config, tree, length) for length in (500, 1500))
    monkeypatch.setattr(memory, "enough_layers", lambda text: text.num_hidden_layers)
    whole, full = (out_of_memory.scorer_gib(config, tree, length) for length in (500, 1500))
    assert short == pytest.approx(whole, rel=1e-6)
    # a trace of many storages may miss this share of its peak (see memory.StorageTracker)
    assert few * (1 - memory.SLACK) <= full <= few * (1 + 1e-6)


def test_a_parabola_meets_the_budget():
    points = [1, 2, 3, 4]
    values = [1 + n**2 for n in points]
    assert out_of_memory.reach(points, values, 101.0, 1000) == 10
    assert out_of_memory.reach(points, values, 1e9, 50) == 50
    assert out_of_memory.reach(points, values, 0.0, 50) == 0


def test_the_longest_rows_grow_with_the_card():
    configs = {"Yi-6B": models.recorded_config("Yi-6B")}
    table = out_of_memory.longest_rows(configs)
    numbers = table.loc[("Yi-6B", "training")].str.rstrip("*").str.replace(",", "")
    numbers = numbers.replace("–", "0").astype(int)
    assert list(numbers) == sorted(numbers) and numbers["24 GB"] > 2048
    assert table.loc[("Yi-6B", "training, no checkpointing"), "24 GB"] == "1,876"


def test_the_bars_of_a_step_add_up_to_what_it_needs():
    config = models.recorded_config("Yi-6B")
    needs = estimates.estimate(config, 2048, training=True, rank=128)
    axes = plotting.step_parts(pd.DataFrame({"Yi-6B": needs}).T, "a step").axes[0]
    end = max(bar.get_x() + bar.get_width() for bar in axes.patches)
    assert end == pytest.approx(needs["total"])
    assert "cache" not in [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_numbers_of_the_two_tensors_are_the_models_own():
    config = models.recorded_config("Yi-6B")
    network = memory.build_on_meta(config, "float32", "sdpa")
    ways = ("inference, naive", "inference, last position", "inference, eager attention")
    grid = pd.DataFrame([{"way": way, "tokens": 64, "peak_gib": 0.5} for way in ways])
    path = ROOT / "data" / "riddle1" / "events-4.41.2.json"
    riddle = pd.DataFrame(json.loads(path.read_text(encoding="utf-8"))["rows"])
    reaches = {"in pieces": 9000, "at best": 11000, "… and chunked": 32768}
    checks = pd.DataFrame({"error of the forecast": [0.01]})
    said = out_of_memory.findings(1.0, network, grid, riddle, reaches, checks, 13.0)
    assert (said["vocabulary"], said["heads"], said["number_bytes"]) == ("64,000", 32, 4)
    assert said["thousand_logits"] == pytest.approx(1000 * 64000 * 4 / memory.GIB)
