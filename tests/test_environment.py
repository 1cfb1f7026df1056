"""environment.yml, for conda and Binder: the Python that is tested, and the one list of
dependencies through pip.

Their solvers are not run here; what they hand to pip is.
"""

import subprocess
import sys

import yaml

from helpers import ROOT

ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def test_it_asks_for_the_python_that_is_tested():
    assert (
        f"python={sys.version_info.major}.{sys.version_info.minor}" in ENVIRONMENT["dependencies"]
    )
    assert "pip" in ENVIRONMENT["dependencies"] and ENVIRONMENT["channels"] == ["conda-forge"]


def test_its_pip_part_installs_what_is_listed_and_pinned():
    """conda writes the pip section to a file beside environment.yml and runs pip in that folder; so
    is done here, without a network: everything is installed already, or pip fails.
    """
    lines = next(part["pip"] for part in ENVIRONMENT["dependencies"] if isinstance(part, dict))
    section = ROOT / "condaenv.test.requirements.txt"  # conda's name for it
    try:
        section.write_text("\n".join(lines) + "\n", encoding="utf-8")
        dry = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--no-index",
            "--no-build-isolation",
            "--disable-pip-version-check",
        ]
        done = subprocess.run([*dry, "-r", str(section)], cwd=ROOT, capture_output=True, text=True)
    finally:
        section.unlink()
    assert done.returncode == 0, done.stderr
    listed = [
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and line[0] not in "#-"
    ]
    met = done.stdout.lower().replace("_", "-")
    assert [
        name
        for name in listed
        if f"requirement already satisfied: {name.split('=')[0].split('<')[0]}" not in met
    ] == []
    assert f"obtaining {ROOT.as_uri()}".lower() in met
