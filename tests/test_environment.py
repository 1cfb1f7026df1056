"""environment.yml, for conda and Binder: the Python that is tested, and the one list by pip.

Their solvers are not run here; what they hand to pip is.
"""

import importlib.metadata
import re
import subprocess
import sys

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from helpers import ROOT

ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def listed(name):
    """Names of the packages that a list of requirements holds."""
    lines = (ROOT / name).read_text().splitlines()
    return [line.split("=")[0].split("<")[0] for line in lines if line and line[0] not in "#-"]


def test_it_asks_for_a_python_that_is_tested():
    assert "python=3.11" in ENVIRONMENT["dependencies"]
    assert "pip" in ENVIRONMENT["dependencies"] and ENVIRONMENT["channels"] == ["conda-forge"]


def test_its_pip_part_installs_what_is_listed_and_pinned(project):
    """conda writes the pip section to a file beside environment.yml and runs pip in that folder.

    So is done here, without a network: everything is installed already, or pip fails.
    """
    lines = next(part["pip"] for part in ENVIRONMENT["dependencies"] if isinstance(part, dict))
    section = project / "condaenv.test.requirements.txt"  # conda's name for it
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
    """The README says 3.11 or newer; the one of a distribution is rarely the last of its kind."""
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


def test_the_book_imports_nothing_that_only_tests_bring():
    """Helpers and tools run without the second part of the list."""
    only_tests = {"pytest", "hypothesis", "lm_eval", "playwright", "bs4", "filelock"}
    for folder in ("helpers", "tools"):
        for path in (ROOT / folder).glob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(rf"^\s*(import|from) ({'|'.join(only_tests)})\b", text, re.M), path
