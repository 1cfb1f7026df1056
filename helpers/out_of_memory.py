"""Where memory goes as a row grows, why the study's inference ran out of it, and the cures."""

import runpy
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from tqdm import tqdm

from helpers import ROOT, budgets, estimates, memory, scoring
from helpers.files import read_json

CARD_GIB = 23.69
"""Memory of the study's card, as its error message gives it."""
IN_PIECES_GIB = 5.61
"""What PyTorch had reserved on it in pieces too small for the request."""
AS_IT_RAN = "eager, all logits"
WAYS = {
    AS_IT_RAN: {"attention": "eager", "last_only": False},
    "eager, last logits": {"attention": "eager"},
    "sdpa, all logits": {"last_only": False},
    "sdpa, last logits": {},
    "… and chunked": {"chunk": 1024},
}
"""Ways of reading one article, as choices of memory.forecast; the first is the study's."""


def growth(network, ids: list[int], lengths: list[int]) -> pd.DataFrame:
    """Peak memory, beyond the weights, of four ways to run one row, by its length.

    Args:
        network: a causal language model; unchanged when this returns.
        ids: token ids of a long row.
        lengths: how many of its tokens are read.

    Returns:
        Columns way, tokens, peak_gib and largest_gib (of the largest single tensor).
    """
    import torch

    lines = []

    def follow(way: str, make: Callable) -> None:
        for n in tqdm(lengths, desc=way, unit="length"):
            lines.append({"way": way, "tokens": n, **memory.traced(make(ids=ids[:n]))})

    last = partial(memory.forward, network, last_only=True)
    follow("inference, naive", partial(memory.forward, network, last_only=False))
    follow("inference, last position", last)
    network.set_attn_implementation("eager")
    follow("inference, eager attention", last)
    network.set_attn_implementation("sdpa")
    lora = memory.add_lora(network, 8, "all-linear")
    # as in swift and in the forecast; without autocast, peft would widen every input
    mixed = network.dtype != torch.float32
    with torch.autocast(network.device.type, network.dtype if mixed else None, enabled=mixed):
        follow("training step", partial(memory.lora_step, lora))
    lora.unload().eval().requires_grad_(True)
    return pd.DataFrame(lines)


def largest_tensors(network, growth_table: pd.DataFrame) -> pd.DataFrame:
    """The largest tensor of two of the ways at the largest length, predicted and as it was seen.

    Args:
        network: the model.
        growth_table: see `growth`.

    Returns:
        A line for each way; columns formula, "predicted, GiB" and "seen, GiB".
    """
    n = int(growth_table["tokens"].max())
    text, number_bytes = network.config.get_text_config(), network.dtype.itemsize
    formulas = {
        "inference, naive": ("length × vocabulary × bytes", n * text.vocab_size * number_bytes),
        "inference, eager attention": (
            "heads × length² × 4 bytes",
            text.num_attention_heads * n**2 * 4,
        ),
    }
    measured = growth_table[growth_table["tokens"] == n].set_index("way")["largest_gib"]
    lines = {
        way: {"formula": formula, "predicted, GiB": size / memory.GIB, "seen, GiB": measured[way]}
        for way, (formula, size) in formulas.items()
    }
    return pd.DataFrame(lines).T.rename_axis("way")


def riddle() -> tuple[pd.DataFrame, dict]:
    """Every explanation of the study's message, with what was allocated when the request came.

    The library of that time was run once and recorded (data/riddle1/events-4.41.2.json); today's is
    run here.

    Returns:
        A table by hypothesis, the best first, and the record. Its columns are length,
        requested_gib, allocated_gib, residual_gib (the difference from the message's),
        resting_gib and "allocated today".
    """
    here = ROOT / "data" / "riddle1"
    now = runpy.run_path(str(here / "trace.py"))["trace"]()
    then = read_json(here / "events-4.41.2.json")
    columns = ["length", "requested_gib", "allocated_gib", "residual_gib", "resting_gib"]
    table = pd.DataFrame(then["rows"]).set_index("hypothesis")[columns]
    today = pd.DataFrame(now["rows"]).set_index("hypothesis")
    table["allocated today"] = today["allocated_gib"]
    return table, then


