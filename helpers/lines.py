"""Lines: text files in UTF-8, GB18030 or UTF-16 as lines, and what is wrong with their bytes.

Files are streamed. How long a line may be, and how much a packed file may grow, is limited.
"""

import codecs
import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path

from helpers import Fault, InputError, one_line
from helpers.encodings import decodes, encoding_of
from helpers.rows import shown

LINE_LIMIT = 64 * 2**20
"""The longest line, or row, that is read, in characters."""
EXPANSION_LIMIT = 200
"""How many times its size a packed file may grow once it is unpacked to more than 256 MiB. Text
grows by a factor of three to ten, a decompression bomb by a thousand.
"""
GZIP = b"\x1f\x8b"
"""How gzipped files begin."""
OTHER_KINDS = {
    b"PK\x03\x04": "a workbook (.xlsx) or a .zip by its content; name it so, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old workbook (.xls), or one with a password, by its content; "
    "save it as .xlsx without one",
    GZIP: "packed (.gz) by its content; name it so",
    b"PAR1": "a .parquet file by its content; name it so",
    b"version https://git-lfs": "a pointer of Git LFS, not the data; fetch it with git lfs pull",
    b"<!doctype html": "a web page, not the data; download the file itself",
    b"<html": "a web page, not the data; download the file itself",
    b"<table": "a table of a web page; save it as .xlsx or .csv",
    b"<?xml": "XML, which is not read; write its rows as .jsonl or .csv",
    b"%pdf-": "a PDF, which is not read; write its text as .jsonl or .csv",
    b"{\\rtf": "a text with formats (RTF), which is not read; save it as plain text",
    b"ARROW1\0\0": "an Arrow file (.feather) by its content; write it as .parquet",
    b"SQLite format 3\0": "a database (SQLite); export its table as .csv",
} | dict.fromkeys(
    (b"\x28\xb5\x2f\xfd", b"BZh91AY&SY", b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"),
    "packed (.zst, .bz2, .xz, .7z or .rar) by its content; unpack it",
)
"""What a file really is, by its first bytes (text in lower case), and what to do about a name that
says something else.
"""
ESCAPED = re.compile("[\udc80-\udcff]")
"""A character that stands for a byte that is not sound in the file's encoding."""


def form_of(path: Path) -> str:
    """The ending of a file's name that tells its format: in lower case, without .gz."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def is_packed(path: Path) -> bool:
    """Whether a file is gzipped, by its name."""
    return path.name.lower().endswith(".gz")


def open_bytes(path: Path):
    """Open a file for reading bytes, unpacked where it is gzipped."""
    return gzip.open(path, "rb") if is_packed(path) else path.open("rb")


def refuse_bomb(path: Path, size: int) -> None:
    """Raise InputError when a packed file has grown to `size` bytes, more than any text would."""
    if size > max(2**28, EXPANSION_LIMIT * path.stat().st_size):
        raise InputError(
            f"{path}: grows more than {EXPANSION_LIMIT}-fold when unpacked, which no text does; "
            "it is not read"
        )


def refuse_other_kind(path: Path, content: bytes, own: bytes | None = None) -> None:
    """Raise InputError when a file holds something other than its name says.

    Args:
        path: of the file, for the message.
        content: the file's beginning.
        own: how files of its kind begin, a key of OTHER_KINDS; None for text.
    """
    begins = content[:64].removeprefix(codecs.BOM_UTF8).lstrip()
    for mark, kind in OTHER_KINDS.items():
        if mark != own and (begins.startswith(mark) or begins.lower().startswith(mark)):
            twice = mark == GZIP and form_of(path) != path.suffix.lower()
            raise InputError(f"{path} is {'packed twice; unpack it once' if twice else kind}")


def read_text(path: Path) -> Iterator[str]:
    """The text of a file, a megabyte at a time, without a byte-order mark.

    UTF-8 and GB18030 are told apart by the first megabyte that is not all ASCII; UTF-16 has a mark.
    A byte that is not sound comes as a character that ESCAPED matches.
    """
    size = 0
    with open_bytes(path) as file:
        chunk = file.read(2**20)
        refuse_other_kind(path, chunk)
        wide = chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        chunk = chunk.removeprefix(codecs.BOM_UTF8)  # some programs put it even before GBK
        if chunk[:4].count(0) >= 2 or (not wide and is_unmarked(chunk)):
            raise InputError(f"{path} is UTF-32, or UTF-16 without a mark; save it as UTF-8")
        decoder = codecs.getincrementaldecoder("utf-16" if wide else "ascii")()
        chosen, first = wide, True
        while True:
            if not chosen and not chunk.isascii():
                decoder, chosen = decoder_of(path, chunk), True
            size += len(chunk)
            if is_packed(path):
                refuse_bomb(path, size)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                raise InputError(f"{path} is no sound UTF-16: {one_line(error)}") from None
            yield text.lstrip("\ufeff") if first else text
            if not chunk:
                return
            first = first and not text
            chunk = file.read(2**20)


def is_unmarked(chunk: bytes) -> bool:
    """Whether the beginning of a file is UTF-16 without a mark.

    There a line end has two bytes, and only second bytes are 0. A single 0 at the beginning of a
    line of UTF-8 is padding.

    Args:
        chunk: the beginning.
    """
    if b"\n\0" not in chunk or 0 in chunk[::2]:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(chunk)
    except UnicodeDecodeError:
        return True
    return 8 * chunk.count(0) > len(chunk)


def decoder_of(path: Path, chunk: bytes) -> codecs.IncrementalDecoder:
    """A decoder for a file's encoding, UTF-8 or GB18030; see `read_text` for bytes not sound in it.

    Args:
        path: of the file, for the message.
        chunk: the first megabyte that is not all ASCII.
    """
    try:
        encoding = encoding_of(chunk)
    except Fault as fault:
        raise InputError(f"{path} is {fault}") from None
    return codecs.getincrementaldecoder(encoding)("surrogateescape")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file, each with its end: "\\n", "\\r\\n" or "\\r", but no other."""
    number, parts = 0, []
    for chunk in read_text(path):
        parts.append(chunk)
        complete = []
        if "\n" in chunk or "\r" in chunk:
            *complete, last = io.StringIO("".join(parts), newline="")
            # "\r" at the end may be the first half of "\r\n"
            parts = [last]
            if last.endswith("\n"):
                complete.append(parts.pop())
        if sum(map(len, parts)) > LINE_LIMIT or max(map(len, complete), default=0) > LINE_LIMIT:
            raise InputError(
                f"{path} line {number + 1 + len(complete)}: longer than {LINE_LIMIT >> 20} MiB; "
                "one row a line, please"
            )
        for line in complete:
            number += 1
            yield number, line
    for line in io.StringIO("".join(parts), newline=""):
        number += 1
        yield number, line


def line_fault(text: str) -> Fault | None:
    """The fault of a line's bytes, if any: one is not sound, or they are in another encoding."""
    if place := ESCAPED.search(text):
        byte = ord(place[0]) - 0xDC00
        before = text[max(0, place.start() - 8) : place.start()]
        detail = f" ({byte:#04x}, behind {shown(before)})" if before else f" ({byte:#04x})"
        if ESCAPED.sub("", text).isascii():
            detail += (
                "; of a file in CP1252, as Excel writes one, make UTF-8: "
                "iconv -f CP1252 -t UTF-8 old > new"
            )
        return Fault("a byte that is not sound in the file's encoding", detail)
    # Where files were joined, lines of UTF-8 may decode as GB18030, but to other characters. The
    # characters left out here are a trace of older damage of this kind, which any file may hold.
    text = text.replace("锟斤拷", "")
    content = b"" if text.isascii() else text.encode("gb18030", "surrogatepass")
    if len(content.translate(None, bytes(range(128)))) >= 12 and decodes(content, "utf-8"):
        way = "; convert the file to UTF-8, or, if that was done wrongly, make it anew"
        return Fault("a line of UTF-8 in a file of GB18030", way)
    return None
