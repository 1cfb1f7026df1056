"""Classifying a file against the scorer alone: `python -m benchmarks.classifying [ROWS]`.

Both read the same rows, in turns, three times; the figures are medians. Classifying adds reading
the file, prompts, journal and table to what benchmarks/scoring.py measures as ours. The model is
loaded before either begins. The adapter changes nothing, because one that learned something would
be merged and cost the same.
"""

import contextlib
import io
import statistics
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.scoring import timed
from helpers import classify, files, models, scoring, templating
from helpers.adapters import AdapterPrompt, write_prompt
from helpers.classifier import Classifier
from helpers.sources import read_source

TURNS = 3


def untouched(folder: Path, labels: list[str]) -> Classifier:
    """A classifier whose adapter changes nothing and whose model is loaded."""
    from peft import LoraConfig, get_peft_model

    network = models.load_model(models.PACKAGED)
    adapter = folder / "train" / "untouched" / "adapter"
    # B begins at zero, so the adapter is there but adds nothing
    get_peft_model(network, LoraConfig(r=1, target_modules="all-linear")).save_pretrained(adapter)
    prompt_format = templating.PromptFormat(templating.PLAIN, 256, True)
    write_prompt(adapter, AdapterPrompt(models.PACKAGED, prompt_format, labels))
    classifier = Classifier(adapter)
    assert classifier.tokenizer and classifier.model
    return classifier


def main(count: int) -> None:
    rows = list(read_source("sample").splits["test"])[:count]
    labels = sorted({row["output"] for row in rows})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        own = [{"text": row["text"], "category": row["category"]} for row in rows]
        files.write_jsonl(folder / "articles.jsonl", own)
        classifier = untouched(folder, labels)
        network, tokenizer = classifier.model, classifier.tokenizer
        fitted = templating.fit_all(tokenizer, classifier.prompt.prompt_format, rows)
        prompts = [prompt.ids for prompt in fitted]
        menus = [row["category"] for row in rows]
        print(f"rows: {count}\nthreads: {torch.get_num_threads()}")
        contestants = {
            "scorer": lambda: scoring.ask(network, tokenizer, prompts, menus),
            "classify": lambda: classify.classify_file(
                classifier, folder / "articles.jsonl", folder / "answers.csv", say=lambda line: None
            ),
        }
        seconds = {name: [] for name in contestants}
        with contextlib.redirect_stderr(io.StringIO()):  # hides the progress bars
            for _ in range(TURNS):
                for name, action in contestants.items():
                    seconds[name].append(timed(action))
    for name, values in seconds.items():
        print(f"rows_per_s_{name}: {count / statistics.median(values):.2f}")
    ratios = [a / b for a, b in zip(seconds["scorer"], seconds["classify"])]
    print(f"rows_per_s_vs_scorer: {statistics.median(ratios):.3f}")
    print(f"rows_per_s_vs_scorer_least: {min(ratios):.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 48)
