"""This book's training against swift's defaults: `python -m benchmarks.training [STEPS]`.

All contestants have the same rows, the same token ids and the same effective batch of 8. The two
others are (a) swift's own defaults with weights saved in float32, as a plain `save_pretrained`
leaves them, and (b) the same defaults in this machine's dtype; of this book's own code they load
nothing but the templates.

There are two short rounds, then one of STEPS steps, after which validation accuracy is compared. A
run's time is the median of its steps (by swift's own clock, without the first step), and a
contestant's time is the median of its runs. Start-up and evaluation do not count. It prints ratios,
the share of the measured matrix-product rate that a step reaches, and which operators take the
rest.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from helpers import (
    cpu_step,
    files,
    memory,
    metrics,
    models,
    sources,
    swift_setup,
    templating,
    training,
)
from helpers.adapters import AdapterPrompt
from helpers.templating import PromptFormat

FORMAT = PromptFormat(templating.PLAIN, 256, True)
VAL = 40
ROUNDS = (3, 3)


def matmul_rate(dtype: torch.dtype) -> float:
    """Floating-point operations per second of a product of the model's sizes; median of seven."""
    a, b = torch.randn(2048, 640, dtype=dtype), torch.randn(640, 2048, dtype=dtype)
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        for _ in range(20):
            a @ b
        seconds.append((time.perf_counter() - started) / 20)
    return 2 * a.shape[0] * a.shape[1] * b.shape[1] / statistics.median(seconds)


def step_flops(network, tokens: float) -> float:
    """Operations of one step's products with frozen weights: forward, and the inputs' gradient.

    Of the last layer, only keys and values count, because only they are needed at more than a
    handful of positions.
    """
    last = f"layers.{network.config.num_hidden_layers - 1}."
    body = sum(
        module.weight.numel()
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear)
        and "lm_head" not in name
        and (last not in name or name.endswith(("k_proj", "v_proj")))
    )
    return 4 * body * tokens


def operators(network, dtype: torch.dtype, length: int) -> dict[str, float]:
    """Shares of one step's time by operator, the largest first, from torch's profiler."""
    lora = get_peft_model(
        network, LoraConfig(r=8, lora_alpha=32, target_modules="all-linear")
    ).train()
    mixed = dtype != torch.float32
    cpu_step.slim(lora, mixed)
    step = memory.lora_step(lora, list(range(1000, 1000 + length)), 8, padded=True)
    with torch.autocast("cpu", dtype, enabled=mixed):
        step()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            step()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return {
        event.key.removeprefix("aten::"): event.self_cpu_time_total / total for event in events[:8]
    }


def step_seconds(log: list[dict]) -> float:
    """The median seconds of a step, without the first one; swift logs the mean since the start."""
    speeds = [entry["train_speed(s/it)"] for entry in log if "loss" in entry]
    return float(np.median(np.diff(np.array(speeds) * np.arange(1, len(speeds) + 1))))


SAME = """template dataset val_dataset output_dir add_version check_model max_length seed
    tuner_type lora_rank lora_alpha target_modules learning_rate lr_scheduler_type warmup_ratio
    max_steps eval_steps save_steps logging_steps acc_strategy report_to use_cpu""".split()
"""The arguments that make swift see the same rows and learn the same thing; all others keep its own
defaults.
"""


def contestants(steps: int, full: Path) -> dict[str, dict]:
    """Arguments of swift with this book's settings, and twice with swift's own.

    Args:
        steps: optimizer steps.
        full: the model's folder with its weights in float32.
    """
    ours = swift_setup.sft_arguments(
        model=models.PACKAGED,
        prompt_format=FORMAT,
        rank=8,
        alpha=32,
        dropout=0.0,
        steps=steps,
        rows_per_step=8,
        batch_size=8,
        learning_rate=2e-4,
        evaluations=1,
        seed=42,
        train_rows=8 * steps,
    )
    plain = {name: ours[name] for name in SAME if name in ours}
    plain |= {"external_plugins": [str(swift_setup.PLUGINS[0])], "gradient_checkpointing": True}
    plain |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    return {
        "ours": ours,
        "swift_default": plain | {"model": str(full), "torch_dtype": "float32"},
        "swift_same_dtype": plain | {name: ours[name] for name in ("model", "torch_dtype")},
    }


def main(steps: int) -> None:
    tokenizer = models.load_tokenizer(models.PACKAGED)
    rows = list(sources.read_source("sample").splits["train"])
    messages, lengths = {}, {}
    for name, part in (("train", rows[: 8 * steps]), ("val", rows[-VAL:])):
        messages[name], lengths[name] = training.prepare_rows(tokenizer, FORMAT, part)
    mean = sum(lengths["train"]) / len(lengths["train"])
    print(f"threads: {torch.get_num_threads()}\nmean_row_tokens: {mean:.0f}", flush=True)
    own = AdapterPrompt(models.PACKAGED, FORMAT, sorted({row["output"] for row in rows}))
    seconds: dict[str, list[float]] = {}
    right = {}
    with tempfile.TemporaryDirectory() as scratch:
        full = Path(scratch) / "float32" / models.PACKAGED
        models.load_model(models.PACKAGED, dtype="float32").save_pretrained(full)
        tokenizer.save_pretrained(full)
        for count in (*ROUNDS, steps):
            runs = contestants(count, full)
            for name, arguments in runs.items():
                folder = Path(scratch) / f"{name}-{count}"
                summary = training.train(
                    folder,
                    arguments=arguments,
                    messages=messages,
                    tokenizer=tokenizer,
                    adapter_prompt=own,
                    force=True,
                )
                log = files.read_jsonl(folder / "logging.jsonl")
                seconds.setdefault(name, []).append(step_seconds(log))
                right[name] = [e["eval_seq_acc"] for e in log if "eval_seq_acc" in e][-1]
                print(
                    f"{name}: {count} steps, {seconds[name][-1]:.2f} s a step, "
                    f"{summary['seconds']:.0f} s in all",
                    flush=True,
                )
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in middle.items():
        low, high = min(seconds[name]), max(seconds[name])
        print(f"{name}_seconds_a_step: {value:.2f} ({low:.2f} to {high:.2f})")
        low, high = metrics.wilson(round(right[name] * VAL), VAL)
        print(f"{name}_val_accuracy: {right[name]:.3f} ({low:.3f} to {high:.3f}, n = {VAL})")
    print(f"samples_per_s_vs_swift_default: {middle['swift_default'] / middle['ours']:.2f}")
    print(f"samples_per_s_vs_swift_same_dtype: {middle['swift_same_dtype'] / middle['ours']:.2f}")
    ours = runs["ours"]
    dtype = getattr(torch, ours["torch_dtype"])
    rate = matmul_rate(dtype)
    network = models.load_model(models.PACKAGED, attention=ours["attn_impl"])
    share = step_flops(network, 8 * mean) / middle["ours"] / rate
    print(f"matmul_tflops: {rate / 1e12:.2f}\nshare_of_matmul_rate: {share:.2f}")
    shares = operators(network, dtype, round(mean))
    print("time_by_operator: " + ", ".join(f"{name} {part:.2f}" for name, part in shares.items()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