def riddle_table(table: pd.DataFrame) -> pd.DataFrame:
    """The explanations under short names, as a page shows them; A is the best.

    Args:
        table: see `riddle`.
    """
    short = table.reset_index(drop=True)
    short.index = pd.Index([chr(ord("A") + i) for i in range(len(short))], name="explanation")
    names = {
        "length": "article, tokens",
        "requested_gib": "asked for, GiB",
        "allocated_gib": "held already, GiB",
        "residual_gib": "off the message by, GiB",
        "allocated today": "held today, GiB",
    }
    shown = short[list(names)].rename(columns=names).round(2)
    return shown.astype(object).fillna("–")


def cure_curves(config, points: list[int], options: list[str], tokenizer) -> dict[str, list[float]]:
    """GiB of the weights plus the peak while one article is read, for each way of reading it.

    Args:
        config: of the study's model.
        points: lengths of the article, in tokens.
        options: of one row, for this book's own scorer.
        tokenizer: encodes the options.
    """
    curves = {}
    for name, choices in tqdm(WAYS.items(), desc="tracing", unit="way"):
        curves[name] = [memory.forecast(config, n, **choices)["total"] for n in points]
    saved = [(1 - 4.5 / 16) * memory.cache_gib(config, n) for n in points]
    curves["… and the cache in 4 bits"] = list(np.subtract(curves["… and chunked"], saved))
    cut = [memory.forecast(config, min(n, 2048))["total"] for n in points]
    curves["sdpa, last logits, body cut at 2,048"] = cut
    tree = scoring.option_tree(tokenizer, tokenizer.eos_token_id, options)
    curves["this book's scorer"] = [scorer_gib(config, tree, n) for n in points]
    return curves


def scorer_gib(config, tree: scoring.Tree, length: int) -> float:
    """GiB of the weights plus the peak while the options behind one article are scored.

    Args:
        config: of the study's model.
        tree: of the options.
        length: of the article, in tokens.
    """

    def score(network):
        cache = scoring.prefill(network, [[0] * length], length)
        return scoring.read_trees(network, [tree], [length], length, cache)

    return memory.on_shapes(config, score, cached=length)


def reach(points: list[int], values: list[float], budget: float, most: int) -> int:
    """The largest length at which a parabola through traced points stays within a budget.

    Args:
        points: lengths, in tokens.
        values: GiB at each.
        budget: GiB.
        most: the number of positions that the model has.
    """
    a, b, c = np.polyfit(points, values, 2)
    lengths = np.arange(1, most + 1)
    needs = a * lengths**2 + b * lengths + c
    return int(lengths[needs <= budget + 1e-9].max(initial=0))  # 1e-9 for rounding


def reaches(config, points: list[int], curves: dict[str, list[float]]) -> dict[str, int]:
    """The longest article that each way reads on the study's card, in tokens.

    Args:
        config: of the study's model.
        points: see `cure_curves`.
        curves: see `cure_curves`.
    """
    most = config.max_position_embeddings
    lost = f"{AS_IT_RAN}, {IN_PIECES_GIB} GiB lost in pieces"
    lengths = {lost: reach(points, curves[AS_IT_RAN], CARD_GIB - IN_PIECES_GIB, most)}
    for name, values in curves.items():
        if "body cut" not in name:
            lengths[name] = reach(points, values, CARD_GIB, most)
    return lengths


def forecast_checks(network, config, ids: list[int], lengths: list[int]) -> pd.DataFrame:
    """The forecast and the closed form beside the allocator's own record of real runs.

    Args:
        network: the model.
        config: its transformers config.
        ids: token ids of a long row.
        lengths: how many of them are read.

    Returns:
        Columns inference, tokens, "measured, GiB", forecast, "closed form" and "error of the
        forecast".
    """
    weights, lines = memory.weights_gib(network), []
    dtype = str(network.dtype).removeprefix("torch.")
    for n in lengths:
        for name, last_only in (("last logits", True), ("all logits", False)):
            peak = memory.measured(memory.forward(network, ids[:n], last_only))["peak_gib"]
            choices = {"dtype": dtype, "last_only": last_only}
            traced = memory.forecast(config, n, **choices)["total"]
            closed = estimates.estimate(config, n, **choices)["total"]
            lines.append((name, n, weights + peak, traced, closed))
    columns = ["inference", "tokens", "measured, GiB", "forecast", "closed form"]
    table = pd.DataFrame(lines, columns=columns)
    table["error of the forecast"] = (table["forecast"] / table["measured, GiB"] - 1).abs()
    return table


