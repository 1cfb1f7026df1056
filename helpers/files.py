"""Files that appear whole or not at all, and are not written when nothing would change."""

import errno
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from filecmp import cmp
from hashlib import file_digest, sha256
from pathlib import Path

from helpers import ROOT, InputError, one_line

DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a damaged file may end in."""


def write_jsonl(path: Path | str, rows: Iterable[dict]) -> None:
    """Write one JSON object a line; see `write_text`.

    Args:
        path: the file.
        rows: one object a line; a generator is fine.
    """
    write_text(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_json(path: Path | str, value) -> None:
    """Write one JSON value, indented, its keys sorted; see `write_text`.

    Args:
        path: the file.
        value: what `json.dumps` takes.
    """
    write_text(path, [json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n"])


def write_text(path: Path | str, parts: Iterable[str]) -> None:
    """Write a text file that appears whole or not at all.

    A file that holds the same already is left alone: what depends on it need not be made again.

    Args:
        path: the file; folders above it are made.
        parts: the text, piece by piece.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("w", encoding="utf-8", newline="") as file:
            file.writelines(parts)
        if not (path.is_file() and cmp(scratch, path, shallow=False)):
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def digest(*paths: Path) -> str:
    """SHA-256 of the contents of files, one behind the other, in hexadecimal digits.

    Args:
        *paths: of the files.
    """
    content = sha256()
    for path in paths:
        with path.open("rb") as file:
            file_digest(file, lambda: content)
    return content.hexdigest()


def replace_folder(scratch: Path, target: Path) -> None:
    """Put a whole folder where another may be, which is aside for a moment and then gone.

    Args:
        scratch: the new one, beside the target.
        target: where it shall be.
    """
    old = set_aside(target)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    scratch.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def set_aside(folder: Path) -> Path:
    """Where a folder lies while another one takes its place."""
    return folder.with_name(f".{folder.name}.replaced")


def save_model(network, tokenizer, folder: Path) -> None:
    """Save a model with its tokenizer, readable as other new files are.

    Args:
        network: of transformers.
        tokenizer: the model's.
        folder: gets their files.

    Raises:
        OSError: when they cannot be written, by a full disk for instance.
    """
    from safetensors import SafetensorError

    try:
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except Exception as error:
        if type(error) not in (SafetensorError, Exception):  # the latter is what tokenizers raises
            raise
        raise OSError(errno.EIO, one_line(error)) from None
    share(folder)


def share(folder: Path) -> None:
    """Give a folder's files the mode of new files: safetensors writes its own for their owner only.

    Args:
        folder: of a model or an adapter.
    """
    mask = os.umask(0o077)  # only setting it tells what it was
    os.umask(mask)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o666 & ~mask)


def read_jsonl(path: Path | str) -> list[dict]:
    """The objects of a file that this project wrote, one a line.

    Args:
        path: the file. Lines end at "\\n" only: other line ends of Unicode may stand inside a text.

    Raises:
        InputError: when a line is no JSON, naming it.
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
    """A path that a reader gives: below the project's root unless absolute; ~ is the home.

    Raises:
        InputError: for what no path can be, such as a name that is too long.
    """
    if "\0" in str(name):
        raise InputError(f"{str(name)[:60]!r}: no file has such a name")
    path = ROOT / os.path.expanduser(name)  # "~$my.xlsx" begins no home, and stays
    try:
        path.exists()
    except OSError as error:
        raise InputError(f"{str(name)[:60]!r}: {error.strerror}; give another file") from None
    return path


def from_here(name: str) -> str:
    """A file or folder that is to be read: in the current folder if it is there, else as it was
    given, for `below_root`.

    Args:
        name: as a reader gives it on a command line; ~ is the home.
    """
    path = Path(os.path.expanduser(name))
    with suppress(OSError):  # what is no path is refused where it is read
        return str(path.absolute()) if path.exists() else name
    return name


def from_root(path: Path) -> str:
    """A path, relative to the project's root where it lies below: a moved project changes none."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def need(path: Path | str, notebook: str) -> Path:
    """The path, if something is there.

    Args:
        path: a file or folder.
        notebook: the chapter that makes it, such as "01-dataset-exploration".

    Raises:
        InputError: when nothing is there, naming the chapter.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(
            f"{from_root(path)} is missing: notebooks/{notebook}.ipynb makes it; "
            "`make book` runs all in order"
        )
    return path
