"""The book's figures: one look, axis units, colours that colour-blind readers can tell apart."""

import itertools

import matplotlib.pyplot as plt
import notojp_matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from matplotlib_inline.backend_inline import set_matplotlib_formats
from statsmodels.stats.proportion import proportion_confint

SETTING_MARKS = "osD^vP"


def style() -> None:
    """Set the look of every figure that follows."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update({"figure.figsize": (8, 4), "figure.dpi": 100, "savefig.bbox": "tight"})
    plt.rcParams["text.parse_math"] = (
        False  # a class may be called $x$: names out of data are not formulas
    )
    plt.rcParams["font.family"] = [
        "DejaVu Sans",
        notojp_matplotlib.FAMILY,
    ]  # both come with packages: a class may be called 体育
    plt.rcParams["svg.hashsalt"] = "book"  # the same figure is the same file
    if get_ipython():
        set_matplotlib_formats("svg", metadata={"Date": None})


def plain_ticks(*axes) -> None:
    """Ticks of logarithmic axes as plain numbers: the usual ones are formulas, which are switched
    off (see style).
    """
    for axis in axes:
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")


def class_counts(counts: pd.DataFrame):
    """Horizontal bars of rows by class and split.

    Args:
        counts: a line a class, a column a split, in rows.

    Returns:
        A matplotlib Figure.
    """
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(counts) + 1.4))
    counts.plot.barh(stacked=True, ax=axes, width=0.8)
    axes.set(xlabel="rows", ylabel="class")
    axes.xaxis.get_major_locator().set_params(integer=True)  # there is no half row
    axes.invert_yaxis()
    axes.legend(title="split")
    return figure


def length_histogram(lengths: dict[str, np.ndarray], limits: list[int]):
    """Token lengths of rows: a histogram (left) and the share that a limit holds (right).

    Args:
        lengths: tokens of whole rows, by tokenizer.
        limits: drawn as dotted lines, in tokens.

    Returns:
        A matplotlib Figure; both axes of lengths are logarithmic.
    """
    frame = pd.concat(
        [pd.DataFrame({"tokens": values, "tokenizer": name}) for name, values in lengths.items()],
        ignore_index=True,
    )
    spread = frame["tokens"].nunique() > 1  # rows of one length have no bins to share
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    common = {"data": frame, "x": "tokens", "hue": "tokenizer", "log_scale": True}
    sns.histplot(**common, bins=40 if spread else 1, element="step", ax=left)
    sns.ecdfplot(**common, stat="percent", ax=right, linewidth=2)
    plain_ticks(left.xaxis, right.xaxis)
    left.set(xlabel="whole row, tokens", ylabel="rows")
    right.set(xlabel="whole row, tokens", ylabel="rows that fit, %")
    for limit in limits:
        for axes in (left, right):
            axes.axvline(limit, color="0.45", linestyle=":", linewidth=1)
        right.annotate(f"{limit:,}", (limit, 4), rotation=90, fontsize=8, ha="right", color="0.25")
    return figure


def survival(frame: pd.DataFrame):
    """Shares of rows that keep instruction, options and answer against max_length, a line each way
    of cutting (see templating.survival).
    """
    titles = {
        "instruction": "instruction kept",
        "options": "all options kept",
        "answer": "answer supervised",
    }
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True)
    for axes, (part, title) in zip(panels, titles.items()):
        for (way, table), mark in zip(frame.groupby("way", sort=False), SETTING_MARKS):
            axes.plot(table["max_length"], 100 * table[part], f"-{mark}", label=way, markersize=5)
        axes.axvline(384, color="0.45", linestyle=":", linewidth=1)
        axes.set(title=title, xlabel="max_length, tokens", xscale="log", ylim=(-3, 103))
        plain_ticks(axes.xaxis)
    panels[0].set_ylabel("rows, %")
    panels[2].legend(title="cut", fontsize=8)
    return figure


def learning_curves(logs: dict[str, pd.DataFrame], val_rows: int):
    """Training loss (smoothed) and loss and sequence accuracy on val against steps, one line a
    setting; bars: 95 % Wilson intervals.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for (name, log), mark in zip(logs.items(), SETTING_MARKS * len(logs)):
        train, val = log.dropna(subset="loss"), log.dropna(subset="eval_loss")
        (line,) = left.plot(
            train["step"], train["loss"].rolling(5, min_periods=1).mean(), label=f"{name}, train"
        )
        left.plot(
            val["step"],
            val["eval_loss"],
            mark,
            color=line.get_color(),
            markeredgecolor="white",
            label=f"{name}, val",
        )
        share = val["eval_seq_acc"].to_numpy()
        low, high = proportion_confint(share * val_rows, val_rows, method="wilson")
        bars = np.maximum([100 * (share - low), 100 * (high - share)], 0)
        right.errorbar(
            val["step"],
            100 * share,
            yerr=bars,
            fmt=f"-{mark}",
            capsize=3,
            color=line.get_color(),
            label=name,
        )
    left.set(xlabel="step", ylabel="loss, nats a token", yscale="log")
    plain_ticks(left.yaxis)
    right.set(xlabel="step", ylabel="answers right on val, %", ylim=(0, 102))
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    return figure


