"""Settings beside one another: tables of their answers, and figures for them."""

from collections import Counter

import numpy as np
import pandas as pd

from helpers import InputError, metrics
from helpers.entrants import minutes
from helpers.pages import per_cent_interval
from helpers.parameters import without_seed
from helpers.verdicts import verdict


def label_places(rows: list[dict]) -> list[int]:
    """For each row the place of its label among its options.

    Raises:
        InputError: when a row has no label, or one that is not among its options.
    """
    for row in rows:
        if row["output"] not in row["category"]:
            raise InputError(f"row {row.get('id')}: its label is not among its options")
    return [row["category"].index(row["output"]) for row in rows]


def logprobs(lines: list[dict]) -> list[list[float]]:
    """Nats of each option of each answered row; see scoring.predict."""
    return [line["score"]["logprobs"] for line in lines]


def predictions(lines: list[dict], mode: str = "score") -> list[str | None]:
    """The answers of one mode; see scoring.MODES."""
    return [line[mode]["prediction"] for line in lines]


def accuracy_table(results: dict, modes: tuple[str, ...]) -> pd.DataFrame:
    """All accuracies of a run, one a line.

    Args:
        results: "models" and "baselines", as in eval/metrics.json.
        modes: of the models.

    Returns:
        Columns name, mode, accuracy, low, high (per cent), macro F1.
    """
    entries = [
        (name, mode, by_mode[mode]) for name, by_mode in results["models"].items() for mode in modes
    ]
    entries += [(name, "baseline", value) for name, value in results["baselines"].items()]
    lines = [
        (name, mode, *(100 * share for share in (v["accuracy"], *v["ci95"])), v["macro_f1"])
        for name, mode, v in entries
    ]
    return pd.DataFrame(lines, columns=["name", "mode", "accuracy", "low", "high", "macro F1"])


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """An accuracy table for people: the interval in one column, figures rounded."""
    return pd.DataFrame(
        {
            "right, %": table["accuracy"].map("{:.1f}".format),
            "95 % interval": table["low"].map("{:.1f} – ".format)
            + table["high"].map("{:.1f}".format),
            "macro F1": table["macro F1"].map("{:.2f}".format),
        }
    ).set_index(pd.MultiIndex.from_frame(table[["name", "mode"]]))


def share_text(value: dict) -> dict:
    """An accuracy of metrics.accuracy as two cells of a table."""
    return {
        "right, %": f"{100 * value['accuracy']:.1f}",
        "95 % interval": per_cent_interval(*value["ci95"], 1),
    }


def share_table(shares: dict[str, dict]) -> pd.DataFrame:
    """Accuracies with their intervals, one a line.

    Args:
        shares: by name; see metrics.accuracy.
    """
    return pd.DataFrame.from_dict({n: share_text(v) for n, v in shares.items()}, orient="index")


def by_class(labels: list[str], guesses: dict[str, list]) -> pd.DataFrame:
    """F1 of each class, with a column for each list of answers.

    Args:
        labels: of the rows.
        guesses: answers by name.
    """
    from sklearn.metrics import f1_score

    classes = sorted(set(labels))
    table = pd.DataFrame({"rows": pd.Series(labels).value_counts()}, index=classes)
    for name, given in guesses.items():
        answers = [guess or metrics.NONE for guess in given]
        table[name] = f1_score(labels, answers, labels=classes, average=None, zero_division=0)
    return table


def rarest(train: list[dict], labels: list[str], count: int = 5) -> list[str]:
    """Of the classes that occur in test, those with the fewest training rows, the rarest first.

    Args:
        train: the training rows.
        labels: of the test rows.
        count: how many classes.
    """
    learned = Counter(row["output"] for row in train)
    return sorted(set(labels), key=lambda label: (learned[label], label))[:count]


def rare_table(labels: list[str], guesses: dict[str, list], rare: list[str]) -> pd.DataFrame:
    """Macro-F1 over all classes and over rare ones, for each list of answers.

    Args:
        labels: of the rows.
        guesses: answers by name.
        rare: classes; see `rarest`.

    Returns:
        A line a name: columns "all classes" and "the rarest".
    """
    scores = by_class(labels, guesses).drop(columns="rows")  # classes × names
    return pd.DataFrame({"all classes": scores.mean(), "the rarest": scores.loc[rare].mean()})


def quarters(values: list[int]) -> list[str]:
    """For each value the quarter of all values that it lies in, as text such as "120 – 480".

    Where values are few or equal, there are fewer parts than four.
    """
    edges = np.unique(np.quantile(values, [0, 0.25, 0.5, 0.75, 1], method="lower"))
    parts = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
    spans = {}
    for part in np.unique(parts):
        own = np.asarray(values)[parts == part]
        spans[part] = f"{own.min():,} – {own.max():,}"
    return [spans[part] for part in parts]


def by_length(rows: list[dict], guesses: dict[str, list]) -> pd.DataFrame:
    """Share of right answers, per cent, by the length of the whole article.

    Args:
        rows: that were asked.
        guesses: answers by name.

    Returns:
        A line for each quarter of the rows, the shortest first; a column a name, and "rows".
    """
    lengths = [len(row["text"]) for row in rows]
    labels = pd.Series([row["output"] for row in rows])
    groups = pd.Series(quarters(lengths), name="characters of the article")
    order = groups.iloc[np.argsort(lengths, kind="stable")].drop_duplicates()
    hits = pd.DataFrame({name: pd.Series(given) == labels for name, given in guesses.items()})
    shares = 100 * hits.groupby(groups).mean()
    return shares.assign(rows=groups.value_counts()).loc[order].round(1)


