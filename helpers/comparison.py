"""Settings beside one another: tables and sentences about their answers, and their promises."""

import json
from collections import Counter
from collections.abc import Iterable
from itertools import compress
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import InputError, decision, hybrid, metrics
from helpers.entrants import minutes
from helpers.files import DAMAGE
from helpers.headers import strip_header
from helpers.pages import per_cent_interval
from helpers.parameters import without_seed
from helpers.verdicts import verdict

CERTAIN = "The sample's labels are right by construction, so each of these is the model's own."
DISPUTABLE = "Some may be labels that a reader would dispute."
FALSE_ALARMS = (
    "On the packaged sample every label is right, so each suspect is a false alarm. How many there "
    "are shows how far such a list can be trusted."
)
TO_READ = "Read an article before you change its label, for some of them are false alarms."


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
            "probability": confidence["probability"],
        }
    )
    if show_text:
        table["article"] = [snippet(row["text"]) for row in rows]
    wrong = table[~confidence["right"].to_numpy(bool)]
    wrong = wrong.sort_values("probability", ascending=False, kind="stable").head(first)
    return wrong.round({"probability": 3})


def labels_note(run: Path) -> str:
    """One sentence on how far the labels of a run are to be trusted.

    Args:
        run: the run's folder; chapter 1 leaves data/summary.json in it.
    """
    return CERTAIN if is_sample(run) else DISPUTABLE


def suspects_note(run: Path) -> str:
    """What to do with a list of labels that may be wrong, in two sentences.

    Args:
        run: the run's folder.
    """
    return FALSE_ALARMS if is_sample(run) else TO_READ


def is_sample(run: Path) -> bool:
    """Whether a run is about the packaged sample, whose labels are known to be right.

    Args:
        run: the run's folder; chapter 1 leaves data/summary.json in it.
    """
    path = run / "data" / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return summary.get("source") == "sample"


def confidence_of(probabilities: list, places: list[int]) -> pd.DataFrame:
    """How sure each answer is, from probabilities of the options.

    Args:
        probabilities: for each row one number an option.
        places: of the labels; see `label_places`.

    Returns:
        Columns probability and right, in the order of the rows.
    """
    probability, right = decision.surest_options(probabilities, places)
    return pd.DataFrame({"probability": probability, "right": right})


def surest(covered: pd.DataFrame, share: float) -> float:
    """Accuracy among the surest rows.

    Args:
        covered: see metrics.coverage.
        share: of the rows, 0 to 1; the nearest number of rows is taken.
    """
    return float(covered.loc[(covered["coverage"] - share).abs().idxmin(), "accuracy"])


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


def stripped(row: dict) -> dict:
    """The row without the header that an archive put before its article."""
    return row | {"text": strip_header(row["text"])}


