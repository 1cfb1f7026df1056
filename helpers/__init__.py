"""Helpers of the book's notebooks: each module holds one concern, each takes and returns plain
things.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The project's root: every relative path in a notebook's parameters starts here."""


class InputError(ValueError):
    """Something the reader gave is wrong: the message says in one line what it is and what to do
    about it.
    """

    def _render_traceback_(self) -> list[str]:
        """IPython shows this in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def one_line(error: Exception) -> str:
    """An exception's type and message on one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
