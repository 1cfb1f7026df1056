"""Both together: a linear classifier that reads whole articles, and a model that reads 200 tokens.

The two err on different rows. A conditional logit over a row's options weighs the model's
log-probability and the linear margin; its probabilities are calibrated by how it is fitted.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import InputError, one_line
from helpers.files import write_json

ARRAYS, WORDS = "linear.npz", "linear.json"
RIDGE = 1e-4
"""Penalty on the squared weights: keeps them finite where a few rows are told apart perfectly."""
UNSEEN = 1.0
"""How far below a row's lowest margin an option stands that training never saw."""


@dataclass(frozen=True)
class LinearModel:
    """TF-IDF over characters and their pairs with a linear classifier, as plain arrays."""

    classes: list[str]
    vocabulary: dict[str, int]
    idf: np.ndarray
    """One number a feature."""
    weights: np.ndarray
    """classes × features."""
    intercepts: np.ndarray
    """One number a class."""

    @cached_property
    def vectorizer(self):
        """scikit-learn's own counting and weighting, given what was learned."""
        vectorizer = new_vectorizer(vocabulary=self.vocabulary)
        vectorizer.idf_ = self.idf
        return vectorizer

    def margins(self, texts: Iterable[str], at_once: int = 512) -> np.ndarray:
        """Signed distances to each class's plane.

        Args:
            texts: whole articles; a generator is fine.
            at_once: how many are counted together.

        Returns:
            texts × classes.
        """
        parts, batch = [], []
        for text in texts:
            batch.append(text)
            if len(batch) == at_once:
                parts.append(self.batch_margins(batch))
                batch = []
        parts += [self.batch_margins(batch)] if batch else []
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)))

    def batch_margins(self, texts: list[str]) -> np.ndarray:
        """`margins` of texts that are counted together."""
        features = self.vectorizer.transform(texts)  # texts × features, sparse
        return np.asarray(features @ self.weights.T) + self.intercepts


