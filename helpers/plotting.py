"""The book's figures, with one look, units on the axes, and colours that colour-blind readers can
tell apart.
"""

import itertools
from collections import Counter

import matplotlib.pyplot as plt
import notojp_matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

from helpers import metrics

SETTING_MARKS = "osD^vP"
MOST_CLASSES = 40
"""The most classes of a figure that anybody can read."""
ANOTHER = "\0another"
"""Stands for any answer that has no column of its own in a confusion matrix; it names no class."""


def style() -> None:
    """Set the look of all later figures, whatever a reader's matplotlibrc says."""
    plt.rcdefaults()
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update({"figure.figsize": (8, 4), "figure.dpi": 100, "savefig.bbox": "tight"})
    plt.rcParams.update({"legend.fontsize": 9, "legend.title_fontsize": 9})
    # a class may be called $x$, and names from data are not formulas
    plt.rcParams["text.parse_math"] = False
    # both come with packages; the second is for classes such as 体育
    plt.rcParams["font.family"] = ["DejaVu Sans", notojp_matplotlib.FAMILY]
    plt.rcParams["svg.hashsalt"] = "book"  # so that the same figure gives the same file
    if get_ipython():
        set_matplotlib_formats("svg", metadata={"Date": None})


def plain_ticks(*axes) -> None:
    """Show the ticks of logarithmic axes as plain numbers.

    The usual ones are formulas, which are switched off (see `style`).
    """
    for axis in axes:
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")


def class_counts(counts: pd.DataFrame):
    """Horizontal bars of rows by class and split; of many classes, only the largest and smallest.

    Args:
        counts: numbers of rows, a line for each class, the largest first, and a column for each
            split.

    Returns:
        A matplotlib Figure.
    """
    ylabel, half = "class", MOST_CLASSES // 2
    if len(counts) > MOST_CLASSES:
        ylabel = f"class (the {half} largest and the {half} smallest of {len(counts):,})"
        counts = pd.concat([counts[:half], counts[-half:]])
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(counts) + 1.4))
    counts.plot.barh(stacked=True, ax=axes, width=0.8)
    axes.set(xlabel="rows", ylabel=ylabel)
    axes.xaxis.get_major_locator().set_params(integer=True)  # there is no half row
    axes.invert_yaxis()
    axes.legend(title="split", loc="lower right")  # where the bars are short
    return figure


def length_histogram(lengths: dict[str, np.ndarray], limits: list[int]):
    """Lengths of rows in tokens: a histogram (left) and the share of rows within a limit (right).

    Args:
        lengths: tokens of whole rows, by tokenizer.
        limits: in tokens; drawn as dotted lines.

    Returns:
        A matplotlib Figure; both axes of lengths are logarithmic.
    """
    frame = pd.concat(
        [pd.DataFrame({"tokens": values, "tokenizer": name}) for name, values in lengths.items()],
        ignore_index=True,
    )
    varied = frame["tokens"].nunique() > 1  # rows of one length cannot be spread over bins
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    common = {"data": frame, "x": "tokens", "hue": "tokenizer", "log_scale": True}
    sns.histplot(**common, bins=40 if varied else 1, element="step", ax=left)
    sns.ecdfplot(**common, stat="percent", ax=right, linewidth=2)
    plain_ticks(left.xaxis, right.xaxis)
    left.set(xlabel="whole row, tokens", ylabel="rows")
    right.set(xlabel="whole row, tokens", ylabel="rows that fit, %")
    for limit in limits:
        for axes in (left, right):
            axes.axvline(limit, color="0.45", linestyle=":", linewidth=1)
        right.annotate(f"{limit:,}", (limit, 4), rotation=90, fontsize=9, ha="right", color="0.25")
    return figure


