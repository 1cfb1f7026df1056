"""Forecasts of memory against what the allocator saw: `python -m benchmarks.memory`.

Over a grid of length × batch × mode, on the packaged model and two small random ones, it compares
the peaks that `memory.forecast` (traced) and `estimates.estimate` (closed form) predict with
`memory.measured` of the real run; nothing is fitted. Errors are given for what a run needs beside
its weights, which is the stricter figure, and for the total. accelerate's estimate of the same
model is printed beside them.
"""

import statistics
import time

import psutil
import torch
from accelerate.utils import calculate_maximum_sizes
from transformers import AutoConfig

from helpers import cpu_step, estimates, memory, models

MODES = {
    "inference, last logits": {"training": False},
    "inference, all logits": {"training": False, "last_only": False},
    "inference, eager": {"training": False, "attention": "eager"},
    "training": {"training": True},
    "training, eager": {"training": True, "attention": "eager"},
    "training, checkpointing": {"training": True, "checkpointing": True},
}
CELLS = [(128, 1), (512, 1), (512, 4), (1024, 2)]


def configs() -> dict:
    """The configuration of the packaged model, and two of other kinds at a tenth of their size."""
    gemma = AutoConfig.from_pretrained(models.find_model(models.PACKAGED))
    shape = {
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "vocab_size": 32000,
    }
    llama = AutoConfig.for_model("llama", **shape, num_key_value_heads=2, head_dim=64)
    qwen = AutoConfig.for_model("qwen3", **shape, num_key_value_heads=4, head_dim=64)
    return {"gemma3": gemma, "llama": llama, "qwen3": qwen}


def really(
    config,
    length: int,
    batch: int,
    dtype: str,
    training: bool,
    attention: str = "sdpa",
    checkpointing: bool = False,
    last_only: bool = True,
):
    """GiB of the weights, and of the measured peak beside them, in a real run on this machine."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = memory.build_on_meta(config, dtype, attention).to_empty(device=device)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    weights, ids = memory.weights_gib(model), [5] * length
    if not training:
        return weights, memory.measured(memory.forward(model.eval(), ids, last_only, batch))[
            "peak_gib"
        ]
    model = memory.add_lora(model, 8, "all-linear")
    cpu_step.flatten_rows(model.get_output_embeddings())
    if checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    step = memory.lora_step(model, ids, batch, padded=True)
    with torch.autocast(device, torch.bfloat16, enabled=dtype != "float32"):
        return weights, memory.measured(step)["peak_gib"]


def main() -> None:
    errors: dict[str, list[float]] = {
        "traced": [],
        "closed": [],
        "traced_total": [],
        "closed_total": [],
    }
    # a processor without products in bfloat16 would widen the numbers in extra scratch space
    dtype = models.pick_dtype()
    print("model, mode, length, batch: measured beside the weights, traced, closed form (GiB)")
    for name, config in configs().items():
        for mode, choices in MODES.items():
            for length, batch in CELLS:
                weights, peak = really(config, length, batch, dtype, **choices)
                traced = memory.forecast(config, length, batch, dtype=dtype, **choices)
                closed = estimates.estimate(config, length, batch, dtype=dtype, **choices)
                # What is there before the step begins is known exactly and is no part of the
                # measured peak.
                before = traced["weights"] + traced["adapters"] + traced["optimizer"]
                expected = {"traced": traced["total"] - before, "closed": closed["total"] - before}
                for kind, value in expected.items():
                    errors[kind].append(abs(value / peak - 1))
                    errors[f"{kind}_total"].append(abs(value - peak) / (before + peak))
                print(
                    f"{name}, {mode}, {length}, {batch}: {peak:.3f} "
                    f"{expected['traced']:.3f} {expected['closed']:.3f}",
                    flush=True,
                )
        largest = (
            calculate_maximum_sizes(memory.build_on_meta(config, "bfloat16", "sdpa"))[0]
            / memory.GIB
        )
        print(
            f"{name}, accelerate: inference {largest:.2f}, training with Adam "
            f"{4 * largest:.2f}, whatever the length; weights {weights:.2f}"
        )
    for kind, values in errors.items():
        print(f"median_error_{kind}: {statistics.median(values):.3f}")
        print(f"worst_error_{kind}: {max(values):.3f}")
    print(f"median_error: {statistics.median(errors['traced']):.3f}")
    print(f"worst_error: {max(errors['traced']):.3f}")
    print(f"cells: {len(errors['traced'])}")
    large = models.recorded_config("Baichuan2-7B-Base")
    for what, choices in (
        ("inference", {}),
        ("training", {"training": True, "checkpointing": True}),
    ):
        seconds, before = [], psutil.Process().memory_info().rss
        for _ in range(3):
            started = time.perf_counter()
            memory.forecast(large, 2048, **choices)
            seconds.append(time.perf_counter() - started)
        grown = (psutil.Process().memory_info().rss - before) / memory.GIB
        spread = f"({min(seconds):.2f} to {max(seconds):.2f})"
        print(f"seconds_a_forecast_7b_{what}: {statistics.median(seconds):.2f} {spread}")
        print(f"gib_grown_by_forecasts_7b_{what}: {grown:.2f}")


if __name__ == "__main__":
    main()
