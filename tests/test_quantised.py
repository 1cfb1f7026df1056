"""The setting with four-bit weights that the page on GPUs recommends for too large a model."""

import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from conftest import sft_arguments

from helpers import (
    ROOT,
    InputError,
    budgets,
    export,
    memory,
    models,
    profiles,
    swift_setup,
    training,
)
from helpers.adapters import WEIGHTS, AdapterPrompt, write_prompt
from helpers.templating import PLAIN, PromptFormat

FORMAT = PromptFormat(PLAIN, 192, False)


@pytest.fixture(scope="module")
def recommended():
    """What a setting needs according to the page, which has `name: value` pairs in backticks."""
    page = (ROOT / "book" / "cluster.md").read_text(encoding="utf-8")
    (cell,) = re.findall(r"^\| (`quant_method[^|]*) in a setting \|", page, flags=re.M)
    return {
        k: v for part in re.findall(r"`([^`]+)`", cell) for k, v in yaml.safe_load(part).items()
    }


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    return str(tmp_path)


def arguments_for(model, extra, rank=8):
    few = {"steps": 2, "rows_per_step": 2, "batch_size": 1, "evaluations": 1, "train_rows": 4}
    return sft_arguments(model=model, prompt_format=FORMAT, rank=rank, extra=extra, **few)


def test_swift_reads_it_as_four_bit_weights_that_stay_frozen(recommended, folder, parse):
    from swift.arguments.base_args.quant_args import QuantizeArguments

    parsed, unknown = parse(arguments_for(folder, recommended))
    assert not unknown
    assert (parsed.quant_method, parsed.quant_bits) == ("bnb", 4)
    assert parsed.bnb_4bit_quant_type == "nf4" and parsed.tuner_type == "lora"
    with pytest.raises(ValueError, match="quant_bits"):  # one of the two alone is not enough
        alone = SimpleNamespace(quant_method=parsed.quant_method, quant_bits=None)
        QuantizeArguments.get_quantization_config(alone)


def test_the_forecast_counts_it_and_no_other_chapter_does(recommended, folder):
    """A training step of yi-6b by its profile, with unquantised and with four-bit linear layers."""
    profile, config = profiles.read_profile("yi-6b"), models.recorded_config("Yi-6B")
    setting = profile.training_parameters("rank8")
    choices = setting["swift_arguments"] | {"torch_dtype": "bfloat16", "attn_impl": "sdpa"}
    whole, quarter = (
        swift_setup.expected_memory(config, arguments_for(folder, choices | extra), 2048, free=24)
        for extra in ({}, recommended)
    )
    body = 32 * (4096 * (4096 + 512 + 512 + 4096) + 3 * 4096 * 11008)  # of the linear layers
    saved = (whole["weights"] - quarter["weights"]) * memory.GIB
    assert saved == pytest.approx(body * (2 - 0.5), rel=1e-6)
    assert quarter["total"] < 8 < whole["total"]
    # chapters that ask a model hold it in its own precision
    assert budgets.chapter_needs(config, 5, 2048, 2) > whole["weights"]


def test_without_its_package_it_is_refused_before_anything_begins(
    recommended, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    where = tmp_path / "train" / "q4"
    with pytest.raises(InputError, match=r"needs the package bitsandbytes.*pip install") as error:
        training.train(
            where,
            arguments=arguments_for(folder, recommended),
            messages={"train": [], "val": []},
            tokenizer=None,
            adapter_prompt=AdapterPrompt(folder, FORMAT, ["a"]),
        )
    assert "\n" not in str(error.value) and not where.parent.exists()
    with pytest.raises(InputError, match="deepspeed needs the package deepspeed, which"):
        swift_setup.refuse_missing_package({"deepspeed": "zero2"})
    swift_setup.refuse_missing_package({"quant_method": None})
    swift_setup.refuse_missing_package({"quant_method": "fp8"})  # swift has it from transformers


def test_it_cannot_be_exported(recommended, tmp_path):
    """For what else is refused, see test_export.py. Nothing reads the made-up weights."""
    folder: Path = tmp_path / "train" / "q4"
    (folder / "adapter").mkdir(parents=True)
    for name in WEIGHTS:
        (folder / "adapter" / name).write_text("weights")
    asked = AdapterPrompt(models.PACKAGED, PromptFormat(PLAIN, 192, True), ["a", "b"])
    write_prompt(folder / "adapter", asked)
    arguments = arguments_for(models.PACKAGED, recommended)
    (folder / "sft.yaml").write_text(yaml.safe_dump(arguments), encoding="utf-8")
    with pytest.raises(InputError, match=r"quantised to 4 bits.*one that was trained") as error:
        export.export_model(folder / "adapter")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "export").exists()
    whole = json.dumps(arguments_for(models.PACKAGED, {}))
    (folder / "sft.yaml").write_text(whole, encoding="utf-8")
    export.refuse_unfaithful(folder / "adapter", export.read_prompt(folder / "adapter"))
