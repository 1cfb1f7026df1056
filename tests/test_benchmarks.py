"""Which figures of benchmarks are recorded together."""

import json

import pytest

from benchmarks import __main__ as bench
from benchmarks import growth as cost
from helpers import scoring
from tools import recorded


def test_parts_of_one_machine_stand_together_and_of_two_machines_never(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "processor", lambda: "a machine, 2 cores")
    bench.keep("memory", {"worst_error": 0.01}, tmp_path)
    growth = {
        f"scoring_{what}_{size}_{unit}": 0.5 * size
        for what in ("seconds", "peak_gib")
        for unit, sizes in {"rows": (60, 600), "tokens": (256, 4096)}.items()
        for size in sizes
    }
    bench.keep("growth", growth | {"scoring_growth_over_linear_rows": 1.25}, tmp_path)
    bench.keep("memory", {"worst_error": 0.015}, tmp_path)
    kept = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))
    assert set(kept["figures"]) == {"memory"} and (tmp_path / "growth.svg").is_file()
    monkeypatch.setattr(recorded, "RESULTS", tmp_path)
    page = recorded.benchmark_tables()
    assert "| worst error | 0.015 | at most 0.02 | met |" in page
    assert "| time over one forward | not measured there | at most 1.2 |  |" in page
    assert "Of 1 goals, none was missed" in page
    assert "| scoring | rows | 1.25 |" in page and "a machine, 2 cores" in page
    bench.keep("memory", {"worst_error": 0.03}, tmp_path)
    page = recorded.benchmark_tables()
    assert "| at most 0.02 | missed |" in page and "Of 1 goals, 1 was missed" in page
    monkeypatch.setattr(bench, "processor", lambda: "another machine")
    bench.keep("scoring", {"time_over_one_forward": 1.1}, tmp_path)
    kept = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))
    assert set(kept["figures"]) == {"scoring"}
    page = recorded.benchmark_tables()  # growth names a machine of its own
    assert "2 cores, Python" in page.split("## Cost")[1] and "another machine" in page


def test_a_line_on_the_way_is_no_figure():
    printed = "ours: 8 steps, 2.08 s a step\nours_seconds_a_step: 2.08 (2.0 to 2.1)\ncells: 72\n"
    assert bench.figures(printed) == {"ours_seconds_a_step": 2.08, "cells": 72}


def test_a_benchmark_that_there_is_not_is_one_line():
    with pytest.raises(SystemExit, match="no benchmark speed; there are: tokenizing"):
        bench.main(("speed",))


def test_prompts_that_are_timed_together_have_no_beginning_to_share():
    prompts = cost.unlike_prompts(40, 256, bos=2)
    assert {len(prompt) for prompt in prompts} == {256}
    alike = [len(set(tokens)) == 1 for tokens in zip(*prompts[:2])]
    assert alike.index(False) < scoring.WORTH_SHARING
