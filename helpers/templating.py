"""Prompts: one definition for training and for scoring. Only the article's body is ever cut."""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import ROOT, InputError

PLAIN = "输入: {text}\n分类: {options}\n输出: "
EDITOR = (
    "\n\n### Instruction:你是一位报社编辑。现在给出一篇新闻报道，请判断它属于给定类别中的哪一种：\n"
    + PLAIN
    + "\n\n### Response:\n"
)
TEMPLATES = {"plain": PLAIN, "editor": EDITOR}
"""Named templates; `{text}` is the article's body, `{options}` the row's options joined by a
full-width comma.
"""
CUTS = ("head", "head+tail")
"""What is kept of a body that is too long: its beginning, or its beginning and its end."""
GAP = "……"
"""Stands between beginning and end where the middle was cut."""


class Prompt(NamedTuple):
    """A prompt ready for the model."""

    text: str
    """As the model reads it, without `<bos>`."""
    ids: list[int]
    """Its token ids, `<bos>` included where the model wants one."""
    kept: float
    """Share of the body's characters that is left, 0 to 1."""


def find_template(name: str) -> str:
    """The template called `name`, or the text of a template file (relative paths start at the
    project's root).

    Raises InputError when there is no such template, or when its placeholders are not exactly one
    {text} and one {options}.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    path = ROOT / name
    if not path.is_file():
        raise InputError(
            f"template {name!r} is unknown; there are: {', '.join(TEMPLATES)}, or give a text file with {{text}} and {{options}}"
        )
    template = path.read_text(encoding="utf-8")
    if sorted(re.findall(r"\{(text|options)\}", template)) != ["options", "text"]:
        raise InputError(f"template file {name} must hold {{text}} once and {{options}} once")
    return template


def render(template: str, text: str, options: list[str]) -> str:
    """The template with body and options in place; neither is searched for placeholders."""
    filled = {"{text}": text, "{options}": "，".join(options)}
    return "".join(filled.get(part, part) for part in re.split(r"(\{text\}|\{options\})", template))


def tokenize(tokenizer, texts: list[str]):
    """A batch of encodings; no special token is added, and none is recognised: an article that says
    <eos> is text.
    """
    return tokenizer(
        texts, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False
    )


def encode(tokenizer, text: str) -> list[int]:
    """Token ids of one text; see `tokenize`."""
    return tokenize(tokenizer, [text])["input_ids"][0]


def encode_answer(tokenizer, option: str) -> list[int]:
    """Token ids of an answer: the option, then the end token."""
    return [*encode(tokenizer, option), tokenizer.eos_token_id]


def fit(
    tokenizer, template: str, row: dict, max_length: int, bos: bool, cut: str = "head"
) -> Prompt:
    """The prompt of one row; see `fit_all`."""
    return fit_all(tokenizer, template, [row], max_length, bos, cut)[0]


def fit_all(
    tokenizer, template: str, rows: list[dict], max_length: int, bos: bool, cut: str = "head"
) -> list[Prompt]:
    """The prompts of `rows`, each body cut so that prompt and any answer together stay within
    `max_length` tokens.

    template: a template's text. bos: whether the model wants its `<bos>` in front. cut: see CUTS.
    The longest of the row's options is reserved for the answer, so the prompt does not depend on
    the label. Every prompt is tokenised as assembled: tokens may merge across the seams. Raises
    InputError when max_length cannot hold the fixed parts of a row, naming the least that would do.
    """
    if cut not in CUTS:
        raise InputError(f"cut {cut!r} is unknown; there are: {', '.join(CUTS)}")
    if bos and tokenizer.bos_token_id is None:
        raise InputError("the profile asks for <bos>, but the tokenizer has none; set bos: false")
    start = [tokenizer.bos_token_id] if bos else []
    answers = answer_lengths(tokenizer, rows)
    before = [len(render(template.split("{text}")[0], "", row["category"])) for row in rows]
    reach = [2 * max_length] * len(
        rows
    )  # characters of a body to look at: enough for Chinese, doubled where tokens are longer
    spans = [span(len(row["text"]), reach[i], cut) for i, row in enumerate(rows)]
    prompts: list[Prompt | None] = [None] * len(rows)
    pending, exact = list(range(len(rows))), set()
    while pending:
        texts = [
            render(template, body(rows[i]["text"], spans[i]), rows[i]["category"]) for i in pending
        ]
        encodings, again = tokenize(tokenizer, texts), []
        for place, i in enumerate(pending):
            ids, size, (head, tail) = encodings["input_ids"][place], len(rows[i]["text"]), spans[i]
            over = len(start) + len(ids) + answers[i] - max_length
            if over > 0:
                if (head, tail) == (0, size):
                    least = f"at least {max_length + over} would"
                    raise InputError(
                        f"max_length {max_length} cannot hold prompt, options and answer of row {rows[i].get('id')}; {least}"
                    )
                spans[i] = shorter(encodings[place].offsets, before[i], size, spans[i], over, cut)
                exact.add(i)
                again.append(i)
            elif head < tail and i not in exact:
                reach[i] *= 2
                spans[i] = span(size, reach[i], cut)
                again.append(i)
            else:
                ids[:0] = (
                    # in place: a copy of every list would cost a tenth of the tokenizer's time
                    start
                )
                prompts[i] = Prompt(texts[place], ids, 1 - (tail - head) / size if size else 1.0)
        pending = again
    return prompts


def answer_lengths(tokenizer, rows: list[dict]) -> list[int]:
    """For each row the tokens of its longest option, end token included."""
    known = {
        option: len(encode_answer(tokenizer, option))
        for option in dict.fromkeys(option for row in rows for option in row["category"])
    }
    return [max(known[option] for option in row["category"]) for row in rows]


def span(size: int, reach: int, cut: str) -> tuple[int, int]:
    """(head, tail) of a body of `size` characters cut to `reach`: text[:head] and text[tail:] stay;
    (size, size) is all of it.
    """
    if size <= reach:
        return size, size
    return (reach, size) if cut == "head" else (reach - reach // 2, size - reach // 2)


def body(text: str, kept: tuple[int, int]) -> str:
    """What is left of `text`; see `span`."""
    head, tail = kept
    if head == tail:
        return text
    return text[:head] + (GAP + text[tail:] if tail < len(text) else "")


def shorter(
    offsets: list[tuple[int, int]],
    before: int,
    size: int,
    kept: tuple[int, int],
    over: int,
    cut: str,
) -> tuple[int, int]:
    """`kept` with about `over` tokens less, by at least one character.

    offsets: character positions of the prompt's tokens. before: characters of the prompt before the
    body.
    """
    head, tail = kept
    starts = [start - before for start, _ in offsets if before <= start < before + head]
    if head == tail and cut == "head+tail":  # whole until now: the middle goes
        left = max(0, len(starts) - over - 4)
        first, last = left - left // 2, left // 2
        return min(starts[first], size - 1) if starts else 0, starts[-last] if last else size
    ends = (
        [] if tail == size else [start for start, _ in offsets if start >= before + head + len(GAP)]
    )
    ends = ends[
        : len(ends) - sum(start >= before + head + len(GAP) + size - tail for start in ends)
    ]
    from_tail = min(over // 2 if head else over, len(ends)) if cut == "head+tail" else 0
    from_head = over - from_tail
    head = 0 if from_head >= len(starts) else min(starts[len(starts) - from_head], head - 1)
    if from_tail:
        tail = (
            size
            if from_tail == len(ends)
            else tail + max(1, ends[from_tail] - before - kept[0] - len(GAP))
        )
    return (max(head, 0), tail) if (head, tail) != kept else (0, size)


def to_messages(prompt: Prompt, label: str) -> dict:
    """A training row in swift's layout."""
    return {
        "messages": [
            {"role": "user", "content": prompt.text},
            {"role": "assistant", "content": label},
        ]
    }


