"""Settings beside one another: who is asked, the tables of their answers, and what may be said."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import InputError, baselines, decision, hybrid, metrics, training
from helpers.adapters import (
    HEAD,
    PROMPT,
    AdapterHead,
    AdapterPrompt,
    is_head,
    read_head,
    read_prompt,
)
from helpers.files import need
from helpers.headers import strip_header
from helpers.pages import per_cent_interval
from helpers.templating import template_name

CERTAIN = "The sample's labels are right by construction, so each of these is the model's own."
DISPUTABLE = "Some may be labels that a reader would dispute."
STUDY = (0, 9, 10)
"""Right answers of the study before and after its training, and how many were compared."""
CURVE_ROWS = 400
"""Most test rows that the adapters of a learning curve are asked about."""
LOGGED = ("step", "loss", "eval_loss", "eval_seq_acc")


@dataclass(frozen=True)
class Entrant:
    """One model in the comparison, tuned or not."""

    name: str
    prompt: AdapterPrompt | AdapterHead
    """The model, and how it is asked."""
    adapter: Path | None
    """The adapter's folder; None is the untouched model."""


def find_settings(run: Path, names: list[str] | None) -> dict[str, Entrant]:
    """The trained settings of a run that can write, by name; see `find_heads` for the others.

    Args:
        run: the run's folder.
        names: which ones, in this order; None is all that are there, sorted.

    Raises:
        InputError: when nothing is trained, a named one is missing, all of them are heads, or they
            have several models.
    """
    if names is None:
        names = sorted(path.parts[-3] for path in (run / "train").glob(f"*/adapter/{PROMPT}"))
    if not names:
        need(run / "train" / "(a setting)" / "adapter", "04-training")
    settings = {}
    for name in names:
        adapter = need(run / "train" / str(name) / "adapter", "04-training")
        if not is_head(adapter):
            settings[name] = Entrant(name, read_prompt(adapter), adapter)
    if not settings:
        raise InputError(
            "all settings are classification heads; they are held against one that writes, so "
            "train one without task: seq_cls"
        )
    models = {entrant.prompt.model: name for name, entrant in settings.items()}
    if len(models) > 1:
        said = ", ".join(f"{name} of {model}" for model, name in models.items())
        raise InputError(
            f"one comparison takes settings of one model, and these differ: {said}; "
            "name the ones to compare in settings"
        )
    return settings


def find_heads(run: Path, names: list[str] | None) -> dict[str, Entrant]:
    """The trained classification heads of a run, by name.

    Args:
        run: the run's folder.
        names: of settings, heads among them; None is all that are there.
    """
    if names is None:
        names = sorted(path.parts[-3] for path in (run / "train").glob(f"*/adapter/{HEAD}"))
    folders = {name: run / "train" / name / "adapter" for name in names}
    return {n: Entrant(n, read_head(path), path) for n, path in folders.items() if is_head(path)}


def untouched(settings: dict[str, Entrant]) -> dict[str, Entrant]:
    """The base model once a template, asked as the first setting with that template is.

    Args:
        settings: by name; see `find_settings`.
    """
    bases: dict[str, Entrant] = {}
    for entrant in settings.values():
        prompt = AdapterPrompt(entrant.prompt.model, entrant.prompt.prompt_format, [])
        name = base_of(entrant)
        bases.setdefault(name, Entrant(name, prompt, None))
    return bases


def base_of(entrant: Entrant) -> str:
    """The name of the untouched model under a setting's template."""
    return f"base-{template_name(entrant.prompt.prompt_format.template)}"


def entrant_table(entrants: dict[str, Entrant]) -> pd.DataFrame:
    """Who is asked, and how: one line each."""
    lines = {}
    for name, entrant in entrants.items():
        own = entrant.prompt.prompt_format
        lines[name] = {
            "adapter": "trained" if entrant.adapter else "none",
            "template": template_name(own.template),
            "max_length, tokens": own.max_length,
            "what is cut": own.cut,
        }
    return pd.DataFrame.from_dict(lines, orient="index")


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


