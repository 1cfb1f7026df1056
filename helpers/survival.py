"""What each way of cutting a row leaves of it, computed from how many tokens its parts have."""

import numpy as np
import pandas as pd

from helpers.templating import encode, encode_answer, tokenize


def part_lengths(tokenizer, template: str, rows: list[dict], bos: bool) -> pd.DataFrame:
    """How many tokens each part of an uncut row has.

    Args:
        tokenizer: a fast tokenizer of transformers.
        template: the template's text, {text} before {options}.
        rows: with a label each.
        bos: whether `<bos>` comes first.

    Returns:
        A line for each row: before (what precedes the body), body, options (from the body to the
        last option), rest, answer.
    """
    opening, closing = template.split("{text}")
    upto, rest = closing.split("{options}")
    head, end = int(bos) + len(encode(tokenizer, opening)), len(encode(tokenizer, rest))
    bodies = tokenize(tokenizer, [row["text"] for row in rows])["input_ids"]
    menus = [upto + "，".join(row["category"]) for row in rows]
    options = tokenize(tokenizer, menus)["input_ids"]
    answers = [len(encode_answer(tokenizer, row["output"])) for row in rows]
    lengths = {"before": head, "body": list(map(len, bodies)), "options": list(map(len, options))}
    return pd.DataFrame(lengths | {"rest": end, "answer": answers})


def survival(parts: pd.DataFrame, limits: list[int]) -> pd.DataFrame:
    """The share of rows that keep their instruction, all options and a supervised answer.

    Args:
        parts: see `part_lengths`.
        limits: values of max_length.

    Returns:
        A line for each limit and way of cutting: swift's delete (rows that are too long are
        dropped), right (they lose their end), left (they lose their beginning), and body only.
        Columns way, max_length, instruction, options, answer, all (shares, 0 to 1).
    """
    total, fixed = parts.sum(axis=1), parts.drop(columns="body").sum(axis=1)
    behind_options = parts["rest"] + parts["answer"]
    behind_body = parts["options"] + behind_options
    lines = []
    for limit in limits:
        whole = total <= limit
        ways = {
            "delete": (whole, whole, whole),
            "right": (parts["before"] <= limit, total - behind_options <= limit, whole),
            "left": (whole, behind_body <= limit, parts["answer"] <= limit),
            "body only": (fixed <= limit,) * 3,
        }
        for way, masks in ways.items():
            shares = [float(mask.mean()) for mask in masks]
            line = {"way": way, "max_length": limit}
            line |= dict(zip(("instruction", "options", "answer"), shares))
            lines.append(line | {"all": float(np.logical_and.reduce(masks).mean())})
    return pd.DataFrame(lines)
