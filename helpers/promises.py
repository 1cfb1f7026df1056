"""The promises of the model and of the hybrid: what they learn, and what pages say of them.

How one threshold is learned and judged is in `decision`; this puts the model beside the hybrid.
"""

from collections.abc import Iterable

import pandas as pd

from helpers import decision, hybrid
from helpers.pages import per_cent_interval


def learn_both(nats: list, margins: list, places: list[int], weights: dict) -> dict:
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


def target_words(target: str | float) -> str:
    """A target in per cent, as text or as a number: "0.05" is "5 %"."""
    return f"{100 * float(target):g} %"


def listed(parts: Iterable[str], last: str = "and") -> str:
    """Words as a list in a sentence, such as "a, b and c"; `last` stands before the last one."""
    *before, end = parts
    return f"{', '.join(before)} {last} {end}" if before else end
