"""Every profile is complete; swift knows its arguments; its architecture trains for a few steps
with random weights.
"""

import json

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, HfArgumentParser

from helpers import ROOT, memory, models, training

PROFILES = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "profiles").glob("*.yml"))
}
CONFIGS = ROOT / "data" / "configs"
NAMED = {
    "yi-6b": "Yi-6B",
    "qwen1.5-1.8b": "Qwen1.5-1.8B",
    "qwen3-0.6b": "Qwen3-0.6B-Base",
    "baichuan2-7b": "Baichuan2-7B-Base",
}


def config_of(name):
    values = json.loads((CONFIGS / f"{name}.json").read_text())
    return AutoConfig.for_model(**values)


def setting_arguments(profile, values, model, steps=None):
    """Arguments of swift for one setting of a profile, `model` in place of the profile's."""
    values = dict(values)
    values.pop("seeds", None)
    named = profile["training"] | {
        name: values.pop(name) for name in ("rank", "alpha", *profile["training"]) if name in values
    }
    values.pop("template")
    max_length = values.pop("max_length", profile["max_length"])
    if steps:
        named |= {"steps": steps, "rows_per_step": 2, "batch_size": 1, "evaluations": 1}
        max_length = 256
    order = ("rank", "alpha", "dropout", "steps", "rows_per_step", "batch_size", "learning_rate")
    ordered = [named[name] for name in order]
    return training.sft_arguments(
        model,
        profile["bos"],
        *ordered,
        max_length,
        named["evaluations"],
        profile["seed"],
        extra=values,
    )


@pytest.fixture(scope="module")
def parser():
    from swift.arguments import SftArguments

    return HfArgumentParser(SftArguments)


@pytest.mark.parametrize("name", PROFILES)
def test_swift_knows_every_argument_of_every_setting(name, parser, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for values in PROFILES[name]["settings"].values():
        arguments = setting_arguments(PROFILES[name], values, str(tmp_path))
        line = []
        for key, value in arguments.items():
            line += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
        parsed, unknown = parser.parse_known_args(line)
        assert not unknown
        assert (parsed.lora_rank, parsed.max_length, parsed.padding_side) == (
            values["rank"],
            arguments["max_length"],
            "left",
        )


def test_an_argument_that_swift_does_not_know_is_found(parser):
    assert parser.parse_known_args(["--model", "x", "--no_such_argument", "1"])[1] == [
        "--no_such_argument",
        "1",
    ]


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Yi-6B", 6.06),
        ("Qwen1.5-1.8B", 1.84),
        ("Qwen3-0.6B-Base", 0.596),
        ("Baichuan2-7B-Base", 7.51),
    ],
)
def test_a_recorded_config_has_as_many_weights_as_its_model(name, billions):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config_of(name))
    assert sum(weight.numel() for weight in model.parameters()) / 1e9 == pytest.approx(
        billions, rel=0.005
    )


@pytest.mark.parametrize("name", NAMED)
def test_every_gpu_profile_fits_the_card_it_names(name):
    """Its comment names the card; the forecast of a training step must stay below."""
    profile = PROFILES[name]
    card = 16 if "16 GB" in (ROOT / "profiles" / f"{name}.yml").read_text() else 24
    settings = profile["settings"].values()
    assert all(values["gradient_checkpointing"] for values in settings)
    length, rank = (
        max(values.get(key, profile.get(key, 0)) for values in settings)
        for key in ("max_length", "rank")
    )
    batch = profile["training"]["batch_size"]
    parts = memory.forecast(
        config_of(NAMED[name]), length, batch, training=True, rank=rank, checkpointing=True
    )
    assert 0.5 < parts["total"] < card * 1e9 / 2**30


@pytest.mark.parametrize("name", ["yi-6b", "qwen1.5-1.8b", "qwen3-0.6b"])
def test_its_architecture_trains_for_a_few_steps(name, tmp_path, sample):
    """Random weights, every width shrunk, Qwen's tokenizer; the arguments of the profile's first
    setting.
    """
    config = config_of(NAMED[name])
    tokenizer = models.qwen_tokenizer()
    heads = 4 if config.num_key_value_heads < config.num_attention_heads else 2
    shrunk = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": 2,
    }
    for key, value in (shrunk | {"head_dim": 16, "vocab_size": len(tokenizer)}).items():
        setattr(config, key, value)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:2]
    folder = tmp_path / NAMED[name]
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rows = [row for row in sample["train"] if len(row["text"]) < 400][:6]
    made = {
        split: training.prepare_rows(tokenizer, "plain", part, 256, False)[0]
        for split, part in (("train", rows[:4]), ("val", rows[4:]))
    }
    profile = PROFILES[name]
    arguments = setting_arguments(
        profile, next(iter(profile["settings"].values())), str(folder), steps=2
    )
    summary = training.train(tmp_path / "setting", arguments, made, tokenizer)
    assert arguments["gradient_checkpointing"] and summary["best_step"] == 2
    assert (tmp_path / "setting" / "adapter" / "adapter_model.safetensors").is_file()
