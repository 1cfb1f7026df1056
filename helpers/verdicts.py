"""What a comparison allows us to say: tests of pairs, and figures and words for the pages."""

from itertools import combinations

import numpy as np
import pandas as pd

from helpers import metrics
from helpers.parameters import without_seed

STUDY = (0, 9, 10)
"""Right answers in the study before and after its training, and how many answers were compared."""


def verdict(first, second) -> dict:
    """Whether one classifier is better than another on the same rows, in words.

    Args:
        first: for each row, whether the first one got it right.
        second: for each row, whether the second one got it right.

    Returns:
        "p" (exact McNemar test), "gained" and "lost" (how many rows only the first and only the
        second got right), and "says": first "is better than", "is worse than" or "cannot be told
        apart from" second.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    p = metrics.mcnemar_p(first, second)
    return {"p": p, "gained": gained, "lost": lost, "says": in_words(p, gained - lost)}


def pair_tests(hits: dict[str, np.ndarray], pairs: list[tuple[str, str]]) -> list[dict]:
    """Exact McNemar tests: for each pair, the names "a" and "b" and the p value "p".

    Args:
        hits: by name, which rows each got right.
        pairs: names from `hits`.
    """
    return [{"a": a, "b": b, "p": verdict(hits[a], hits[b])["p"]} for a, b in pairs]


def pair_table(tests: list[dict]) -> pd.DataFrame:
    """McNemar tests as a table for readers; see `pair_tests`."""
    lines = [(test["a"], test["b"], f"{test['p']:.2g}") for test in tests]
    return pd.DataFrame(lines, columns=["a", "b", "p"]).set_index(["a", "b"])


def all_pairs(bases: list[str], settings: list[str]) -> list[tuple[str, str]]:
    """Which pairs are tested: all models with one another, and each setting with the SVM."""
    pairs = list(combinations([*bases, *settings], 2))
    return pairs + [(name, "tfidf_svm") for name in settings]


def headline(results: dict, base: str, best: str) -> dict:
    """The numbers and words for sentences about a comparison, by the names that the pages use.

    Args:
        results: all of eval/metrics.json.
        base: the untouched model under the best setting's template.
        best: the best setting.

    Returns:
        Shares in per cent, p values in words, verdicts.
    """
    figures = {"base": base, "best": best}
    for key, name in (("base", base), ("best", best)):
        for mode in ("generate", "score"):
            figures |= in_per_cent(f"{key}_{mode}", results["models"][name][mode])
        figures[f"ece_{key}"] = results["models"][name]["ece"]
    svm, both = results["baselines"]["tfidf_svm"], results["hybrid"][best]
    figures |= in_per_cent("svm", svm) | in_per_cent("hybrid", both)
    figures |= {"svm_seconds": svm["seconds"], "ece_hybrid": both["ece"]}
    figures |= {"valid_base": 100 * results["models"][base]["generate"]["valid"]}
    p = {(pair["a"], pair["b"]): pair["p"] for pair in results["mcnemar"]}
    own = results["models"][best]["score"]["accuracy"]
    figures["noise"] = among_settings(results["mcnemar"], list(results["hybrid"]))
    hybrid = f"{best} + svm"
    for verdict_name, p_name, pair, ahead in (
        ("verdict", "verdict_p", (best, "tfidf_svm"), own - svm["accuracy"]),
        ("hybrid_verdict", "hybrid_p", (hybrid, "tfidf_svm"), both["accuracy"] - svm["accuracy"]),
        ("hybrid_over_model", "hybrid_over_model_p", (hybrid, best), both["accuracy"] - own),
    ):
        figures |= {verdict_name: in_words(p[pair], ahead), p_name: p_words(p[pair])}
    figures["earned"] = {
        "is better than": "earns its cost",
        "is worse than": "does not earn its cost",
    }.get(figures["verdict"], "has not been shown to earn its cost")
    return figures


def among_settings(tests: list[dict], settings: list[str]) -> str:
    """A sentence on whether any two settings differ, by Holm's first step over all their pairs.

    Args:
        tests: see `pair_tests`; pairs with anything else than settings are ignored.
        settings: names. Two seeds of one setting are no pair, for they differ by chance alone.
    """
    own = {name: without_seed(name) for name in settings}
    p = [
        test["p"]
        for test in tests
        if {test["a"], test["b"]} <= own.keys() and own[test["a"]] != own[test["b"]]
    ]
    if not p:
        return "Only one setting takes part, so there is none to compare it with."
    differ = "at least one difference" if min(p) * len(p) <= 0.05 else "no difference"
    tested = f"{len(p)} pairs, Holm's correction" if len(p) > 1 else "one pair"
    return f"Between the settings, {differ} is significant at 5 % ({tested})."


def in_per_cent(name: str, value: dict) -> dict:
    """An accuracy and its interval as name, name_low and name_high, in per cent."""
    shares = (value["accuracy"], *value["ci95"])
    names = (name, f"{name}_low", f"{name}_high")
    return {key: 100 * share for key, share in zip(names, shares)}


def in_words(p: float, ahead: float) -> str:
    """A verdict in words at the 5 % level, from McNemar's p and the difference of accuracies."""
    if p > 0.05:
        return "cannot be told apart from"
    return "is better than" if ahead > 0 else "is worse than"


def p_words(p: float) -> str:
    """A p value for a sentence: "p = 0.012", but "p < 0.001" for anything below, as no p is 0."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def reading(base: dict, rows: list[dict]) -> dict:
    """What the untouched model's answers tell about its knowledge, compared with guessing.

    Args:
        base: its accuracy by mode, "generate" and "score" among them; see metrics.accuracy.
        rows: those that it was asked about, with their options.

    Returns:
        "chance" (per cent right by guessing), and "reading", what the answers tell in words.
    """
    chance = float(np.mean([1 / len(row["category"]) for row in rows]))
    low, high = base["score"]["ci95"]
    written_low, written_high = base["generate"]["ci95"]
    if low > written_high and low > chance:
        words = "it knows more than its free answers show"
    elif low > chance and written_low > chance:
        words = "its free answers show what it knows, as far as these rows can tell"
    elif low > chance:
        words = (
            "it knows something, and these rows are too few to tell whether its free answers show "
            "less of it"
        )
    elif written_low > chance:
        words = "it knows something, which its free answers show and its scores do not"
    elif high < chance:
        words = "by its scores it does worse than guessing"
    else:
        words = "its scores cannot be told from guessing"
    return {"chance": 100 * chance, "reading": words}


def study_intervals() -> dict:
    """What ten rows can say: the study's claim with its intervals, in per cent, and p in words."""
    *rights, n = STUDY
    before, after = ([True] * right + [False] * (n - right) for right in rights)
    figures = in_per_cent("study_before", metrics.accuracy(before))
    figures |= in_per_cent("study_after", metrics.accuracy(after))
    return figures | {"study_rows": n, "study_p": p_words(metrics.mcnemar_p(after, before))}