def part_lengths(tokenizer, template: str, rows: list[dict], bos: bool) -> pd.DataFrame:
    """Tokens of each part of whole rows, one row each: before the body, the body, from it to the
    last option, the rest, the answer.
    """
    opening, closing = template.split("{text}")
    upto, rest = closing.split("{options}")
    head, end = int(bos) + len(encode(tokenizer, opening)), len(encode(tokenizer, rest))
    bodies = tokenize(tokenizer, [row["text"] for row in rows])["input_ids"]
    options = tokenize(tokenizer, [upto + "，".join(row["category"]) for row in rows])["input_ids"]
    answers = [len(encode_answer(tokenizer, row["output"])) for row in rows]
    lengths = {
        "before": head,
        "body": list(map(len, bodies)),
        "options": list(map(len, options)),
        "rest": end,
        "answer": answers,
    }
    return pd.DataFrame(lengths)


def survival(parts: pd.DataFrame, limits: list[int]) -> pd.DataFrame:
    """For each way of cutting and each max_length, the share of rows that keep their instruction,
    all options, a supervised answer.

    parts: see `part_lengths`. Ways: swift's delete (longer rows are dropped), right (what stands
    behind the limit is lost), left (what stands before), and body-only. Columns: way, max_length,
    instruction, options, answer, all (shares, 0 to 1).
    """
    total, fixed = parts.sum(axis=1), parts.drop(columns="body").sum(axis=1)
    behind_options, behind_body = (
        parts["rest"] + parts["answer"],
        parts["options"] + parts["rest"] + parts["answer"],
    )
    rows = []
    for limit in limits:
        whole = total <= limit
        kept = {
            "delete": (whole, whole, whole),
            "right": (parts["before"] <= limit, total - behind_options <= limit, whole),
            "left": (whole, behind_body <= limit, parts["answer"] <= limit),
            "body only": (fixed <= limit,) * 3,
        }
        for way, masks in kept.items():
            shares = dict(
                zip(("instruction", "options", "answer"), (float(mask.mean()) for mask in masks))
            )
            rows.append(
                {
                    "way": way,
                    "max_length": limit,
                    **shares,
                    "all": float(np.logical_and.reduce(masks).mean()),
                }
            )
    return pd.DataFrame(rows)
