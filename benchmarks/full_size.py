"""The study's models at full size, without a GPU: `python -m benchmarks.full_size [PROFILE …]`.

Weights of a study model's configuration are drawn at random, and the eight chapters run on them
with the profile's own settings, but with few rows and steps. Each chapter is a process of its own
that may hold no more memory than the card that the profile is for. The forecast, the measured peak
and the seconds of every chapter are printed as `name: value` lines and kept in
book/results/full-size.json.

The limit is RLIMIT_DATA. It counts a process's own memory once: what it asked for, and weights that
it maps privately from files. RLIMIT_AS would also count libraries and address space that is never
touched, and RLIMIT_RSS does nothing on Linux. The samples that measure the peak of a chapter's
processes also hold all of them together to the same limit.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from benchmarks.__main__ import VERSIONS, processor
from helpers import ROOT, InputError, budgets, estimates, memory, models
from helpers.files import read_json, read_jsonl, write_json, write_jsonl
from helpers.profiles import CHAPTERS, Profile, read_profile

CONFIGS = {"qwen3-0.6b": "Qwen3-0.6B-Base", "qwen1.5-1.8b": "Qwen1.5-1.8B", "yi-6b": "Yi-6B"}
"""The recorded configuration of each profile's model, the smallest model first."""
LIMIT_GIB = 24e9 / memory.GIB
"""The memory that a chapter may hold: that of a card of 24 GB."""
RESULTS = ROOT / "book" / "results" / "full-size.json"
ROWS = {"train_limit": 12, "val_limit": 4, "test_limit": 4}
FEW = {
    "01-dataset-exploration": ROWS | {"rare_classes": "train"},
    "02-prompt-design": {"probe_rows": 2, "orders": 2},
    "04-training": {"steps": 2, "rows_per_step": 2, "evaluations": 1, "checkpoint_rows": 2},
    "05-evaluation": {"probe_rows": 2},
}
"""What each chapter gets less of than the profile says; all else is the profile's own."""
ASKED_AT_ONCE = 4
"""The most rows that a chapter asks about at once, because it has so few."""
EVERY = 0.2
"""Seconds between two looks at a chapter's processes."""
LEFT_GIB = 0.7
"""GiB that must be left on the machine for all other programs; else a chapter is stopped."""


class Outcome(NamedTuple):
    """How a chapter ended, and what it took."""

    peak_gib: float
    """The most resident memory of its processes together, as sampled."""
    process_gib: float
    """The most resident memory of a single process, the one that holds the model."""
    seconds: float
    ended: str
    """Empty where the chapter went well; else its last line, or why it was stopped."""


