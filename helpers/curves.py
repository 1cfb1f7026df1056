"""How a training went: the figures of its log, and how accurate the model was after parts of it."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import metrics
from helpers.adapters import PROMPT, read_prompt
from helpers.entrants import Entrant

CURVE_ROWS = 400
"""Most test rows that the adapters of a learning curve are asked about."""


def curve_steps(total: int) -> tuple[int, ...]:
    """Steps whose adapters make a learning curve: 1/32, 1/16, … 1/2 and all of the training.

    Args:
        total: optimizer steps of the training.
    """
    return tuple(sorted({max(1, round(total / part)) for part in (32, 16, 8, 4, 2, 1)}))


def rows_read(steps: int, rows_per_step: int, train_rows: int) -> int:
    """How many rows a training reads in so many steps; a row counts each time that it is read.

    The last step of an epoch reads only what is left: no step reaches over into the next epoch.

    Args:
        steps: of the optimizer.
        rows_per_step: the most rows that a step sees.
        train_rows: how many training rows there are.
    """
    epochs, further = divmod(steps, math.ceil(train_rows / rows_per_step))
    return epochs * train_rows + further * rows_per_step


def run_figures(
    log: pd.DataFrame, lengths: list[int], rows_per_step: int, steps: int, val_rows: int
) -> dict:
    """The figures of a training that its page quotes.

    Args:
        log: see training_log.read_log.
        lengths: tokens of each training row.
        rows_per_step: the most rows that an optimizer step sees.
        steps: of the whole training.
        val_rows: how many validation rows the training looked at.

    Returns:
        "rows_seen" (see `rows_read`), "first_loss", "last_loss" (mean of the last five),
        "row_tokens", "tokens_a_second" and "val_accuracy" in per cent (each nan where the log lacks
        it), and the sentence "val_words".
    """
    seen = rows_read(steps, rows_per_step, len(lengths))
    nan, loss = float("nan"), log["loss"].dropna()
    share = log["eval_seq_acc"].dropna()
    speed = log.get("train_speed(s/it)", pd.Series(dtype=float)).dropna()
    tokens = sum(lengths) / len(lengths)
    words = "Val was not asked for whole answers in this run."
    head = "eval_acc" in log  # a classification head, which writes no answer
    if len(share):
        words = (
            f"After the last step {100 * share.iloc[-1]:.0f} % of the {val_rows} validation "
            f"answers were right{'' if head else ', token for token'}."
        )
    later = "How well it answers" + ("" if head else " freely")
    words += f" {later} is for chapter 5 to say, on rows that no choice was based on."
    return {
        "rows_seen": seen,
        "first_loss": float(loss.iloc[0]) if len(loss) else nan,
        "last_loss": float(loss.tail(5).mean()) if len(loss) else nan,
        "row_tokens": tokens,
        "tokens_a_second": float(seen / steps * tokens / speed.iloc[-1]) if len(speed) else nan,
        "val_accuracy": float(100 * share.iloc[-1]) if len(share) else nan,
        "val_words": words,
    }


def curve_folders(entrant: Entrant) -> dict[int, Path]:
    """The folders of adapters that a training kept on its way, by step; empty if it kept none.

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
    """Accuracy after parts of a training: the model's, and that of an SVM on as many rows.

    It is not recorded which rows the model has read by a step, so the SVM learns from the first
    rows of the training file, from as many of them. This is also so for a setting with balanced
    classes.

    Args:
        entrant: a trained setting.
        log: of its training; its "epoch" says how many steps an epoch has.
        train: all training rows.
        test: rows to judge by; the first CURVE_ROWS of them are asked.
        ask: takes a folder's name, an entrant and rows, and returns the answers, which it keeps.
        svm: takes rows to learn from and rows to answer, and returns the answers of an SVM.

    Returns:
        For each step "step", "rows", "accuracy", "ci95", "n", "svm" (share right, or None).
    """
    points, rows = [], test[:CURVE_ROWS]
    for step, folder in curve_folders(entrant).items():
        early = Entrant(entrant.name, read_prompt(folder), folder)
        lines = ask(f"{entrant.name}/step-{step}", early, rows)
        count = rows_until(log, step, len(train))
        share = share_right(rows, svm(train[:count], rows))
        own = metrics.accuracy(metrics.correct(lines, "score"))
        points.append({"step": step, "rows": count, "svm": share} | own)
    return points


def rows_until(log: pd.DataFrame, step: int, train_rows: int) -> int:
    """How many different rows a training has read by a step.

    Where rows were drawn with balanced classes, a row counts each time that it was read.

    Args:
        log: of the training; columns step and epoch.
        step: an optimizer step.
        train_rows: how many training rows there are.
    """
    if "epoch" not in log or not len(log):
        return train_rows
    last = log.loc[log["step"].idxmax()]
    # an epoch's last step reads only what is left, so the epoch is no exact share of the rows
    steps_an_epoch = max(1, round(last["step"] / last["epoch"]))
    return min(rows_read(step, math.ceil(train_rows / steps_an_epoch), train_rows), train_rows)


def val_curve(
    log: pd.DataFrame,
    train: list[dict],
    val: list[dict],
    svm: Callable[[list[dict], list[dict]], list[str] | None],
) -> list[dict]:
    """Like `learning_curve`, but from the evaluations on val that a training makes anyway.

    Args:
        log: of the training.
        train: all training rows.
        val: the validation rows that the training looked at; see entrants.rows_judged.
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
    if not answers:
        return None
    return float(np.mean([a == row["output"] for a, row in zip(answers, rows)]))


def curve_frame(points: list[dict]) -> pd.DataFrame:
    """A learning curve as plotting.rows_read draws it; see `learning_curve`."""
    frame = pd.DataFrame(points, columns=["step", "rows", "accuracy", "ci95", "n", "svm"])
    bounds = np.array(frame["ci95"].to_list() or np.empty((0, 2)))  # points × 2
    return frame.assign(low=bounds[:, 0], high=bounds[:, 1])