def largest(rows: list[dict], values: list) -> list[str]:
    """For each row the option with the largest value.

    Args:
        rows: with options.
        values: for each row one number an option.
    """
    return [row["category"][int(np.argmax(v))] for row, v in zip(rows, values)]


def snippet(text: str, characters: int = 60) -> str:
    """The beginning of an article on one line."""
    line = " ".join(text.split())
    return line[:characters] + ("…" if len(line) > characters else "")


def written_table(rows: list[dict], texts: list[str], show_text: bool) -> pd.DataFrame:
    """What a model wrote beside the labels; without text only its length and kind.

    Args:
        rows: that it was asked about.
        texts: what it wrote, one a row.
        show_text: whether articles may be shown: a model can repeat one.
    """
    kinds = []
    for row, text in zip(rows, texts):
        option = next((o for o in row["category"] if text.strip().startswith(o)), None)
        exact = text.strip() in row["category"]
        begins = "begins with an option" if option else "not an option"
        kinds.append("an option" if exact else begins)
    table = pd.DataFrame({"label": [row["output"] for row in rows]})
    if show_text:
        return table.assign(**{"what it wrote": texts, "kind": kinds})
    return table.assign(**{"characters": [len(text) for text in texts], "kind": kinds})


def baseline_summary(labels: list[str], guesses: list[str]) -> dict:
    """Accuracy with its interval, and macro-F1, of answers that have no modes."""
    hits = [guess == label for guess, label in zip(guesses, labels)]
    return metrics.accuracy(hits) | {"macro_f1": metrics.macro_f1(labels, guesses)}


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


def read_log(entrant: Entrant) -> pd.DataFrame:
    """The log of a setting's training; empty where it was not kept.

    Args:
        entrant: a trained setting.

    Returns:
        Columns step, loss, eval_loss, eval_seq_acc, and what else was logged.
    """
    path = entrant.adapter.parent / "logging.jsonl"
    if path.is_file() and path.stat().st_size:
        return training.read_log(path)
    return pd.DataFrame({column: pd.Series(dtype=float) for column in LOGGED})


def read_summary(entrant: Entrant) -> dict:
    """What a setting's training left: seconds, best_step and more; empty where nothing was kept."""
    for folder in (entrant.adapter.parent, entrant.adapter):
        if (folder / "summary.json").is_file():
            return json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {}


def rows_judged(settings: dict[str, Entrant], val: list[dict]) -> dict[str, int]:
    """How many of the first validation rows each training chose its checkpoint by.

    Args:
        settings: by name.
        val: all validation rows, taken where a training kept no file of its own.
    """
    counts = {}
    for name, entrant in settings.items():
        path = entrant.adapter.parent / "val.jsonl"
        lines = path.read_bytes().count(b"\n") if path.is_file() else len(val)
        counts[name] = min(lines, len(val))
    return counts


def choose_best(
    logs: dict[str, pd.DataFrame], summaries: dict[str, dict], val_answers: dict[str, list[dict]]
) -> tuple[str, pd.DataFrame]:
    """The best setting by the validation rows: no test row has a say.

    It is the one whose kept checkpoint had the highest accuracy in training, the lower loss
    deciding between equals. Where a log holds no evaluation, all are judged by their answers
    by `score` to the validation rows instead.

    Args:
        logs: of each setting; see `read_log`.
        summaries: of each setting; see `read_summary`.
        val_answers: of each setting to the validation rows.

    Returns:
        Its name, and what it was chosen by: a line a setting, columns "right on val" (share) and
        "loss on val" (nats).
    """
    chosen = {}
    for name, log in logs.items():
        evaluated = log.dropna(subset=["eval_loss", "eval_seq_acc"]).set_index("step")
        step = summaries[name].get("best_step")
        if step in evaluated.index:
            at_best = evaluated.loc[step]
            chosen[name] = (float(at_best["eval_seq_acc"]), float(at_best["eval_loss"]))
    if len(chosen) < len(logs):
        chosen = {
            name: (float(metrics.correct(lines, "score").mean()), np.nan)
            for name, lines in val_answers.items()
        }
    table = pd.DataFrame.from_dict(chosen, orient="index", columns=["right on val", "loss on val"])
    ranked = table.sort_values(
        ["right on val", "loss on val"], ascending=[False, True], kind="stable"
    )
    return str(ranked.index[0]), table


