"""A BERT-like encoder, trained as a whole: the usual way for such tasks before language models."""

import itertools
import math
import time

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from helpers import InputError, models
from helpers.baselines import choose_among

POSITIONS = 512
"""The most tokens of an article: encoders of this kind have no more positions. The rest is cut."""
BATCH = 16
"""Rows in a batch."""


def encoder_baseline(
    model: str, train: list[dict], rows: list[dict], epochs: float = 3, learning_rate: float = 5e-5
) -> tuple[list[str], float]:
    """Fine-tune all weights of an encoder with a new head; it chooses among each row's options.

    It reads only the articles, as its head knows the classes. Batches of 16, three epochs and this
    learning rate are among those that Devlin et al. 2019 (BERT, appendix A.3) recommend.

    Args:
        model: a folder or a ModelScope id; see models.find_model.
        train: rows to learn from.
        rows: to answer.
        epochs: how often it sees each training row.
        learning_rate: at its peak, after a tenth of the steps; it falls linearly to 0.

    Returns:
        An option for each row, and the seconds of training.

    Raises:
        InputError: when the training rows have only one label, or the model is not of this kind.
    """
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        get_linear_schedule_with_warmup,
    )

    classes = sorted({row["output"] for row in train})
    if len(classes) < 2:
        raise InputError("an encoder needs training rows of two classes at least")
    folder, trust = models.find_model(model), {"trust_remote_code": models.trusts(model)}
    torch.manual_seed(42)  # of the new head and of the order of the rows
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **trust)
        network = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=len(classes),
            ignore_mismatched_sizes=True,  # a new head replaces one for other classes
            dtype="float32",
            **trust,
        )
    except (ValueError, OSError) as error:
        raise InputError(
            f"encoder {model!r} is no encoder with a tokenizer ({str(error).splitlines()[0][:150]})"
        ) from None
    length = min(POSITIONS, tokenizer.model_max_length)

    def encoded(some: list[dict]) -> list[dict]:
        return [dict(tokenizer(row["text"], truncation=True, max_length=length)) for row in some]

    examples = encoded(train)
    for example, row in zip(examples, train):
        example["labels"] = classes.index(row["output"])
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    pad = DataCollatorWithPadding(tokenizer)
    batches = DataLoader(examples, BATCH, shuffle=True, collate_fn=pad)
    steps = math.ceil(epochs * len(batches))
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate)
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(steps / 10), steps)
    started = time.perf_counter()
    network.train()
    # swift patches the trainer of transformers wherever it was imported, so we loop by ourselves
    rounds = itertools.chain.from_iterable(itertools.repeat(batches))
    for batch in tqdm(itertools.islice(rounds, steps), total=steps, desc="encoder", unit="step"):
        network(**batch.to(network.device)).loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - started
    network.eval()
    values = []
    with torch.inference_mode():
        for batch in DataLoader(encoded(rows), BATCH, collate_fn=pad):
            values.append(network(**batch.to(network.device)).logits.cpu())  # batch × classes
    return choose_among(rows, classes, torch.cat(values).numpy()), seconds
