"""Decide with a promise: what a stated probability is worth, learned on val, checked on test.

An answer goes out when its probability reaches a threshold; below it a person looks. The threshold
for a target error rests on a Clopper–Pearson bound for the surest rows of val. How many of them may
be answered is tested in a fixed order, with more rows each time, and testing stops at the first
number that fails (fixed-sequence testing: Angelopoulos et al. 2021, Learn then test; for selective
answers: Geifman and El-Yaniv 2017). The first number depends on how many rows there are, never on
their labels: the fewest that could pass, and a quarter of all at least.

Why the whole search errs no more often than a single test does, provided that surer answers are not
wrong more often: let s be the probability below which the error passes the target. Given how many
rows of val reach s, their errors are binomial with the target as rate. To let more rows through,
the search must first pass the test of just these rows (or, where it begins beyond them, a test of
rows that are wrong no less often), and this happens with a chance of 1 - LEVEL at most.

This holds for rows that had no say in what they judge. But most rows of val helped to choose a
checkpoint and the best setting, so they flatter the winner. Where all candidates are wrong just
beyond the target and their errors are alike (normal scores correlated by 0.7), promises of 95 % are
broken in 14 of 100 cases (the best of 9, by 48 of 60 rows, 10 % of errors) or 10 of 100 (the best
of 12, by 100 of 200 rows, 5 %). A test simulates both.
"""

import json
import math
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import InputError, one_line
from helpers.adapters import adapter_digest, read_prompt
from helpers.files import DAMAGE, write_json
from helpers.metrics import wilson

DECISION = "decision.json"
TARGETS = (0.01, 0.02, 0.05, 0.10)
"""Error rates among answered rows for which thresholds are learned."""
SETS_LEVEL = 0.9
"""Share of rows whose prediction set shall hold the label."""
FIRST_SHARE = 0.25
"""The search for a threshold begins with this share of the rows. Where these are many, a stray
wrong label among the surest does not end it at once. Where rows are few, it begins with
`least_rows` of them, and one wrong answer ends it.
"""
LEVEL = 0.95
"""How often a promise holds."""
FOLDS = 5
"""The most parts that rows are divided into, each judged by a rule fitted on the others."""
TEMPERATURE_PRIOR = math.log(2)
"""Standard deviation that we expect of a temperature's logarithm: a factor of two either way.
Without it, a few rows that are all answered right would make every answer certain. It matters less
with more rows.
"""
UNLIKE = 0.001
"""Below this p of Fisher's exact test we say that val and test rows differ in how often they reach
a threshold.
"""
MOST_ROWS = 1_000_000
"""If more rows than this would be needed, we say that no number would do."""


