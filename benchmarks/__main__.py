"""Run all benchmarks, print their ratios in one table and keep them: `make bench`.

By hand, alone on the machine: timings beside other work mean nothing. What was measured goes into
book/results/benchmarks.json, with machine, date and versions, for the page on performance.
"""

import datetime
import importlib.metadata
import platform
import re
import subprocess
import sys

import torch

from helpers import ROOT
from helpers.files import write_json

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
"""Figures that this book promises, and from where on they are met."""
SCRIPTS = ("tokenizing", "memory", "scoring", "classifying", "training", "growth")
VERSIONS = ("torch", "transformers", "peft", "ms-swift", "lm-eval")


def figures(printed: str) -> dict[str, float]:
    """The `name: value` lines of a benchmark."""
    lines = re.findall(r"^(\w+): (-?[\d.]+(?:e-?\d+)?)\b", printed, re.M)
    return {name: float(value) for name, value in lines}


def processor() -> str:
    """The processor's name, and how many of its cores torch uses."""
    with open("/proc/cpuinfo") as file:
        name = re.search(r"model name\s*: (.+)", file.read())
    return f"{name[1] if name else platform.machine()}, {torch.get_num_threads()} cores"


def main(scripts: tuple[str, ...]) -> None:
    measured = {}
    for script in scripts:
        print(f"▶ benchmarks/{script}.py", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{script}"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        print(done.stdout, flush=True)
        if done.returncode:
            sys.exit(f"✗ benchmarks/{script}.py failed ({done.returncode})")
        measured[script] = figures(done.stdout)
    print(f"{'figure':<44}{'measured':>10}   goal")
    for values in measured.values():
        for name, (sign, goal) in GOALS.items():
            if name in values:
                met = values[name] >= goal if sign == ">=" else values[name] <= goal
                print(f"{name:<44}{values[name]:>10.3f}   {sign} {goal} {'' if met else '✗'}")
    if scripts == SCRIPTS:
        content = {
            "date": datetime.date.today().isoformat(),
            "machine": processor(),
            "python": platform.python_version(),
            "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
            "figures": measured,
            "goals": GOALS,
        }
        write_json(ROOT / "book" / "results" / "benchmarks.json", content)


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or SCRIPTS)
