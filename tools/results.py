"""Print a run's result table and the page to open: `python -m tools.results runs/sample`.

With --record DEVICE the run's figures are also kept, without any text of its corpus: as
book/results/<run>.json for the book's pages and, of the packaged sample, as a picture and a table
for both READMEs.
"""

import argparse
import datetime
import importlib.metadata
import json
import re
from pathlib import Path

from helpers import ROOT
from helpers.files import write_json, write_text
from helpers.profiles import read_profile

VERSIONS = ("torch", "transformers", "peft", "ms-swift", "scikit-learn")
RESULTS = ROOT / "book" / "results"


def cell(value: dict) -> str:
    """Accuracy and its interval in per cent, such as "93.3 (89.1 – 96.0)"."""
    low, high = (100 * bound for bound in value["ci95"])
    return f"{100 * value['accuracy']:.1f} ({low:.1f} – {high:.1f})"


def result_rows(metrics: dict) -> list[tuple[str, str, str]]:
    """Name, generate, score for every model; heads, hybrids and baselines have one number.

    Args:
        metrics: the content of eval/metrics.json.
    """
    models = [
        (name, cell(modes["generate"]), cell(modes["score"]))
        for name, modes in metrics["models"].items()
    ]
    hybrids = [
        (f"{name} + svm", "", cell(value)) for name, value in metrics.get("hybrid", {}).items()
    ]
    models += [(name, "", cell(value)) for name, value in metrics.get("heads", {}).items()]
    return models + hybrids + [(name, cell(v), "") for name, v in metrics["baselines"].items()]


def table(metrics: dict) -> str:
    """The result table in Markdown."""
    lines = [f"| {name} | {generate} | {score} |" for name, generate, score in result_rows(metrics)]
    return "\n".join(["| | generate | score |", "|---|---|---|", *lines])


def record(run: Path, metrics: dict, device: str) -> dict:
    """Keep a run's figures in book/results/<run>.json.

    Args:
        run: the run's folder, named as its profile.
        metrics: the content of its eval/metrics.json.
        device: what it ran on, in words.

    Returns:
        What was written.
    """
    values = read_profile(run.name).values
    training = values["training"]
    minutes = {name: cost["train_seconds"] / 60 for name, cost in metrics["cost"].items()}
    said = "{steps} steps of {rows_per_step} rows, learning rate {learning_rate}".format(**training)
    content = {
        "title": f"{values['model']} on {values['title']}",
        "packaged": values["source"] == "sample",
        "date": datetime.date.today().isoformat(),
        "device": device,
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "settings": {
            "Limit": f"{values['max_length']} tokens of prompt and answer, unless a setting says "
            "otherwise; only the body is cut",
            "Training": f"{said}, seed {values['seed']}",
            "Minutes of training": ", ".join(f"{name} {m:.1f}" for name, m in minutes.items()),
            "Seconds of training of the linear SVM": (
                f"{metrics['baselines']['tfidf_svm']['seconds']:.1f}"
            ),
        },
        "summary": json.loads((run / "data" / "summary.json").read_text(encoding="utf-8"))
        | {"source": values["title"]},
        "metrics": metrics,
    }
    write_json(RESULTS / f"{run.name}.json", content)
    return content


def draw(metrics: dict, target: Path) -> None:
    """The picture of what came out, for the READMEs: shares of right answers with intervals.

    Args:
        metrics: the content of eval/metrics.json.
        target: an SVG file.
    """
    from matplotlib import pyplot as plt

    from helpers import plotting

    plotting.style()
    entries = []
    for name, modes in metrics["models"].items():
        entries.append((f"{name}, writes", modes["generate"], "C7" if "base" in name else "C0"))
        if name.startswith("base-"):
            entries.append((f"{name}, options scored", modes["score"], "C7"))
    entries += [(f"{name}, a head", v, "C4") for name, v in metrics.get("heads", {}).items()]
    entries += [(f"linear SVM + {n}", v, "C2") for n, v in metrics.get("hybrid", {}).items()]
    entries.append(("linear SVM", metrics["baselines"]["tfidf_svm"], "C1"))
    figure, axes = plt.subplots(figsize=(8, 0.36 * len(entries) + 0.9))
    for place, (_, value, colour) in enumerate(entries):
        share, (low, high) = value["accuracy"], value["ci95"]
        spread = [[100 * (share - low)], [100 * (high - share)]]
        axes.errorbar([100 * share], [place], xerr=spread, fmt="o", color=colour, capsize=3)
    axes.set(xlabel="test rows right, % (bars: 95 % interval)", xlim=(-2, 102))
    axes.set(yticks=range(len(entries)), yticklabels=[label for label, _, _ in entries])
    axes.invert_yaxis()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None}, facecolor="white")
    text = target.read_text(encoding="utf-8")
    write_text(target, ["\n".join(line.rstrip() for line in text.splitlines()) + "\n"])
    plt.close(figure)


def fill(page: Path, name: str, text: str) -> None:
    """Put text between a page's marks `<!-- results:name -->` and `<!-- /results -->`.

    Args:
        page: a Markdown file; left alone where it has no such marks.
        name: of the run.
        text: what shall stand there.
    """
    content = page.read_text(encoding="utf-8")
    marks = rf"(<!-- results:{name} -->\n).*?(<!-- /results -->)"
    write_text(page, [re.sub(marks, lambda m: f"{m[1]}{text}\n{m[2]}", content, flags=re.S)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--record", metavar="DEVICE")
    arguments = parser.parse_args()
    metrics = json.loads((arguments.run / "eval" / "metrics.json").read_text(encoding="utf-8"))
    n = next(iter(metrics["baselines"].values()))["n"]
    rows = result_rows(metrics)
    width = max(len(name) for name, _, _ in rows) + 2
    print(f"\nRight answers on {n} test rows, % (95 % interval)")
    print(f"{'':<{width}}{'generate':>22}{'score':>22}")
    for name, generate, score in rows:
        print(f"{name:<{width}}{generate:>22}{score:>22}")
    if arguments.record:
        content = record(arguments.run, metrics, arguments.record)
        if content["packaged"]:
            draw(metrics, RESULTS / f"{arguments.run.name}.svg")
        for readme in ("README.md", "README.zh.md"):
            fill(ROOT / readme, arguments.run.name, table(metrics))
    print(f"\nOpen {arguments.run / 'html' / 'index.html'}")


if __name__ == "__main__":
    main()
