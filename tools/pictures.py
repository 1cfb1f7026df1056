"""Pictures of recorded figures, as SVG files that pages and READMEs show."""

from pathlib import Path

from matplotlib import pyplot as plt

from helpers import comparison, plotting
from helpers.curves import curve_frame
from helpers.files import write_text


def draw_shares(metrics: dict, target: Path) -> None:
    """The picture of what came out, for the READMEs: shares of right answers with intervals.

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
    axes.set(yticks=range(len(entries)), yticklabels=[label for label, _, _ in entries])
    axes.invert_yaxis()
    save(figure, target)


def draw_corpus(metrics: dict, target: Path) -> None:
    """Panels of one run: who learns faster (if kept), what a second buys, the cascade.

    Args:
        metrics: the content of eval/metrics.json.
        target: an SVG file.
    """
    plotting.style()
    curves = metrics.get("curve", {})  # only where a training kept adapters on its way
    figure, panels = plt.subplots(1, 3 if curves else 2, figsize=(12, 3.8))
    *first, ladder, cascade = panels
    for axes in first:
        draw_curve(axes, curves)
    draw_ladder(ladder, metrics)
    for name, points in metrics.get("cascade", {}).items():
        asked, right = zip(*points)
        cascade.plot([100 * a for a in asked], [100 * r for r in right], label=name)
    cascade.set(xlabel="rows that the model is asked, %", ylabel="test rows right, %")
    cascade.set_title("Cascade, the linear SVM first", fontsize=10)
    figure.tight_layout()
    save(figure, target)


def draw_curve(axes, curves: dict[str, list[dict]]) -> None:
    """The learning curves of the settings, and of the SVM on as many rows.

    Args:
        axes: to draw on.
        curves: "curve" of eval/metrics.json.
    """
    for name, points in curves.items():
        frame = curve_frame(points)
        rows, right = frame["rows"], 100 * frame["accuracy"]
        bars = 100 * plotting.spread(frame["accuracy"], frame["low"], frame["high"])
        drawn = axes.errorbar(rows, right, yerr=bars, fmt="o-", capsize=3, label=name)
        svm, colour = frame.dropna(subset="svm"), drawn[0].get_color()
        label = f"linear SVM ({name})"
        axes.plot(svm["rows"], 100 * svm["svm"].astype(float), "s:", color=colour, label=label)
    axes.set(xlabel="training rows read", ylabel="rows right, %", xscale="log")
    plotting.plain_ticks(axes.xaxis)
    axes.set_title("Who learns faster", fontsize=10)
    axes.legend(fontsize=7)


def draw_ladder(axes, metrics: dict) -> None:
    """Accuracy over the seconds that training took.

    Args:
        axes: to draw on.
        metrics: the content of eval/metrics.json.
    """
    seconds = {name: own.get("seconds", 0) for name, own in metrics["baselines"].items()}
    for name, cost in metrics["cost"].items():
        seconds[name] = cost["train_seconds"]
        seconds[f"{name} + svm"] = seconds[name] + seconds["tfidf_svm"]
    for line in comparison.ladder_table(metrics, seconds).itertuples():
        bars = plotting.spread([line.accuracy], [line.low], [line.high])
        look = {"fmt": "o", "capsize": 3, "label": line.name}
        axes.errorbar([line.seconds], [line.accuracy], yerr=bars, **look)
    axes.set(xlabel="seconds of training", ylabel="test rows right, %", xscale="log")
    plotting.plain_ticks(axes.xaxis)
    axes.set_title("What the seconds buy", fontsize=10)
    axes.legend(fontsize=7)


def save(figure, target: Path) -> None:
    """Write a figure as SVG without date or blanks at line ends, and close it.

    Args:
        figure: of matplotlib.
        target: an SVG file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None}, facecolor="white")
    text = target.read_text(encoding="utf-8")
    write_text(target, ["\n".join(line.rstrip() for line in text.splitlines()) + "\n"])
    plt.close(figure)
