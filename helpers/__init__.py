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
    """Something the reader gave is wrong: the message says in one line what it is and what to do
    about it. Nothing inherits from it, for of a notebook's error only the name is known.
    """

    def _render_traceback_(self) -> list[str]:
        """IPython shows this in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


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