def head_summary(lines: list[dict], best: str, best_lines: list[dict]) -> dict:
    """Figures for a classification head's answers, and how they compare with the best setting's.

    Args:
        lines: the head's answers; see asking.head_answers.
        best: name of the best setting.
        best_lines: its answers to the same rows.

    Returns:
        What metrics.accuracy gives, "macro_f1", "ece" (expected calibration error) and "against",
        with "name" and what verdicts.verdict gives.
    """
    own = metrics.summary(lines, ("score",))["score"]
    error = metrics.reliability(metrics.confidence(lines))[1]
    head_verdict = verdict(metrics.correct(lines, "score"), metrics.correct(best_lines, "score"))
    return own | {"ece": error, "against": {"name": best} | head_verdict}


def head_table(summaries: dict[str, dict]) -> pd.DataFrame:
    """Classification heads for people, one a line.

    Args:
        summaries: by name; see `head_summary`.
    """
    lines = {}
    for name, own in summaries.items():
        against = own["against"]
        lines[name] = share_text(own) | {
            "macro F1": f"{own['macro_f1']:.2f}",
            "calibration error": f"{own['ece']:.3f}",
            "against": against["name"],
            "gained": against["gained"],
            "lost": against["lost"],
            "p": f"{against['p']:.2g}",
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def settings_table(
    logs: dict[str, pd.DataFrame], summaries: dict[str, dict], models: dict, at_step: int | None
) -> pd.DataFrame:
    """The settings at one step of their training, and on test; what was not measured is empty.

    Args:
        logs: of each setting; see entrants.read_log.
        summaries: of each setting; see entrants.read_summary.
        models: "models" of eval/metrics.json.
        at_step: the step; the evaluation nearest to it counts. None is the last.
    """
    compared = {}
    for name, log in logs.items():
        evaluated = log.dropna(subset="eval_loss")
        wanted = log["step"].max() if at_step is None else at_step
        line = {}
        if len(evaluated):
            then = evaluated.loc[(evaluated["step"] - wanted).abs().idxmin()]
            losses = log.loc[log["step"] <= then["step"], "loss"].dropna()
            line = {
                "step": int(then["step"]),
                "train loss (mean of 5)": losses.tail(5).mean(),
                "val loss": then["eval_loss"],
                "val right, %": 100 * then["eval_seq_acc"],
            }
        line["test right (generate), %"] = 100 * models[name]["generate"]["accuracy"]
        line["minutes"] = minutes(summaries[name])
        compared[name] = line
    table = pd.DataFrame.from_dict(compared, orient="index")
    if "step" in table:
        table["step"] = table["step"].astype("Int64")
    return table.round({name: 3 if "loss" in name else 1 for name in table})


def seed_spread(table: pd.DataFrame, settings: list[str]) -> pd.DataFrame:
    """How accuracy moves with the seed alone, for settings trained with several.

    Args:
        table: see `accuracy_table`.
        settings: names; rank8 and rank8-seed7 are one setting with two seeds.

    Returns:
        A line a setting and mode: count, mean, std, min, max, per cent; none where each has one.
    """
    own = table[table["name"].isin(settings) & table["mode"].isin(["generate", "score"])]
    own = own.assign(setting=own["name"].map(without_seed))
    spread = own.groupby(["setting", "mode"], sort=False)["accuracy"]
    return spread.agg(["count", "mean", "std", "min", "max"]).query("count > 1")


def ladder_table(results: dict, seconds: dict[str, float]) -> pd.DataFrame:
    """Accuracy beside the seconds that training took, the cheapest first.

    Args:
        results: see `metrics.score_shares`.
        seconds: of training, by name; who is missing or NaN is left out.

    Returns:
        Columns name, seconds, accuracy, low, high, the last three in per cent.
    """
    lines = [
        (name, seconds[name], *(100 * v for v in (share["accuracy"], *share["ci95"])))
        for name, share in metrics.score_shares(results).items()
        if seconds.get(name, 0) > 0
    ]
    columns = ["name", "seconds", "accuracy", "low", "high"]
    return pd.DataFrame(lines, columns=columns).sort_values("seconds", kind="stable")


def set_summary(sets: list[list[int]], places: list[int]) -> dict:
    """What prediction sets are worth: how often one holds the label, and how large they are.

    Args:
        sets: for each row, the places of the options in its set.
        places: of the labels.

    Returns:
        "accuracy" (share of sets that hold the label), "ci95", "n" and "size" (mean options left).
    """
    held = metrics.accuracy([place in chosen for chosen, place in zip(sets, places)])
    return held | {"size": float(np.mean([len(chosen) for chosen in sets]))}


def hits_of(answers: list[str] | None, rows: list[dict]) -> list[bool]:
    """For each row whether its answer is right; False for all where there are no answers."""
    return [answer == row["output"] for answer, row in zip(answers or [None] * len(rows), rows)]
