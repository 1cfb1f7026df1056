"""The Makefile: what it does before any code of this project runs."""

import os
import shutil
import subprocess
import sys

import pytest

from helpers import ROOT

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}


@pytest.fixture
def make(tmp_path):
    """make(words…) runs make in a folder with the Makefile and the files that it looks at."""
    for name in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)

    def run(*words, **environment):
        return subprocess.run(
            ["make", *words],
            cwd=tmp_path,
            env=ENVIRONMENT | environment,
            capture_output=True,
            text=True,
        )

    return run


def test_a_set_up_that_was_cut_off_is_begun_anew(make, tmp_path):
    """Ctrl-C between the environment and its pip used to leave an environment without pip."""
    called = tmp_path / "called"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {called}\ncase "$*" in *venv*) exit 7;; esac\n')
    half = tmp_path / ".venv" / "bin" / "python"
    half.parent.mkdir(parents=True)
    half.write_text("#!/bin/sh\nexit 1\n")
    for path in (python, half):
        path.chmod(0o755)
    done = make(".venv/.ready", f"PYTHON={python}")
    assert done.returncode == 2 and "-m venv .venv" in called.read_text().splitlines()
    half.write_text("#!/bin/sh\nexit 0\n")  # an environment with pip is kept
    called.write_text("")
    assert make(".venv/.ready", f"PYTHON={python}").returncode == 0
    assert "venv" not in called.read_text()


def pretend(path, version):
    """A program at `path` that answers as a Python of some version, and makes no environment."""
    path.write_text(
        f"""#!{sys.executable}
import sys
sys.version_info = {version}
sys.exit(exec(sys.argv[2]) if sys.argv[1] == "-c" else "{version} was asked for " + sys.argv[2])
"""
    )
    path.chmod(0o755)


def test_a_python_that_the_pinned_packages_lack_is_not_taken(make, tmp_path):
    """Fresh systems bring a newer one, for which a package may have to be compiled."""
    for name in ("python3", "python3.13", "python3.12", "python3.11"):
        pretend(tmp_path / name, (3, 14))
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = make(".venv/.ready", PATH=path)
    assert done.returncode == 2 and not (tmp_path / ".venv").exists()
    assert "Python 3.11, 3.12 or 3.13 is needed" in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr
    pretend(tmp_path / "python3.12", (3, 12))
    assert "(3, 12) was asked for venv" in make(".venv/.ready", PATH=path).stderr
    pretend(tmp_path / "python3", (3, 13))  # the system's own is preferred
    assert "(3, 13) was asked for venv" in make(".venv/.ready", PATH=path).stderr


def test_an_environment_of_another_python_is_to_be_deleted(make, tmp_path):
    """An earlier set-up may have begun it with a Python that the pinned packages lack."""
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    pretend(tmp_path / "python3", (3, 13))
    pretend(bin_folder / "python", (3, 14))
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = make(".venv/.ready", PATH=path)
    assert done.returncode == 2 and "the folder .venv has another Python" in done.stderr
    assert "was asked for" not in done.stderr  # neither venv nor pip
    shutil.rmtree(tmp_path / ".venv")
    assert "(3, 13) was asked for venv" in make(".venv/.ready", PATH=path).stderr


def test_a_shell_does_not_decide_what_snakemake_does(make):
    show = "--eval=show: ; @echo [$$SNAKEMAKE_PROFILE]"
    assert make(show, "show", SNAKEMAKE_PROFILE="mine").stdout == "[]\n"
