"""The study's second riddle: rows refused as too long, and what each way of cutting destroys."""

import logging
import tempfile
from collections.abc import Callable

import numpy as np
import pandas as pd

from helpers import InputError, templating
from helpers.models import recorded_config
from helpers.templating import PromptFormat

POSITIONS = 256
"""Positions of the small random model on which today's swift is tried."""
LIMITS = (None, 224, 512)
STRATEGIES = ("delete", "right", "left")
MODELS = ("Yi-6B", "Baichuan2-7B-Base", "Qwen1.5-1.8B", "Qwen3-0.6B-Base")
INSTRUCTION = "你是一位报社编辑"
SHORTEST = 120
"""The smallest limit that the chapter cuts to, in tokens."""


def fewer_options(tokenizer, row: dict) -> dict:
    """The same row, without the last options, so that its prompt fits into SHORTEST tokens.

    The label stays among the options; where it alone is too long, its beginning stays.

    Args:
        tokenizer: the one whose tokens are counted.
        row: with a label among its options.
    """
    prompt_format, options = PromptFormat(templating.EDITOR, SHORTEST, True), list(row["category"])
    label = row["output"]
    while True:
        try:  # with an empty article, for it may be cut to nothing
            templating.fit(tokenizer, prompt_format, row | {"text": "", "category": options})
            return row | {"category": options, "output": label}
        except InputError:
            if others := [name for name in options if name != label]:
                options.remove(others[-1])
            elif len(label) > 1:
                label = label[: len(label) // 2]
                options = [label]
            else:
                raise


def long_row(tokenizer, rows: list[dict]) -> tuple[dict, str]:
    """The row with the longest article, adapted to the limits of the chapter.

    Args:
        tokenizer: the one whose tokens are counted.
        rows: with labels.

    Returns:
        The row, and words for what was changed. It has fewer options, or only the beginning of its
        label, where a small limit cannot hold more. Its article is repeated where it is not longer
        than the largest limit.
    """
    longest = max(rows, key=lambda row: len(row["text"]))
    row, times, changes = fewer_options(tokenizer, longest), 1, []
    most = max(limit or POSITIONS for limit in LIMITS)
    while len(templating.encode(tokenizer, row["text"])) <= most:
        row["text"], times = row["text"] * 2, times * 2
    if times > 1:
        changes.append(f"its article stands there {times} times, for none here is long enough")
    if (count := len(row["category"])) < len(longest["category"]):
        changes.append(f"it offers {count} of its {len(longest['category'])} options")
    if row["output"] != longest["output"]:
        changes.append(f"its label is cut to {len(row['output'])} characters")
    return row, "; ".join(changes) or "it stands there as it is"


class Trial:
    """Today's swift on a random model with few positions: what becomes of a row, by how it is
    cut.
    """

    def __init__(self, tokenizer, bos: bool):
        """Make the random model.

        Args:
            tokenizer: the one whose vocabulary it gets.
            bos: whether prompts begin with `<bos>`.
        """
        from swift.model import get_model_processor
        from transformers import AutoConfig, AutoModelForCausalLM

        import helpers.swift_plugin  # noqa: F401 - registers the book's templates

        logging.getLogger("swift").setLevel(logging.CRITICAL)
        small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        small |= {"num_attention_heads": 2, "vocab_size": len(tokenizer)}
        config = AutoConfig.for_model("llama", **small, max_position_embeddings=POSITIONS)
        with tempfile.TemporaryDirectory() as scratch:
            AutoModelForCausalLM.from_config(config).save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
            self.model, self.processor = get_model_processor(scratch, model_type="llama")
        self.tokenizer, self.kind = tokenizer, "news-bos" if bos else "news"

    def template(self, limit: int | None, strategy: str):
        """The book's template in swift; for `delete`, it raises, so that the row is dropped."""
        from swift.template import get_template

        return get_template(
            self.processor,
            max_length=limit,
            template_type=self.kind,
            truncation_strategy="raise" if strategy == "delete" else strategy,
        )

    def lost(self, ids: list[int], row: dict) -> list[str]:
        """Which parts of a prompt are missing from what the model would get."""
        text, options = self.tokenizer.decode(ids), "，".join(row["category"])
        parts = {"instruction": INSTRUCTION, "options": options}
        return [name for name, part in parts.items() if part not in text]

    def trained(self, prompt: str, row: dict, limit: int | None, strategy: str) -> str:
        """What becomes of a training row, in words."""
        template = self.template(limit, strategy)
        template.set_mode("train")
        turns = [("user", prompt), ("assistant", row["output"])]
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            encoded = template.encode({"messages": messages})
        except ValueError:
            return "row dropped"
        ids = encoded["input_ids"]
        supervised = [token for token in encoded["labels"] if token != -100]
        answer = templating.encode_answer(self.tokenizer, row["output"])
        gone = self.lost(ids, row) + ([] if supervised == answer else ["answer"])
        beyond = f", {len(ids)} tokens on {POSITIONS} positions" if len(ids) > POSITIONS else ""
        return (f"lost: {', '.join(gone)}" if gone else "works") + beyond

    def asked(self, prompts: list[str], rows: list[dict], limit: int | None, strategy: str) -> str:
        """What becomes of a run that asks for the answers to several rows, in words."""
        from swift import InferRequest, RequestConfig, TransformersEngine

        template = self.template(limit, strategy)
        engine = TransformersEngine(self.model, template=template)
        messages = [[{"role": "user", "content": prompt}] for prompt in prompts]
        requests = [InferRequest(messages=one) for one in messages]
        short = RequestConfig(max_tokens=4, temperature=0)
        try:
            engine.infer(requests, short, use_tqdm=False)
        except ValueError as error:
            full = "no room" in str(error)
            return f"run aborted: {'no room for a new token' if full else 'row too long'}"
        template.set_mode("transformers")
        gone = self.lost(template.encode({"messages": messages[-1]})["input_ids"], rows[-1])
        return f"lost: {', '.join(gone)}" if gone else "works"

    def table(self, cut: Callable[[dict, int], str], rows: list[dict]) -> pd.DataFrame:
        """What becomes of the last row, by limit and strategy.

        Args:
            cut: makes a row's prompt within a limit.
            rows: a short one and then a long one.

        Returns:
            Columns training and inference, in words.
        """
        cells = {}
        for limit in LIMITS:
            prompts = [cut(row, limit or POSITIONS) for row in rows]
            for strategy in STRATEGIES:
                cells[str(limit or "not set"), strategy] = {
                    "training": self.trained(prompts[-1], rows[-1], limit, strategy),
                    "inference": self.asked(prompts, rows, limit, strategy),
                }
        return pd.DataFrame(cells).T.rename_axis(["max_length", "truncation_strategy"])


def whole(row: dict, limit: int | None = None) -> str:
    """A row's prompt with the whole article, whatever the limit is."""
    return templating.render(templating.EDITOR, row["text"], row["category"])


def body_only(tokenizer, bos: bool) -> Callable[[dict, int], str]:
    """A way of cutting that shortens the article alone, so that all other parts stay whole."""

    def cut(row: dict, limit: int) -> str:
        prompt_format = PromptFormat(templating.EDITOR, min(limit, POSITIONS), bos)
        return templating.fit(tokenizer, prompt_format, row).text

    return cut


def what_is_left(tokenizer, row: dict, limit: int) -> dict[str, str]:
    """A row's prompt cut to a limit in three ways, as text.

    Args:
        tokenizer: the one whose tokens are counted.
        row: longer than the limit.
        limit: tokens.
    """
    ids = templating.encode(tokenizer, whole(row))
    own = templating.fit(tokenizer, PromptFormat(templating.EDITOR, limit, False), row)
    ways = {"right": tokenizer.decode(ids[:limit]), "left": tokenizer.decode(ids[-limit:])}
    return ways | {"body only": own.text}


def token_counts(tokenizers: dict, prompts: list[str]) -> dict[str, np.ndarray]:
    """The number of tokens of each prompt, by tokenizer."""
    return {
        name: np.array([len(ids) for ids in templating.tokenize(one, prompts)["input_ids"]])
        for name, one in tokenizers.items()
    }


def position_limits() -> dict[str, int]:
    """How many positions the models of the profiles have, from their recorded configurations."""
    return {name: recorded_config(name).max_position_embeddings for name in MODELS}


def beyond_positions(counts: dict[str, np.ndarray]) -> pd.DataFrame:
    """The share of rows that are longer than each model's positions, in per cent, as text.

    Args:
        counts: tokens of each prompt by tokenizer.
    """
    limits = position_limits()
    table = pd.Series(limits, name="positions").to_frame()
    for name, values in counts.items():
        shares = [f"{100 * (values > limit).mean():.1f} %" for limit in limits.values()]
        table[f"rows beyond it, by {name} tokenizer"] = shares
    return table


def ten_short_rows(counts: np.ndarray) -> pd.DataFrame:
    """The chance that none of ten rows drawn at random exceeds a length, in per cent, as text.

    Args:
        counts: tokens of each prompt.
    """
    shares = {n: float((counts > n).mean()) for n in (1024, 2048, 4096, 8192)}
    table = pd.Series(shares, name="share of rows beyond").rename_axis("tokens").to_frame()
    table["no such row among ten"] = (1 - table["share of rows beyond"]) ** 10
    return table.map("{:.1%}".format)


def report(before: pd.DataFrame, after: pd.DataFrame) -> dict:
    """What chapter 7 keeps: each setting's outcome for whole rows and for rows with cut bodies.

    Args:
        before: what `Trial.table` gives for whole rows.
        after: the same for rows whose body was cut.
    """
    tables = {"whole rows": before, "body cut": after}
    return {
        name: [
            {"max_length": limit, "truncation_strategy": strategy, **cells.to_dict()}
            for (limit, strategy), cells in table.iterrows()
        ]
        for name, table in tables.items()
    }


def findings(before: pd.DataFrame, after: pd.DataFrame, counts: np.ndarray) -> dict:
    """The numbers that chapter 7 quotes.

    Args:
        before: see `report`.
        after: see `report`.
        counts: tokens of each prompt.
    """
    positions = position_limits()["Yi-6B"]
    kept = int((before["training"] == "works").sum())
    return {
        "cells": len(after),
        "kept_words": f"In training, {kept or 'none'} of {len(before)} "
        f"keep{'' if kept > 1 else 's'} the long row whole.",
        "aborted": int(before["inference"].str.startswith("run aborted").sum()),
        "counted": len(counts),
        "beyond_yi": float(100 * (counts > positions).mean()),
        "yi_positions": positions,
    }
