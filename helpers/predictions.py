"""Predictions of one model about rows as a file, kept while nothing changes that they depend on."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from tqdm import tqdm

from helpers import InputError
from helpers.files import DAMAGE, write_json, write_jsonl


def keep_predictions(
    folder: Path,
    rows: list[dict],
    inputs: list,
    key: dict,
    predict: Callable[[list[int]], Iterable[dict[int, dict]]],
) -> list[dict]:
    """A line for each row, in their order; those that were written before are read back.

    More rows than last time cost only the further ones.

    Args:
        folder: gets predictions.jsonl, a line a row, and key.json.
        rows: with ids of their own.
        inputs: of each row what its line depends on beside the row itself, as JSON has it; where
            it changes, that line is made anew.
        key: what all lines depend on; when anything of it changes, all are made anew.
        predict: takes the places of rows without a line; yields what is said of them by place,
            some at a time and in any order. Every part is written before the next is asked for.

    Returns:
        Of each row id, source_id, label, options, inputs (their digest), and what `predict` said.

    Raises:
        InputError: when two rows share an id; when the disk is full (what was written is kept).
    """
    if len({row["id"] for row in rows}) < len(rows):
        raise InputError(f"{folder.name}: two rows have the same id, so answers would mix")
    folder.mkdir(parents=True, exist_ok=True)
    file, key_file = folder / "predictions.jsonl", folder / "key.json"
    try:
        known = json.loads(key_file.read_text(encoding="utf-8")) == key
    except DAMAGE:
        known = False
    if not known:
        file.unlink(missing_ok=True)
        write_json(key_file, key)
    row_keys = [about(row, its_inputs) for row, its_inputs in zip(rows, inputs, strict=True)]
    lines = {line["id"]: line for line in read_predictions(file)} if file.is_file() else {}
    # a line that says another thing of its row was made from something else
    lines = {
        keys["id"]: lines[keys["id"]]
        for keys in row_keys
        if keys.items() <= lines.get(keys["id"], {}).items()
    }
    if missing := [place for place, keys in enumerate(row_keys) if keys["id"] not in lines]:
        if file.is_file():  # whoever reads it meanwhile finds no answer of another row
            with a_full_disk_named(file):
                write_jsonl(file, lines.values())
        with tqdm(total=len(missing), desc=folder.name, unit="row", mininterval=2) as bar:
            for answers in predict(missing):
                part = [row_keys[place] | answer for place, answer in answers.items()]
                with a_full_disk_named(file), file.open("a", encoding="utf-8") as output:
                    output.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in part)
                lines |= {line["id"]: line for line in part}
                bar.update(len(part))
    in_order = [lines[row["id"]] for row in rows]
    with a_full_disk_named(file):
        write_jsonl(file, in_order)
    return in_order


def about(row: dict, inputs) -> dict:
    """What a line repeats of its row, and by what it is known again."""
    own = {"id": row["id"], "source_id": row.get("source_id")}
    own |= {"label": row["output"], "options": row["category"]}
    return own | {"inputs": sha256(json.dumps(inputs).encode()).hexdigest()[:16]}


@contextmanager
def a_full_disk_named(file: Path) -> Iterator[None]:
    """Says in one line that a file could not be written."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{file.name} of {file.parent.name} could not be written ({error.strerror}); "
            "what was answered is kept"
        ) from None


def read_predictions(file: Path) -> list[dict]:
    """The sound lines of a predictions file; others are as good as not there.

    A last line that an interruption cut off is removed from the file.
    """
    content = file.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with file.open("r+b") as cut_off:
            cut_off.truncate(end)
    lines = {}
    for text in content[:end].splitlines():
        with suppress(*DAMAGE):
            line = json.loads(text)
            lines[line["id"]] = line
    return list(lines.values())