def survival(frame: pd.DataFrame):
    """Shares of rows that keep instruction, options and answer, a line for each way of cutting.

    Args:
        frame: see survival.survival.
    """
    titles = {
        "instruction": "instruction kept",
        "options": "all options kept",
        "answer": "answer supervised",
    }
    figure, panels = plt.subplots(1, 3, figsize=(9, 3.4), sharey=True, layout="constrained")
    for axes, (part, title) in zip(panels, titles.items()):
        for (way, table), mark in zip(frame.groupby("way", sort=False), SETTING_MARKS):
            axes.plot(table["max_length"], 100 * table[part], f"-{mark}", label=way, markersize=5)
        axes.axvline(384, color="0.45", linestyle=":", linewidth=1)
        axes.set(title=title, xlabel="max_length, tokens", xscale="log", ylim=(-3, 103))
        plain_ticks(axes.xaxis)
    panels[0].set_ylabel("rows, %")
    panels[2].legend(title="cut")
    return figure


def learning_curves(logs: dict[str, pd.DataFrame], val_rows: dict[str, int]):
    """Smoothed training loss, val loss and right answers on val against steps, a line for each
    setting.

    The loss of a classification head is given per row, that of words per token.

    Args:
        logs: by setting; see training_log.read_log. What a log lacks is not drawn.
        val_rows: the number of val rows that were looked at, by setting; it decides the width of
            the 95 % intervals.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for (name, log), mark in zip(logs.items(), itertools.cycle(SETTING_MARKS)):
        train, val = log.dropna(subset="loss"), log.dropna(subset="eval_loss")
        smooth = train["loss"].rolling(5, min_periods=1).mean()
        (line,) = left.plot(train["step"], smooth, label=f"{name}, train")
        colour = line.get_color()
        if len(val):
            look = {"color": colour, "markeredgecolor": "white", "label": f"{name}, val"}
            left.plot(val["step"], val["eval_loss"], mark, **look)
        answers = log.dropna(subset="eval_seq_acc")
        if len(answers):
            share, count = answers["eval_seq_acc"].to_numpy(), val_rows[name]
            bounds = [metrics.wilson(round(part * count), count) for part in share]
            bars = 100 * spread(share, *zip(*bounds))
            look = {"fmt": f"-{mark}", "capsize": 3, "color": colour, "label": name}
            right.errorbar(answers["step"], 100 * share, yerr=bars, **look)
    units = dict.fromkeys("a row" if "eval_acc" in log else "a token" for log in logs.values())
    left.set(xlabel="step", ylabel=f"loss, nats {' or '.join(units)}", yscale="log")
    plain_ticks(left.yaxis)
    if np.divide(*left.get_ylim()) > 0.1:  # less than a decade may hold no major tick
        left.yaxis.set_minor_formatter("{x:g}")
    left.legend()
    right.set(xlabel="step", ylabel="answers right on val, %", ylim=(0, 102))
    if right.has_data():
        right.legend()
    else:
        say(right, "val was not asked for whole answers")
    return figure


def say(axes, words: str) -> None:
    """Write a line into the middle of axes that have nothing to show.

    Args:
        axes: of matplotlib.
        words: the line.
    """
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color="0.35")


def spread(middle, low, high) -> np.ndarray:
    """Error bars around points, never negative: rounding may put a bound on the wrong side."""
    middle, low, high = (np.asarray(values, dtype=float) for values in (middle, low, high))
    return np.maximum([middle - low, high - middle], 0)


def name_lines(axes, names: list[str]) -> None:
    """Put names in place of the numbers 0, 1 … on a vertical axis, the first on top."""
    axes.set(yticks=range(len(names)), yticklabels=names)
    axes.invert_yaxis()


def accuracies(frame: pd.DataFrame):
    """Accuracies with their intervals, a line for each name and a mark for each mode.

    Args:
        frame: columns name, mode, accuracy, low, high, the last three in per cent.
    """
    modes, names = list(frame["mode"].unique()), list(frame["name"].unique())
    figure, axes = plt.subplots(figsize=(8, 0.62 * len(names) + 1.3))
    for i, (mode, mark) in enumerate(zip(modes, SETTING_MARKS)):
        part = frame[frame["mode"] == mode]
        place = [names.index(name) + 0.16 * (i - (len(modes) - 1) / 2) for name in part["name"]]
        bars = spread(part["accuracy"], part["low"], part["high"])
        axes.errorbar(part["accuracy"], place, xerr=bars, fmt=mark, capsize=3, label=mode)
    axes.set(xlabel="test rows right, % (bars: 95 % interval)", xlim=(-2, 102))
    name_lines(axes, names)
    axes.legend(title="mode", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def confusion(labels: list[str], predictions: list[str | None], classes: list[str]):
    """A confusion matrix with the true class down and the prediction across.

    Of more than MOST_CLASSES classes, it shows only those that were mistaken most often.

    Args:
        labels: of the rows.
        predictions: answers; None is counted in the last column.
        classes: the classes of the labels, in the order in which they are drawn. Other classes that
            were answered get columns behind them.
    """
    title, others = None, sorted(set(filter(None, predictions)) - set(classes))
    if len(classes) > MOST_CLASSES:
        mistaken = Counter(dict.fromkeys(classes, 0))
        mistaken.update(label for label, given in zip(labels, predictions) if given != label)
        most = {label for label, _ in mistaken.most_common(MOST_CLASSES)}
        title = f"{len(most)} of {len(classes)} classes, those mistaken most often"
        classes, others = [name for name in classes if name in most], [ANOTHER]
        pairs = [(label, p) for label, p in zip(labels, predictions) if label in most]
        labels = [label for label, _ in pairs]
        predictions = [p if p in most or not p else ANOTHER for _, p in pairs]
    columns = [*classes, *others, metrics.NONE]
    counts = pd.crosstab(
        pd.Categorical(labels, classes),
        pd.Categorical([p or metrics.NONE for p in predictions], columns),
        dropna=False,  # also classes that were never answered
    )
    # words that are shown as they are, whatever the classes are called
    counts.columns = ["(another)" if name == ANOTHER else name for name in columns[:-1]] + [
        "(none)"
    ]
    figure, axes = plt.subplots(figsize=(0.36 * len(columns) + 1.8, 0.33 * len(classes) + 1.5))
    written = {"annot": counts.astype(object).replace(0, ""), "fmt": "", "annot_kws": {"size": 8}}
    look = {"cmap": "Blues", "cbar": False, "linewidths": 0.5, "linecolor": "0.92"}
    sns.heatmap(counts, ax=axes, **look, **written)
    axes.set(xlabel="predicted", ylabel="true class", title=title)
    return figure


def reliability(tables: dict[str, pd.DataFrame], curves: dict[str, pd.DataFrame]):
    """The share right against the stated probability (left), and accuracy against coverage (right).

    Args:
        tables: bins by name; see metrics.reliability.
        curves: by name; see metrics.coverage.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    left.plot([0, 1], [0, 1], color="0.6", linestyle=":")
    for (name, table), mark in zip(tables.items(), itertools.cycle(SETTING_MARKS)):
        left.plot(table["probability"], table["right"], f"-{mark}", label=name)
        right.plot(100 * curves[name]["coverage"], 100 * curves[name]["accuracy"], label=name)
    left.set(
        xlabel="probability of the answer", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02)
    )
    right.set(xlabel="rows answered, surest first, %", ylabel="of them right, %", ylim=(0, 102))
    left.legend()
    return figure


