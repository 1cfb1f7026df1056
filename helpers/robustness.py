"""Robustness: whether answers stay the same when a row changes in what should not matter."""

from itertools import compress

import numpy as np
import pandas as pd

from helpers import metrics
from helpers.comparison import predictions, share_table
from helpers.headers import strip_header


def stripped(row: dict) -> dict:
    """The row without the header that an archive put before its article."""
    return row | {"text": strip_header(row["text"])}


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
