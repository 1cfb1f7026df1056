"""Cost as the work grows: `python -m benchmarks.growth`.

It measures seconds and memory of reading and splitting, tokenising and scoring at 1, 3 and 10
times the rows, and of tokenising, one training step and scoring at 256, 1,024 and 4,096 tokens a
row. Each measurement is a process of its own, so that its peak memory is its own. It prints
`name: value` lines; the ratios say how near to linear the growth is.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = (60, 180, 600)
TOKENS = (256, 1024, 4096)


def read_and_split(rows: int) -> None:
    """Read a file of rows, find copies in it, and split it."""
    from helpers import duplicates, files, sources, splits

    sample = list(sources.read_source("sample").splits["train"])[:rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        files.write_jsonl(path, sample)
        started = time.perf_counter()
        read = sources.read_source(str(path)).splits["train"]
        clusters = duplicates.near_duplicate_clusters(read["text"])
        labels = list(read["output"])
        splits.make_splits(["train"] * len(read), labels, clusters, 0.1, 0.3, {}, 42, "train")
        report(time.perf_counter() - started)


def tokenise(rows: int, tokens: int) -> None:
    """Assemble and cut the prompts of rows whose articles are longer than `tokens`."""
    from helpers import models, sources, templating

    tokenizer = models.load_tokenizer(models.PACKAGED)
    sample = list(sources.read_source("sample").splits["train"])[:rows]
    enough = 5 * tokens // 2  # characters, because the sample has up to 2.44 of them for each token
    for row in sample:
        row["text"] = (row["text"] * (1 + enough // len(row["text"])))[:enough]
    prompt_format = templating.PromptFormat(templating.PLAIN, tokens, True)
    started = time.perf_counter()
    templating.fit_all(tokenizer, prompt_format, sample)
    report(time.perf_counter() - started)


def step(tokens: int) -> None:
    """Run a LoRA step over one row three times, and report the median."""
    import torch
    from peft import LoraConfig, get_peft_model

    from helpers import cpu_step, memory, models

    network = models.load_model(models.PACKAGED, attention=models.pick_attention(tokens))
    lora = get_peft_model(network, LoraConfig(r=8, target_modules="all-linear")).train()
    mixed = models.pick_dtype() != "float32"
    cpu_step.slim(lora, mixed)
    run, seconds = memory.lora_step(lora, [7] * tokens), []
    with torch.autocast("cpu", getattr(torch, models.pick_dtype()), enabled=mixed):
        for _ in range(3):
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
    report(statistics.median(seconds))


def unlike_prompts(rows: int, tokens: int, bos: int) -> list[list[int]]:
    """Prompts that differ right after `<bos>`, because the scorer reads a common beginning once."""
    return [[bos, 1000 + row, *[7] * (tokens - 2)] for row in range(rows)]


def score(rows: int, tokens: int) -> None:
    """Ask about `rows` rows of `tokens` tokens each."""
    from helpers import models, scoring

    tokenizer = models.load_tokenizer(models.PACKAGED)
    network = models.load_model(models.PACKAGED, attention=models.pick_attention(tokens))
    prompts = unlike_prompts(rows, tokens, tokenizer.bos_token_id)
    menus = [["体育", "财经", "农业", "历史"]] * rows
    started = time.perf_counter()
    scoring.ask(network, tokenizer, prompts, menus)
    report(time.perf_counter() - started)


def report(seconds: float) -> None:
    """Print, for the parent process, the seconds and this process's peak memory in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "peak_gib": peak}))


def measure(name: str, *numbers: int) -> dict[str, float]:
    """Run one measurement in a process of its own; return what it reported."""
    command = [sys.executable, "-m", "benchmarks.growth", name, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(name: str, sizes: tuple[int, ...], unit: str, values: list[dict]) -> None:
    """Print a measurement at every size, and how its seconds grow compared with linear growth."""
    for size, value in zip(sizes, values):
        print(f"{name}_seconds_{size}_{unit}: {value['seconds']:.2f}")
        print(f"{name}_peak_gib_{size}_{unit}: {value['peak_gib']:.2f}", flush=True)
    grown = values[-1]["seconds"] / values[0]["seconds"]
    print(f"{name}_growth_over_linear_{unit}: {grown / (sizes[-1] / sizes[0]):.2f}", flush=True)


def main() -> None:
    show("reading", ROWS, "rows", [measure("read", n) for n in ROWS])
    show("tokenising", ROWS, "rows", [measure("tokenise", n, 256) for n in ROWS])
    show("tokenising", TOKENS, "tokens", [measure("tokenise", 180, n) for n in TOKENS])
    show("step", TOKENS, "tokens", [measure("step", n) for n in TOKENS])
    show("scoring", (4, 12, 40), "rows", [measure("score", n, 256) for n in (4, 12, 40)])
    show("scoring", TOKENS, "tokens", [measure("score", 4, n) for n in TOKENS])


if __name__ == "__main__":
    kinds = {"read": read_and_split, "tokenise": tokenise, "step": step, "score": score}
    if len(sys.argv) > 1:
        kinds[sys.argv[1]](*map(int, sys.argv[2:]))
    else:
        main()
