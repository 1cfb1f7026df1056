"""No text of the Fudan corpus is in this project, because its terms forbid passing it on."""

import json
import re
import subprocess

import pytest

from helpers import ROOT
from helpers.profiles import local_files, read_profile

WINDOW = 24
"""In characters. A passage twice as long holds a window that begins at a multiple of this."""


def windows(text: str, step: int) -> set[str]:
    """Runs of WINDOW characters, nearly all Chinese, of a text without its spaces and line ends."""
    text = re.sub(r"\s+", "", text)
    pieces = {text[at : at + WINDOW] for at in range(0, len(text) - WINDOW + 1, step)}
    return {piece for piece in pieces if len(re.findall(r"[\u4e00-\u9fff]", piece)) >= WINDOW - 4}


def tracked_texts() -> dict[str, str]:
    """The contents of every committed text file, as a person would read them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    texts = {}
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if not name or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # it is a picture or an archive
        # JSON may write a character as its number
        texts[name] = re.sub(r"\\u([0-9a-f]{4})", lambda m: chr(int(m[1], 16)), text)
    return texts


def corpus_files() -> list:
    return [ROOT / name for name in local_files(read_profile("fudan").values["source"])]


def test_windows_are_seen_wherever_a_passage_begins():
    passage = "".join(chr(0x4E00 + place) for place in range(3 * WINDOW))
    for before in range(WINDOW):
        copied = "x" * before + passage[5 : 5 + 2 * WINDOW] + " end"
        assert windows(copied, 1) & windows(passage, WINDOW)
    assert not windows("1998. " * 40, 1)


def test_no_tracked_file_holds_a_passage_of_the_real_corpus():
    files = [path for path in corpus_files() if path.is_file()]
    if not files:
        pytest.skip("the Fudan corpus is not here")
    texts = tracked_texts()
    ours = {name: windows(text, 1) for name, text in texts.items()}
    assert sum(map(len, ours.values())) > 10_000  # the sample alone has more
    everything = set().union(*ours.values())
    shared = set()
    for path in files:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                shared |= windows(json.loads(line)["text"], WINDOW) & everything
    where = {name: len(pieces & shared) for name, pieces in ours.items() if pieces & shared}
    assert not where, f"passages of the corpus: {where}"
