"""Imports: the files of the helpers that a notebook or a tool needs, for Snakemake.

They are read from the code without running it.
"""

import ast
from functools import cache
from pathlib import Path

from helpers import ROOT
from helpers.files import read_json


def imported_helpers(notebook: Path) -> list[str]:
    """The files of all helpers that a notebook imports, directly or through other helpers.

    Args:
        notebook: an .ipynb file.

    Returns:
        Paths below the project's root, sorted.
    """
    cells = read_json(notebook)["cells"]
    return files_imported(
        "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    )


def helpers_imported_by(file: str) -> list[str]:
    """The same as `imported_helpers` for a Python file, such as "tools/ask.py"."""
    return files_imported((ROOT / file).read_text(encoding="utf-8"))


def files_imported(code: str) -> list[str]:
    """The files of all helpers that a piece of Python imports, directly or through others."""
    pending, files = set(helpers_in(code)), {"helpers/__init__.py"}
    while pending:
        file = f"helpers/{pending.pop()}.py"
        if file not in files and (ROOT / file).is_file():
            files.add(file)
            pending |= helpers_in((ROOT / file).read_text(encoding="utf-8"))
            if file == "helpers/training.py":  # swift loads them by path
                pending |= {"swift_plugin", "cpu_step"}
    return sorted(files)


@cache  # most helpers are imported by every chapter
def helpers_in(code: str) -> frozenset[str]:
    """Names of the modules of `helpers` that a piece of Python imports."""
    modules = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module == "helpers":
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers."):
            modules.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            dotted = [alias.name.split(".") for alias in node.names]
            modules |= {name[1] for name in dotted if name[0] == "helpers" and len(name) > 1}
    return frozenset(modules)