def promise_table(judged: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What thresholds promised and how it turned out, in per cent, "–" where there is no threshold.

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
            reached = line["coverage"]
            lines[who, f"{100 * line['target']:g} %"] = {
                "threshold": "–" if pd.isna(threshold) else f"{threshold:.3f}",
                "rows answered, %": "–" if pd.isna(reached) else f"{100 * reached:.0f}",
                "wrong among them, %": "–" if silent else f"{100 * line['error']:.1f}",
                "95 % interval": "–" if silent else interval,
            }
    table = pd.DataFrame.from_dict(lines, orient="index")
    return table.rename_axis(["who", "wrong at most"])


def likeness_note(judged: dict[str, pd.DataFrame]) -> str:
    """One or two sentences on whether test rows reach the thresholds as often as validation rows.

    Args:
        judged: by name; see decision.judge.
    """
    lines = [
        (who, line)
        for who, frame in judged.items()
        for line in frame.to_dict("records")
        if not pd.isna(line["threshold"])
    ]
    if not lines:
        return "Without a threshold there is nothing to compare."
    if any(pd.isna(line["coverage"]) for _, line in lines):
        return "No test row has more than one option, so there is nothing to compare."
    apart = [
        f"{100 * line['on_val']:.0f} % of the validation rows and {100 * line['coverage']:.0f} % "
        f"of the test rows ({who}, at most {target_words(line['target'])} wrong)"
        for who, line in lines
        if line["unlike"]
    ]
    if not apart:
        who, line = max(lines, key=lambda one: abs(one[1]["on_val"] - one[1]["coverage"]))
        return (
            f"The two differ most where {100 * line['on_val']:.0f} % of the validation rows and "
            f"{100 * line['coverage']:.0f} % of the test rows reach a threshold ({who}, at most "
            f"{target_words(line['target'])} wrong). So large a difference comes by chance more "
            "often than once in a thousand times, so we do not call the rows unlike."
        )
    return (
        f"The test rows are not like the validation rows. A threshold is reached by "
        f"{'; by '.join(apart)}. Such a promise rests on rows that are not like the test rows."
    )


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


def settled(results: dict, path: Path) -> dict:
    """The figures to write: those in the file if only the baselines' seconds have changed.

    So a chapter that runs again by hand does not make anything out of date that depends on them.

    Args:
        results: see `metrics.score_shares`.
        path: the file that they are written to, and that may hold earlier ones.
    """

    def untimed(figures: dict) -> str:
        baselines = {
            name: {key: value for key, value in summary.items() if key != "seconds"}
            for name, summary in figures["baselines"].items()
        }
        return json.dumps(figures | {"baselines": baselines}, sort_keys=True)

    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        return before if untimed(before) == untimed(results) else results
    except DAMAGE:  # or there is none
        return results


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


def promise_note(learned: dict[str, dict]) -> str:
    """Sentences about the targets for which there are too few validation rows.

    Args:
        learned: "model" and "hybrid"; of each see decision.learn.
    """
    missing = {
        who: {t: v["rows_needed"] for t, v in part["targets"].items() if v["threshold"] is None}
        for who, part in learned.items()
    }
    if not any(missing.values()):
        return f"There were enough validation rows for every target of the {listed(missing)}."
    sentences = []
    for who, needed in missing.items():
        n = learned[who]["n"]
        if not needed:
            sentences.append(f"For the {who} the {n} validation rows are enough for every target.")
            continue
        allow = "the one validation row allows" if n == 1 else f"the {n} validation rows allow"
        sentences.append(
            f"For the {who} {allow} no promise of at most "
            f"{listed(map(target_words, needed), 'or')} of errors."
        )
        known = {target: rows for target, rows in needed.items() if rows}
        hopeless = [target_words(target) for target in needed if target not in known]
        if known:
            numbers = [f"about {rows:,} for {target_words(t)}" for t, rows in known.items()]
            sentences.append(f"Of rows like them it would take {listed(numbers)}.")
        if hopeless:
            sentences.append(f"No number of rows like them would do for {listed(hopeless, 'or')}.")
    return " ".join(sentences)


def target_words(target: str | float) -> str:
    """A target in per cent, as text or as a number: "0.05" is "5 %"."""
    return f"{100 * float(target):g} %"


def listed(parts: Iterable[str], last: str = "and") -> str:
    """Words as a list in a sentence, such as "a, b and c"; `last` stands before the last one."""
    *before, end = parts
    return f"{', '.join(before)} {last} {end}" if before else end


def promises(nats: list, margins: list, places: list[int], weights: dict) -> dict:
    """Thresholds of the model and of the hybrid, learned on validation rows.

    Temperature and weights are fitted on all rows. The thresholds rest on probabilities that each
    row was given by a rule fitted without it. Otherwise they would promise too much. Rows that
    helped to choose the checkpoint or the best setting still promise a little too much, see
    `decision`.

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


def same_answers(ways: dict[str, list[dict]], headed: list[bool]) -> pd.DataFrame:
    """How a change to the rows changed the answers by `score`.

    Args:
        ways: answers to the same rows, by what was changed: "as they are", "options shuffled" and
            "header stripped". Rows of one option are left out, for there is one answer to them.
        headed: which of the rows have a header; the others cannot lose it.

    Returns:
        A line a way: right and its interval; the "rows" that were changed, and the "same answer, %"
        among them, NaN of no row.
    """
    choice = [i for i, line in enumerate(ways["as they are"]) if len(line["options"]) > 1]
    headed = [headed[i] for i in choice]
    ways = {name: [lines[i] for i in choice] for name, lines in ways.items()}
    table = share_table(
        {name: metrics.accuracy(metrics.correct(lines, "score")) for name, lines in ways.items()}
    )
    before = predictions(ways["as they are"])
    for name, lines in ways.items():
        changed = headed if name == "header stripped" else [True] * len(choice)
        same = [old == new for old, new in compress(zip(before, predictions(lines)), changed)]
        table.loc[name, "rows"] = len(same)
        table.loc[name, "same answer, %"] = 100 * float(np.mean(same)) if same else np.nan
    return table.astype({"rows": int}).round(1)


def same_note(same: pd.DataFrame) -> str:
    """A sentence or two on how steady the answers were.

    Args:
        same: see `same_answers`.
    """
    order, header = same.loc["options shuffled"], same.loc["header stripped"]
    if not order["rows"]:
        return "No probed row has a second option, so no other order could be tried."
    n = order["rows"]
    note = (
        "With the options in another order the model gives the same answer to "
        f"{order['same answer, %']:.0f} % of {n:.0f} probed row{'s' if n > 1 else ''}"
    )
    if not header["rows"]:
        return f"{note}. No probed row has a header that could be taken away."
    return (
        f"{note}, and without the header to {header['same answer, %']:.0f} % of "
        f"{header['rows']:.0f} with a header."
    )


def hits_of(answers: list[str] | None, rows: list[dict]) -> list[bool]:
    """For each row whether its answer is right; False for all where there are no answers."""
    return [answer == row["output"] for answer, row in zip(answers or [None] * len(rows), rows)]


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
