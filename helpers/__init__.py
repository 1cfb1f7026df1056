"""Helpers of the book's notebooks: each module holds one concern, each takes and returns plain
things.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
"""The project's root: every relative path in a notebook's parameters starts here."""


class InputError(ValueError):
    """Something that the reader gave is wrong: the message says in one line what, and what to do.

    No class inherits from it, because an error in a notebook is recognised by its name alone.
    """

    def _render_traceback_(self) -> list[str]:
        """IPython shows this in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class Fault(ValueError):
    """What is wrong with a value or a row.

    Args:
        reason: the kind of fault, as it is counted.
        detail: what is special about this case.
        raw: the row's columns, as far as they could be read.
    """

    def __init__(self, reason: str, detail: str = "", raw: dict | None = None):
        super().__init__(reason + detail)
        self.reason, self.detail, self.raw = reason, detail, raw


def one_line(error: Exception) -> str:
    """An exception's type and message on one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def leave(line: str) -> NoReturn:
    """End this process with one line of what went wrong, and status 1.

    Args:
        line: also goes to the file that BOOK_FAILURES names in the environment: who starts many
            processes can say it again when the last of them is done.
    """
    if listed := os.environ.get("BOOK_FAILURES"):
        with open(listed, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    sys.exit(line)
