"""Ask one model, tuned or not, about rows: make the prompts and the key, and keep the answers."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from helpers import heads, models, scoring, templating
from helpers.adapters import AdapterHead, AdapterPrompt, adapter_digest
from helpers.predictions import keep_predictions

CONTENT_FREE = "N/A"
"""An article without content, used to measure the prior of each option (Zhao et al. 2021)."""


def answers(
    folder: Path,
    tokenizer,
    adapter_prompt: AdapterPrompt | AdapterHead,
    rows: list[dict],
    adapter: Path | None = None,
    calibrate: bool = True,
) -> list[dict]:
    """A model's answers to rows, kept in a folder until something that they depend on changes.

    Args:
        folder: gets predictions.jsonl and key.json; see scoring.predict.
        tokenizer: the model's.
        adapter_prompt: the model, and how it is asked.
        rows: with ids of their own.
        adapter: the adapter's folder; None asks the untouched model.
        calibrate: whether each row is asked a second time, with an article without content.

    Returns:
        A line for each row, in their order; see scoring.predict, or `head_answers` for a head.
    """
    if isinstance(adapter_prompt, AdapterHead):
        return head_answers(folder, tokenizer, adapter_prompt, rows, adapter)
    prompt_format = adapter_prompt.prompt_format
    attention = models.pick_attention(prompt_format.max_length)
    key = {
        "model": models.model_identity(adapter_prompt.model),
        "adapter": adapter_digest(adapter) if adapter else None,
        "dtype": models.pick_dtype(),
        "attention": attention,
    }
    load = partial(models.load_model, adapter_prompt.model, adapter, attention=attention)
    prompts = templating.fit_all(tokenizer, prompt_format, rows)
    free = None
    if calibrate:
        without_content = [row | {"text": CONTENT_FREE} for row in rows]
        free = templating.fit_all(tokenizer, prompt_format, without_content)
    return scoring.predict(folder, load, tokenizer, rows, prompts, free, key)


def head_answers(
    folder: Path, tokenizer, head: AdapterHead, rows: list[dict], adapter: Path
) -> list[dict]:
    """A classification head's answers to rows, kept as those of `answers` are.

    Args:
        folder: gets predictions.jsonl and key.json.
        tokenizer: the model's.
        head: how it is asked.
        rows: with ids of their own.
        adapter: the adapter's folder.

    Returns:
        A line for each row, in their order, as from scoring.predict but without generate,
        normalised and calibrated: a head does not write, and its options have no tokens.
    """
    prompts = [heads.article_ids(tokenizer, head, row["text"]) for row in rows]
    key = {
        "model": models.model_identity(head.model),
        "adapter": adapter_digest(adapter),
        "dtype": models.pick_dtype(),
        "attention": models.pick_attention(head.max_length),
        "code": heads.CODE,
        "labels": head.labels,
    }

    def ask_missing(missing: list[int]) -> Iterator[dict[int, dict]]:
        network = heads.load_head(adapter, head)
        for place in missing:
            row, ids, started = rows[place], prompts[place], time.perf_counter()
            nats = heads.option_logprobs(
                heads.head_logits(network, ids), head.labels, row["category"]
            )
            answer = row["category"][int(np.argmax(nats))]
            judged = {"tokens": len(ids), "score": {"prediction": answer, "logprobs": nats}}
            yield {place: judged | {"seconds": round(time.perf_counter() - started, 4)}}

    return keep_predictions(folder, rows, prompts, key, ask_missing)
