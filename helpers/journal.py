"""The answers given so far, kept so that an interrupted run can go on where it stopped."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from helpers import InputError


class Journal:
    """The answers so far: a header that says what they are about, then one line per row.

    Lines are added block by block.

    Args:
        path: of the journal.
        file: the same, locked and open for reading and writing.
    """

    def __init__(self, path: Path, file):
        self.path, self.file = path, file
        self.numbers: set[int] = set()

    def begin(self, header: dict) -> None:
        """Go on after the lines that are there.

        A last line that was cut off is removed, and so are all lines of a journal that is damaged
        or about something else. A file of articles that was moved counts as the same one.

        Args:
            header: what the journal is about; see `open_journal`.
        """
        self.file.seek(0)
        content = self.file.read()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            first, *lines = map(json.loads, whole.splitlines() or [b"null"])
            sound = first | {"file": None} == header | {"file": None}
            sound = sound and all("logprobs" in line or "note" in line for line in lines)
            self.numbers = {line["row"] for line in lines} if sound else set()
        except (ValueError, TypeError, KeyError):  # a crash of the machine may leave anything
            sound, self.numbers = False, set()
        whole = whole if sound else b""
        self.file.truncate(len(whole))
        self.file.seek(0, os.SEEK_END)
        if not whole:
            self.write([header])

    def write(self, lines: list[dict]) -> None:
        """Add lines; when this returns the system has all of them, and on a fault none of them."""
        end = self.file.seek(0, os.SEEK_END)
        left = "".join(json.dumps(line) + "\n" for line in lines).encode()
        try:
            while left:  # the file is not buffered, and a disk may take only a part
                left = left[self.file.write(left) :]
        except OSError as error:
            os.truncate(self.path, end)
            raise InputError(
                f"answers could not be written to {self.path.parent} ({error.strerror}); what was "
                "answered is kept: make room and run the same again"
            ) from None

    def read(self) -> Iterator[dict]:
        """The lines of rows, without the header."""
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                yield json.loads(line)


@contextmanager
def open_journal(folder: Path, key: str, about: dict, say: Callable) -> Iterator[Journal]:
    """The journal of one piece of work, locked against other processes.

    Args:
        folder: of the table.
        key: see classify.work_key.
        about: the file, how it is read, and the adapter. An interrupted run that is about the same
            but has another key is mentioned and forgotten: the file's content has changed, or the
            prompt, the base model or its precision.
        say: is given a line to show to the reader.
    """
    path = folder / f".answers-{key[:16]}.jsonl"
    for other in folder.glob(".answers-*.jsonl"):
        with suppress(OSError), other.open("r+b") as file:  # another user's may not be open to us
            same = file.readline() == (json.dumps(about) + "\n").encode()
            if same and other != path and lock(file):
                name = Path(about["file"]).name
                say(
                    f"{name} or how it is asked has changed since a run was interrupted; begun anew"
                )
                other.unlink()
    try:
        opened = path.open("a+b", buffering=0)
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}); remove it") from None
    with opened as file:
        if not lock(file):
            raise InputError(
                f"another process is answering the same file into {folder}; wait for it"
            )
        journal = Journal(path, file)
        journal.begin(about)
        yield journal


def lock(file) -> bool:
    """Lock a file until it is closed; False where another process has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True
