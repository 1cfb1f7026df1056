"""Predictions of one model for rows, kept in a file until something changes that they depend on."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from tqdm import tqdm

from helpers import InputError
from helpers.files import DAMAGE, read_json, write_json, write_jsonl


def keep_predictions(
    folder: Path,
    rows: list[dict],
    inputs: list,
    key: dict,
    predict: Callable[[list[int]], Iterable[dict[int, dict]]],
) -> list[dict]:
    """One line for each row, in the order of the rows; earlier lines are read back from the file.

    When there are more rows than last time, only the new ones are predicted.

    Args:
        folder: gets predictions.jsonl, with one line per row, and key.json.
        rows: each with an id of its own.
        inputs: for each row, what its line depends on besides the row itself, as JSON values; where
            this changes, the line is made anew.
        key: what all lines depend on; when any of it changes, all lines are made anew.
        predict: takes the places of rows without a line; yields its answers by place, some at a
            time and in any order. Each part is written before the next is asked for.

    Returns:
        For each row its id, source_id, label, options, inputs (as a digest), and what `predict`
        said.

    Raises:
        InputError: when two rows share an id; when the disk is full (what was written is kept).
    """
    if len({row["id"] for row in rows}) < len(rows):
        raise InputError(f"{folder.name}: two rows have the same id, so answers would mix")
    file, key_file = folder / "predictions.jsonl", folder / "key.json"
    with named_if_unwritable(file):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        known = read_json(key_file) == key
    except DAMAGE:
        known = False
    if not known:
        with named_if_unwritable(key_file):
            file.unlink(missing_ok=True)
            write_json(key_file, key)
    row_keys = [about(row, its_inputs) for row, its_inputs in zip(rows, inputs, strict=True)]
    lines = {line["id"]: line for line in read_predictions(file)} if file.is_file() else {}
    # a line that does not agree with its row was made from something else
    lines = {
        keys["id"]: lines[keys["id"]]
        for keys in row_keys
        if keys.items() <= lines.get(keys["id"], {}).items()
    }
    if missing := [place for place, keys in enumerate(row_keys) if keys["id"] not in lines]:
        if file.is_file():  # whoever reads it meanwhile must find no outdated answer
            with named_if_unwritable(file):
                write_jsonl(file, lines.values())
        with tqdm(total=len(missing), desc=folder.name, unit="row", mininterval=2) as bar:
            for answers in predict(missing):
                part = [row_keys[place] | answer for place, answer in answers.items()]
                with named_if_unwritable(file), file.open("a", encoding="utf-8") as output:
                    output.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in part)
                lines |= {line["id"]: line for line in part}
                bar.update(len(part))
    in_order = [lines[row["id"]] for row in rows]
    with named_if_unwritable(file):
        write_jsonl(file, in_order)
    return in_order


def about(row: dict, inputs) -> dict:
    """What a line repeats of its row, so that the two can be matched again.

    Args:
        row: with its options.
        inputs: what else the line depends on.
    """
    own = {"id": row["id"], "source_id": row.get("source_id")}
    own |= {"label": row["output"], "options": row["category"]}
    return own | {"inputs": sha256(json.dumps(inputs).encode()).hexdigest()[:16]}


@contextmanager
def named_if_unwritable(file: Path) -> Iterator[None]:
    """Turn an OSError in the block into an InputError that says which file could not be written."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{file.name} of {file.parent.name} could not be written ({error.strerror}); "
            "what was answered is kept"
        ) from None


def read_predictions(file: Path) -> list[dict]:
    """The sound lines of a predictions file; damaged ones are passed over.

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
