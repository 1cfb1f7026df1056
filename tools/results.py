"""Print a run's result table and the page to open: `python -m tools.results runs/sample`.

With --record FILE --device TEXT the run's figures are also written, without any text of its corpus,
for the page on the real corpus.
"""

import argparse
import datetime
import importlib.metadata
import json
from pathlib import Path

VERSIONS = ("torch", "transformers", "peft", "ms-swift")


def cell(value: dict) -> str:
    """Accuracy and its interval in per cent."""
    low, high = (100 * bound for bound in value["ci95"])
    return f"{100 * value['accuracy']:.1f} ({low:.1f} – {high:.1f})"


def result_rows(metrics: dict) -> list[tuple[str, str, str]]:
    """Name, generate, score for every model; baselines have one number."""
    rows = [
        (name, cell(modes["generate"]), cell(modes["score"]))
        for name, modes in metrics["models"].items()
    ]
    return rows + [(name, cell(value), "") for name, value in metrics["baselines"].items()]


def record(run: Path, metrics: dict, target: Path, device: str) -> None:
    """Write the run's figures for the page on the real corpus."""
    import yaml

    profile = yaml.safe_load((Path("profiles") / f"{run.name}.yml").read_text(encoding="utf-8"))
    training = profile["training"]
    value = {
        "title": f"{profile['model']} on {profile['title']}",
        "packaged": profile["source"] == "sample",
        "date": datetime.date.today().isoformat(),
        "device": device,
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "settings": {
            "Limit": f"{profile['max_length']} tokens of prompt and answer, only the body cut",
            "Training": "{steps} steps of {rows_per_step} rows, learning rate {learning_rate}".format(
                **training
            )
            + f", seed {profile['seed']}",
            "Minutes of training": ", ".join(
                f"{name} {cost['train_seconds'] / 60:.1f}" for name, cost in metrics["cost"].items()
            ),
            "Seconds of training of the linear SVM": f"{metrics['baselines']['tfidf_svm']['seconds']:.1f}",
        },
        "summary": json.loads((run / "data" / "summary.json").read_text(encoding="utf-8"))
        | {"source": profile["title"]},
        "metrics": metrics,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--device", default="not said")
    arguments = parser.parse_args()
    metrics = json.loads((arguments.run / "eval" / "metrics.json").read_text(encoding="utf-8"))
    n = next(iter(metrics["baselines"].values()))["n"]
    print(
        f"\nRight answers on {n} test rows, % (95 % interval)\n{'':<16}{'generate':>22}{'score':>22}"
    )
    for name, generate, score in result_rows(metrics):
        print(f"{name:<16}{generate:>22}{score:>22}")
    if arguments.record:
        record(arguments.run, metrics, arguments.record, arguments.device)
    print(f"\nOpen {arguments.run / 'html' / 'index.html'}")


if __name__ == "__main__":
    main()
