"""Probing: what an untouched model answers when only wording or the order of options changes."""

import random
from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from helpers import InputError, metrics, scoring, templating
from helpers.pages import per_cent_interval
from helpers.templating import PromptFormat


def token_table(tokenizer, ids: list[int]) -> pd.DataFrame:
    """Token ids and the piece of text that each stands for, in their order from left to right.

    Args:
        tokenizer: a tokenizer of transformers.
        ids: token ids.

    Returns:
        Lines "id" and "piece"; a piece is in quotes, and a space appears as ▁ where the tokenizer
        writes it so.
    """
    tokens = tokenizer.convert_ids_to_tokens(ids)
    # The names that a byte-level tokenizer has for its tokens are unreadable, so we decode them.
    pieces = [t if "▁" in t else tokenizer.decode([i]) for t, i in zip(tokens, ids)]
    return pd.DataFrame({"id": ids, "piece": list(map(repr, pieces))}).T


def another_order(options: list[str], draw: random.Random) -> list[str]:
    """Options in another order than the given one; a single option stays as it is.

    Args:
        options: of a row.
        draw: the source of chance that decides the order.
    """
    order = draw.sample(options, len(options))
    while order == options and len(set(options)) > 1:  # with two options, every other draw is
        order = draw.sample(options, len(options))
    return order


def in_order(row: dict, order: int, seed: int) -> dict:
    """A row with its options in another order.

    Args:
        row: with its options.
        order: 0 leaves them as they are; any other number draws another order than the given one.
        seed: decides the orders.
    """
    if order == 0:
        return row
    draw = random.Random(f"{seed}-{order}-{row['id']}")
    return {**row, "category": another_order(row["category"], draw)}


def shuffled(row: dict) -> dict:
    """A row with its options in another order, the same one each time."""
    return {**row, "category": another_order(row["category"], random.Random(row["id"]))}


def option_logprobs(
    model, tokenizer, prompt_format: PromptFormat, rows: list[dict]
) -> list[list[float]]:
    """For each row, the log-probabilities of its options, in their order.

    Args:
        model: a causal language model of transformers.
        tokenizer: its tokenizer.
        prompt_format: how the rows are asked.
        rows: with their options.
    """
    ids = [prompt.ids for prompt in templating.fit_all(tokenizer, prompt_format, rows)]
    menus = [row["category"] for row in rows]
    return [result["logprobs"] for result in scoring.ask(model, tokenizer, ids, menus)]


def ask_in_orders(
    model, tokenizer, formats: dict[str, PromptFormat], rows: list[dict], orders: int, seed: int
) -> pd.DataFrame:
    """The model's answers to rows under several templates, the options in several orders.

    Args:
        model: a causal language model of transformers.
        tokenizer: its tokenizer.
        formats: how the rows are asked, by name.
        rows: with labels.
        orders: how many orders, the given one included.
        seed: decides the other orders.

    Returns:
        A line for each answer: template, order, row (its id), answer, right, and place, which says
        where among the options the answer was (0 first, 1 last, NaN where there is one option).

    Raises:
        InputError: when there is nothing to ask.
    """
    if not rows or orders < 1:
        raise InputError(f"{len(rows)} rows in {orders} orders are none; probe one row at least")
    columns = ["template", "order", "row", "answer", "right", "place"]
    lines = []
    for name, prompt_format in tqdm(formats.items(), desc="asking", unit="template"):
        for order in range(orders):
            ordered = [in_order(row, order, seed) for row in rows]
            logprobs = option_logprobs(model, tokenizer, prompt_format, ordered)
            for row, values in zip(ordered, logprobs):
                best, last = int(np.argmax(values)), len(row["category"]) - 1
                answer, place = row["category"][best], best / last if last else np.nan
                right = answer == row["output"]
                lines.append((name, order, row["id"], answer, right, place))
    return pd.DataFrame(lines, columns=columns)


def steadiness(answers: pd.DataFrame) -> dict[str, float]:
    """The percentage of rows that get the same answer in all orders, by template.

    Args:
        answers: see `ask_in_orders`. Rows of one option are left out; if there are no others, the
            percentage is NaN.
    """
    choices = answers.dropna(subset="place")
    same = choices.groupby(["template", "row"])["answer"].nunique().eq(1)
    shares = same.groupby("template").mean().reindex(answers["template"].unique())
    return {name: float(100 * share) for name, share in shares.items()}


