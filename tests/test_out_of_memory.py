"""Chapter 6: sizes that fit, the study's riddle, and how far a card reaches."""

import json

import pytest

from helpers import ROOT, InputError, memory, models, out_of_memory

CARDS = {"Yi-6B": 24, "Baichuan2-7B-Base": 24, "Qwen1.5-1.8B": 24, "Qwen3-0.6B-Base": 16}


@pytest.mark.parametrize(("name", "gigabytes"), CARDS.items())
def test_what_the_chapter_picks_fits_the_card_by_forecast(name, gigabytes):
    """Every length that is left, read in the hungriest way and stepped, stays within the card."""
    config = out_of_memory.recorded_config(name)
    budget = gigabytes * 1e9 / memory.GIB - out_of_memory.CUDA_GIB
    lengths = [256, 512, 1024, 2048]
    worst = {"attention": "eager", "last_only": False}
    fits, _ = out_of_memory.fitting_lengths(config, lengths, budget, **worst)
    assert memory.forecast(config, max(fits), **worst)["total"] <= budget
    steps, line = out_of_memory.fitting_lengths(config, fits, budget, training=True)
    assert memory.forecast(config, max(steps), training=True)["total"] <= 1.02 * budget
    if name == "Yi-6B":  # without checkpointing 2,048 tokens do not fit
        assert 2048 not in steps and line.startswith("left out: 2048 tokens")


def test_a_budget_too_small_gives_way_and_then_stops():
    config = models.load_config(models.PACKAGED)
    need = memory.estimate(config, 128)["total"]
    fits, line = out_of_memory.fitting_lengths(config, [128, 100_000], need * 1.01)
    assert fits == [128] and "left out: 100000 tokens" in line
    with pytest.raises(InputError, match="a row of 128 tokens needs") as error:
        out_of_memory.fitting_lengths(config, [128], need / 2)
    assert "\n" not in str(error.value)


def test_the_riddles_first_explanation_meets_both_numbers():
    """The record of the library of that time: what was asked for, and what was held."""
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
    shown = out_of_memory.riddle_table(table)
    assert list(shown.index[:2]) == ["A", "B"] and len(shown) == len(table)
    assert shown.map(str).map(len).to_numpy().max() <= len("never asked for")


def test_a_parabola_meets_the_budget():
    points = [1, 2, 3, 4]
    values = [1 + n**2 for n in points]
    assert out_of_memory.reach(points, values, 101.0, 1000) == 10
    assert out_of_memory.reach(points, values, 1e9, 50) == 50
    assert out_of_memory.reach(points, values, 0.0, 50) == 0


def test_the_longest_rows_grow_with_the_card():
    configs = {"Yi-6B": out_of_memory.recorded_config("Yi-6B")}
    table = out_of_memory.longest_rows(configs)
    numbers = table.loc[("Yi-6B", "training")].str.rstrip("*").str.replace(",", "")
    numbers = numbers.replace("–", "0").astype(int)
    assert list(numbers) == sorted(numbers) and numbers["24 GB"] > 2048
    assert table.loc[("Yi-6B", "training, no checkpointing"), "24 GB"] == "1,876"