def new_vectorizer(vocabulary: dict[str, int] | None = None):
    """How texts are counted: characters and their pairs, sublinear, weighted by rarity."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        analyzer="char", ngram_range=(1, 2), sublinear_tf=True, vocabulary=vocabulary
    )


def fit_linear(texts: list[str], labels: list[str]) -> LinearModel:
    """A linear support vector machine on whole articles.

    Args:
        texts: to learn from.
        labels: of them; two classes at least.

    Raises:
        InputError: when there is one class only.
    """
    from sklearn.svm import LinearSVC

    if len(set(labels)) < 2:
        raise InputError("a linear classifier needs rows of two classes at least")
    vectorizer = new_vectorizer()
    features = vectorizer.fit_transform(texts)
    machine = LinearSVC(random_state=0).fit(features, labels)  # it visits rows in random order
    weights, intercepts = machine.coef_, machine.intercept_
    if len(machine.classes_) == 2:  # one plane between two classes
        weights, intercepts = np.concatenate([-weights, weights]), np.r_[-intercepts, intercepts]
    vocabulary = {word: int(place) for word, place in vectorizer.vocabulary_.items()}
    classes = [str(name) for name in machine.classes_]
    return LinearModel(classes, vocabulary, vectorizer.idf_, weights, intercepts)


def save_linear(model: LinearModel, folder: Path) -> None:
    """Keep a linear classifier in a folder: arrays, and words as JSON; nothing that runs.

    Args:
        model: to be kept.
        folder: gets linear.npz and linear.json.
    """
    scratch = folder / f".{ARRAYS}.npz"
    arrays = {"idf": model.idf, "weights": model.weights, "intercepts": model.intercepts}
    np.savez_compressed(scratch, **{name: a.astype(np.float32) for name, a in arrays.items()})
    scratch.replace(folder / ARRAYS)
    words = sorted(model.vocabulary, key=model.vocabulary.__getitem__)
    write_json(folder / WORDS, {"classes": model.classes, "words": words})


def load_linear(folder: Path) -> LinearModel:
    """The linear classifier that `save_linear` left in a folder.

    Args:
        folder: with linear.npz and linear.json.

    Raises:
        InputError: when one is missing or damaged.
    """
    try:
        words = json.loads((folder / WORDS).read_text(encoding="utf-8"))
        with np.load(folder / ARRAYS, allow_pickle=False) as kept:
            arrays = {name: kept[name].astype(np.float64) for name in kept.files}
        vocabulary = {word: place for place, word in enumerate(words["words"])}
        model = LinearModel(words["classes"], vocabulary, **arrays)
        if model.weights.shape != (len(model.classes), len(vocabulary)):
            raise ValueError("its parts do not fit together")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"no sound linear classifier in {folder} ({one_line(error)}); "
            "chapter 05 writes it beside the adapter"
        ) from None
    return model


def option_margins(model: LinearModel, rows: list[dict]) -> list[np.ndarray]:
    """For each row one margin an option, in the row's order.

    Args:
        model: see `fit_linear`.
        rows: with "text" and "category". An option that training never saw stands below the row's
            others.
    """
    places = {name: place for place, name in enumerate(model.classes)}
    margins = []
    for row, values in zip(rows, model.margins(row["text"] for row in rows)):
        known = [values[places[o]] if o in places else np.nan for o in row["category"]]
        lowest = np.nanmin(known) if not np.all(np.isnan(known)) else 0.0
        margins.append(np.nan_to_num(np.array(known), nan=lowest - UNSEEN))
    return margins


def fit_weights(logprobs: list, margins: list, places: list[int]) -> dict:
    """What a nat and a unit of margin are worth: a conditional logit over each row's options.

    Rows with one option say nothing and are left out. A small ridge keeps the weights finite where
    few rows are told apart perfectly; without any row that says something both weigh the same.

    Args:
        logprobs: for each row, nats of each of its options.
        margins: for each row, the linear margin of each.
        places: for each row, the place of its label among its options.

    Returns:
        "logprob" and "margin", the weights, and "n", the rows they rest on.
    """
    from statsmodels.discrete.conditional_models import ConditionalLogit

    told = [i for i, values in enumerate(logprobs) if len(values) > 1]
    if not told:
        return {"logprob": 1.0, "margin": 1.0, "n": 0}
    features = [np.column_stack([logprobs[i], margins[i]]) for i in told]
    table = np.concatenate(features)
    groups = np.repeat(np.arange(len(told)), [len(part) for part in features])
    label = np.concatenate([np.arange(len(part)) == places[i] for i, part in zip(told, features)])
    scale = np.maximum(table.std(axis=0), 1e-9)  # so that the ridge falls on both alike
    logit = ConditionalLogit(label.astype(float), table / scale, groups=groups)
    fitted = minimised(logit, len(told)) / scale
    return {"logprob": float(fitted[0]), "margin": float(fitted[1]), "n": len(told)}


def minimised(logit, rows: int) -> np.ndarray:
    """The weights with the least penalised negative log-likelihood of a conditional logit."""
    from scipy.optimize import minimize

    def loss(weights):
        return -logit.loglike(weights) / rows + RIDGE * weights @ weights

    def slope(weights):
        return -logit.score(weights) / rows + 2 * RIDGE * weights

    return minimize(loss, np.zeros(2), jac=slope, method="L-BFGS-B", bounds=[(0, None)] * 2).x


def combine(weights: dict, logprobs: list, margins: list) -> list[np.ndarray]:
    """For each row the probabilities of its options, both classifiers weighed.

    Args:
        weights: see `fit_weights`.
        logprobs: for each row, nats of each of its options.
        margins: for each row, the linear margin of each.
    """
    from scipy.special import softmax

    return [
        softmax(weights["logprob"] * np.asarray(a) + weights["margin"] * np.asarray(b))
        for a, b in zip(logprobs, margins)
    ]


def cascade(margins: list, probabilities: list, places: list[int]) -> pd.DataFrame:
    """The linear classifier answers where it is sure, the model is asked for the rest.

    Args:
        margins: for each row, the linear margin of each option.
        probabilities: for each row, what the asked model (or the hybrid) gives each option.
        places: for each row, the place of its label among its options.

    Returns:
        A line for every number of rows that are asked, from none to all: threshold (the gap
        between best and second margin below which a row is asked), asked (share of rows that cost
        a forward pass) and accuracy.
    """
    gaps = [np.inf if len(m) < 2 else float(np.diff(np.sort(m)[-2:])[0]) for m in margins]
    order = np.argsort(gaps, kind="stable")  # the least sure first
    linear = np.array([int(np.argmax(m)) == place for m, place in zip(margins, places)])
    asked = np.array([int(np.argmax(p)) == place for p, place in zip(probabilities, places)])
    n = len(places)
    right = linear.sum() + np.r_[0, np.cumsum(asked[order].astype(int) - linear[order].astype(int))]
    thresholds = np.r_[0.0, np.asarray(gaps)[order]]
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "asked": np.arange(n + 1) / max(n, 1),
            "accuracy": right / max(n, 1),
        }
    )
