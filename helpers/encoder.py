"""A BERT-like encoder, all of its weights trained: what such tasks got before language models."""

import tempfile
import time

import torch

from helpers import InputError, models
from helpers.baselines import choose_among

POSITIONS = 512
"""Most tokens of an article: what encoders of this kind have positions for. The rest is cut."""


def encoder_baseline(
    model: str,
    train: list[dict],
    rows: list[dict],
    epochs: float = 3,
    learning_rate: float = 5e-5,
    seed: int = 42,
) -> tuple[list[str], float]:
    """Fine-tune all weights of an encoder and a new head on it; answers respect the options.

    It reads articles alone, for its head knows the classes. Batches of 16, three epochs and this
    rate are among those that Devlin et al. 2019 (BERT, appendix A.3) recommend.

    Args:
        model: a folder or a ModelScope id; see models.find_model.
        train: rows to learn from.
        rows: to be answered.
        epochs: how often it sees each training row.
        learning_rate: at its peak, after a tenth of the steps; it falls linearly to 0.
        seed: of the new head and of the order of the rows.

    Returns:
        An option for each row, and the seconds of training.

    Raises:
        InputError: when the training rows have one label only, or it is no model of this kind.
    """
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    classes = sorted({row["output"] for row in train})
    if len(classes) < 2:
        raise InputError("an encoder needs training rows of two classes at least")
    folder, own = models.find_model(model), {"trust_remote_code": models.trusts(model)}
    set_seed(seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **own)
        network = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=len(classes),
            ignore_mismatched_sizes=True,  # a head for other classes makes room for a new one
            dtype="float32",
            **own,
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
    with tempfile.TemporaryDirectory() as scratch:
        choices = TrainingArguments(
            scratch,
            num_train_epochs=epochs,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=16,
            learning_rate=learning_rate,
            warmup_steps=0.1,  # a share of all steps
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            seed=seed,
            use_cpu=not torch.cuda.is_available(),
        )
        collator = DataCollatorWithPadding(tokenizer)
        trainer = Trainer(network, choices, collator, examples)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        values = trainer.predict(encoded(rows)).predictions  # rows × classes
    return choose_among(rows, classes, values), seconds
