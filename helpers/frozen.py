"""A linear classifier on the frozen model: what it knows before any fine-tuning."""

import time

import numpy as np
import torch
from tqdm import tqdm

from helpers import baselines, models, templating
from helpers.adapters import AdapterPrompt


@torch.inference_mode()
def last_hidden_states(model, prompts: list[list[int]]) -> np.ndarray:
    """The last layer's state at each prompt's last token.

    Args:
        model: a causal language model.
        prompts: token ids; prompts are read one by one.

    Returns:
        prompts × hidden size.
    """
    states = []
    for prompt in tqdm(prompts, desc="reading", unit="row", mininterval=2, delay=5):
        ids = torch.tensor([prompt], device=model.device)
        hidden = model.base_model(ids, use_cache=False).last_hidden_state  # 1 × tokens × hidden
        states.append(hidden[0, -1].float().cpu().numpy())
    return np.stack(states)


def frozen_baseline(
    tokenizer, adapter_prompt: AdapterPrompt, train: list[dict], rows: list[dict]
) -> tuple[list[str], float]:
    """Logistic regression on the untouched model's last hidden state, choosing among the options.

    Args:
        tokenizer: the model's.
        adapter_prompt: the model, and how it is asked.
        train: rows to learn from, of two labels at least.
        rows: to answer.

    Returns:
        An option for each row, and the seconds of reading and learning the training rows.
    """
    prompt_format = adapter_prompt.prompt_format
    attention = models.pick_attention(prompt_format.max_length)
    model = models.load_model(adapter_prompt.model, attention=attention)

    def features(some: list[dict]) -> np.ndarray:  # rows × hidden size
        fitted = templating.fit_all(tokenizer, prompt_format, some)
        return last_hidden_states(model, [prompt.ids for prompt in fitted])

    started = time.perf_counter()
    train_features = features(train)
    reading = time.perf_counter() - started
    labels = [row["output"] for row in train]
    answers, learning = baselines.logistic_baseline(train_features, labels, features(rows), rows)
    return answers, reading + learning
