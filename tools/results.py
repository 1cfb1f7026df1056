"""Print a run's result table and the page to open: `python -m tools.results runs/sample`.

With --record DEVICE the run's figures are also kept, without any text of its corpus: as
book/results/<run>.json for the book's pages, as a picture and, of the packaged sample, as a table
for both READMEs.
"""

import argparse
import datetime
import importlib.metadata
import re
import sys
from pathlib import Path

from helpers import ROOT, InputError
from helpers.files import need, read_json, write_json, write_text
from helpers.metrics import score_shares
from helpers.pages import per_cent_interval
from helpers.profiles import Profile, read_profile

VERSIONS = ("torch", "transformers", "peft", "ms-swift", "scikit-learn")
RESULTS = ROOT / "book" / "results"


def cell(value: dict) -> str:
    """Accuracy and its interval in per cent, such as "93.3 (89.1 – 96.0)"."""
    return f"{100 * value['accuracy']:.1f} ({per_cent_interval(*value['ci95'], 1)})"


def result_rows(metrics: dict) -> list[tuple[str, str, str]]:
    """Name, generate and score of every model.

    Heads, hybrids and baselines do not write, and their only number stands under score.

    Args:
        metrics: the content of eval/metrics.json.
    """
    written = {name: cell(modes["generate"]) for name, modes in metrics["models"].items()}
    return [
        (name, written.get(name, ""), cell(share)) for name, share in score_shares(metrics).items()
    ]


def markdown_table(head: str, lines: list[str]) -> str:
    """A table in Markdown.

    Args:
        head: its first line, with the names of the columns.
        lines: the others, below the rule.
    """
    rule = "|---" * (head.count("|") - 1) + "|"
    return "\n".join([head, rule, *lines])


def table(metrics: dict) -> str:
    """The result table in Markdown."""
    lines = [f"| {name} | {generate} | {score} |" for name, generate, score in result_rows(metrics)]
    return markdown_table("| | generate | score |", lines)


def record(run: Path, metrics: dict, device: str) -> dict:
    """Keep a run's figures in book/results/<run>.json.

    Args:
        run: the run's folder, named like its profile.
        metrics: the content of its eval/metrics.json.
        device: what it ran on, in words.

    Returns:
        What was written.
    """
    profile = read_profile(run.name)
    values, training = profile.values, profile.values["training"]
    lasts = "{steps} steps of" if training.get("steps") else "{num_train_epochs} epochs in steps of"
    said = f"{lasts} {{rows_per_step}} rows, learning rate {{learning_rate}}".format(**training)
    computed = datetime.date.fromtimestamp((run / "eval" / "metrics.json").stat().st_mtime)
    content = {
        "run": run.name,
        "title": f"{values['model']} on {values['title']}",
        "packaged": values["source"] == "sample",
        "date": computed.isoformat(),
        "device": device,
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "settings": {
            "Limit": f"{values['max_length']} tokens of prompt and answer, unless a setting says "
            "otherwise; only the body is cut",
            "Training": f"{said}, seed {values['seed']}",
            "Seconds of training of the linear SVM": (
                f"{metrics['baselines']['tfidf_svm']['seconds']:.1f}"
            ),
        },
        "trainings": {name: training_of(profile, name, metrics) for name in profile.settings},
        "summary": read_json(run / "data" / "summary.json") | {"source": values["title"]},
        "metrics": metrics,
    }
    write_json(RESULTS / f"{run.name}.json", content)
    return content


def training_of(profile: Profile, setting: str, metrics: dict) -> dict:
    """How a setting was trained and what that cost, for a line of a table.

    Args:
        profile: of the run.
        setting: one of its settings.
        metrics: the content of eval/metrics.json.

    Returns:
        The parameters that differ most between settings, with minutes and peak_gib.
    """
    given = profile.training_parameters(setting)
    names = ("template", "rank", "max_length", "cut", "steps", "seed")
    cost = metrics["cost"].get(setting, {})
    minutes = cost["train_seconds"] / 60 if "train_seconds" in cost else None
    own = {name: given.get(name) for name in names}
    return own | {"minutes": minutes, "peak_gib": cost.get("peak_gib")}


def fill(page: Path, name: str, text: str) -> None:
    """Put text between a page's marks `<!-- results:name -->` and `<!-- /results -->`.

    Args:
        page: a Markdown file; left alone where it has no such marks.
        name: of the run.
        text: what to put there.
    """
    content = page.read_text(encoding="utf-8")
    marks = rf"(<!-- results:{name} -->\n).*?(<!-- /results -->)"
    write_text(page, [re.sub(marks, lambda m: f"{m[1]}{text}\n{m[2]}", content, flags=re.S)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--record", metavar="DEVICE")
    arguments = parser.parse_args()
    try:
        file = need(arguments.run / "eval" / "metrics.json", "05-evaluation")
    except InputError as error:
        sys.exit(f"✗ {error}")
    metrics = read_json(file)
    n = next(iter(metrics["baselines"].values()))["n"]
    rows = result_rows(metrics)
    width = max(len(name) for name, _, _ in rows) + 2
    print(f"\nRight answers on {n} test rows, % (95 % interval)")
    print(f"{'':<{width}}{'generate':>22}{'score':>22}")
    for name, generate, score in rows:
        print(f"{name:<{width}}{generate:>22}{score:>22}")
    if arguments.record:
        content = record(arguments.run, metrics, arguments.record)
        from tools import pictures  # takes a second to load, and most runs record nothing

        picture = RESULTS / f"{arguments.run.name}.svg"
        if content["packaged"]:
            pictures.draw_shares(metrics, picture)
        else:
            pictures.draw_corpus(metrics, picture)
        for readme in ("README.md", "README.zh.md"):
            fill(ROOT / readme, arguments.run.name, table(metrics))
    print(f"\nOpen {arguments.run / 'html' / 'index.html'}")


if __name__ == "__main__":
    main()
