"""Pictures of recorded results, as SVG files that the book's pages and the READMEs show."""

import itertools
from pathlib import Path

import seaborn as sns
from matplotlib import pyplot as plt

from helpers import comparison, plotting
from helpers.curves import curve_frame
from helpers.files import write_text


def draw_shares(metrics: dict, target: Path) -> None:
    """Draw the result for the READMEs: the shares of right answers, with their intervals.

    Args:
        metrics: the content of eval/metrics.json.
        target: an SVG file.
    """
    plotting.style()
    entries = []
    for name, modes in metrics["models"].items():
        entries.append((f"{name}, writes", modes["generate"], "C7" if "base" in name else "C0"))
        if name.startswith("base-"):
            entries.append((f"{name}, options scored", modes["score"], "C7"))
    entries += [(f"{name}, a head", v, "C4") for name, v in metrics.get("heads", {}).items()]
    entries += [(f"linear SVM + {n}", v, "C2") for n, v in metrics.get("hybrid", {}).items()]
    entries.append(("linear SVM", metrics["baselines"]["tfidf_svm"], "C1"))
    figure, axes = plt.subplots(figsize=(8, 0.36 * len(entries) + 0.9))
    for place, (_, value, colour) in enumerate(entries):
        share, (low, high) = value["accuracy"], value["ci95"]
        bars = 100 * plotting.spread([share], [low], [high])
        axes.errorbar([100 * share], [place], xerr=bars, fmt="o", color=colour, capsize=3)
    axes.set(xlabel="test rows right, % (bars: 95 % interval)", xlim=(-2, 102))
    plotting.name_lines(axes, [label for label, _, _ in entries])
    save(figure, target)


def draw_corpus(metrics: dict, target: Path) -> None:
    """Draw the panels of one run: who learns faster (if recorded), what seconds buy, the cascade.

    Args:
        metrics: the content of eval/metrics.json.
        target: an SVG file.
    """
    plotting.style()
    curves = metrics.get("curve", {})  # only where a training kept adapters along its way
    names = list(dict.fromkeys([*metrics["cost"], *metrics.get("hybrid", {})]))
    colours = dict(zip(names, sns.color_palette("colorblind", len(names))))
    figure, panels = plt.subplots(1, 3 if curves else 2, figsize=(9, 4.4), layout="constrained")
    *first, ladder, cascade = panels
    for axes in first:
        draw_curve(axes, curves, colours)
    draw_ladder(ladder, metrics, colours)
    cascades = metrics.get("cascade", {})
    for place, (name, points) in enumerate(cascades.items(), 1):
        asked, right = zip(*points)
        # earlier lines are thicker, so that they can be seen below a later one
        width = 1.5 + 0.8 * (len(cascades) - place)
        line = {"color": colours[name], "drawstyle": "steps-post", "linewidth": width}
        cascade.plot([100 * a for a in asked], [100 * r for r in right], **line)
    cascade.set(xlabel="rows that the model is asked, %", ylabel="test rows right, %")
    cascade.set_title("Cascade, the linear SVM first", fontsize=10)
    # one legend for all panels: a setting has the same colour in each of them
    named = {
        label: handle
        for axes in (ladder, *first)
        for handle, label in zip(*axes.get_legend_handles_labels())
    }
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3)
    save(figure, target)


def draw_curve(axes, curves: dict[str, list[dict]], colours: dict[str, tuple]) -> None:
    """Draw the learning curves of the settings, and of the SVM that learned from as many rows.

    Args:
        axes: to draw on.
        curves: "curve" of eval/metrics.json.
        colours: by setting.
    """
    for name, points in curves.items():
        frame = curve_frame(points)
        rows, right = frame["rows"], 100 * frame["accuracy"]
        bars = 100 * plotting.spread(frame["accuracy"], frame["low"], frame["high"])
        look = {"color": colours[name], "capsize": 3, "label": name}
        axes.errorbar(rows, right, yerr=bars, fmt="o-", **look)
        svm = frame.dropna(subset="svm")
        look = {"color": colours[name], "label": f"SVM, as many rows ({name})"}
        axes.plot(svm["rows"], 100 * svm["svm"].astype(float), "s:", **look)
    axes.set(xlabel="training rows read", ylabel="rows right, %", xscale="log")
    plotting.plain_ticks(axes.xaxis)
    axes.set_title("Who learns faster", fontsize=10)


def draw_ladder(axes, metrics: dict, colours: dict[str, tuple]) -> None:
    """Draw accuracy over seconds of training: settings filled, hybrids hollow, the rest in grey.

    Args:
        axes: to draw on.
        metrics: the content of eval/metrics.json.
        colours: by setting.
    """
    seconds = {name: own.get("seconds", 0) for name, own in metrics["baselines"].items()}
    for name, cost in metrics["cost"].items():
        seconds[name] = cost["train_seconds"]
        seconds[f"{name} + svm"] = seconds[name] + seconds["tfidf_svm"]
    grey = itertools.cycle("sD^v")
    for line in comparison.ladder_table(metrics, seconds).itertuples():
        bars = plotting.spread([line.accuracy], [line.low], [line.high])
        setting = line.name.removesuffix(" + svm")
        look = {"fmt": "o"} if setting in colours else {"fmt": next(grey)}
        look["color"] = colours.get(setting, "0.3")
        look["markerfacecolor"] = "white" if setting != line.name else look["color"]
        axes.errorbar(
            [line.seconds], [line.accuracy], yerr=bars, capsize=3, label=line.name, **look
        )
    axes.set(xlabel="seconds of training", ylabel="test rows right, %", xscale="log")
    plotting.plain_ticks(axes.xaxis)
    axes.set_title("What the seconds buy", fontsize=10)


def save(figure, target: Path) -> None:
    """Write a figure as SVG, without a date and without blanks at line ends, and close it.

    Args:
        figure: of matplotlib.
        target: an SVG file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None}, facecolor="white")
    text = target.read_text(encoding="utf-8")
    write_text(target, ["\n".join(line.rstrip() for line in text.splitlines()) + "\n"])
    plt.close(figure)
