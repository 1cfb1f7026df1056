"""The arguments of `swift sft`: made of parameters, and small enough for this machine."""

import importlib.util
from functools import cache
from pathlib import Path

from helpers import InputError, estimates, memory
from helpers.files import read_json
from helpers.models import find_model, pick_attention, pick_dtype, trusts
from helpers.parameters import refuse_out_of_range
from helpers.swift_arguments import decided, refuse_arguments, rhythm, total_steps
from helpers.templating import PromptFormat

KEPT = "keep_steps.json"
"""A file that lists the steps whose adapters are kept for a learning curve (see swift_plugin)."""
WATCHED = "CHINESE_NEWS_BOOK_PARENT"
"""Environment variable: the id of a process with whose end training stops (see swift_plugin)."""
PLUGINS = [Path(__file__).with_name(name) for name in ("swift_plugin.py", "cpu_step.py")]
WORTH_KNOWING = (
    "lora_rank lora_alpha target_modules max_steps learning_rate seed padding_side torch_dtype "
    "per_device_train_batch_size gradient_accumulation_steps"
).split()
"""The arguments that the page of a training shows, beside those that its setting gives."""
SWIFT_DEFAULTS = {
    "per_device_train_batch_size": 1,
    "gradient_checkpointing": True,
    "lora_rank": 8,
    "target_modules": "all-linear",
    "torch_dtype": "bfloat16",
    "attn_impl": "sdpa",
}
"""What swift does where a setting takes an argument away with `null`."""
QUANTISERS = {"bnb": "bitsandbytes", "hqq": "hqq", "eetq": "eetq"}
"""The package that each quant_method of swift needs; the book installs none of them."""


def sft_arguments(
    *,
    model: str,
    prompt_format: PromptFormat,
    rank: int,
    alpha: int,
    dropout: float,
    steps: int | None,
    rows_per_step: int,
    batch_size: int,
    learning_rate: float,
    evaluations: int,
    seed: int,
    train_rows: int,
    nproc: int = 1,
    extra: dict | None = None,
    head: dict | None = None,
) -> dict:
    """Arguments of `swift sft` for one setting; swift runs in the setting's folder.

    Rows of a batch are padded on the left, so that their answers stand together at the end and
    swift computes no other logits.

    Args:
        model: see models.find_model.
        prompt_format: how rows are rendered and cut.
        rank: of the adapter.
        alpha: the correction is scaled by alpha / rank.
        dropout: share of the adapter's input dropped at random.
        steps: optimizer steps; None where `extra` gives num_train_epochs.
        rows_per_step: rows an optimizer step sees. Where a batch is smaller, gradients of several
            batches are accumulated.
        batch_size: rows that go through the model at once in each process.
        learning_rate: peak of the cosine schedule.
        evaluations: how often to look at val at most, evenly spread and including the end.
        seed: order of the rows, initial adapter.
        train_rows: how many rows there are to learn from.
        nproc: processes on this machine.
        extra: further swift arguments; None takes one away.
        head: what a classification head needs beside; see heads.head_arguments.

    Raises:
        InputError: when batch_size × nproc does not divide rows_per_step, when steps and epochs are
            both given or neither is, when a number is out of range; see `refuse_arguments`.
    """
    import torch

    extra = dict(extra or {})
    given = {"rank": rank, "alpha": alpha, "dropout": dropout, "learning_rate": learning_rate}
    given |= {"rows_per_step": rows_per_step, "batch_size": batch_size, "nproc": nproc}
    given |= {"seed": seed, "max_length": prompt_format.max_length}
    for name, value in (given | {"evaluations": evaluations}).items():
        refuse_out_of_range(name, value)
    if rows_per_step % (batch_size * nproc):
        raise InputError(
            f"rows_per_step {rows_per_step} is not a multiple of batch_size {batch_size} × "
            f"nproc {nproc}"
        )
    max_steps = total_steps(steps, extra, train_rows, rows_per_step)
    arguments = {
        "model": find_model(model),
        "model_type": None if trusts(model) else known_model_type(model),
        "template": "news-bos" if prompt_format.bos else "news",
        "external_plugins": [str(path) for path in PLUGINS],
        "callbacks": ["cpu_step"],
        "dataset": ["train.jsonl"],
        "val_dataset": ["val.jsonl"],
        "output_dir": "swift",
        "logging_dir": "runs",  # what report_to: tensorboard writes outlives swift's own folder
        "add_version": False,
        "check_model": False,
        "torch_dtype": pick_dtype(),
        "attn_impl": pick_attention(prompt_format.max_length),
        "tuner_type": "lora",
        "target_modules": "all-linear",
        "truncation_strategy": "delete",  # never needed: bodies are cut before
        "per_device_eval_batch_size": batch_size,
        "padding_side": "left",
        "gradient_checkpointing": False,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.1,
        "logging_steps": 1,
        "acc_strategy": "seq",
        "metric_for_best_model": "seq_acc",  # see training_log.best_step
        "logging_nan_inf_filter": False,  # a diverged run shall look like one
        "lazy_tokenize": True,  # swift's own tokenising starts a process for every file
        "dataloader_num_workers": 0,
        "report_to": "none",
        "use_cpu": None if torch.cuda.is_available() else True,
    }
    arguments |= decided(given) | rhythm(max_steps, evaluations) | (head or {})
    refuse_arguments(arguments, extra)
    if extra.get("target_regex"):  # swift takes it in place of target_modules
        arguments["target_modules"] = extra.get("target_modules")
    return {name: value for name, value in (arguments | extra).items() if value is not None}


