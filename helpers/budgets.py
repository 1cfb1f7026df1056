"""How much memory each chapter of the book needs, how much is free, and which sizes fit."""

import math
from collections.abc import Callable

import torch

from helpers import InputError
from helpers.estimates import estimate, inner_size, last_that_fits, positions
from helpers.machine import available_bytes
from helpers.memory import GIB, size_of
from helpers.models import pick_attention, pick_dtype

ASIDE_GIB = 1.0
"""GiB that are set aside for Python, CUDA and fragmentation."""
CORNER = 2048
"""The most rows and columns of a matrix that chapter 3 reads; of a larger one it reads a corner."""
TREE_NODES = 64
"""The least number of positions of a row for whose logits memory is planned: the tokens of 20
options.
"""
TOKENS_AT_ONCE = 4096
"""The most tokens of rows that a model is asked about together, where memory allows."""
READING = (2, 5, 8)
"""Chapters that ask a model about rows."""


def available_gib() -> float:
    """GiB that a run could still take on this machine: of the GPU, or without one of main memory.

    See `machine.available_bytes` for what else may limit main memory.
    """
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / GIB
    return available_bytes() / GIB


def chapter_needs(
    config,
    chapter: int,
    length: int = 1,
    batch: int = 1,
    dtype: str | None = None,
    attention: str | None = None,
    rank: int = 8,
    checkpointing: bool = False,
    in_safetensors: bool = True,
    nodes: int = TREE_NODES,
) -> float:
    """The memory that a chapter needs at its peak, without Python and CUDA, by the closed form.

    Args:
        config: the model's transformers config.
        chapter: 1 to 8.
        length: tokens of the longest row it reads or trains on.
        batch: rows at once.
        dtype: of the weights, a torch type's name; by default this machine's own.
        attention: "sdpa" or "eager" in chapters 2, 5 and 8, by default what they choose for rows
            of this length; chapter 6 measures both.
        rank: of the adapters of chapters 4 and 6.
        checkpointing: whether the training step of chapter 4 uses it; that of chapter 6 never does.
        in_safetensors: whether chapter 3 can read a single matrix of the weights.
        nodes: of the largest tree of options, where the rows are known; see scoring.most_nodes.

    Returns:
        GiB.

    Raises:
        InputError: when there is no such chapter.
    """
    if chapter in (1, 7):  # no model is loaded, or only a toy
        return 0.0
    dtype = dtype or pick_dtype()
    common = {"length": length, "batch": batch, "dtype": dtype}
    if chapter in READING:
        attention = attention or pick_attention(length)
        return reading_gib(config, attention=attention, nodes=nodes, **common)
    if chapter == 3:
        return matrix_gib(config, dtype, in_safetensors)
    step = {"training": True, "rank": rank} | common
    if chapter == 4:
        return estimate(config, checkpointing=checkpointing, **step)["total"]
    if chapter == 6:
        ways = (step, common | {"last_only": False}, common | {"attention": "eager"})
        return max(estimate(config, **way)["total"] for way in ways)
    raise InputError(f"there is no chapter {chapter}; there are 1 to 8")


def reading_gib(
    config,
    length: int,
    batch: int = 1,
    dtype: str = "bfloat16",
    attention: str = "sdpa",
    nodes: int = TREE_NODES,
) -> float:
    """GiB that one loaded model takes while it reads rows and scores their options.

    Args:
        config: a transformers config.
        length: tokens of the longest row.
        batch: rows at once.
        dtype: of the weights, a torch type's name.
        attention: "sdpa" or "eager".
        nodes: of the largest tree of options.
    """
    size = getattr(torch, dtype).itemsize
    vocabulary = size_of(config.get_text_config(), "vocab_size")
    # batch × nodes × vocabulary; one row at a time also as four-byte floats, with its normaliser
    logits = max(nodes, TREE_NODES) * vocabulary * (batch * size + 2 * 4) / GIB
    parts = estimate(config, length, batch, dtype=dtype, attention=attention)
    resting = parts["weights"] + parts["cache"]
    # options are read only after the prompts' own scores and activations are freed
    return resting + max(parts["total"] - resting, logits)


def matrix_gib(config, dtype: str = "bfloat16", in_safetensors: bool = True) -> float:
    """GiB of all copies that chapter 3 holds of one matrix's corner, in four-byte floats.

    Args:
        config: a transformers config.
        dtype: of the weights, a torch type's name.
        in_safetensors: whether a single matrix can be read; else the whole model is loaded once.
    """
    text = config.get_text_config()
    sides = (min(side, CORNER) for side in (size_of(text, "hidden_size"), inner_size(text)))
    whole = 0.0 if in_safetensors else estimate(config, 1, dtype=dtype)["weights"]
    # six copies: frozen, peft's, a correction, merged, and what a comparison needs
    return whole + 6 * 4 * math.prod(sides) / GIB


def budget_gib(memory_gib: float | None = None) -> float:
    """GiB that a chapter may take: the reader's limit, or else what is free less ASIDE_GIB.

    Args:
        memory_gib: the limit that the reader set, if any.

    Raises:
        InputError: when the limit is not above 0.
    """
    if memory_gib is None:
        return max(0.0, available_gib() - ASIDE_GIB)
    if memory_gib <= 0:
        raise InputError(
            f"memory_gib {memory_gib} is not above 0; leave it out to use what is free"
        )
    return float(memory_gib)


