"""A classification head: swift trains it, this book computes and masks its logits."""

import numpy as np
import pytest
import torch

from helpers import InputError, heads, models, templating, training
from helpers.adapters import AdapterPrompt
from helpers.templating import PromptFormat

LABELS = ["Art", "Law", "Sports"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tokenizer):
    """A tiny random model whose head learned, for some steps, to tell three words apart."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("heads")
    config = AutoConfig.from_pretrained(models.find_model(models.PACKAGED))
    shrunk = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    for name, value in (shrunk | {"num_attention_heads": 2, "head_dim": 16}).items():
        setattr(config, name, value)
    config.layer_types = config.layer_types[-2:]
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    words = {"Art": "绘画", "Law": "法院", "Sports": "球赛"}
    rows = [{"text": words[label] * 6, "category": LABELS, "output": label} for label in LABELS * 8]
    prompt_format = PromptFormat(templating.PLAIN, 64, True)
    arguments = training.sft_arguments(
        model=str(folder / "model"),
        prompt_format=prompt_format,
        rank=4,
        alpha=16,
        dropout=0.0,
        steps=20,
        rows_per_step=6,
        batch_size=6,
        learning_rate=2e-2,
        evaluations=1,
        seed=1,
        train_rows=24,
        extra={"torch_dtype": "float32"},
    )
    made = heads.head_rows(tokenizer, rows, LABELS, 64, True)
    training.train(
        folder / "head",
        arguments=heads.head_arguments(arguments, LABELS),
        messages={"train": made, "val": made[:3]},
        tokenizer=tokenizer,
        adapter_prompt=AdapterPrompt(str(folder / "model"), prompt_format, LABELS),
    )
    heads.write_head(folder / "head" / "adapter", str(folder / "model"), LABELS, 64, True)
    return folder / "head", rows


def test_a_trained_head_answers_and_its_own_matrix_was_kept(trained):
    folder, rows = trained
    log = training.read_log(folder / "logging.jsonl")
    assert log["loss"].dropna().iloc[-1] < 0.5 < log["loss"].dropna().iloc[0]
    logits = heads.head_logits(
        folder / "adapter", [row["text"] for row in rows[:3]], dtype="float32"
    )
    assert heads.head_answers(logits, LABELS, rows[:3]) == LABELS


def test_only_a_rows_own_options_can_win():
    logits = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    rows = [{"category": menu} for menu in (["Sports", "Law"], ["New", "Sports"], ["New"])]
    assert heads.head_answers(logits, LABELS, rows) == ["Law", "Sports", "New"]


def test_an_article_is_cut_to_the_budget(tokenizer):
    for text in ("新闻" * 500, "a" * 5000, "短"):
        piece = heads.cut_article(tokenizer, text, 64, True)
        assert text.startswith(piece)
        assert len(templating.encode(tokenizer, piece)) <= 63


def test_a_label_never_learned_is_refused(tokenizer):
    row = {"text": "x", "category": ["New"], "output": "New"}
    with pytest.raises(InputError, match="never learned: New"):
        heads.head_rows(tokenizer, [row], LABELS, 64, True)