def cascade(curves: dict[str, pd.DataFrame]):
    """Accuracy against the share of rows that the model is asked about, a line for each setting.

    Args:
        curves: by name; see hybrid.cascade.
    """
    figure, axes = plt.subplots()
    for name, curve in curves.items():
        ordered = curve.sort_values("asked", kind="stable")
        axes.plot(
            100 * ordered["asked"], 100 * ordered["accuracy"], label=name, drawstyle="steps-post"
        )
    axes.set(xlabel="rows that cost a forward pass, %", ylabel="test rows right, %", xlim=(-2, 102))
    axes.legend()
    return figure


def decisions(curves: dict[str, pd.DataFrame], chosen: dict[str, pd.DataFrame]):
    """Error among the answered rows against their share, with a mark for each threshold.

    Args:
        curves: by name; see metrics.coverage.
        chosen: by name; see decision.judge (columns coverage and error); targets without a
            threshold are left out.
    """
    figure, axes = plt.subplots()
    for (name, curve), mark in zip(curves.items(), itertools.cycle(SETTING_MARKS)):
        (line,) = axes.plot(100 * curve["coverage"], 100 * (1 - curve["accuracy"]), label=name)
        points = chosen[name].dropna(subset=["coverage", "error"])
        axes.plot(
            100 * points["coverage"],
            100 * points["error"],
            mark,
            color=line.get_color(),
            markeredgecolor="white",
            markersize=9,
        )
    axes.set(xlabel="test rows answered, %", ylabel="of them wrong, %", xlim=(-2, 102))
    axes.set_ylim(bottom=-0.5)
    axes.legend()
    return figure


