"""An adapter at work: how it is asked, and how its probabilities are read."""

from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import InputError, models
from helpers.adapters import adapter_digest, read_prompt
from helpers.decision import TARGETS, option_probabilities, read_decision
from helpers.files import below_root
from helpers.headers import strip_header
from helpers.hybrid import ARRAYS, combine, load_linear, option_margins
from helpers.probing import option_logprobs
from helpers.settings import best_adapter

METHODS = ("hybrid", "model")
TARGET = 0.1
"""The share of wrong answers that is allowed by default."""


class Classifier:
    """An adapter at work: how it is asked, and how its probabilities are read.

    Args:
        adapter: its folder, below the project's root unless absolute; None for the best on val of
            the newest run.
        method: "hybrid" (model and linear classifier together) or "model"; None takes the hybrid
            where chapter 05 has left one.
        target: the allowed share of wrong answers among those that nobody checks.

    Raises:
        InputError: when the folder holds no adapter, the hybrid is named but missing, or the method
            or the target is unknown.
    """

    def __init__(
        self, adapter: Path | str | None = None, method: str | None = None, target: float = TARGET
    ):
        self.adapter = best_adapter() if adapter is None else below_root(adapter)
        if not self.adapter.is_dir():
            raise InputError(f"{adapter}: no such folder; give an adapter's, or none for the best")
        self.digest = adapter_digest(self.adapter)
        self.prompt = read_prompt(self.adapter)
        if target not in TARGETS:
            known = ", ".join(f"{value:g}" for value in TARGETS)
            raise InputError(f"target {target!r} is unknown; chapter 05 learns {known}")
        if method not in (None, *METHODS):
            raise InputError(f"method {method!r} is unknown; there are: {', '.join(METHODS)}")
        self.target = target
        self.decision = read_decision(self.adapter)
        learned = bool(self.decision and self.decision["hybrid"])
        both = learned and (self.adapter / ARRAYS).is_file()
        if method == "hybrid" and not both:
            raise InputError(
                f"{self.adapter} has no hybrid: chapter 05 learns it; or say method model"
            )
        usual = "hybrid" if both else "model"
        self.method = method or usual
        self.otherwise = [f"{target:g}"] if target != TARGET else []
        self.otherwise += [self.method] if self.method != usual else []
        """Target and method, each only where it differs from the default."""
        self.linear = load_linear(self.adapter) if self.method == "hybrid" else None

    @cached_property
    def tokenizer(self):
        """The base model's tokenizer."""
        return models.load_tokenizer(self.prompt.model)

    @cached_property
    def model(self):
        """The base model with the adapter merged in, loaded when it is first asked."""
        attention = models.pick_attention(self.prompt.prompt_format.max_length)
        return models.load_model(self.prompt.model, self.adapter, attention=attention)

    @property
    def learned(self) -> dict | None:
        """What chapter 05 learned for this method and target: threshold, rows_needed, …"""
        if not self.decision:
            return None
        return self.decision[self.method]["targets"].get(f"{self.target:g}")

    @property
    def threshold(self) -> float | None:
        """The probability from which nobody needs to check an answer; None if none is promised."""
        return self.learned["threshold"] if self.learned else None

    def probabilities(self, rows: list[dict], logprobs: list) -> list[np.ndarray]:
        """For each row, the probabilities of its options.

        Args:
            rows: with "text" and "category".
            logprobs: for each row, the log-probability (nats) of each of its options.
        """
        if self.method == "hybrid":
            weights = self.decision["hybrid"]["weights"]
            return combine(weights, logprobs, option_margins(self.linear, rows))
        temperature = self.decision["model"]["temperature"] if self.decision else 1.0
        return option_probabilities(logprobs, temperature)

    def ask(self, rows: list[dict]) -> list[list[float]]:
        """For each row, the log-probability (nats) of each of its options.

        Args:
            rows: with "text" and "category".
        """
        return option_logprobs(self.model, self.tokenizer, self.prompt.prompt_format, rows)

    def article(self, text: str) -> str:
        """An article as the adapter learned to read it, without its header if it never saw one.

        Args:
            text: the article as it came.
        """
        return strip_header(text) if self.prompt.strip_header else text

    def answer(self, text: str, options: list[str] | None = None) -> pd.Series:
        """The probabilities of an article's options, the likeliest first.

        Args:
            text: the article.
            options: what may be answered; None for the adapter's labels.
        """
        text = self.article(text)
        row = {"id": "article", "text": text, "category": list(options or self.prompt.labels)}
        probabilities = self.probabilities([row], self.ask([row]))[0]
        table = pd.Series(probabilities, index=row["category"], name="probability")
        return table.sort_values(ascending=False, kind="stable")

    def about(self, menus: tuple[int, int] | None = None) -> str:
        """How `look` is decided, in one line for the reader.

        Args:
            menus: the fewest and the most options of the rows to answer, where they are known.
        """
        if not self.decision:
            return (
                "look stays empty where there is an answer: chapter 05 has not learned from which "
                "probability on one of this adapter may go out"
            )
        if not self.learned:
            return f"look is set on every row: chapter 05 learned nothing for {self.target:g}"
        if self.threshold is None:
            return (
                f"look is set on every row: val is too small, or too often answered wrong, to "
                f"promise at most {100 * self.target:g} % of errors; "
                f"{self.learned['rows_needed'] or 'no number of'} rows would do"
            )
        return (
            f"look is set below a probability of {self.threshold:.3f}: of answers above it at most "
            f"{100 * self.target:g} % should be wrong, as learned on val"
            f"{self.doubt()}{self.wider(menus)}"
        )

    def doubt(self) -> str:
        """A clause for `about` if the rows that a promise was learned on differ from test rows."""
        if self.learned.get("on_test") is None:
            return ""
        return (
            f"; {100 * self.learned['share']:.0f} % of val rows reach it and "
            f"{100 * self.learned['on_test']:.0f} % of test rows, so val is not like other rows, "
            "and more of them may be wrong"
        )

    def wider(self, menus: tuple[int, int] | None) -> str:
        """A clause for `about` if rows offer more options than those that a promise was learned on.

        Args:
            menus: see `about`.
        """
        known = self.decision[self.method].get("menus")
        if not known or not menus or menus[1] <= known[1]:
            return ""
        learned, these = (f"{a}" if a == b else f"{a} to {b}" for a, b in (known, menus))
        return (
            f"; this was learned on rows of {learned} options, and these have {these}, "
            "so more of them may be wrong"
        )
