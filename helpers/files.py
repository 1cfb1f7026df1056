"""Files that appear whole or not at all, and are left alone when their content would stay the
same.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from helpers import ROOT, InputError


def write_jsonl(path: Path | str, rows: Iterable[dict]) -> None:
    """Write one JSON object a line; the file appears whole or not at all."""
    write_text(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_json(path: Path | str, value) -> None:
    """Write one JSON value, indented; the file appears whole or not at all."""
    write_text(path, [json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n"])


def write_text(path: Path | str, parts: Iterable[str]) -> None:
    """Write a text file piece by piece that appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            file.writelines(parts)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def need(path: Path | str, notebook: str) -> Path:
    """`path`, if it exists. Raises InputError naming the notebook that makes it."""
    path = Path(path)
    if not path.exists():
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        raise InputError(
            f"{shown} is missing: notebooks/{notebook}.ipynb makes it; `make book` runs all in order"
        )
    return path
