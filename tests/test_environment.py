"""environment.yml, for conda and Binder: it names a tested Python, and the one list for pip.

The solvers of conda and Binder are not run here, but what they hand to pip is.
"""

import importlib.metadata
import re
import subprocess
import sys
from contextlib import suppress

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from helpers import ROOT

ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))

NO_EXTRA = {"extra": ""}


def listed(name):
    """The names of the packages in a list of requirements."""
    lines = (ROOT / name).read_text().splitlines()
    return [line.split("=")[0].split("<")[0] for line in lines if line and line[0] not in "#-"]


def test_it_asks_for_a_python_that_is_tested():
    assert "python=3.11" in ENVIRONMENT["dependencies"]
    assert "pip" in ENVIRONMENT["dependencies"] and ENVIRONMENT["channels"] == ["conda-forge"]


def test_its_pip_part_installs_what_is_listed_and_pinned(project):
    """conda writes the pip section to a file beside environment.yml and runs pip in that folder.

    This is done here without a network, so pip fails unless everything is installed already.
    """
    lines = next(part["pip"] for part in ENVIRONMENT["dependencies"] if isinstance(part, dict))
    section = project / "condaenv.test.requirements.txt"  # conda uses such a name
    section.write_text("\n".join(lines) + "\n", encoding="utf-8")
    dry = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index"]
    dry += ["--no-build-isolation", "--disable-pip-version-check", "-r", str(section)]
    done = subprocess.run(dry, cwd=project, capture_output=True, text=True)
    section.unlink()
    assert done.returncode == 0, done.stderr
    met = done.stdout.lower().replace("_", "-")
    missing = [
        name
        for name in listed("requirements.txt")
        if f"requirement already satisfied: {name}" not in met
    ]
    assert missing == []
    assert f"obtaining {project.as_uri()}".lower().replace("_", "-") in met


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0"])
def test_no_package_asks_for_a_later_python_than_is_said(python):
    """The README says 3.11 to 3.13; a distribution's Python is rarely the newest of its series."""
    asked = {d.name: d.metadata["Requires-Python"] for d in importlib.metadata.distributions()}
    too_new = [name for name, one in asked.items() if one and python not in SpecifierSet(one)]
    assert len(asked) > 200 and too_new == []


def test_what_only_tests_need_is_no_burden_on_readers():
    book, tests = listed("requirements.txt"), listed("requirements-test.txt")
    assert {"pytest", "lm-eval", "playwright", "ruff"} <= set(tests)
    assert not set(book) & set(tests)
    pinned = listed("constraints.txt")
    names = {name.lower().replace("_", "-") for name in pinned}
    assert {name.lower() for name in (*book, *tests)} <= names


def brought_by(names):
    """These distributions and all that are installed because of them."""
    found, waiting = set(), list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            with suppress(importlib.metadata.PackageNotFoundError):  # for other systems only
                asked = map(Requirement, importlib.metadata.requires(name) or [])
                waiting += [r.name for r in asked if not r.marker or r.marker.evaluate(NO_EXTRA)]
    return found


def code_of_the_book():
    """The book's code by path: helpers, tools, code cells of chapters, and Snakemake's rules."""
    for folder in ("helpers", "tools"):
        for path in (ROOT / folder).glob("*.py"):
            yield path, path.read_text(encoding="utf-8")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        yield path, "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    yield ROOT / "Snakefile", (ROOT / "Snakefile").read_text(encoding="utf-8")


def test_the_book_imports_nothing_that_only_tests_bring():
    """The book runs without the second part of the list, though other packages bring some of it."""
    listed_for_tests = {canonicalize_name(name) for name in listed("requirements-test.txt")}
    only_tests = brought_by(listed_for_tests) - brought_by(listed("requirements.txt"))
    only_tests |= listed_for_tests
    modules = {
        module
        for module, bringers in importlib.metadata.packages_distributions().items()
        if set(map(canonicalize_name, bringers)) <= only_tests
    }
    assert {"pytest", "hypothesis", "lm_eval", "playwright", "bs4", "filelock"} <= modules
    imported = re.compile(rf"^\s*(import|from) ({'|'.join(map(re.escape, modules))})\b", re.M)
    assert [str(path) for path, code in code_of_the_book() if imported.search(code)] == []
