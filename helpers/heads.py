"""A classification head in place of words: swift trains it, we compute and mask its logits.

The head reads the article alone. No options stand in its prompt, so that more of the article fits;
an answer is the largest logit among the row's own options.
"""

import json
from pathlib import Path

import numpy as np
import torch

from helpers import InputError, models
from helpers.templating import encode

HEAD = "head.json"
"""Stands beside a head's adapter: model, labels, max_length, bos."""


def cut_article(tokenizer, text: str, max_length: int, bos: bool) -> str:
    """The beginning of an article that fits a head's budget.

    Args:
        tokenizer: a fast tokenizer of transformers.
        text: the article.
        max_length: most tokens, `<bos>` included.
        bos: whether the model wants its `<bos>` in front.
    """
    budget = max_length - int(bos)
    piece = text[: 2 * max_length]  # enough for Chinese, doubled where tokens are longer
    while True:
        offsets = tokenizer(piece, add_special_tokens=False, return_offsets_mapping=True)
        offsets = offsets["offset_mapping"]
        if len(offsets) > budget:
            return piece[: offsets[budget][0]]
        if len(piece) == len(text):
            return text
        piece = text[: 2 * len(piece)]


def head_rows(
    tokenizer, rows: list[dict], labels: list[str], max_length: int, bos: bool
) -> list[dict]:
    """Training rows in swift's layout for a head: the article, and its label's place.

    Args:
        tokenizer: a fast tokenizer of transformers.
        rows: with a label each.
        labels: all labels, sorted; a row's label must be among them.
        max_length: most tokens of an article.
        bos: whether the model wants its `<bos>` in front.

    Raises:
        InputError: when a row has a label that training has not seen.
    """
    places = {label: place for place, label in enumerate(labels)}
    if unknown := sorted({row["output"] for row in rows} - places.keys()):
        raise InputError(f"a head has no place for labels it never learned: {', '.join(unknown)}")
    made = []
    for row in rows:
        text = cut_article(tokenizer, row["text"], max_length, bos)
        message = {"role": "user", "content": text}
        made.append({"messages": [message], "label": places[row["output"]]})
    return made


def head_arguments(arguments: dict, labels: list[str]) -> dict:
    """Arguments of swift for a head, out of those for the same training with words.

    Args:
        arguments: see training.sft_arguments.
        labels: all labels.
    """
    changes = {
        "task_type": "seq_cls",
        "num_labels": len(labels),
        "problem_type": "single_label_classification",
        "metric_for_best_model": "acc",
        "modules_to_save": ["score"],  # else the head's own matrix would not be kept
    }
    return {k: v for k, v in arguments.items() if k != "acc_strategy"} | changes


def write_head(folder: Path, model: str, labels: list[str], max_length: int, bos: bool) -> None:
    """Keep beside a head's adapter how it is to be asked."""
    content = {"model": model, "labels": labels, "max_length": max_length, "bos": bos}
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
    (folder / HEAD).write_text(text + "\n", encoding="utf-8")


@torch.inference_mode()
def head_logits(folder: Path, texts: list[str], dtype: str | None = None) -> np.ndarray:
    """The logits of a trained head for articles.

    Args:
        folder: the adapter's, with head.json.
        texts: articles, cut here.
        dtype: a torch type's name, `models.pick_dtype()` by default.

    Returns:
        rows × labels.
    """
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    own = json.loads((folder / HEAD).read_text(encoding="utf-8"))
    tokenizer = models.load_tokenizer(own["model"])
    network = AutoModelForSequenceClassification.from_pretrained(
        models.find_model(own["model"]),
        num_labels=len(own["labels"]),
        dtype=getattr(torch, dtype or models.pick_dtype()),
        attn_implementation=models.pick_attention(own["max_length"]),
    )
    network.config.pad_token_id = None  # rows are asked one by one: the last token is the last
    network = PeftModel.from_pretrained(network, str(folder)).eval()
    start = [tokenizer.bos_token_id] if own["bos"] else []
    logits = []
    for text in texts:
        piece = cut_article(tokenizer, text, own["max_length"], own["bos"])
        ids = torch.tensor([start + encode(tokenizer, piece)])
        logits.append(network(ids).logits[0].float().numpy())
    return np.stack(logits)


def head_answers(logits: np.ndarray, labels: list[str], rows: list[dict]) -> list[str]:
    """For each row the option with the largest logit; an option never learned cannot win.

    Args:
        logits: rows × labels.
        labels: the head's, in its order.
        rows: with their options.
    """
    places = {label: place for place, label in enumerate(labels)}
    answers = []
    for row, values in zip(rows, logits):
        scores = [values[places[o]] if o in places else -np.inf for o in row["category"]]
        answers.append(row["category"][int(np.argmax(scores))])
    return answers