def steady_words(answers: pd.DataFrame) -> str:
    """What the order of the options changes, in words.

    Args:
        answers: see `ask_in_orders`; rows of one option are left out.
    """
    rows, steady = answers.dropna(subset="place")["row"].nunique(), steadiness(answers)
    if not rows:
        return (
            "Each validation row that we asked about has one option, so there was no other order."
        )
    asked = "one validation row that has" if rows == 1 else f"{rows} validation rows that have"
    words = f"We asked the untouched model about {asked} more than one option."
    if answers["order"].nunique() == 1:
        return f"{words} They were asked in one order alone, so there is nothing to compare."
    shares = " and ".join(f"{share:.0f} % under {name}" for name, share in steady.items())
    words = f"{words} Of these, {shares} get the same answer in all orders."
    if min(steady.values()) == 100:
        return words
    return words + " For the others, at least one new order brought another answer."


def order_table(answers: pd.DataFrame) -> pd.DataFrame:
    """How many answers are right, with a line for each template and order.

    Args:
        answers: see `ask_in_orders`.
    """
    steady, lines = steadiness(answers), {}
    for (name, order), right in answers.groupby(["template", "order"], sort=False)["right"]:
        lines[name, f"shuffled {order}" if order else "as given"] = {
            "right, %": round(100 * right.mean(), 1),
            "95 % interval": per_cent_interval(*metrics.accuracy(right)["ci95"]),
            "same in all, %": round(steady[name], 1),
        }
    return pd.DataFrame(lines).T.rename_axis(["template", "options"])


def place_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Where among their options the answers were, with a line for each template.

    Args:
        answers: see `ask_in_orders`; rows of one option are left out.
    """
    choices = answers.dropna(subset="place")
    choices = choices.assign(first=choices["place"].eq(0), last=choices["place"].eq(1))
    means = choices.groupby("template", sort=False)[["place", "first", "last"]].mean()
    means = means.astype(float).round(2).reindex(answers["template"].unique())
    titles = ["mean place (0 first, 1 last)", "share first", "share last"]
    return means.rename_axis("template").set_axis(titles, axis=1)


def surprise(model, tokenizer, prompt_format: PromptFormat, rows: list[dict]) -> list[float]:
    """Nats per token that each row's label costs the model, the end token included.

    Args:
        model: a causal language model of transformers.
        tokenizer: its tokenizer.
        prompt_format: how the rows are asked.
        rows: with labels.
    """
    ids = [prompt.ids for prompt in templating.fit_all(tokenizer, prompt_format, rows)]
    results = scoring.ask(model, tokenizer, ids, [[row["output"]] for row in rows])
    return [-result["logprobs"][0] / result["tokens"][0] for result in results]


def mean_gap(first: Sequence[float], second: Sequence[float], seed: int) -> dict[str, float]:
    """The mean of first minus second, with its 95 % bootstrap interval.

    Args:
        first: one value for each row.
        second: one value for each of the same rows.
        seed: of the resampling.

    Returns:
        "mean", "low" and "high"; where all rows differ by the same, both bounds are the mean.
    """
    from scipy.stats import bootstrap

    gap = np.subtract(first, second)
    mean = float(gap.mean())
    if np.ptp(gap) == 0:  # one row alone, or no spread: there is nothing to resample
        return {"mean": mean, "low": mean, "high": mean}
    bounds = bootstrap((gap,), np.mean, rng=np.random.default_rng(seed)).confidence_interval
    return {"mean": mean, "low": float(bounds.low), "high": float(bounds.high)}


def space_left(tokenizer, prompt_format: PromptFormat, rows: list[dict]) -> dict[str, float]:
    """How much of the articles the prompts of rows keep, in per cent.

    Args:
        tokenizer: a fast tokenizer of transformers.
        prompt_format: template and budget.
        rows: at least one.

    Returns:
        "whole_rows", the rows that keep all, and "mean_kept", what is kept of an article on
        average.
    """
    shares = [prompt.kept for prompt in templating.fit_all(tokenizer, prompt_format, rows)]
    whole = sum(share == 1 for share in shares)
    return {"whole_rows": 100 * whole / len(shares), "mean_kept": 100 * sum(shares) / len(shares)}
