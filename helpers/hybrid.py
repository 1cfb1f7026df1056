"""The hybrid: a linear classifier that reads whole articles, and a model that reads part of each.

The two make mistakes on different rows. A conditional logit over a row's options weighs the model's
log-probability and the linear margin; its probabilities are calibrated by the way it is fitted.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from tqdm import tqdm

from helpers import InputError, one_line
from helpers.files import DAMAGE, read_json, when_changed, write_json

ARRAYS, WORDS = "linear.npz", "linear.json"
PRIOR = 2.5
"""The expected standard deviation of a weight whose feature is scaled to one: the usual weak prior
(Gelman et al. 2008). It keeps weights small where a few rows are separated perfectly, and counts
less the more rows there are.
"""
UNSEEN = 1.0
"""How far an option that training never saw is placed below the lowest margin of its row."""


@dataclass(frozen=True)
class LinearModel:
    """A linear classifier over the TF-IDF of characters and their pairs, as plain arrays."""

    classes: list[str]
    vocabulary: dict[str, int]
    idf: np.ndarray
    """One number for each feature."""
    weights: np.ndarray
    """classes × features."""
    intercepts: np.ndarray
    """One number for each class."""

    @cached_property
    def vectorizer(self):
        """scikit-learn's vectorizer, with the vocabulary and the weights that were learned."""
        vectorizer = new_vectorizer(vocabulary=self.vocabulary)
        vectorizer.idf_ = self.idf
        return vectorizer

    def margins(self, texts: Iterable[str], at_once: int = 512) -> np.ndarray:
        """Signed distances to each class's plane.

        Args:
            texts: whole articles; a generator is fine.
            at_once: how many texts are counted together.

        Returns:
            texts × classes.
        """
        texts, parts = iter(texts), [np.empty((0, len(self.classes)))]
        while batch := list(islice(texts, at_once)):
            features = self.vectorizer.transform(batch)  # texts × features, sparse
            parts.append(np.asarray(features @ self.weights.T) + self.intercepts)
        return np.concatenate(parts)


def new_vectorizer(vocabulary: dict[str, int] | None = None):
    """A vectorizer that counts characters and their pairs, sublinearly, weighted by rarity."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        analyzer="char", ngram_range=(1, 2), sublinear_tf=True, vocabulary=vocabulary
    )


def fit_linear(texts: list[str], labels: list[str]) -> LinearModel:
    """A linear support vector machine on whole articles.

    Args:
        texts: to learn from.
        labels: of these texts, of at least two classes.

    Raises:
        InputError: when there is only one class, or no text at all.
    """
    from sklearn.svm import LinearSVC

    if len(set(labels)) < 2:
        raise InputError("a linear classifier needs rows of two classes at least")
    if not any(text.strip() for text in texts):
        raise InputError("a linear classifier needs rows with text, and all of these are empty")
    vectorizer = new_vectorizer()
    counted = tqdm(texts, desc="counting characters", unit="article", mininterval=2, delay=5)
    features = vectorizer.fit_transform(counted)
    machine = LinearSVC(random_state=0).fit(features, labels)  # it visits rows in random order
    weights, intercepts = machine.coef_, machine.intercept_
    if len(machine.classes_) == 2:  # two classes share one plane
        weights, intercepts = np.concatenate([-weights, weights]), np.r_[-intercepts, intercepts]
    vocabulary = {word: int(place) for word, place in vectorizer.vocabulary_.items()}
    classes = [str(name) for name in machine.classes_]
    return LinearModel(classes, vocabulary, vectorizer.idf_, weights, intercepts)


def save_linear(model: LinearModel, folder: Path) -> None:
    """Save a linear classifier in a folder as arrays and JSON, which cannot run any code.

    A file that already holds the same is left alone.

    Args:
        model: to be kept.
        folder: gets linear.npz and linear.json.
    """
    folder = Path(folder)
    arrays = {"idf": model.idf, "weights": model.weights, "intercepts": model.intercepts}
    with when_changed(folder / ARRAYS) as scratch, scratch.open("wb") as file:
        np.savez_compressed(file, **{name: a.astype(np.float32) for name, a in arrays.items()})
    words = sorted(model.vocabulary, key=model.vocabulary.__getitem__)
    write_json(folder / WORDS, {"classes": model.classes, "words": words})


def load_linear(folder: Path) -> LinearModel:
    """The linear classifier that `save_linear` left in a folder.

    Args:
        folder: with linear.npz and linear.json.

    Raises:
        InputError: when one is missing or damaged.
    """
    folder = Path(folder)
    try:
        content = read_json(folder / WORDS)
        classes, words = content["classes"], content["words"]
        with np.load(folder / ARRAYS, allow_pickle=False) as stored:
            names = ("idf", "weights", "intercepts")
            arrays = {name: stored[name].astype(np.float64) for name in names}
        check_parts(classes, words, arrays)
    except (*DAMAGE, EOFError, NotImplementedError, BadZipFile, zlib.error) as error:
        raise InputError(
            f"no sound linear classifier in {folder} ({one_line(error)}); "
            "chapter 05 writes it beside the adapter"
        ) from None
    return LinearModel(classes, {word: place for place, word in enumerate(words)}, **arrays)


def check_parts(classes: list[str], words: list[str], arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError unless names are distinct strings and arrays fit them and are finite."""
    for names in (classes, words):
        strings = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not strings or len(set(names)) < len(names):
            raise ValueError("its names are not distinct strings")
    shapes = {"idf": (len(words),), "intercepts": (len(classes),)}
    shapes["weights"] = (len(classes), len(words))
    if any(arrays[name].shape != shape for name, shape in shapes.items()):
        raise ValueError("its parts do not fit together")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("not all of its numbers are finite")