def by_class(labels: list[str], guesses: dict[str, list]) -> pd.DataFrame:
    """F1 of each class, a column for each of whose answers are given.

    Args:
        labels: of the rows.
        guesses: answers by name.
    """
    from sklearn.metrics import f1_score

    classes = sorted(set(labels))
    table = pd.DataFrame({"rows": pd.Series(labels).value_counts()}, index=classes)
    for name, given in guesses.items():
        answers = [guess or "(none)" for guess in given]
        table[name] = f1_score(labels, answers, labels=classes, average=None, zero_division=0)
    return table


def rarest(train: list[dict], labels: list[str], count: int = 5) -> list[str]:
    """The classes with the fewest training rows, of those that test has; the rarest first.

    Args:
        train: the training rows.
        labels: of the test rows.
        count: how many classes.
    """
    learned = Counter(row["output"] for row in train)
    return sorted(set(labels), key=lambda label: (learned[label], label))[:count]


def rare_table(labels: list[str], guesses: dict[str, list], rare: list[str]) -> pd.DataFrame:
    """Macro-F1 over all classes and over rare ones, for each whose answers are given.

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
    """In which quarter of all values each lies, as text such as "120 – 480"; few or equal values
    make fewer parts.
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


def mistakes(
    rows: list[dict], confidence: pd.DataFrame, guesses: list, show_text: bool, first: int = 8
) -> pd.DataFrame:
    """The surest of a model's mistakes.

    Args:
        rows: that were asked.
        confidence: see metrics.confidence.
        guesses: the model's answers.
        show_text: whether the beginnings of articles may be shown.
        first: how many.
    """
    table = pd.DataFrame(
        {
            "id": [row["id"] for row in rows],
            "label": [row["output"] for row in rows],
            "answer": guesses,
            "probability": confidence["probability"].round(3),
        }
    )
    if show_text:
        table["article"] = [snippet(row["text"]) for row in rows]
    wrong = table[~confidence["right"].to_numpy(bool)]
    return wrong.sort_values("probability", ascending=False, kind="stable").head(first)


def labels_note(run: Path) -> str:
    """One sentence on how far the labels of a run are to be trusted.

    Args:
        run: the run's folder; chapter 1 leaves data/summary.json in it.
    """
    path = run / "data" / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return CERTAIN if summary.get("source") == "sample" else DISPUTABLE


def confidence_of(probabilities: list, places: list[int]) -> pd.DataFrame:
    """How sure each answer is, from probabilities of the options.

    Args:
        probabilities: for each row one number an option.
        places: of the labels; see `label_places`.

    Returns:
        Columns probability and right, in the order of the rows.
    """
    return pd.DataFrame(
        {
            "probability": [float(np.max(p)) for p in probabilities],
            "right": [int(np.argmax(p)) == place for p, place in zip(probabilities, places)],
        }
    )


def surest(covered: pd.DataFrame, share: float) -> float:
    """Accuracy among the surest rows.

    Args:
        covered: see metrics.coverage.
        share: of the rows, 0 to 1; the nearest number of rows is taken.
    """
    return float(covered.loc[(covered["coverage"] - share).abs().idxmin(), "accuracy"])