def ladder(frame: pd.DataFrame):
    """Accuracies with their intervals (left) and the seconds that training took (right), by name.

    Args:
        frame: columns name, seconds (above 0), accuracy, low, high, the last three in per cent; in
            the order of the lines.

    Returns:
        A matplotlib Figure; the axis of seconds is logarithmic.
    """
    size = (9, 0.4 * len(frame) + 1)
    figure, (left, right) = plt.subplots(1, 2, sharey=True, figsize=size, layout="constrained")
    bars = spread(frame["accuracy"], frame["low"], frame["high"])
    places = range(len(frame))
    left.errorbar(frame["accuracy"], places, xerr=bars, fmt="o", capsize=3)
    left.set(xlabel="test rows right, %")
    name_lines(left, frame["name"])
    left.set_ylim(len(frame) - 0.5, -0.5)  # so that no mark touches the frame
    right.plot(frame["seconds"], places, "o")
    for seconds, place in zip(frame["seconds"], places):
        label = f"{seconds:,.{int(seconds < 10)}f}"
        beside = {"textcoords": "offset points", "va": "center", "fontsize": 9}
        right.annotate(label, (seconds, place), (8, 0), **beside)
    right.set(xlabel="training, seconds", xscale="log")
    right.margins(x=0.15)
    plain_ticks(right.xaxis)
    return figure


def rows_read(curves: dict[str, pd.DataFrame]):
    """Accuracy against the training rows read, for the model and for the SVM.

    Args:
        curves: by setting; columns rows, accuracy, low, high, svm (shares).
    """
    figure, axes = plt.subplots()
    for (name, curve), mark in zip(curves.items(), itertools.cycle(SETTING_MARKS)):
        bars = 100 * spread(curve["accuracy"], curve["low"], curve["high"])
        drawn = axes.errorbar(
            curve["rows"], 100 * curve["accuracy"], yerr=bars, fmt=f"-{mark}", capsize=3, label=name
        )
        axes.plot(
            curve["rows"],
            100 * curve["svm"].astype(float),
            f":{mark}",
            color=drawn[0].get_color(),
            label=f"linear SVM, as many rows ({name})",
        )
    axes.set(xlabel="training rows read", ylabel="rows right, %", xscale="log", ylim=(-2, 102))
    plain_ticks(axes.xaxis)
    axes.set_xticks(sorted(set().union(*(curve["rows"] for curve in curves.values()))))
    axes.legend()
    return figure


def memory_curves(frame: pd.DataFrame):
    """Peak GiB against tokens, a line for each way to run.

    Args:
        frame: columns way, tokens, peak_gib.
    """
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
    # above the plot, because lines fill its corners
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.01), ncols=2)
    return figure