def cut_tokenizer(tokenizer, size: int):
    """A byte-level BPE tokenizer with at most `size` tokens, the first ones of a larger tokenizer.

    Args:
        tokenizer: a fast tokenizer of transformers that numbers its tokens by rank.
        size: of the vocabulary into which its ids must fit.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    if len(tokenizer) <= size:
        return tokenizer
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    added, bpe = content["added_tokens"], content["model"]
    first = size - len(added)
    special = {token["content"] for token in added}
    bpe["vocab"] = {
        token: number
        for token, number in bpe["vocab"].items()
        if number < first and token not in special
    }
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in bpe["merges"]]
    # a token may be merged from parts that come after it in the vocabulary
    bpe["merges"] = [
        [a, b]
        for a, b in pairs
        if a in bpe["vocab"] and b in bpe["vocab"] and a + b in bpe["vocab"]
    ]
    for place, token in enumerate(added):
        token["id"] = first + place
        bpe["vocab"][token["content"]] = token["id"]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
    )


def write_model(folder: Path, config) -> None:
    """Write a model's folder with weights drawn at random in bfloat16, one file for each layer.

    Only one layer is in memory at a time. The standard deviation is the configuration's own
    `initializer_range`, norms are 1 and biases 0, as in a new model of transformers.

    Args:
        folder: made here; gets configuration, weights and a tokenizer that fits the vocabulary.
        config: a transformers config of a causal language model.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    config.dtype = torch.bfloat16
    network = memory.build_on_meta(config, "bfloat16", "sdpa")
    config.architectures = [type(network).__name__]
    tied = set(getattr(network, "all_tied_weights_keys", None) or {})
    shards: dict[str, dict[str, torch.Size]] = {}
    for name, weight in network.named_parameters(remove_duplicate=False):
        if name in tied:
            continue
        parts = name.split(".")
        layer = int(parts[2]) if parts[1] == "layers" else -1
        shards.setdefault(f"layer {layer:03}" if layer >= 0 else name, {})[name] = weight.shape
    draw, places = torch.Generator().manual_seed(0), {}
    for number, shapes in enumerate(shards.values(), 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {}
        for name, shape in shapes.items():
            weight = torch.zeros(shape, dtype=torch.bfloat16)
            if name.endswith("norm.weight"):
                weight.fill_(1)
            elif not name.endswith("bias"):
                weight.normal_(std=config.initializer_range, generator=draw)
            tensors[name] = weight
        save_file(tensors, folder / file, {"format": "pt"})
        places |= dict.fromkeys(shapes, file)
    size = sum(weight.numel() * 2 for weight in network.parameters())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    write_json(folder / "model.safetensors.index.json", index)
    tokenizer = cut_tokenizer(models.qwen_tokenizer(), config.vocab_size)
    tokenizer.save_pretrained(folder)
    config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
    config.bos_token_id = None
    config.save_pretrained(folder)


def write_rows(path: Path) -> None:
    """Write those of the sample's 60 longest articles that are of their five commonest classes."""
    sample = ROOT / "data" / "sample"
    every = [row for name in ("train", "test") for row in read_jsonl(sample / f"{name}.jsonl")]
    longest = sorted(every, key=lambda row: -len(row["text"]))[:60]
    labels = [row["output"] for row in longest]
    common = sorted(set(labels), key=lambda label: (-labels.count(label), label))[:5]
    write_jsonl(path, [row for row in longest if row["output"] in common])


def few_parameters(
    profile: Profile, chapter: str, setting: str, scratch: Path, most_tokens: int | None
) -> dict:
    """The parameters for a chapter: the profile's own, but few rows and steps.

    Args:
        profile: the one whose parameters count.
        chapter: one of CHAPTERS.
        setting: the one setting that is trained.
        scratch: the folder that holds model/, rows.jsonl and run/.
        most_tokens: an upper limit of max_length and lengths; None keeps the profile's own.
    """
    given = profile.parameters(chapter, setting) | FEW.get(chapter, {})
    given["run_dir"] = str(scratch / "run")
    if "model" in given:
        given["model"] = str(scratch / "model")
    if "source" in given:
        given["source"] = str(scratch / "rows.jsonl")
    if "settings" in given:
        given["settings"] = [setting]
    if most_tokens and "max_length" in given:
        given["max_length"] = min(most_tokens, given["max_length"])
    if most_tokens and "lengths" in given:
        given["lengths"] = [n for n in given["lengths"] if n <= most_tokens] or [most_tokens]
    return given


def forecast_gib(config, number: int, training: dict, run: Path) -> float:
    """GiB that the book expects a chapter to need beside Python; see budgets.chapter_needs.

    Args:
        config: the model's transformers config.
        number: of the chapter, 1 to 8.
        training: the parameters of chapter 4.
        run: the folder in which chapter 6 noted the lengths that it measured.
    """
    length, dtype = training["max_length"], models.pick_dtype()
    batch = budgets.usual_rows(length)
    if number != 8:  # it also asks about one article with each passage left out in turn
        batch = min(ASKED_AT_ONCE, batch)
    choices = {"length": length, "batch": batch, "attention": models.pick_attention(length)}
    if number == 4:
        extra = training["swift_arguments"]
        choices = {"length": length, "batch": training["batch_size"], "rank": training["rank"]}
        choices["checkpointing"] = bool(extra.get("gradient_checkpointing"))
    if number == 6:
        report = read_json(run / "memory" / "report.json")
        choices = {"length": max(line["tokens"] for line in report["grid"])}
    return budgets.chapter_needs(config, number, dtype=dtype, **choices)


def run_limited(command: list[str], limit_gib: float, log: Path) -> Outcome:
    """Run a command whose processes may hold no more than a limit, and measure what they hold.

    Args:
        command: a program and its arguments; it runs in the project's root.
        limit_gib: for each process, by RLIMIT_DATA, and for all of them together, by sampling.
        log: gets what it prints.
    """
    limit = int(limit_gib * memory.GIB)

    def restrict():
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    peak, largest, ended, started = 0.0, 0.0, "", time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=restrict,
        )
    tree = psutil.Process(process.pid)
    try:
        while process.poll() is None:
            held, most = resident_gib(tree)
            peak, largest = max(peak, held, most), max(largest, most)
            if held > limit_gib:
                ended = f"stopped: its processes together held {held:.1f} GiB"
                kill(tree)
            elif psutil.virtual_memory().available < LEFT_GIB * memory.GIB:
                ended = f"stopped at {held:.1f} GiB: this machine had no more memory"
                kill(tree)
            time.sleep(EVERY)
    except BaseException:
        kill(tree)
        raise
    if process.returncode and not ended:
        lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").split("\n")
        last = [line for line in lines if line.strip()][-1:]
        ended = last[0] if last else f"exit status {process.returncode}"
    return Outcome(peak, largest, time.monotonic() - started, ended)


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and its descendants, as far as they still exist."""
    with suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return []


def resident_gib(process: psutil.Process) -> tuple[float, float]:
    """Resident GiB of a process and its descendants: of all now, and the most of one so far.

    The latter is the kernel's VmHWM, which misses no moment. ru_maxrss would begin with what the
    parent of the process held.

    Args:
        process: the one from which the others descend.
    """
    now, most = 0, 0
    for one in family(process):
        with suppress(OSError):
            status = Path(f"/proc/{one.pid}/status").read_text()
            sizes = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, flags=re.M))
            now += int(sizes.get("VmRSS", 0))
            most = max(most, int(sizes.get("VmHWM", 0)))
    return now / 2**20, most / 2**20


def kill(process: psutil.Process) -> None:
    """End a process and its descendants."""
    for one in family(process):
        with suppress(psutil.Error):
            one.kill()


def measure(
    name: str, scratch: Path, most_tokens: int | None, setting: str | None, numbers: list[int]
) -> dict:
    """Run the chapters of one profile on a model of its size; return the record of the run.

    Args:
        name: of a profile.
        scratch: an empty folder with room for the model.
        most_tokens: see `few_parameters`.
        setting: the one to train; None for the profile's setting with the largest rank.
        numbers: of the chapters to run; each needs what earlier chapters leave.
    """
    profile, config = read_profile(name), models.recorded_config(CONFIGS[name])
    ranks = {one: profile.training_parameters(one)["rank"] for one in profile.settings}
    setting = setting or max(ranks, key=ranks.get)
    started = time.monotonic()
    write_model(scratch / "model", config)
    write_rows(scratch / "rows.jsonl")
    weights = estimates.estimate(config, 1)["weights"]
    print(f"{key(name)}_weights_gib: {weights:.2f}")
    print(f"{key(name)}_draw_seconds: {time.monotonic() - started:.0f}", flush=True)
    training = few_parameters(profile, CHAPTERS[3], setting, scratch, most_tokens)
    lines = []
    for number in numbers:
        chapter = CHAPTERS[number - 1]
        given = few_parameters(profile, chapter, setting, scratch, most_tokens)
        page = f"{chapter}-{setting}" if number == 4 else chapter
        command = [sys.executable, "-m", "helpers.notebooks", f"notebooks/{chapter}.ipynb"]
        command += [str(scratch / "run" / "notebooks" / f"{page}.ipynb")]
        command += ["--parameters", json.dumps(given, ensure_ascii=False)]
        outcome = run_limited(command, LIMIT_GIB, scratch / f"{chapter}.log")
        if outcome.ended:
            raise InputError(
                f"{name}, chapter {number}, after {outcome.seconds:.0f} s and "
                f"{outcome.peak_gib:.1f} GiB: {outcome.ended}"
            )
        forecast = forecast_gib(config, number, training, scratch / "run")
        lines.append({"chapter": number, "forecast_gib": forecast, **outcome._asdict()})
        prefix = f"{key(name)}_chapter_{number}"
        print(f"{prefix}_forecast_gib: {forecast:.2f}")
        print(f"{prefix}_peak_gib: {outcome.peak_gib:.2f}")
        print(f"{prefix}_largest_process_gib: {outcome.process_gib:.2f}")
        print(f"{prefix}_seconds: {outcome.seconds:.0f}", flush=True)
    return {
        "config": CONFIGS[name],
        "weights_gib": weights,
        "setting": setting,
        "rank": training["rank"],
        "max_length": training["max_length"],
        "own_max_length": profile.training_parameters(setting)["max_length"],
        "dtype": models.pick_dtype(),
        "limit_gib": LIMIT_GIB,
        "date": datetime.date.today().isoformat(),
        "machine": processor(),
        "python": platform.python_version(),
        "versions": {one: importlib.metadata.version(one) for one in VERSIONS[:4]},
        "chapters": [{k: v for k, v in line.items() if k != "ended"} for line in lines],
    }


def key(name: str) -> str:
    """A profile's name in the form in which it begins a figure's name."""
    return name.replace("-", "_").replace(".", "_")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profiles", nargs="*", metavar="PROFILE", help=f"of {', '.join(CONFIGS)}")
    parser.add_argument("--folder", type=Path, help="scratch folder, removed at the end")
    parser.add_argument("--max-length", type=int, help="no row longer than so many tokens")
    parser.add_argument("--setting", help="the setting to train, the largest rank by default")
    every = list(range(1, len(CHAPTERS) + 1))
    parser.add_argument("--chapters", nargs="+", type=int, choices=every, default=every)
    parser.add_argument("--keep", action="store_true", help="leave the scratch folder")
    arguments = parser.parse_args()
    if unknown := set(arguments.profiles) - CONFIGS.keys():
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(CONFIGS)}")
    for name in arguments.profiles or CONFIGS:
        if arguments.folder:
            arguments.folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=arguments.folder))
        try:
            record = measure(
                name, scratch, arguments.max_length, arguments.setting, arguments.chapters
            )
        except InputError as error:
            sys.exit(f"✗ {error}")
        finally:
            if not arguments.keep:
                shutil.rmtree(scratch, ignore_errors=True)
        kept = read_json(RESULTS) if RESULTS.is_file() else {}
        write_json(RESULTS, kept | {name: record})


if __name__ == "__main__":
    main()
