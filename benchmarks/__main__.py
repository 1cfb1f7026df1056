"""Run all benchmarks, print their ratios in one table and keep them: `make bench`.

Run it by hand, with nothing else on the machine, because timings beside other work mean nothing.
The figures go into book/results/benchmarks.json, with machine, date and versions, for the page on
performance. How cost grows has a file of its own, growth.json. With names, as in `python -m
benchmarks scoring growth`, only these are run, and the figures of the others are kept.
"""

import datetime
import importlib.metadata
import platform
import re
import subprocess
import sys
from pathlib import Path

import torch
from matplotlib import pyplot as plt

from helpers import ROOT, models, plotting
from helpers.files import read_json, write_json
from tools import pictures
from tools.recorded import meets
from tools.results import RESULTS

GOALS = {
    "samples_per_s_vs_swift_default": (">=", 4.5),
    "samples_per_s_vs_swift_same_dtype": (">=", 3.0),
    "share_of_matmul_rate": (">=", 0.45),
    "time_over_one_forward": ("<=", 1.2),
    "rows_per_s_vs_lm_eval": (">=", 15.0),
    "rows_per_s_vs_study_loop": (">=", 20.0),
    "share_of_tokenizer_throughput_256": (">=", 0.8),
    "share_of_tokenizer_throughput_2048": (">=", 0.8),
    "share_of_tokenizer_throughput_8192": (">=", 0.8),
    "worst_error": ("<=", 0.02),
    "rows_per_s_vs_scorer": (">=", 0.9),
}
"""Figures that this book promises, and the bound that each must keep."""
SCRIPTS = ("tokenizing", "memory", "scoring", "classifying", "training", "growth")
VERSIONS = ("torch", "transformers", "peft", "ms-swift", "lm-eval")


def figures(printed: str) -> dict[str, float]:
    """The figures in a benchmark's `name: value` lines; only a spread may follow the value."""
    lines = re.findall(r"^(\w+): (-?[\d.]+(?:e-?\d+)?)(?: \(.*)?$", printed, re.M)
    return {name: float(value) for name, value in lines}


def processor() -> str:
    """The processor's name, how many of its cores torch uses, and the type models compute in."""
    with open("/proc/cpuinfo") as file:
        name = re.search(r"model name\s*: (.+)", file.read())
    cores, dtype = torch.get_num_threads(), models.pick_dtype()
    shown = f"{cores} core{'s' * (cores > 1)}"
    return f"{name[1] if name else platform.machine()}, {shown}, models in {dtype}"


def draw_growth(values: dict[str, float], target: Path) -> None:
    """Draw how cost grows with the work: seconds and peak memory against rows and against tokens.

    Args:
        values: what benchmarks/growth.py printed, such as "scoring_seconds_256_tokens".
        target: an SVG file.
    """
    plotting.style()
    figure, axes = plt.subplots(2, 2, figsize=(8, 5.2), sharex="col")
    for column, unit in enumerate(("rows", "tokens")):
        for line, (what, label) in enumerate((("seconds", "seconds"), ("peak_gib", "peak, GiB"))):
            pattern = re.compile(rf"(\w+)_{what}_(\d+)_{unit}")
            points: dict[str, dict[int, float]] = {}
            for name, value in values.items():
                if match := pattern.fullmatch(name):
                    points.setdefault(match[1], {})[int(match[2])] = value
            for name, by_size in points.items():
                axes[line, column].plot(by_size.keys(), by_size.values(), "o-", label=name)
            axes[line, column].set(xscale="log", ylabel=label)
            if what == "seconds":
                axes[line, column].set(yscale="log")
                axes[line, column].legend(fontsize=8)
        axes[1, column].set(xlabel={"rows": "rows", "tokens": "tokens of a row"}[unit])
    plotting.plain_ticks(*(axis for one in axes.flat for axis in (one.xaxis, one.yaxis)))
    figure.tight_layout()
    pictures.save(figure, target)


def keep(script: str, values: dict[str, float], results: Path) -> None:
    """Record what a benchmark printed, beside what the others printed on the same machine.

    Each benchmark runs its contestants side by side, so it may be run by itself. Figures from
    another machine or from other versions are dropped. Growth is kept in a file of its own.

    Args:
        script: one of SCRIPTS.
        values: figures by name.
        results: the folder of recorded figures.
    """
    file = results / ("growth.json" if script == "growth" else "benchmarks.json")
    said = {
        "machine": processor(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }
    kept = read_json(file) if file.is_file() else {}
    alike = all(kept.get(name) == value for name, value in said.items())
    parts = (kept["figures"] if alike else {}) | {script: values}
    today = datetime.date.today().isoformat()
    goals = {} if script == "growth" else {"goals": GOALS}
    write_json(file, said | {"date": today, "figures": parts} | goals)
    if script == "growth":
        draw_growth(values, results / "growth.svg")


def main(scripts: tuple[str, ...]) -> None:
    if unknown := set(scripts) - set(SCRIPTS):
        sys.exit(f"✗ no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(SCRIPTS)}")
    measured = {}
    for script in scripts:
        print(f"▶ benchmarks/{script}.py", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{script}"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        print(done.stdout, flush=True)
        if done.returncode:
            sys.exit(f"✗ benchmarks/{script}.py failed ({done.returncode})")
        measured[script] = figures(done.stdout)
        keep(script, measured[script], RESULTS)
    print(f"{'figure':<44}{'measured':>10}   goal")
    for values in measured.values():
        for name, (sign, goal) in GOALS.items():
            if name in values:
                met = meets(values[name], (sign, goal))
                print(f"{name:<44}{values[name]:>10.3f}   {sign} {goal} {'' if met else '✗'}")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or SCRIPTS)