def singular_values(spectra: dict[str, np.ndarray]):
    """Relative singular values against their index, a line for each adapter.

    Args:
        spectra: layers × rank by name, where each layer's values are divided by its largest; see
            spectra.relative_spectra. The line is the median over layers, and the shade reaches from
            quartile to quartile.
    """
    figure, axes = plt.subplots()
    for (name, values), mark in zip(spectra.items(), itertools.cycle(SETTING_MARKS)):
        if not len(values):
            continue
        index = np.arange(1, values.shape[1] + 1)
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)  # over layers
        axes.plot(index, middle, f"-{mark}", label=name)
        axes.fill_between(index, low, high, alpha=0.2)
    axes.set(xlabel="index of the singular value", ylabel="relative to the largest", ylim=(0, 1.05))
    axes.xaxis.get_major_locator().set_params(integer=True)
    if axes.has_data():
        axes.legend()
    else:
        say(axes, "no correction to take apart")
    return figure


def layer_changes(frame: pd.DataFrame):
    """A heat map of how much weights were changed, with kinds of layers down and blocks across.

    Args:
        frame: columns block, module, change; see spectra.layer_changes. Layers of one kind in a
            block are averaged.
    """
    figure, axes = plt.subplots(figsize=(9, 3.2))
    if frame.empty:
        say(axes, "no correction to take apart")
        axes.axis("off")
        return figure
    table = frame.pivot_table(index="module", columns="block", values="change", sort=False)
    table = table[sorted(table.columns)]
    label = {"label": "typical change of a weight"}
    sns.heatmap(table, cmap="viridis", ax=axes, cbar_kws=label)
    axes.set(xlabel="block", ylabel="")
    return figure


def lora_drawing(d_in: int, d_out: int, rank: int):
    """The frozen matrix and the two thin ones beside it, with sides in true proportion.

    Args:
        d_in: columns of the matrix.
        d_out: its rows.
        rank: of the correction. Very thin matrices are drawn thicker, so that they can be seen.
    """
    figure, axes = plt.subplots(figsize=(8, 3.6))
    blue, orange, green = sns.color_palette("colorblind", 3)
    unit = 2.4 / max(d_in, d_out)
    width, height, thin = d_in * unit, d_out * unit, max(rank * unit, 0.05)
    boxes = [
        (0, 0, width, height, blue, f"$W$ (frozen)\n{d_out} × {d_in}"),
        (width + 1.6, 0, thin, height, orange, f"$B$\n{d_out} × {rank}"),
        (width + 2.4, height / 2 - thin / 2, width, thin, green, f"$A$\n{rank} × {d_in}"),
    ]
    for x, y, w, h, colour, text in boxes:
        axes.add_patch(plt.Rectangle((x, y), w, h, facecolor=colour, alpha=0.75, edgecolor="0.2"))
        inside = w > 1.2 and h > 1
        place = y + h / 2 if inside else y + h + 0.12
        how = {"ha": "center", "va": "center" if inside else "bottom", "parse_math": True}
        axes.text(x + w / 2, place, text, **how)
    how = {"fontsize": 17, "ha": "center", "va": "center", "parse_math": True}
    axes.text(width + 0.8, height / 2, r"$+\;\frac{\alpha}{r}\;\cdot$", **how)
    axes.set(xlim=(-0.1, 2 * width + 2.9), ylim=(-0.1, height + 0.9), aspect="equal")
    axes.axis("off")
    return figure


def lesson(losses: list[float], steps: int):
    """How one layer learns: the share of the correction that it misses, step by step.

    Args:
        losses: those so far.
        steps: those of the whole lesson, so that the axis stays the same while the line grows.
    """
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(losses) + 1), losses, linewidth=2)
    axes.set(xlabel="step", ylabel="correction missed, share", yscale="log")
    axes.set(xlim=(0, steps), ylim=(min([1e-3, *losses]) / 2, 3))
    plain_ticks(axes.yaxis)
    return figure


