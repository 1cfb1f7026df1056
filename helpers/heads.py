"""A classification head instead of words: swift trains it, we compute and mask its logits.

The head reads the article alone. Its prompt holds no options, so that more of the article fits; its
answer is the one of the row's own options that has the largest logit.
"""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers import InputError, models
from helpers.adapters import AdapterHead, adapter_digest
from helpers.models import NO_NUMBERS
from helpers.templating import encode, start_ids, tokenize

UNLEARNED_NATS = -1e4
"""Nats for an option that a head never learned: finite, and below those of all learned options."""
CODE = sha256(Path(__file__).read_bytes()).hexdigest()
"""The digest of this file as it was loaded, for answers depend on it, too."""


def cut_article(tokenizer, text: str, max_length: int, bos: bool) -> str:
    """The beginning of an article that fits a head's budget.

    Args:
        tokenizer: a fast tokenizer of transformers.
        text: the article.
        max_length: the most tokens, `<bos>` included.
        bos: whether the model expects `<bos>` at the start.
    """
    budget, reach, whole = max_length - int(bos), 2 * max_length, text
    while True:
        text = whole[:reach]  # enough for Chinese, doubled where tokens are longer
        offsets = tokenize(tokenizer, [text])[0].offsets
        if len(offsets) <= budget and len(text) < len(whole):
            reach *= 2
            continue
        while len(offsets) > budget:  # text that was cut may be split into other tokens
            text = text[: offsets[budget][0]]
            offsets = tokenize(tokenizer, [text])[0].offsets
        return text


def article_ids(tokenizer, head: AdapterHead, text: str) -> list[int]:
    """The token ids that a head reads of an article.

    Args:
        tokenizer: the model's.
        head: how it is asked.
        text: the article, of any length.

    Raises:
        InputError: when the tokenizer has no `<bos>` and the profile asks for it.
    """
    text = cut_article(tokenizer, text, head.max_length, head.bos)
    return start_ids(tokenizer, head.bos) + encode(tokenizer, text)


def prepare_rows(tokenizer, head: AdapterHead, rows: list[dict]) -> tuple[list[dict], list[int]]:
    """Rows in swift's layout for a head, and the number of tokens of each.

    A row in this layout holds the article and the place of its label among the head's.

    Args:
        tokenizer: a fast tokenizer of transformers.
        head: how it will be asked.
        rows: with a label each; see `learnable`.

    Raises:
        InputError: when a row has a label that the head has no place for.
    """
    places = {label: place for place, label in enumerate(head.labels)}
    if unknown := sorted({row["output"] for row in rows} - places.keys()):
        raise InputError(f"a head has no place for labels it never learned: {', '.join(unknown)}")
    messages, lengths, start = [], [], len(start_ids(tokenizer, head.bos))
    for row in rows:
        text = cut_article(tokenizer, row["text"], head.max_length, head.bos)
        message = {"role": "user", "content": text}
        messages.append({"messages": [message], "label": places[row["output"]]})
        lengths.append(start + len(encode(tokenizer, text)))
    return messages, lengths


def learnable(rows: list[dict], labels: list[str]) -> list[dict]:
    """The rows whose label a head has a place for; a printed line says how many are left out.

    Args:
        rows: with a label each.
        labels: of the training rows.

    Raises:
        InputError: when no row is left.
    """
    learnable_rows = [row for row in rows if row["output"] in labels]
    if not learnable_rows:
        raise InputError("no validation row has a label that training has; make val larger")
    if len(learnable_rows) < len(rows):
        print(
            f"{len(rows) - len(learnable_rows)} rows left out: training has no row of their labels"
        )
    return learnable_rows


def label_table(labels: list[str], label: str) -> pd.DataFrame:
    """A table of the numbers that stand for labels, which marks the label of one row.

    Args:
        labels: of the head, in its order.
        label: of the row.
    """
    own = ["yes" if one == label else "" for one in labels]
    return pd.DataFrame({"label": labels, "of the first row": own})


def head_arguments(labels: list[str]) -> dict:
    """The arguments that swift needs for a head, as `head` of swift_setup.sft_arguments.

    Args:
        labels: all labels.
    """
    return {
        "task_type": "seq_cls",
        "num_labels": len(labels),
        "problem_type": "single_label_classification",
        "acc_strategy": None,  # there is no answer whose tokens could be counted
        "metric_for_best_model": "acc",
        "modules_to_save": ["score"],  # otherwise the head's own matrix would not be saved
    }


def load_head(adapter: Path, head: AdapterHead, dtype: str | None = None):
    """The model with a trained head, on the GPU if there is one.

    Args:
        adapter: its folder.
        head: how it is asked.
        dtype: the name of a torch type, `models.pick_dtype()` by default.

    Raises:
        InputError: see models.load_adapter.
    """
    from transformers import AutoModelForSequenceClassification

    adapter_digest(adapter)  # names a file that is missing before a large model is loaded
    network = AutoModelForSequenceClassification.from_pretrained(
        models.find_model(head.model),
        num_labels=len(head.labels),
        dtype=getattr(torch, dtype or models.pick_dtype()),
        attn_implementation=models.pick_attention(head.max_length),
        trust_remote_code=models.trusts(head.model),
    )
    network.config.pad_token_id = None  # rows are asked one by one: none is padded
    network = models.load_adapter(network, adapter, head.model)
    return network.to("cuda" if torch.cuda.is_available() else "cpu").eval()


@torch.inference_mode()
def head_logits(network, ids: list[int]) -> np.ndarray:
    """The logits of a trained head for one article.

    Args:
        network: see `load_head`.
        ids: what it reads; see `article_ids`.

    Returns:
        One number for each label.

    Raises:
        InputError: when the head returns NaN or infinity.
    """
    logits = network(torch.tensor([ids], device=network.device)).logits[0].float().cpu().numpy()
    if not np.isfinite(logits).all():
        raise InputError(NO_NUMBERS)
    return logits


def option_logprobs(logits: np.ndarray, labels: list[str], options: list[str]) -> list[float]:
    """Log-probabilities of a row's options, all other labels masked.

    Args:
        logits: one number for each label.
        labels: the head's, in its order.
        options: of the row; one that was never learned gets UNLEARNED_NATS.

    Returns:
        Nats, one number for each option; the probabilities of the learned ones add up to 1.
    """
    places = {label: place for place, label in enumerate(labels)}
    own = [logits[places[option]] for option in options if option in places]
    total = np.logaddexp.reduce(np.asarray(own, float)) if own else 0.0
    return [float(logits[places[o]] - total) if o in places else UNLEARNED_NATS for o in options]