def option_margins(model: LinearModel, rows: list[dict]) -> list[np.ndarray]:
    """For each row, the margin of each of its options, in the row's order.

    Args:
        model: see `fit_linear`.
        rows: with "text" and "category". An option that training never saw is placed below the
            others of its row.
    """
    places = {name: place for place, name in enumerate(model.classes)}
    margins = []
    for row, values in zip(rows, model.margins(row["text"] for row in rows)):
        row_margins = [values[places[o]] if o in places else np.nan for o in row["category"]]
        lowest = np.nanmin(row_margins) if not np.all(np.isnan(row_margins)) else 0.0
        margins.append(np.nan_to_num(np.array(row_margins), nan=lowest - UNSEEN))
    return margins


def fit_weights(logprobs: list, margins: list, places: list[int]) -> dict:
    """The weights of a nat and of a unit of margin in a conditional logit over each row's options.

    Rows with one option carry no information and are left out; if no row has more, both halves
    weigh the same. A weak prior (see PRIOR) keeps the weights sound where rows are few or separated
    perfectly. No weight is negative: neither half can speak against its own answer.

    Args:
        logprobs: for each row, the log-probability (nats) of each of its options.
        margins: for each row, the linear margin of each.
        places: for each row, the place of its label among its options.

    Returns:
        The weights "logprob" and "margin", and "n", the number of rows that they rest on.
    """
    from statsmodels.discrete.conditional_models import ConditionalLogit

    several = [i for i, values in enumerate(logprobs) if len(values) > 1]
    if not several:
        return {"logprob": 1.0, "margin": 1.0, "n": 0}
    features = [np.column_stack([logprobs[i], margins[i]]) for i in several]  # options × 2 each
    # only differences within a row count, so only they tell how large a feature is
    spread = np.concatenate([part - part.mean(axis=0) for part in features])
    scale = np.sqrt((spread**2).mean(axis=0))
    scale[scale < 1e-9] = 1.0  # a constant feature: its weight will be 0
    groups = np.repeat(np.arange(len(several)), [len(part) for part in features])
    label = np.concatenate([np.arange(len(f)) == places[i] for i, f in zip(several, features)])
    logit = ConditionalLogit(label.astype(float), spread / scale, groups=groups)
    fitted = likeliest(logit, len(several)) / scale
    return {"logprob": float(fitted[0]), "margin": float(fitted[1]), "n": len(several)}


def likeliest(logit, rows: int) -> np.ndarray:
    """The likeliest weights of a conditional logit over so many rows, under a weak normal prior."""
    from scipy.optimize import minimize

    def loss(weights):
        return (weights @ weights / (2 * PRIOR**2) - logit.loglike(weights)) / rows

    def slope(weights):
        return (weights / PRIOR**2 - logit.score(weights)) / rows

    start = np.full(2, 0.1)
    return minimize(loss, start, jac=slope, method="L-BFGS-B", bounds=[(0, None)] * 2).x


def combine(weights: dict, logprobs: list, margins: list) -> list[np.ndarray]:
    """For each row, the probabilities of its options by both classifiers together.

    Args:
        weights: see `fit_weights`.
        logprobs: for each row, the log-probability (nats) of each of its options.
        margins: for each row, the linear margin of each.
    """
    from scipy.special import softmax

    return [
        softmax(weights["logprob"] * np.asarray(a) + weights["margin"] * np.asarray(b))
        for a, b in zip(logprobs, margins)
    ]


def cascade(margins: list, probabilities: list, places: list[int]) -> pd.DataFrame:
    """A cascade: the linear classifier answers where it is sure, the model is asked for the rest.

    Args:
        margins: for each row, the linear margin of each option.
        probabilities: for each row, what the asked model (or the hybrid) gives each option.
        places: for each row, the place of its label among its options.

    Returns:
        A line for each possible rule, from asking about no row to asking about all: threshold (the
        model is asked where the gap between best and second margin is smaller; infinity asks about
        all), asked (share of rows that cost a forward pass; a row with one option costs none) and
        accuracy.
    """
    gaps = np.array([np.diff(np.sort(m)[-2:])[0] if len(m) > 1 else np.inf for m in margins])
    linear = np.array([np.argmax(m) == place for m, place in zip(margins, places)], bool)
    model = np.array([np.argmax(p) == place for p, place in zip(probabilities, places)], bool)
    order = np.argsort(gaps, kind="stable")  # the least sure first
    # right answers gained, by the number of rows asked about
    gained = np.cumsum(np.r_[0, model[order].astype(int) - linear[order]])
    # rows with the same gap are asked together, so that each line is a rule one can follow
    thresholds = np.unique(np.r_[0.0, gaps, np.inf]) if len(places) else np.array([])
    rows_asked = np.searchsorted(gaps[order], thresholds, side="left")  # rows with a smaller gap
    right, n = linear.sum() + gained[rows_asked], max(len(places), 1)
    return pd.DataFrame({"threshold": thresholds, "asked": rows_asked / n, "accuracy": right / n})
