"""Files: written whole or not at all, and left alone when nothing would change."""

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from filecmp import cmp
from hashlib import file_digest, sha256
from pathlib import Path

from helpers import ROOT, InputError, one_line

DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""The exceptions that reading a damaged file may raise."""


def write_jsonl(path: Path | str, rows: Iterable[dict]) -> None:
    """Write one JSON object per line; see `write_text`.

    Args:
        path: the file.
        rows: the objects, in order; a generator is fine.
    """
    write_text(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_json(path: Path | str, value) -> None:
    """Write one JSON value, indented and with sorted keys; see `write_text`.

    Args:
        path: the file.
        value: anything that `json.dumps` takes.
    """
    write_text(path, [json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n"])


def write_text(path: Path | str, parts: Iterable[str]) -> None:
    """Write a text file that appears whole or not at all.

    A file that already holds the same text is left alone, so that nothing that depends on it is
    made again.

    Args:
        path: the file; missing folders above it are made.
        parts: the text, piece by piece.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with when_changed(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        file.writelines(parts)


@contextmanager
def when_changed(path: Path) -> Iterator[Path]:
    """A scratch file that takes a file's place when the block ends, unless both hold the same.

    If the block raises an error, the file stays as it was.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield scratch
        if not (path.is_file() and cmp(scratch, path, shallow=False)):
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def digest(*paths: Path) -> str:
    """SHA-256 of the contents of files, one after the other, in hexadecimal digits.

    Args:
        *paths: of the files.
    """
    content = sha256()
    for path in paths:
        with path.open("rb") as file:
            file_digest(file, lambda: content)
    return content.hexdigest()


def replace_folder(scratch: Path, target: Path) -> None:
    """Put a finished folder in the place of another, which is set aside first and then deleted.

    Args:
        scratch: the new folder, beside the target.
        target: its place, where another folder may be.
    """
    old = set_aside(target)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    scratch.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def set_aside(folder: Path) -> Path:
    """The path at which an old folder lies while a new one takes its place."""
    return folder.with_name(f".{folder.name}.replaced")


def save_model(network, tokenizer, folder: Path) -> None:
    """Save a model with its tokenizer, in files that are as readable as other new files.

    Args:
        network: a model of transformers.
        tokenizer: the model's.
        folder: where the files go.

    Raises:
        OSError: when they cannot be written, for instance because the disk is full.
    """
    from safetensors import SafetensorError

    try:
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except Exception as error:
        if type(error) not in (SafetensorError, Exception):  # tokenizers raises a bare Exception
            raise
        raise OSError(errno.EIO, one_line(error)) from None
    give_usual_mode(folder)


def give_usual_mode(folder: Path) -> None:
    """Give a folder's safetensors files the mode of new files.

    The library safetensors lets only their owner read them.

    Args:
        folder: of a model or an adapter.
    """
    mask = os.umask(0o077)  # the only way to read the mask is to set it
    os.umask(mask)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o666 & ~mask)


def read_json(path: Path):
    """The value that a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_jsonl(path: Path | str) -> list[dict]:
    """The objects of a file that this project wrote, one per line.

    Args:
        path: the file. Lines end at "\\n" only: Unicode's other line ends may stand inside a text.

    Raises:
        InputError: when a line is not JSON; the message names the line.
    """
    rows = []
    with Path(path).open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise InputError(f"{path} line {number}: invalid JSON ({error.msg})") from None
    return rows


def below_root(name: Path | str) -> Path:
    """The path that a reader means: below the project's root unless absolute; ~ is the home folder.

    Args:
        name: as the reader gives it.

    Raises:
        InputError: for what cannot be a path, such as a name that is too long.
    """
    if "\0" in str(name):
        raise InputError(f"{str(name)[:60]!r}: no file has such a name")
    path = ROOT / os.path.expanduser(name)  # "~$my.xlsx" names no home folder and stays as it is
    try:
        path.exists()
    except OSError as error:
        raise InputError(f"{str(name)[:60]!r}: {error.strerror}; give another file") from None
    return path


def from_here(name: str) -> str:
    """The name of a file or folder to read, as `below_root` takes it.

    What is found from the current folder becomes an absolute path; any other name stays as it is.

    Args:
        name: as a reader gives it on a command line; ~ is the home folder.
    """
    path = Path(os.path.expanduser(name))
    with suppress(OSError):  # what cannot be a path is refused later, where it is read
        return str(path.absolute()) if path.exists() else name
    return name


def from_root(path: Path) -> str:
    """A path, relative to the project's root if it lies below, so that moving the project changes
    nothing.
    """
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def need(path: Path | str, notebook: str) -> Path:
    """Return the path if a file or folder is there.

    Args:
        path: of the file or folder.
        notebook: the chapter that makes it, such as "01-dataset-exploration".

    Raises:
        InputError: when nothing is there; the message names the chapter.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(
            f"{from_root(path)} is missing: notebooks/{notebook}.ipynb makes it; "
            "`make book` runs all in order"
        )
    return path