def usual_rows(length: int) -> int:
    """How many rows of this many tokens are asked about together where memory allows."""
    return max(1, TOKENS_AT_ONCE // length)


def rows_at_once(needs: Callable[[int], float], length: int, budget: float) -> int:
    """How many rows are asked about together: the usual number, or fewer where that does not fit.

    Args:
        needs: GiB for a number of rows.
        length: tokens of the longest row.
        budget: GiB.

    Returns:
        At least 1, even where a single row does not fit.
    """
    rows = usual_rows(length)
    while rows > 1 and needs(rows) > budget:
        rows //= 2
    return rows


def tokens_at_once(model, length: int, nodes: int = TREE_NODES) -> int:
    """The most tokens of rows that a loaded model is asked about together.

    Args:
        model: of transformers, on the device where it will compute.
        length: tokens of the longest row.
        nodes: of the largest tree of options.
    """
    config, budget = model.config, budget_gib()
    dtype = str(model.dtype).removeprefix("torch.")
    weights = estimate(config, 1, dtype=dtype)["weights"]  # the model is loaded already

    # any attention but the fused kernel writes its scores out; it holds at most what "eager" does
    fused = config.get_text_config()._attn_implementation == "sdpa"
    attention = "sdpa" if fused else "eager"

    def needs(rows: int) -> float:
        return reading_gib(config, length, rows, dtype, attention, nodes) - weights

    rows = rows_at_once(needs, length, budget)
    return TOKENS_AT_ONCE if rows == usual_rows(length) else rows * length


def check_chapter(
    config,
    chapter: int,
    length: int = 1,
    batch: int | None = None,
    budget: float | None = None,
    **choices,
) -> str:
    """A line that says what a chapter will need, to be printed before it loads anything.

    Args:
        config: the model's transformers config.
        chapter: 1 to 8.
        length: tokens of the longest row.
        batch: rows at once; by default what the scorer will choose.
        budget: GiB, `budget_gib()` by default.
        **choices: see `chapter_needs`.

    Raises:
        InputError: when it needs more than the budget; the message says what would help.
    """
    budget = budget_gib() if budget is None else budget

    def needs(tokens: int, rows: int, **change) -> float:
        return chapter_needs(config, chapter, tokens, rows, **choices | change)

    chosen = batch is None and chapter in READING
    rows = rows_at_once(lambda n: needs(length, n), length, budget) if chosen else batch or 1
    if (gib := needs(length, rows)) <= budget:
        shown = max(gib, 0.1)  # 0.0 would read as no memory at all
        line = f"chapter {chapter} needs about {shown:.1f} GiB; {budget:.1f} are free"
        if chosen and rows < usual_rows(length):
            line += f", so it asks about {rows} rows at once in place of {usual_rows(length)}"
        return line
    levers = []
    if rows > 1 and needs(length, 1) < gib:
        levers.append(f"rows one at a time: {needs(length, 1):.1f} GiB")
    if shorter := last_that_fits(lambda tokens: needs(tokens, rows), budget, length - 1):
        levers.append(f"rows of at most {shorter:,} tokens")
    if (few := needs(length, 1, nodes=TREE_NODES)) < needs(length, 1):
        levers.append(f"fewer options a row: {few:.1f} GiB with 20, one row at a time")
    raise InputError(no_room(config, chapter, gib, budget, levers, **choices))


def no_room(config, chapter: int, needs: float, budget: float, levers: list[str], **choices) -> str:
    """The message for a chapter that does not fit.

    Args:
        config: the model's transformers config.
        chapter: 1 to 8.
        needs: GiB.
        budget: GiB.
        levers: what would help, beside a smaller model and more memory.
        **choices: see `chapter_needs`.
    """
    weights = estimate(config, 1, dtype=choices.get("dtype") or pick_dtype())["weights"]
    smaller = f"a smaller model (the weights of this one take {weights:.1f})"
    helps = "; ".join([*levers, smaller, "other programs closed, or a machine with more memory"])
    return (
        f"chapter {chapter} needs about {needs:.1f} GiB and {budget:.1f} are free; "
        f"what would help: {helps}"
    )


def pick_lengths(
    config, lengths: list[int], budget: float, most: int | None = None, chapter: int = 6, **choices
) -> tuple[list[int], str]:
    """The lengths that a chapter can afford, and a line that says what was left out.

    Args:
        config: the model's transformers config.
        lengths: tokens; in any order.
        budget: GiB.
        most: tokens of the longest row there is; no length goes beyond it.
        chapter: the one whose needs count.
        **choices: see `chapter_needs`.

    Returns:
        The lengths in ascending order, at least one, and the line to print.

    Raises:
        InputError: when there is no length, or not even the shortest fits; the message says what
            would help.
    """
    if not lengths or any(type(n) is not int or n < 1 for n in lengths):
        raise InputError(f"lengths must be whole numbers above 0, at least one, not {lengths}")
    limit = min(n for n in (positions(config), most, max(lengths)) if n)
    reachable = sorted({n for n in lengths if n <= limit}) or [limit]

    def needs(length: int) -> float:
        return chapter_needs(config, chapter, length, **choices)

    fitting = [n for n in reachable if needs(n) <= budget]
    if not fitting:
        shorter = last_that_fits(needs, budget, reachable[0])
        levers = [f"lengths: [{shorter}]"] if shorter else []
        raise InputError(no_room(config, chapter, needs(reachable[0]), budget, levers, **choices))
    line = (
        f"up to {fitting[-1]:,} tokens, chapter {chapter} needs about "
        f"{needs(fitting[-1]):.1f} GiB; {budget:.1f} are free"
    )
    if dropped := [f"{n:,}" for n in reachable if n not in fitting]:
        line += f" (left out, for want of memory: {', '.join(dropped)} tokens)"
    return fitting, line