def fit_temperature(logprobs: list, places: list[int]) -> float:
    """The temperature that makes stated probabilities mean what they say (Guo et al. 2017).

    Args:
        logprobs: for each row, nats of each of its options.
        places: for each row, the place of its label among its options.

    Returns:
        Between 0.05 and 20. At 1 probabilities stay as they are. Without rows the temperature is 1,
        and with few rows it is near 1, see TEMPERATURE_PRIOR.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = [(np.asarray(v, float), p) for v, p in zip(logprobs, places) if len(v) > 1]
    if not rows:
        return 1.0

    def surprise(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        nats = sum(log_softmax(values * scale)[place] for values, place in rows)
        return ((log_temperature / TEMPERATURE_PRIOR) ** 2 / 2 - nats) / len(rows)

    return math.exp(minimize_scalar(surprise, bounds=(-3.0, 3.0), method="bounded").x)


def option_probabilities(logprobs: list, temperature: float = 1.0) -> list[np.ndarray]:
    """For each row the probabilities of its options.

    Args:
        logprobs: for each row, nats of each of its options.
        temperature: what nats are divided by first.
    """
    from scipy.special import softmax

    return [softmax(np.asarray(values, float) / temperature) for values in logprobs]


def cross_fitted(fit, apply, *columns: list) -> list:
    """For each row, what a rule says of it that was fitted without it.

    Thresholds learned on rows that a rule was fitted on would promise too much. For a hybrid:
    `cross_fitted(hybrid.fit_weights, hybrid.combine, logprobs, margins, places)`.

    Args:
        fit: takes the columns of some rows, gives a rule.
        apply: takes a rule and the same columns but the last, gives one value a row.
        *columns: lists of one length; the last one holds the places of the labels.

    Returns:
        One value a row, in order.
    """
    n = len(columns[0])
    parts = np.arange(n) % max(2, min(FOLDS, n))
    values: list = [None] * n
    for part in sorted(set(parts)):
        fitted, held = np.flatnonzero(parts != part), np.flatnonzero(parts == part)
        rule = fit(*([column[i] for i in fitted] for column in columns))
        held_values = apply(rule, *([column[i] for i in held] for column in columns[:-1]))
        for i, value in zip(held, held_values):
            values[i] = value
    return values


def error_bound(wrong, answered):
    """Upper Clopper–Pearson bound of an error rate, one-sided, which holds as often as LEVEL says.

    Args:
        wrong: errors, a number or an array.
        answered: rows, in the same form.
    """
    from scipy.stats import beta

    wrong, answered = np.asarray(wrong), np.asarray(answered)
    bound = beta.ppf(LEVEL, wrong + 1, np.maximum(answered - wrong, 1e-9))
    return np.where(wrong >= answered, 1.0, bound)[()]


def least_rows(target: float) -> int:
    """The fewest answered rows that can support a promise, which they do if none is wrong.

    Args:
        target: the promised error.
    """
    if not 0 < target < 1:
        raise InputError(f"a target error of {target:g} is none: give a share between 0 and 1")
    return math.ceil(math.log(1 - LEVEL) / math.log(1 - target))


def first_count(n: int, target: float) -> int:
    """How many of n rows the search for a threshold begins with; more than n where n is small."""
    return max(least_rows(target), math.ceil(FIRST_SHARE * n))


def surest_options(probabilities: list, places: list[int]) -> pd.DataFrame:
    """The likeliest option of each row, in the order of the rows.

    Args:
        probabilities: for each row, those of its options.
        places: for each row, the place of its label among its options.

    Returns:
        Columns probability, and right: whether the option is the label; see metrics.confidence.
    """
    surest = np.array([float(np.max(values)) for values in probabilities])
    right = [int(np.argmax(values)) == place for values, place in zip(probabilities, places)]
    return pd.DataFrame({"probability": surest, "right": np.array(right, bool)})


def with_a_choice(probabilities: list, places: list[int]) -> tuple[list, list[int]]:
    """The rows that have more than one option."""
    with_choice = [i for i, values in enumerate(probabilities) if len(values) > 1]
    return [probabilities[i] for i in with_choice], [places[i] for i in with_choice]


def learn(probabilities: list, places: list[int], targets: tuple = TARGETS) -> dict:
    """Thresholds and prediction sets, learned from validation rows.

    Rows with a single option are left out, for their only answer says nothing about others.

    Args:
        probabilities: for each row, those of its options, by rules fitted without it; see
            `cross_fitted`.
        places: for each row, the place of its label among its options.
        targets: error rates to promise among answered rows.

    Returns:
        "n", the number of rows with a choice; "menus", the fewest and the most options of a row,
        None without rows; "level" (LEVEL); "targets", what `promise` gives by target as text;
        "sets", what `sets` gives.
    """
    sizes = [len(values) for values in probabilities]
    probabilities, places = with_a_choice(probabilities, places)
    ordered = surest_options(probabilities, places)
    ordered = ordered.sort_values("probability", ascending=False, kind="stable")
    surest, right = ordered["probability"].to_numpy(), ordered["right"].to_numpy()
    promises = {f"{t:g}": promise(surest, right, t) for t in targets}
    return {
        "n": len(places),
        "menus": [min(sizes), max(sizes)] if sizes else None,
        "level": LEVEL,
        "targets": promises,
        "sets": sets(probabilities, places),
    }


def promise(surest: np.ndarray, right: np.ndarray, target: float) -> dict:
    """The threshold above which an error rate can be promised, and what it rests on.

    Args:
        surest: the answers' probabilities, the largest first.
        right: whether each answer is right.
        target: the promised error among answered rows.

    Returns:
        "threshold" and "bound", None where the rows do not support the promise; "share", how many
        of them are answered; "rows_least", the fewest that could support it; and "rows_needed",
        about how many rows like these would, None where no number would.
    """
    n, wrong = len(surest), np.cumsum(~right)
    # rows of one probability are answered together
    ends = np.flatnonzero(np.r_[surest[1:] < surest[:-1], True][:n]) + 1
    counts = ends[ends >= first_count(n, target)]
    bounds = error_bound(wrong[counts - 1], counts)
    passed = int(np.logical_and.accumulate(bounds <= target).sum())
    learned = {"threshold": None, "bound": None, "share": 0.0}
    if passed:
        count = int(counts[passed - 1])
        learned = {"threshold": float(surest[count - 1]), "bound": float(bounds[passed - 1])}
        learned["share"] = count / n
    least = 1 if passed else n + 1  # n rows were not enough, so the answer must be more than n
    needed = rows_needed(wrong, target, least)
    return learned | {"rows_least": least_rows(target), "rows_needed": needed}


def rows_needed(wrong: np.ndarray, target: float, least: int) -> int | None:
    """About how many rows would support a promise if they were wrong as often as these.

    Args:
        wrong: errors among the surest 1, 2, … rows.
        target: the promised error.
        least: no fewer than this.

    Returns:
        None where not even MOST_ROWS would do.
    """
    n, total = len(wrong), max(least_rows(target), least)
    while total <= MOST_ROWS:
        count = first_count(total, target)
        errors = np.interp(count * n / total, np.arange(n + 1), np.r_[0, wrong]) * total / max(n, 1)
        if error_bound(errors, count) <= target:
            return total
        total = math.ceil(1.05 * total)
    return None


def sets(probabilities: list, places: list[int]) -> dict:
    """The probability from which an option belongs to a row's prediction set (split conformal).

    Args:
        probabilities: for each row, of its options.
        places: for each row, the place of its label.

    Returns:
        "level" (SETS_LEVEL) and "threshold", 0 where rows are too few, so that all options stay.
    """
    labels = sorted(float(p[i]) for p, i in zip(probabilities, places))
    covered = math.ceil(round(SETS_LEVEL * (len(labels) + 1), 9))  # so many must not fall below
    return {"level": SETS_LEVEL, "threshold": labels[-covered] if covered <= len(labels) else 0.0}


def prediction_sets(probabilities: list, threshold: float) -> list[list[int]]:
    """For each row the places of the options in its prediction set, the likeliest first.

    Args:
        probabilities: for each row, of its options.
        threshold: see `sets`; the likeliest option always stays.
    """
    options = []
    for values in probabilities:
        order = np.argsort(-np.asarray(values), kind="stable")
        left = [int(i) for i in order if values[i] >= threshold]
        options.append(left or [int(order[0])])
    return options


def judge(decision: dict, probabilities: list, places: list[int]) -> pd.DataFrame:
    """How promises that were learned on val turn out on other rows, without those of one option.

    Args:
        decision: see `learn`.
        probabilities: for each row, of its options.
        places: for each row, the place of its label.

    Returns:
        A line for each target: target, threshold, coverage (share answered), answered, wrong, error
        among answered rows with its 95 % Wilson interval (low, high), rows_needed; on_val, the
        share of val rows that reach the threshold; and unlike, whether these rows reach it more or
        less often than val rows, see `unlike`. Error is NaN where nothing was answered, on_val
        where there is no threshold, and coverage where no row has a choice.
    """
    sure = surest_options(*with_a_choice(probabilities, places))
    surest, right = sure["probability"].to_numpy(), sure["right"].to_numpy()
    lines = []
    for target, learned in decision["targets"].items():
        threshold = learned["threshold"]
        answered = surest >= threshold if threshold is not None else np.zeros(len(surest), bool)
        count, wrong = int(answered.sum()), int((~right & answered).sum())
        low, high = wilson(wrong, count)
        reached = round(learned["share"] * decision["n"])
        promised = threshold is not None
        lines.append(
            {
                "target": float(target),
                "threshold": threshold,
                "coverage": count / len(surest) if len(surest) else float("nan"),
                "answered": count,
                "wrong": wrong,
                "error": wrong / count if count else float("nan"),
                "low": low,
                "high": high,
                "rows_needed": learned["rows_needed"],
                "on_val": learned["share"] if promised else float("nan"),
                "unlike": promised and unlike(reached, decision["n"], count, len(surest)),
            }
        )
    return pd.DataFrame(lines)


def doubted(learned: dict, judged: pd.DataFrame) -> dict:
    """Promises with a mark on those that test rows cast doubt on.

    Args:
        learned: see `learn`.
        judged: how they turned out on test rows; see `judge`.

    Returns:
        `learned`, where each target in doubt has "on_test", too: the share of test rows that reach
        its threshold. It is in doubt when val rows reach it more or less often; see `unlike`.
    """
    apart = judged[judged["unlike"].astype(bool)]
    shares = {f"{line.target:g}": line.coverage for line in apart.itertuples()}
    targets = {
        target: promised | ({"on_test": shares[target]} if target in shares else {})
        for target, promised in learned["targets"].items()
    }
    return learned | {"targets": targets}


def unlike(reached: int, n: int, others_reached: int, others: int) -> bool:
    """Whether two groups of rows differ, by more than chance, in how often they reach a threshold.

    The threshold is itself the probability of a val row. Fisher's exact test allows for that: if
    both groups were alike, each of the surest rows would come from val with the same chance.

    Args:
        reached: val rows that reach the threshold.
        n: val rows.
        others_reached: other rows that reach it.
        others: other rows.
    """
    from scipy.stats import fisher_exact

    table = [[reached, n - reached], [others_reached, others - others_reached]]
    return bool(fisher_exact(table).pvalue < UNLIKE)


def write_decision(adapter: Path, decision: dict) -> None:
    """Write beside an adapter how its probabilities are to be read.

    Args:
        adapter: its folder, weights and all; gets decision.json.
        decision: "model": {"temperature", …of `learn`}, "hybrid": {"weights", …} or None.
    """
    write_json(Path(adapter) / DECISION, learned_for(adapter) | decision)


def learned_for(adapter: Path) -> dict[str, str]:
    """What a decision holds for: digests of an adapter and of its prompt.

    Args:
        adapter: its folder.
    """
    prompt = json.dumps(asdict(read_prompt(adapter)), sort_keys=True)
    return {"adapter": adapter_digest(adapter), "prompt": sha256(prompt.encode()).hexdigest()}


def read_decision(adapter: Path) -> dict | None:
    """What `write_decision` left beside an adapter; None where chapter 05 has not been there.

    Args:
        adapter: its folder.

    Raises:
        InputError: when the file is damaged, or was learned on the answers of another adapter, or
            to another prompt.
    """
    path = Path(adapter) / DECISION
    if not path.is_file():
        return None
    try:
        decision = json.loads(path.read_text(encoding="utf-8-sig"))
        check_number(decision["model"]["temperature"], 1e-6, math.inf)
        for part in filter(None, (decision["model"], decision["hybrid"])):
            check_learned(part)
        if decision["hybrid"] is not None:
            for name in ("logprob", "margin"):
                check_number(decision["hybrid"]["weights"][name], 0, math.inf)
    except DAMAGE as error:
        raise InputError(
            f"{path} is not sound ({one_line(error)}); remove it, and chapter 05 writes it anew"
        ) from None
    for what, now in learned_for(adapter).items():
        # a file that does not name one of them is from before it was named
        if decision.get(what) not in (None, now):
            raise InputError(
                f"{path} was learned on the answers of another {what}, so its probabilities and "
                "promises do not hold here; remove it, and chapter 05 writes it anew"
            )
    return decision


def check_learned(part: dict) -> None:
    """Raise ValueError unless the numbers that `learn` kept are such as it can learn.

    Args:
        part: of decision.json, for the model or for the hybrid.
    """
    check_number(part["sets"]["threshold"], 0, 1)
    if part.get("menus") is not None:  # files from before it was kept lack it
        fewest, most = part["menus"]
        check_number(fewest, 1, most)
    for target, learned in part["targets"].items():
        check_number(float(target), 0, 1)
        if learned["rows_needed"] is not None:
            check_number(learned["rows_needed"], 0, math.inf)
        if learned["threshold"] is not None:
            doubted_by = ("share", "on_test") if "on_test" in learned else ()
            for name in ("threshold", "bound", *doubted_by):
                check_number(learned[name], 0, 1)


def check_number(value, low: float, high: float) -> None:
    """Raise ValueError unless a value is a finite number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} stands where a number should")
    if not (low <= value <= high and math.isfinite(value)):
        raise ValueError(f"{value} is out of range")
