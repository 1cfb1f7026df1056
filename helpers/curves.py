"""What the log of a training says in figures, and which of its steps a learning curve keeps."""

import pandas as pd


def curve_steps(total: int) -> tuple[int, ...]:
    """Steps whose adapters make a learning curve: 1/32, 1/16, … 1/2 and all of the training.

    Args:
        total: optimizer steps of the training.
    """
    return tuple(sorted({max(1, round(total / part)) for part in (32, 16, 8, 4, 2, 1)}))


def run_figures(log: pd.DataFrame, lengths: list[int], rows_per_step: int, val_rows: int) -> dict:
    """The figures of a training that its page quotes.

    Args:
        log: see training.read_log.
        lengths: tokens of each training row.
        rows_per_step: rows an optimizer step sees.
        val_rows: rows that val was looked at with.

    Returns:
        "first_loss", "last_loss" (mean of the last five), "row_tokens", "tokens_a_second" and
        "val_accuracy" in per cent (each nan where the log lacks it), and the sentence "val_words".
    """
    nan, loss = float("nan"), log["loss"].dropna()
    share = log["eval_seq_acc"].dropna()
    speed = log.get("train_speed(s/it)", pd.Series(dtype=float)).dropna()
    tokens = sum(lengths) / len(lengths)
    words = "Val was not asked for whole answers in this run."
    if len(share):
        words = (
            f"At the end {100 * share.iloc[-1]:.0f} % of the {val_rows} validation answers "
            f"were right{'' if 'eval_acc' in log else ', token for token'}."
        )
    return {
        "first_loss": float(loss.iloc[0]) if len(loss) else nan,
        "last_loss": float(loss.tail(5).mean()) if len(loss) else nan,
        "row_tokens": tokens,
        "tokens_a_second": float(rows_per_step * tokens / speed.iloc[-1]) if len(speed) else nan,
        "val_accuracy": float(100 * share.iloc[-1]) if len(share) else nan,
        "val_words": words,
    }
