"""This book's training settings against `swift sft` with its defaults, side by side: `python
benchmarks/training.py [STEPS]`.

Same rows, same token ids, same effective batch of 8; (a) swift's own defaults with the weights
saved in float32, as a plain `save_pretrained` leaves them, (b) those defaults in this machine's
dtype; of this book's own code both load the templates and nothing else. Two short rounds, then one
of STEPS steps, after which validation accuracy is compared; a run's time is the median of its steps
(swift's own clock, the first step left out), a contestant's the median of its runs. Start-up and
evaluation do not count. Prints ratios, the share of the measured matrix-product rate that a step
reaches, and which operators eat the rest.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from statsmodels.stats.proportion import proportion_confint

from helpers import cpu_step, memory, models, sources, training

MAX_LENGTH = 256
VAL = 40
ROUNDS = (3, 3)


def matmul_rate(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a product of the model's own sizes; median of seven."""
    a, b = torch.randn(2048, 640, dtype=dtype), torch.randn(640, 2048, dtype=dtype)
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        for _ in range(20):
            a @ b
        seconds.append((time.perf_counter() - started) / 20)
    return 2 * a.shape[0] * a.shape[1] * b.shape[1] / statistics.median(seconds)


def step_flops(network, tokens: float) -> float:
    """Products of one step over `tokens` tokens with frozen weights: forward and the gradient of
    the inputs, two each a weight.
    """
    body = sum(
        module.weight.numel()
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name
    )
    return 4 * body * tokens


def operators(network, dtype: torch.dtype, length: int) -> dict[str, float]:
    """Share of one step's time by operator, the largest first, under torch's profiler."""
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
    """Median seconds of a step, the first left out: swift logs the mean since the start, whose
    multiples are times.
    """
    speeds = [entry["train_speed(s/it)"] for entry in log if "loss" in entry]
    return float(np.median(np.diff(np.array(speeds) * np.arange(1, len(speeds) + 1))))


def main(steps: int) -> None:
    tokenizer = models.load_tokenizer(models.PACKAGED)
    rows = list(sources.read_source("sample").splits["train"])
    messages, lengths = {}, {}
    for name, part in (("train", rows[: 8 * steps]), ("val", rows[-VAL:])):
        messages[name], lengths[name] = training.prepare_rows(
            tokenizer, "plain", part, MAX_LENGTH, True
        )
    mean = sum(lengths["train"]) / len(lengths["train"])
    print(f"threads: {torch.get_num_threads()}\nmean_row_tokens: {mean:.0f}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        full = Path(scratch) / "float32" / models.PACKAGED
        models.load_model(models.PACKAGED, dtype="float32").save_pretrained(full)
        tokenizer.save_pretrained(full)
        # What swift must be told to see the same rows and learn the same thing; everything else is
        # its own default.
        kept = {
            "template",
            "dataset",
            "val_dataset",
            "output_dir",
            "add_version",
            "check_model",
            "max_length",
            "seed",
        }
        kept |= {
            "tuner_type",
            "lora_rank",
            "lora_alpha",
            "target_modules",
            "learning_rate",
            "lr_scheduler_type",
            "warmup_ratio",
        }
        kept |= {
            "max_steps",
            "eval_steps",
            "save_steps",
            "logging_steps",
            "acc_strategy",
            "report_to",
            "use_cpu",
        }
        seconds: dict[str, list[float]] = {}
        right = {}
        for count in (*ROUNDS, steps):
            ours = training.sft_arguments(
                models.PACKAGED, True, 8, 32, 0.0, count, 8, 8, 2e-4, MAX_LENGTH, 1, 42
            )
            plain = {name: value for name, value in ours.items() if name in kept}
            plain |= {
                "external_plugins": [str(training.PLUGIN)],
                "per_device_train_batch_size": 1,
                "gradient_accumulation_steps": 8,
            }
            runs = {
                "ours": ours,
                "swift_default": plain
                | {"model": str(full), "torch_dtype": "float32", "gradient_checkpointing": True},
                "swift_same_dtype": plain
                | {
                    "model": ours["model"],
                    "torch_dtype": ours["torch_dtype"],
                    "gradient_checkpointing": True,
                },
            }
            for name, arguments in runs.items():
                folder = Path(scratch) / f"{name}-{count}"
                summary = training.train(folder, arguments, messages, tokenizer, force=True)
                log = [
                    json.loads(line) for line in (folder / "logging.jsonl").read_text().splitlines()
                ]
                seconds.setdefault(name, []).append(step_seconds(log))
                right[name] = [entry["eval_seq_acc"] for entry in log if "eval_seq_acc" in entry][
                    -1
                ]
                print(
                    f"{name}: {count} steps, {seconds[name][-1]:.2f} s a step, {summary['seconds']:.0f} s in all",
                    flush=True,
                )
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in middle.items():
        low, high = proportion_confint(round(right[name] * VAL), VAL, method="wilson")
        print(
            f"{name}_seconds_a_step: {value:.2f} ({min(seconds[name]):.2f} to {max(seconds[name]):.2f})"
        )
        print(
            f"{name}_val_accuracy: {right[name]:.3f} ({low:.3f} to {high:.3f}, n = {VAL}, after {steps} steps)"
        )
    print(f"samples_per_s_vs_swift_default: {middle['swift_default'] / middle['ours']:.2f}")
    print(f"samples_per_s_vs_swift_same_dtype: {middle['swift_same_dtype'] / middle['ours']:.2f}")
    dtype = getattr(torch, ours["torch_dtype"])
    rate = matmul_rate(dtype)
    network = models.load_model(models.PACKAGED, attention=ours["attn_impl"])
    print(
        f"matmul_tflops: {rate / 1e12:.2f}\nshare_of_matmul_rate: {step_flops(network, 8 * mean) / middle['ours'] / rate:.2f}"
    )
    print(
        "time_by_operator: "
        + ", ".join(
            f"{name} {share:.2f}" for name, share in operators(network, dtype, round(mean)).items()
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