def step_parts(configs: dict, length: int = 2048) -> pd.DataFrame:
    """GiB that a LoRA step of each model needs, by part, and accelerate's estimate of it.

    Args:
        configs: transformers configs by name.
        length: tokens of the single row. The rank is 8, with gradient checkpointing.
    """
    from accelerate.utils import calculate_maximum_sizes

    lines = {}
    for name, config in tqdm(configs.items(), desc="tracing", unit="model"):
        size, _ = calculate_maximum_sizes(memory.build_on_meta(config, "bfloat16", "sdpa"))
        step = {"training": True, "rank": 8, "checkpointing": True}
        lines[name] = memory.forecast(config, length, **step)
        lines[name] |= {"accelerate": 4 * size / memory.GIB}
    return pd.DataFrame(lines).T


def longest_rows(configs: dict, cards: tuple[int, ...] = (16, 24, 48, 80)) -> pd.DataFrame:
    """The longest row that fits on each card, as text; * where the model's positions end there.

    Args:
        configs: transformers configs by name.
        cards: gigabytes; one GiB of each is set aside for CUDA and fragmentation.

    Returns:
        A line for each model and mode, and a column for each card.
    """
    step = {"training": True, "rank": 8, "checkpointing": True}
    modes = {
        "training": step,
        "training, no checkpointing": step | {"checkpointing": False},
        "inference": {},
    }

    def fitting(config, gigabytes: int, choices: dict) -> str:
        n = estimates.longest(config, gigabytes * 1e9 / memory.GIB - budgets.ASIDE_GIB, **choices)
        return f"{n:,}{'*' * (n == estimates.positions(config))}" if n else "–"

    lines = {
        (name, mode): {f"{gb} GB": fitting(config, gb, choices) for gb in cards}
        for name, config in configs.items()
        for mode, choices in modes.items()
    }
    return pd.DataFrame(lines).T.rename_axis(["model", "mode"])


def report(weights, network, grid, riddle_table, reaches, fitting, checks) -> dict:
    """What chapter 6 keeps in memory/report.json.

    Args:
        weights: GiB of the model's weights.
        network: the model.
        grid: see `growth`.
        riddle_table: see `riddle`.
        reaches: see `reaches`.
        fitting: see `longest_rows`.
        checks: see `forecast_checks`.
    """
    explanations = [
        {"hypothesis": name} | line.dropna().to_dict() for name, line in riddle_table.iterrows()
    ]
    fits = [
        {"model": name, "mode": mode, **line.to_dict()} for (name, mode), line in fitting.iterrows()
    ]
    return {
        "weights_gib": weights,
        "dtype": str(network.dtype).removeprefix("torch."),
        "grid": grid.to_dict("records"),
        "riddle1": explanations,
        "reach": reaches,
        "fits": fits,
        "checks": checks.to_dict("records"),
    }


def findings(weights, network, grid, riddle_table, reaches, checks, yi_gib) -> dict:
    """The numbers that chapter 6 quotes; see `report`.

    Args:
        weights: GiB of the model's weights.
        network: the model.
        grid: see `growth`.
        riddle_table: see `riddle`.
        reaches: see `reaches`.
        checks: see `forecast_checks`.
        yi_gib: GiB of a LoRA step of yi-6b.
    """
    n = int(grid["tokens"].max())
    peak = grid[grid["tokens"] == n].set_index("way")["peak_gib"]
    first, size = riddle_table.iloc[0], network.dtype.itemsize
    text = network.config.get_text_config()
    return {
        "vocabulary": f"{text.vocab_size:,}",
        "number_bytes": size,
        "thousand_logits": 1000 * text.vocab_size * size / memory.GIB,
        "heads": text.num_attention_heads,
        "tokens": n,
        "weights": weights,
        "naive": float(peak["inference, naive"]),
        "last": float(peak["inference, last position"]),
        "eager": float(peak["inference, eager attention"]),
        "naive_ratio": float(peak["inference, naive"] / peak["inference, last position"]),
        "riddle_length": int(first["length"]),
        "riddle_allocated": float(first["allocated_gib"]),
        "riddle_residual": float(first["residual_gib"]),
        "riddle_second": float(riddle_table["residual_gib"].abs().iloc[1]),
        "reach_then": list(reaches.values())[1],
        "reach_chunked": reaches["… and chunked"],
        "error": float(100 * checks["error of the forecast"].max()),
        "yi": float(yi_gib),
    }
