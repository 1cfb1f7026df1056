"""This book's training settings against `swift sft` with its defaults, side by side: `python benchmarks/training.py [STEPS]`.

Same rows, same token ids, same effective batch of 8; (a) swift's own defaults with the weights saved in float32, as a plain
`save_pretrained` leaves them, (b) those defaults in this machine's dtype. A step's time is swift's own (train_speed), start-up and
evaluation not counted. Prints ratios, the validation accuracy each ends with, and the share of the measured matrix-product rate.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from helpers import models, sources, training

MAX_LENGTH = 256


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


def step_flops(network, tokens: int) -> float:
    """Products of one step over `tokens` tokens with frozen weights: forward and the gradient of the inputs, two each a weight."""
    body = sum(
        module.weight.numel() for name, module in network.named_modules() if isinstance(module, torch.nn.Linear) and "lm_head" not in name
    )
    return 4 * body * tokens


def main(steps: int) -> None:
    tokenizer = models.load_tokenizer(models.PACKAGED)
    rows = list(sources.read_source("sample").splits["train"])
    train, val = rows[: 8 * steps], rows[-32:]
    messages, lengths = {}, {}
    for name, part in (("train", train), ("val", val)):
        messages[name], lengths[name] = training.prepare_rows(tokenizer, "plain", part, MAX_LENGTH, True)
    mean = sum(lengths["train"]) / len(lengths["train"])
    with tempfile.TemporaryDirectory() as scratch:
        full = Path(scratch) / "float32" / models.PACKAGED
        models.load_model(models.PACKAGED, dtype="float32").save_pretrained(full)
        tokenizer.save_pretrained(full)
        ours = training.sft_arguments(models.PACKAGED, True, 8, 32, 0.0, steps, 8, 8, 2e-4, MAX_LENGTH, 1, 42)
        kept = {"template", "external_plugins", "dataset", "val_dataset", "output_dir", "add_version", "check_model", "max_length"}
        kept |= {"tuner_type", "lora_rank", "lora_alpha", "learning_rate", "max_steps", "eval_steps", "save_steps", "seed", "use_cpu"}
        kept |= {"target_modules", "acc_strategy", "logging_steps", "report_to"}
        same = {name: value for name, value in ours.items() if name in kept}
        # What swift needs told to make the comparison fair: the effective batch. Everything else is its own default.
        plain = same | {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "gradient_checkpointing": True}
        runs = {
            "ours": ours,
            "swift_default": plain | {"model": str(full), "torch_dtype": "float32"},
            "swift_same_dtype": plain | {"model": ours["model"], "torch_dtype": ours["torch_dtype"]},
        }
        seconds = {}
        for name, arguments in runs.items():
            summary = training.train(Path(scratch) / name, arguments, messages, tokenizer)
            log = [json.loads(line) for line in (Path(scratch) / name / "logging.jsonl").read_text().splitlines()]
            seconds[name] = [entry["train_speed(s/it)"] for entry in log if "train_speed(s/it)" in entry][-1]
            right = [entry["eval_seq_acc"] for entry in log if "eval_seq_acc" in entry][-1]
            print(f"{name}_seconds_a_step: {seconds[name]:.2f}\n{name}_val_accuracy: {right:.2f} (n = {len(val)})")
            print(f"{name}_seconds_in_all: {summary['seconds']:.0f}", flush=True)
        print(f"samples_per_s_vs_swift_default: {seconds['swift_default'] / seconds['ours']:.2f}")
        print(f"samples_per_s_vs_swift_same_dtype: {seconds['swift_same_dtype'] / seconds['ours']:.2f}")
        rate = matmul_rate(getattr(torch, ours["torch_dtype"]))
        flops = step_flops(models.load_model(models.PACKAGED), 8 * mean)
        print(f"matmul_tflops: {rate / 1e12:.2f}\nshare_of_matmul_rate: {flops / seconds['ours'] / rate:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
