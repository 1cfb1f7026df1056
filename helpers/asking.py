"""Ask one model, tuned or not, about rows: its prompts, its key and its answers in one place."""

from functools import partial
from pathlib import Path

from helpers import models, scoring, templating
from helpers.adapters import AdapterPrompt, adapter_digest

CONTENT_FREE = "N/A"
"""The article without content behind which an option's prior is measured (Zhao et al. 2021)."""


def answers(
    folder: Path,
    tokenizer,
    adapter_prompt: AdapterPrompt,
    rows: list[dict],
    adapter: Path | None = None,
) -> list[dict]:
    """A model's answers to rows, kept in a folder while nothing changes that they depend on.

    Args:
        folder: gets predictions.jsonl and key.json; see scoring.predict.
        tokenizer: the model's.
        adapter_prompt: the model, and how it is asked.
        rows: with ids of their own.
        adapter: the adapter's folder; None asks the untouched model.

    Returns:
        A line for each row, in their order; see scoring.predict.
    """
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
    without_content = [row | {"text": CONTENT_FREE} for row in rows]
    free = templating.fit_all(tokenizer, prompt_format, without_content)
    return scoring.predict(folder, load, tokenizer, rows, prompts, free, key)