def rank_effect(curves: dict[int, list[float]], missed: dict[int, float], floors: dict[int, float]):
    """How the rank affects one lesson: the curves (left), and what is missed at the end (right).

    Args:
        curves: loss after each step, by rank.
        missed: the share of the correction that is missed at the end, by rank.
        floors: the least share that any correction of a rank must miss, by rank.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for rank, losses in curves.items():
        left.plot(range(1, len(losses) + 1), losses, label=f"r = {rank}")
    left.set(xlabel="step", ylabel="correction missed, share", yscale="log")
    left.legend()
    places = range(len(missed))
    right.bar(places, [100 * share for share in missed.values()], color="0.75", label="missed")
    least = [100 * floors[rank] for rank in missed]
    right.plot(places, least, "_", markersize=34, markeredgewidth=3, label="least possible")
    right.set(xlabel="rank r", ylabel="correction missed at the end, %")
    right.set(xticks=places, xticklabels=missed)
    right.legend(markerscale=0.5)
    plain_ticks(left.yaxis)
    return figure


def adapter_cost(rank: int, alpha: float, width: int, total: int):
    """Memory and scale of an adapter against its rank, with marks at the chosen rank and α.

    Args:
        rank: the chosen rank.
        alpha: the chosen α; the scale is α / r.
        width: d_in + d_out, summed over the layers that are adapted.
        total: the number of weights of the whole model.
    """
    ranks, weights = np.arange(1, 129), rank * width
    mib = 12 * weights / 2**20  # a gradient and two moments for each weight, of four bytes each
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(ranks, mib / rank * ranks, "-", rank, mib, "o", markersize=10)
    left.set_title(f"{weights / 1e6:.2f} M weights, {weights / total:.2%}; {mib:.1f} MiB")
    left.set(xlabel="rank r", ylabel="gradients and moments, MiB")
    right.loglog(ranks, alpha / ranks, "-", rank, alpha / rank, "o", markersize=10)
    right.set_title(f"α = {alpha:g}, r = {rank}: scale {alpha / rank:.3g}")
    right.set(xlabel="rank r", ylabel="scale α / r")
    plain_ticks(left.xaxis, left.yaxis, right.xaxis, right.yaxis)
    return figure


def cure_curves(lengths: list[int], curves: dict[str, list[float]], card: float):
    """Memory against the length of the article, a line for each way of reading it.

    Args:
        lengths: in tokens.
        curves: GiB at each length, by way.
        card: the GiB of a card, drawn as the line to stay below.
    """
    figure, axes = plt.subplots(figsize=(8, 4.6))
    widths = np.linspace(4, 1.2, len(curves))  # so that a line shows behind one that equals it
    styles = itertools.cycle(["-", "--", "-.", ":"])
    for (name, values), style, width in zip(curves.items(), styles, widths):
        axes.plot(
            lengths, values, style, marker="o", markersize=2 + width, linewidth=width, label=name
        )
    axes.axhline(card, color="0.3", linestyle=(0, (6, 3)), linewidth=1)
    axes.text(lengths[0], card, f"{card} GiB", va="bottom", ha="left", fontsize="small")
    axes.set(xlabel="length of the article, tokens", ylabel="weights and peak, GiB")
    axes.set(ylim=(0, 1.6 * card))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.01), ncols=2)  # lines fill the plot
    return figure


def step_parts(needs: pd.DataFrame, title: str):
    """Stacked bars of what a LoRA step needs, and a line for a card of 24 GB.

    Args:
        needs: GiB by part and in "total" (columns) for each model (index).
        title: says which step it is.
    """
    axes = Figure(figsize=(9, 3), layout="constrained").subplots()
    shown = needs.drop(columns="total")
    shown.loc[:, shown.any()].plot.barh(stacked=True, ax=axes).invert_yaxis()
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))  # so that it hides no bar
    axes.axvline(24e9 / 2**30, color="0.3", linestyle="--", linewidth=1)
    axes.set(xlabel="GiB; the dashed line is a card of 24 GB", title=title)
    return axes.figure