def accuracies(frame: pd.DataFrame):
    """Accuracy with its interval for each row of `frame` (name, mode, accuracy, low, high, all in
    per cent).
    """
    modes, names = list(frame["mode"].unique()), list(frame["name"].unique())
    figure, axes = plt.subplots(figsize=(8, 0.62 * len(names) + 1.3))
    for i, (mode, mark) in enumerate(zip(modes, SETTING_MARKS)):
        part = frame[frame["mode"] == mode]
        place = [names.index(name) + 0.16 * (i - (len(modes) - 1) / 2) for name in part["name"]]
        spread = [part["accuracy"] - part["low"], part["high"] - part["accuracy"]]
        axes.errorbar(part["accuracy"], place, xerr=spread, fmt=mark, capsize=3, label=mode)
    axes.set(
        xlabel="test rows right, % (bars: 95 % interval)",
        xlim=(-2, 102),
        yticks=range(len(names)),
        yticklabels=names,
    )
    axes.invert_yaxis()
    axes.legend(title="mode", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def confusion(labels: list[str], predictions: list[str | None], classes: list[str]):
    """Confusion matrix, true class down, prediction across; the last column holds answers that are
    no class.
    """
    columns = [*classes, "(none)"]
    counts = pd.crosstab(
        pd.Categorical(labels, classes),
        pd.Categorical([p if p in classes else "(none)" for p in predictions], columns),
        dropna=False,
    )
    figure, axes = plt.subplots(figsize=(9, 7.5))
    sns.heatmap(
        counts,
        annot=counts.where(counts > 0).map(lambda v: "" if pd.isna(v) else f"{v:.0f}"),
        fmt="",
        cmap="Blues",
        cbar=False,
        ax=axes,
        linewidths=0.5,
        linecolor="0.92",
        annot_kws={"fontsize": 8},
    )
    axes.set(xlabel="predicted", ylabel="true class")
    return figure


def reliability(tables: dict[str, pd.DataFrame], curves: dict[str, pd.DataFrame]):
    """Share right against stated probability (left) and accuracy against coverage (right), one line
    a model (see helpers/metrics.py).
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    left.plot([0, 1], [0, 1], color="0.6", linestyle=":")
    for (name, table), mark in zip(tables.items(), SETTING_MARKS * len(tables)):
        left.plot(table["probability"], table["right"], f"-{mark}", label=name)
        right.plot(100 * curves[name]["coverage"], 100 * curves[name]["accuracy"], label=name)
    left.set(
        xlabel="probability of the answer", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02)
    )
    right.set(xlabel="rows answered, surest first, %", ylabel="of them right, %", ylim=(0, 102))
    left.legend(fontsize=8)
    return figure


def memory_curves(frame: pd.DataFrame):
    """Peak GiB against tokens, one line each way of running (columns: way, tokens, peak_gib)."""
    figure, axes = plt.subplots()
    sns.lineplot(
        frame, x="tokens", y="peak_gib", hue="way", style="way", markers=True, dashes=False, ax=axes
    )
    axes.set(
        xlabel="sequence length, tokens",
        ylabel="peak beyond the weights, GiB",
        xscale="log",
        yscale="log",
    )
    plain_ticks(axes.xaxis, axes.yaxis)
    axes.set_xticks(sorted(frame["tokens"].unique()))
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.01), ncols=2
    )  # above: lines fill the corners
    return figure


def singular_values(spectra: dict[str, np.ndarray]):
    """Relative singular values (layers × rank) against their index, one line a setting."""
    figure, axes = plt.subplots()
    for (name, values), mark in zip(spectra.items(), SETTING_MARKS * len(spectra)):
        index, (low, middle, high) = (
            np.arange(1, values.shape[1] + 1),
            np.quantile(values, [0.25, 0.5, 0.75], axis=0),
        )
        axes.plot(index, middle, f"-{mark}", label=name)
        axes.fill_between(index, low, high, alpha=0.2)
    axes.set(xlabel="index of the singular value", ylabel="relative to the largest", ylim=(0, 1.05))
    axes.legend()
    return figure


def layer_norms(frame: pd.DataFrame):
    """Heat map of `norm` by module (down) and block (across)."""
    figure, axes = plt.subplots(figsize=(9, 3.2))
    table = frame.pivot(index="module", columns="block", values="norm")
    sns.heatmap(table, cmap="viridis", ax=axes, cbar_kws={"label": "norm of the correction"})
    axes.set(xlabel="block", ylabel="")
    return figure


def lora_drawing(d_in: int, d_out: int, rank: int):
    """The frozen matrix and the two thin ones beside it, drawn to the true proportions of their
    sizes.
    """
    figure, axes = plt.subplots(figsize=(8, 3.6))
    blue, orange, green = sns.color_palette("colorblind", 3)
    unit = 2.4 / max(d_in, d_out)
    width, height, thin = d_in * unit, d_out * unit, max(rank * unit, 0.05)
    boxes = [
        (0, 0, width, height, blue, f"$W_0$ (frozen)\n{d_out} × {d_in}"),
        (width + 1.6, 0, thin, height, orange, f"$B$\n{d_out} × {rank}"),
        (width + 2.4, height / 2 - thin / 2, width, thin, green, f"$A$: {rank} × {d_in}"),
    ]
    for x, y, w, h, colour, text in boxes:
        axes.add_patch(plt.Rectangle((x, y), w, h, facecolor=colour, alpha=0.75, edgecolor="0.2"))
        inside = w > 1 and h > 1
        axes.text(
            x + w / 2,
            y + h / 2 if inside else y + h + 0.12,
            text,
            ha="center",
            va="center" if inside else "bottom",
            parse_math=True,
        )
    axes.text(
        width + 0.8,
        height / 2,
        r"$+\;\frac{\alpha}{r}\;\cdot$",
        fontsize=17,
        ha="center",
        va="center",
        parse_math=True,
    )
    axes.set(xlim=(-0.1, 2 * width + 2.6), ylim=(-0.1, height + 0.8), aspect="equal")
    axes.axis("off")
    return figure


def cure_curves(lengths: list[int], curves: dict[str, list[float]], card: float):
    """Memory in GiB against article length, one line a way of reading it; `card` is drawn as the
    line to stay below.
    """
    figure, axes = plt.subplots(figsize=(8, 4.6))
    widths = np.linspace(
        4, 1.2, len(curves)
    )  # so that a line shows behind another one that it agrees with
    for (name, values), style, width in zip(
        curves.items(), itertools.cycle(["-", "--", "-.", ":"]), widths
    ):
        axes.plot(
            lengths, values, style, marker="o", markersize=2 + width, linewidth=width, label=name
        )
    axes.axhline(card, color="0.3", linestyle=(0, (6, 3)), linewidth=1)
    axes.text(lengths[0], card, f"{card} GiB", va="bottom", ha="left", fontsize="small")
    axes.set(
        xlabel="length of the article, tokens", ylabel="weights and peak, GiB", ylim=(0, 1.6 * card)
    )
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