def verdict(first, second) -> dict:
    """Whether one is better than the other on the same rows, in words.

    Args:
        first: which rows it got right.
        second: which rows the other got right.

    Returns:
        "p" (exact McNemar test), "gained" and "lost" (rows that only one of them got right), and
        "says": first "is better than", "is worse than" or "cannot be told apart from" second.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    p = metrics.mcnemar_p(first, second) if gained + lost else 1.0
    says = in_words(p, gained - lost)
    return {"p": p, "gained": gained, "lost": lost, "says": says}


def pair_tests(hits: dict[str, np.ndarray], pairs: list[tuple[str, str]]) -> list[dict]:
    """Exact McNemar tests: for each pair "a", "b" and "p".

    Args:
        hits: which rows each got right.
        pairs: names.
    """
    return [{"a": a, "b": b, "p": verdict(hits[a], hits[b])["p"]} for a, b in pairs]


def pair_table(tests: list[dict]) -> pd.DataFrame:
    """McNemar tests for people; see `pair_tests`."""
    lines = [(test["a"], test["b"], f"{test['p']:.2g}") for test in tests]
    return pd.DataFrame(lines, columns=["a", "b", "p"]).set_index(["a", "b"])


def head_summary(lines: list[dict], best: str, best_lines: list[dict]) -> dict:
    """What a classification head's answers amount to, and how they stand against the best setting.

    Args:
        lines: the head's answers; see asking.head_answers.
        best: name of the best setting.
        best_lines: its answers to the same rows.

    Returns:
        What metrics.accuracy gives, "macro_f1", "ece" (expected calibration error) and "against",
        with "name" and what `verdict` gives.
    """
    own = metrics.summary(lines, ("score",))["score"]
    error = metrics.reliability(metrics.confidence(lines))[1]
    said = verdict(metrics.correct(lines, "score"), metrics.correct(best_lines, "score"))
    return own | {"ece": error, "against": {"name": best} | said}


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


def all_pairs(bases: list[str], settings: list[str]) -> list[tuple[str, str]]:
    """Which pairs are tested: all models with one another, and each setting with the SVM."""
    pairs = list(combinations([*bases, *settings], 2))
    return pairs + [(name, "tfidf_svm") for name in settings]


def f1_gain(labels: list[str], first: list, second: list, clusters: list[int]) -> dict:
    """How much macro-F1 the second has over the first; see metrics.macro_f1_gain.

    Args:
        labels: of the rows.
        first: answers.
        second: answers.
        clusters: rows with the same number are near copies and drawn together.

    Returns:
        "gain" and "ci95"; of one cluster, which cannot be drawn anew, the widest interval there is.
    """
    if len(set(clusters)) > 1:
        return metrics.macro_f1_gain(labels, first, second, clusters, 0)
    gain = metrics.macro_f1(labels, second) - metrics.macro_f1(labels, first)
    return {"gain": gain, "ci95": [-1.0, 1.0]}


def settings_table(
    logs: dict[str, pd.DataFrame], summaries: dict[str, dict], models: dict, at_step: int | None
) -> pd.DataFrame:
    """The settings at one step of their training, and on test; what was not measured is empty.

    Args:
        logs: of each setting; see `read_log`.
        summaries: of each setting; see `read_summary`.
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
    return table.round(3)


def minutes(summary: dict) -> float:
    """Minutes of a setting's training; NaN where they were not kept."""
    return summary.get("seconds", np.nan) / 60


def seed_spread(table: pd.DataFrame, settings: list[str]) -> pd.DataFrame:
    """How accuracy moves with the seed alone, for settings trained with several.

    Args:
        table: see `accuracy_table`.
        settings: names; rank8 and rank8-seed7 are one setting with two seeds.

    Returns:
        A line a setting and mode: count, mean, std, min, max, per cent; none where each has one.
    """
    own = table[table["name"].isin(settings) & table["mode"].isin(["generate", "score"])]
    own = own.assign(setting=own["name"].str.split("-seed").str[0])
    spread = own.groupby(["setting", "mode"], sort=False)["accuracy"]
    return spread.agg(["count", "mean", "std", "min", "max"]).query("count > 1")