def known_model_type(model: str) -> str | None:
    """swift's name for a model's architecture, where config.json names it; None elsewhere.

    By itself swift goes by the model's class, which several of its types may share (qwen2,
    qwen2_gte).
    """
    folder = Path(find_model(model))
    name = read_json(folder / "config.json").get("model_type")
    return name if name in swift_model_types() else None


@cache
def swift_model_types() -> frozenset[str]:
    """The names in swift's list of language models, read without loading swift itself (seconds)."""
    import importlib.metadata

    path = importlib.metadata.distribution("ms-swift").locate_file("swift/model/constant.py")
    spec = importlib.util.spec_from_file_location("swift_constants", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = vars(module.LLMModelType).values()
    return frozenset(value for value in values if isinstance(value, str))


def expected_memory(
    config, arguments: dict, length: int, free: float, nproc: int = 1
) -> dict[str, float]:
    """Peak memory of one training step by part, in GiB; see memory.forecast.

    Args:
        config: the model's transformers config.
        arguments: of swift.
        length: most tokens of a row.
        free: GiB that this machine has left; without a GPU all processes share it.
        nproc: processes at once.

    Raises:
        InputError: when a step needs more than is free, with what would help.
    """
    values = SWIFT_DEFAULTS | arguments
    batch = values["per_device_train_batch_size"]
    choices = {
        "dtype": values["torch_dtype"],
        # every implementation but eager is fused, and keeps no attention scores
        "attention": "eager" if values["attn_impl"] == "eager" else "sdpa",
        "rank": values["lora_rank"],
        "checkpointing": values["gradient_checkpointing"],
    }
    layers = {"targets": adapted_layers(values["target_modules"]), "bits": values.get("quant_bits")}
    parts = memory.forecast(config, length, batch, training=True, **layers, **choices)
    budget = free / (nproc if values.get("use_cpu") else 1)
    if parts["total"] > budget:
        levers = estimates.remedies(config, budget, length, batch, parts["weights"], **choices)
        raise InputError(
            f"a step needs about {parts['total']:.1f} GiB and {budget:.1f} are free; "
            f"what would help: {levers}"
        )
    return parts


def adapted_layers(targets: str | list[str]) -> str | list[str]:
    """swift's target_modules as peft reads them: names of layers, or "all-linear".

    Args:
        targets: a name, or several; swift's own words for kinds of layers (all-linear,
            all-embedding, …) count as all linear layers.
    """
    names = [targets] if isinstance(targets, str) else list(targets)
    return "all-linear" if any(name.startswith("all-") for name in names) else names


def refuse_missing_package(arguments: dict) -> None:
    """Raise InputError where swift would need a package that is not installed."""
    method = arguments.get("quant_method")
    needs = [(f"quant_method {method}", QUANTISERS.get(method), "quant_method and quant_bits")]
    if arguments.get("deepspeed"):
        needs.append(("deepspeed", "deepspeed", "deepspeed"))
    for what, package, names in needs:
        if package and importlib.util.find_spec(package) is None:
            raise InputError(
                f"{what} needs the package {package}, which is not installed: "
                f".venv/bin/pip install {package}, or take {names} out of the setting"
            )