def stripped(row: dict) -> dict:
    """The row without the header that an archive put before its article."""
    return row | {"text": strip_header(row["text"])}


def promise_table(judged: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What thresholds promised and what came of it, for people: per cent, "–" where none was found.

    Args:
        judged: by name; see decision.judge.

    Returns:
        A line a name and target.
    """
    lines = {}
    for who, frame in judged.items():
        for line in frame.to_dict("records"):
            silent = not line["answered"]
            threshold, interval = line["threshold"], per_cent_interval(line["low"], line["high"], 1)
            lines[who, f"{100 * line['target']:g} %"] = {
                "threshold": "–" if pd.isna(threshold) else f"{threshold:.3f}",
                "rows answered, %": f"{100 * line['coverage']:.0f}",
                "wrong among them, %": "–" if silent else f"{100 * line['error']:.1f}",
                "95 % interval": "–" if silent else interval,
            }
    table = pd.DataFrame.from_dict(lines, orient="index")
    return table.rename_axis(["who", "wrong at most"])


def records(frame: pd.DataFrame) -> list[dict]:
    """A table's lines as plain numbers and words for JSON; what is missing is None."""
    lines = json.loads(frame.to_json(orient="records", double_precision=10))
    return [{str(key): value for key, value in line.items()} for line in lines]


def thin(cascade: pd.DataFrame, points: int = 50) -> list[list[float]]:
    """A cascade's curve as at most `points` pairs of share asked and accuracy, its ends included.

    Args:
        cascade: columns asked and accuracy; see hybrid.cascade.
        points: most pairs.
    """
    ordered = cascade.sort_values("asked", kind="stable")[["asked", "accuracy"]]
    places = np.unique(np.linspace(0, len(ordered) - 1, points).round().astype(int))
    return [[float(value) for value in line] for line in ordered.to_numpy()[places]]


def curve_folders(entrant: Entrant) -> dict[int, Path]:
    """The adapters that a training kept on its way, by step; none where it kept none.

    Args:
        entrant: a trained setting.
    """
    folders = (entrant.adapter.parent / "curve").glob(f"step-*/{PROMPT}")
    return dict(sorted((int(path.parent.name[5:]), path.parent) for path in folders))


def learning_curve(
    entrant: Entrant,
    log: pd.DataFrame,
    train: list[dict],
    test: list[dict],
    ask: Callable[[str, Entrant, list[dict]], list[dict]],
    svm: Callable[[list[dict], list[dict]], list[str] | None],
) -> list[dict]:
    """Accuracy after parts of a training, the model's and that of an SVM on as many rows.

    Which rows the model has read by a step is not kept, so the SVM learns from the first rows of
    the training file, as many of them.

    Args:
        entrant: a trained setting.
        log: of its training; its "epoch" says how many rows were read.
        train: all training rows.
        test: rows to judge by; the first CURVE_ROWS of them are asked.
        ask: answers of an entrant to rows, kept in a folder of this name.
        svm: answers of an SVM that learns from the first rows to the second.

    Returns:
        For each step "step", "rows", "accuracy", "ci95", "n", "svm" (share right, or None).
    """
    points = []
    for step, folder in curve_folders(entrant).items():
        early = Entrant(entrant.name, read_prompt(folder), folder)
        lines = ask(f"{entrant.name}/step-{step}", early, test[:CURVE_ROWS])
        count = rows_until(log, step, len(train))
        share = share_right(test[:CURVE_ROWS], svm(train[:count], test[:CURVE_ROWS]))
        own = metrics.accuracy(metrics.correct(lines, "score"))
        points.append({"step": step, "rows": count, "svm": share} | own)
    return points


def rows_until(log: pd.DataFrame, step: int, train_rows: int) -> int:
    """How many different rows a training has read by a step.

    Args:
        log: of the training; columns step and epoch.
        step: an optimizer step.
        train_rows: how many there are.
    """
    if "epoch" not in log or not len(log):
        return train_rows
    last = log.loc[(log["step"] - step).abs().idxmin()]
    epochs = last["epoch"] * step / last["step"]
    return int(np.clip(round(epochs * train_rows), 1, train_rows))


def val_curve(
    log: pd.DataFrame,
    train: list[dict],
    val: list[dict],
    svm: Callable[[list[dict], list[dict]], list[str] | None],
) -> list[dict]:
    """As `learning_curve`, from the evaluations on val that a training makes anyway.

    Args:
        log: of the training.
        train: all training rows.
        val: the validation rows that the training looked at; see `rows_judged`.
        svm: see `learning_curve`.
    """
    points = []
    for _, line in log.dropna(subset=["eval_loss", "eval_seq_acc"]).iterrows():
        count = rows_until(log, int(line["step"]), len(train))
        right = round(line["eval_seq_acc"] * len(val))
        own = metrics.accuracy([True] * right + [False] * (len(val) - right))
        share = share_right(val, svm(train[:count], val))
        points.append({"step": int(line["step"]), "rows": count, "svm": share} | own)
    return points


def share_right(rows: list[dict], answers: list[str] | None) -> float | None:
    """Share of right answers; None where there are none to judge."""
    return answers and float(np.mean([a == row["output"] for a, row in zip(answers, rows)]))


def curve_frame(points: list[dict]) -> pd.DataFrame:
    """A learning curve as plotting.rows_read draws it; see `learning_curve`."""
    frame = pd.DataFrame(points, columns=["step", "rows", "accuracy", "ci95", "n", "svm"])
    bounds = np.array(frame["ci95"].to_list() or np.empty((0, 2)))  # points × 2
    return frame.assign(low=bounds[:, 0], high=bounds[:, 1])


def svm_answers(train: list[dict], rows: list[dict]) -> list[str] | None:
    """Answers of the linear SVM that learns from some rows; None where they have one label only.

    Args:
        train: rows to learn from.
        rows: to be answered.
    """
    if len({row["output"] for row in train}) < 2:
        return None
    return baselines.svm_baseline(train, rows)[0]


def score_shares(results: dict) -> dict[str, dict]:
    """The accuracy of everyone that was compared, by `score`; a hybrid is called "name + svm".

    Args:
        results: "models", "heads", "hybrid" and "baselines", as in eval/metrics.json; "heads" and
            "hybrid" may be missing.

    Returns:
        What metrics.accuracy gives, and more, by name.
    """
    shares = {name: by_mode["score"] for name, by_mode in results["models"].items()}
    shares |= results.get("heads", {})
    shares |= {f"{name} + svm": value for name, value in results.get("hybrid", {}).items()}
    return shares | results["baselines"]


def ladder_table(results: dict, seconds: dict[str, float]) -> pd.DataFrame:
    """Accuracy beside the seconds that training took, the cheapest first.

    Args:
        results: see `score_shares`.
        seconds: of training, by name; who is missing or NaN is left out.

    Returns:
        Columns name, seconds, accuracy, low, high, the last three in per cent.
    """
    lines = [
        (name, seconds[name], *(100 * v for v in (share["accuracy"], *share["ci95"])))
        for name, share in score_shares(results).items()
        if seconds.get(name, 0) > 0
    ]
    columns = ["name", "seconds", "accuracy", "low", "high"]
    return pd.DataFrame(lines, columns=columns).sort_values("seconds", kind="stable")


def set_summary(sets: list[list[int]], places: list[int]) -> dict:
    """What prediction sets are worth: how often the label is in one, and how large they are.

    Args:
        sets: places of the options left, for each row.
        places: of the labels.

    Returns:
        "accuracy" (share of sets that hold the label), "ci95", "n" and "size" (mean options left).
    """
    held = metrics.accuracy([place in chosen for chosen, place in zip(sets, places)])
    return held | {"size": float(np.mean([len(chosen) for chosen in sets]))}


def promise_note(learned: dict) -> str:
    """One sentence on the targets that the validation rows are too few for.

    Args:
        learned: see decision.learn.
    """
    missing = {t: v for t, v in learned["targets"].items() if v["threshold"] is None}
    if not missing:
        return "There were enough validation rows for every target."
    said = ", ".join(f"{100 * float(t):g} %" for t in missing)
    known = [value["rows_needed"] for value in missing.values() if value["rows_needed"]]
    enough = (
        f"and about {max(known):,} like them would" if known else "and no number like them would"
    )
    return (
        f"For errors of at most {said} the {learned['n']} validation rows allow no promise, "
        f"and {enough}."
    )


def promises(nats: list, margins: list, places: list[int], weights: dict) -> dict:
    """Thresholds of the model and of the hybrid, learned on validation rows.

    Temperature and weights are fitted on all rows. The thresholds rest on what rules fitted on the
    other rows said of each: judged by itself, a row would promise too much.

    Args:
        nats: for each row, log-probabilities of its options.
        margins: for each row, the linear margin of each.
        places: for each row, the place of its label.
        weights: of the hybrid; see hybrid.fit_weights.

    Returns:
        What decision.write_decision takes.
    """

    def warmed(temperature, values):
        return decision.option_probabilities(values, temperature)

    alone = decision.cross_fitted(decision.fit_temperature, warmed, nats, places)
    together = decision.cross_fitted(hybrid.fit_weights, hybrid.combine, nats, margins, places)
    temperature = decision.fit_temperature(nats, places)
    return {
        "model": {"temperature": temperature} | decision.learn(alone, places),
        "hybrid": {"weights": weights} | decision.learn(together, places),
    }


def headline(results: dict, base: str, best: str) -> dict:
    """The numbers and words of a comparison's sentences, by the names the pages use.

    Args:
        results: all of eval/metrics.json.
        base: the untouched model under the best setting's template.
        best: the best setting.

    Returns:
        Shares in per cent, p values, verdicts.
    """
    said = {"base": base, "best": best}
    for key, name in (("base", base), ("best", best)):
        for mode in ("generate", "score"):
            said |= in_per_cent(f"{key}_{mode}", results["models"][name][mode])
        said[f"ece_{key}"] = results["models"][name]["ece"]
    svm, both = results["baselines"]["tfidf_svm"], results["hybrid"][best]
    said |= in_per_cent("svm", svm) | in_per_cent("hybrid", both)
    said |= {"svm_seconds": svm["seconds"], "ece_hybrid": both["ece"]}
    said |= {"valid_base": 100 * results["models"][base]["generate"]["valid"]}
    p = {(pair["a"], pair["b"]): pair["p"] for pair in results["mcnemar"]}
    own = results["models"][best]["score"]["accuracy"]
    settings = list(results["hybrid"])
    least = min((p[pair] for pair in combinations(settings, 2)), default=1.0)
    said["noise"] = "at least one difference" if least <= 0.05 else "no difference"
    said["verdict_p"] = p[best, "tfidf_svm"]
    said["verdict"] = in_words(said["verdict_p"], own - svm["accuracy"])
    said["hybrid_p"] = p[f"{best} + svm", "tfidf_svm"]
    said["hybrid_verdict"] = in_words(said["hybrid_p"], both["accuracy"] - svm["accuracy"])
    said["hybrid_over_model_p"] = p[f"{best} + svm", best]
    ahead = both["accuracy"] - own
    said["hybrid_over_model"] = in_words(said["hybrid_over_model_p"], ahead)
    earns = said["verdict"] == "is better than"
    said["earned"] = "earns its cost" if earns else "does not earn its cost"
    return said


def in_per_cent(name: str, value: dict) -> dict:
    """An accuracy and its interval as name, name_low and name_high, in per cent."""
    shares = (value["accuracy"], *value["ci95"])
    names = (name, f"{name}_low", f"{name}_high")
    return {key: 100 * share for key, share in zip(names, shares)}


def in_words(p: float, ahead: float) -> str:
    """A verdict in words: at 5 %, by McNemar's p and the difference of the accuracies."""
    if p > 0.05:
        return "cannot be told apart from"
    return "is better than" if ahead > 0 else "is worse than"


def reading(base_score: dict, rows: list[dict]) -> dict:
    """What the untouched model's scores say beside guessing.

    Args:
        base_score: its accuracy by `score`; see metrics.accuracy.
        rows: that were asked, with their options.

    Returns:
        "chance" (per cent right by guessing) and "reading", in words.
    """
    chance = float(np.mean([1 / len(row["category"]) for row in rows]))
    knows = base_score["ci95"][0] > chance
    more = "it knows more than its free answers show"
    return {
        "chance": 100 * chance,
        "reading": more if knows else "it cannot be told from guessing either",
    }


def study_intervals() -> dict:
    """What ten rows can say: the study's claim with its intervals, in per cent, and McNemar's p."""
    before, after, n = STUDY
    hits = {"study_before": before, "study_after": after}
    said = {"study_rows": n}
    for name, right in hits.items():
        said |= in_per_cent(name, metrics.accuracy([True] * right + [False] * (n - right)))
    first, second = ([True] * right + [False] * (n - right) for right in STUDY[:2])
    return said | {"study_p": verdict(second, first)["p"]}


def at_least_one(**numbers: int | None) -> None:
    """Refuse row counts below 1.

    Args:
        **numbers: parameters by name; None is no limit.

    Raises:
        InputError: naming the parameter.
    """
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise InputError(f"{name} is {number}; it must be 1 or more")


def same_answers(ways: dict[str, list[dict]]) -> pd.DataFrame:
    """How a change to the rows changed the answers by `score`.

    Args:
        ways: answers to the same rows, by what was changed; the first is without a change.

    Returns:
        A line a way: right and its interval, and "same answer, %".
    """
    before = predictions(next(iter(ways.values())))
    table = share_table(
        {name: metrics.accuracy(metrics.correct(lines, "score")) for name, lines in ways.items()}
    )
    for name, lines in ways.items():
        same = [old == new for old, new in zip(before, predictions(lines))]
        table.loc[name, "same answer, %"] = 100 * float(np.mean(same))
    return table.round(1)


def hits_of(answers: list[str] | None, rows: list[dict]) -> list[bool]:
    """Which rows were answered right; none where there are no answers."""
    return [answer == row["output"] for answer, row in zip(answers or [None] * len(rows), rows)]


def costs(trainings: dict[str, dict]) -> dict[str, dict]:
    """Seconds and peak memory (GiB) of each setting's training, where they were kept.

    Args:
        trainings: of each setting; see `read_summary`.
    """
    return {
        name: {"train_seconds": own["seconds"], "peak_gib": own.get("peak_gib")}
        for name, own in trainings.items()
        if "seconds" in own
    }


def suspect_table(
    suspects: pd.DataFrame, train: list[dict], show_text: bool, first: int = 10
) -> pd.DataFrame:
    """The first candidates for wrong labels, for people.

    Args:
        suspects: see audit.suspects; has a column "id".
        train: the rows that were looked through.
        show_text: whether the beginnings of articles may be shown.
        first: how many.
    """
    names = {"label": "label", "suggested": "suggested", "self_confidence": "label's probability"}
    own = suspects.head(first).set_index("id")
    if "source_id" in own and own["source_id"].notna().any():
        names = {"source_id": "source's id"} | names
    table = own[list(names)].rename(columns=names)
    if show_text:
        texts = {row["id"]: snippet(row["text"], 32) for row in train}
        table["article"] = [texts[key] for key in table.index]
    return table.round(3)
