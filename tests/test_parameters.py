"""Parameters of notebooks are documented, shown by papermill, and refused in one line where they
are wrong.
"""

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from click.testing import CliRunner
from conftest import project_environment
from papermill.cli import papermill as command

from helpers import ROOT, InputError, profiles, sources
from helpers.notebooks import run_notebook
from helpers.parameters import refuse_setting, refuse_wrong

NOTEBOOKS = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
TYPES = {"str", "int", "float", "bool", "list", "dict", "None"}


def inspected(name):
    """The parameters of a notebook as papermill reads them: type, default and help by name."""
    return papermill.inspect_notebook(ROOT / "notebooks" / f"{name}.ipynb")


def declared(name):
    """The parameters that a notebook takes: types by name."""
    return {key: parameter["inferred_type_name"] for key, parameter in inspected(name).items()}


def cells(name):
    """The notebook's cells, and the index of the one that holds its parameters."""
    found = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    return found, next(
        i for i, cell in enumerate(found) if "parameters" in cell.metadata.get("tags", [])
    )


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_papermill_sees_every_parameter_and_its_meaning(name):
    found, place = cells(name)
    assigned = [
        getattr(line, "target", None) or line.targets[0]
        for line in ast.parse(found[place].source).body
    ]
    assert [target.id for target in assigned] == list(inspected(name))
    assert all(len(parameter["help"]) > 8 for parameter in inspected(name).values())


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_default_has_the_type_that_is_declared(name):
    for key, kind in declared(name).items():
        assert kind != "None" and set(kind.split(" or ")) <= TYPES, key
    refuse_wrong(
        {key: ast.literal_eval(parameter["default"]) for key, parameter in inspected(name).items()},
        declared(name),
    )


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_papermill_help_shows_type_and_meaning(name):
    shown = CliRunner().invoke(
        command, ["--help-notebook", str(ROOT / "notebooks" / f"{name}.ipynb")]
    )
    assert shown.exit_code == 0
    text = " ".join(shown.output.split())
    for key, parameter in inspected(name).items():
        entry = f"{key}: {parameter['inferred_type_name']} "
        entry += f"(default {parameter['default']}) {parameter['help']}"
        assert " ".join(entry.split()) in text


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_table_at_the_end_names_every_parameter_once_and_its_cost(name):
    table = cells(name)[0][-1].source
    rows = [
        [part.strip() for part in line.strip("| ").split(" | ")]
        for line in table.splitlines()
        if line.startswith("| `")
    ]
    listed = [key for row in rows for key in re.findall(r"`(\w+)`", row[0])]
    assert sorted(listed) == sorted(inspected(name))
    assert all(len(row) == 3 and row[1] and row[2] for row in rows)
    assert not re.search(r"\d+ (second|minute|GiB|MiB|GB)", table), (
        "what was measured once is not typed"
    )


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_defaults_are_those_of_the_sample(name):
    """A chapter that is opened in JupyterLab makes, or reuses, what `make book` makes."""
    defaults = {
        key: ast.literal_eval(parameter["default"]) for key, parameter in inspected(name).items()
    }
    sample = profiles.read_profile("sample")
    given = sample.parameters(name, "rank8" if name == "04-training" else None)
    if name == "05-evaluation":
        given.pop("settings")  # by itself, the chapter compares whatever is trained
    assert {key: defaults[key] for key in given} == given


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_check_comes_before_everything_else(name):
    found, place = cells(name)
    first = ast.parse(found[place + 1].source).body
    assert [ast.unparse(line) for line in first[:2]] == [
        "from helpers.parameters import check_parameters",
        "check_parameters()",
    ]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"colour": "red"}, "has no parameter colour; it has: run_dir, model, bos"),
        ({"rank": "8"}, "takes int for the parameter rank, not '8'"),
        ({"rank": 8.0}, "takes int for the parameter rank, not 8.0"),
        ({"rank": True}, "takes int for the parameter rank, not True"),
        ({"rank": None}, "takes int for the parameter rank, not None"),
        ({"bos": 1}, "takes bool for the parameter bos, not 1"),
        (
            {"learning_rate": "2e-4"},
            "takes float for the parameter learning_rate, not '2e-4'; "
            "on papermill's command line it is -p learning_rate 0.0001",
        ),
        (
            {"setting": 7},
            "takes str for the parameter setting, not 7; "
            "as text it is -r setting 7 for papermill, and in quotes elsewhere",
        ),
        ({"swift_arguments": ["--packing"]}, "takes dict for the parameter swift_arguments"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_runs(given, says, tmp_path):
    with pytest.raises(InputError, match=f"04-training: this notebook {re.escape(says)}"):
        run_notebook(
            ROOT / "notebooks" / "04-training.ipynb",
            tmp_path / "run" / "out.ipynb",
            {"run_dir": "runs/test-bad"} | given,
        )
    assert not list(tmp_path.iterdir()) and not (ROOT / "runs" / "test-bad").exists()


def test_a_whole_number_is_a_float_and_some_may_be_none():
    refuse_wrong(
        {"dropout": 0, "limit": None, "columns": {}},
        {"dropout": "float", "limit": "int or None", "columns": "dict or None"},
    )
    with pytest.raises(InputError, match="takes int or None for the parameter limit"):
        refuse_wrong({"limit": "all"}, {"limit": "int or None"})


@pytest.mark.parametrize(
    ("name", "key", "value", "says"),
    [
        (
            "02-prompt-design",
            "colour",
            "red",
            "this notebook has no parameter colour; it has: run_dir, model",
        ),
        (
            "04-training",
            "rank",
            "four",
            "this notebook takes int for the parameter rank, not 'four'",
        ),
        (
            "05-evaluation",
            "settings",
            "rank8",
            "this notebook takes list or None for the parameter settings, not 'rank8'; "
            "on papermill's command line it is -y 'settings: [a, b]'",
        ),
    ],
)
def test_plain_papermill_stops_at_the_first_cell_behind_the_parameters(
    name, key, value, says, tmp_path
):
    program = [
        str(Path(sys.executable).with_name("papermill")),
        "--cwd",
        "notebooks",
        f"notebooks/{name}.ipynb",
    ]
    given = ["-p", "run_dir", "runs/test-bad", "-p", key, value]
    command = [*program, str(tmp_path / "out.ipynb"), *given]
    done = subprocess.run(
        command, cwd=ROOT, env=project_environment(ROOT), capture_output=True, text=True
    )
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith(f"InputError: {says}")
    ran = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert (
        max(cell.execution_count or 0 for cell in ran.cells if cell.cell_type == "code") == 3
    )  # the third cell is the check
    assert not (ROOT / "runs" / "test-bad").exists()


@pytest.mark.parametrize("name", profiles.names())
def test_every_profile_gives_what_the_notebooks_take(name):
    profile = profiles.read_profile(name)
    for chapter in NOTEBOOKS:
        for setting in profile.settings if chapter == "04-training" else [None]:
            given = json.loads(json.dumps(profile.parameters(chapter, setting)))
            refuse_wrong(given, declared(chapter))


@pytest.mark.parametrize("profile", ["sample", "fudan-heads", "yi-6b"])
def test_snakemake_hands_over_what_a_profile_gives(profile, project):
    """Its commands hold the parameters of each chapter and of each setting."""
    # Another test may be writing this profile's files, and without --rerun-incomplete Snakemake
    # stops at an incomplete file.
    snakemake = [sys.executable, "-m", "snakemake", "--nolock", "--dry-run", "--forceall"]
    snakemake += ["--printshellcmds", "--cores", "1", "--rerun-incomplete"]
    done = subprocess.run(
        [*snakemake, "--config", f"profile={profile}"],
        cwd=project,
        env=project_environment(project),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    orders = [shlex.split(line) for line in lines if "-m helpers.notebooks" in line]
    given = [
        (Path(order[order.index("helpers.notebooks") + 1]).stem, json.loads(order[-1]))
        for order in orders
    ]
    assert {name for name, _ in given} == set(NOTEBOOKS)
    own = profiles.read_profile(profile)
    for name, values in given:
        assert values == own.parameters(name, values.get("setting"))
        refuse_wrong(values, declared(name))
    settings = [values["setting"] for name, values in given if name == "04-training"]
    assert sorted(settings) == sorted(own.settings)


def test_a_remedy_fits_its_parameter(tmp_path):
    declared = {"val_share": "float", "swift_arguments": "dict", "source": "str or list"}
    wrong = {
        "val_share": ("10%", "-p val_share 0.1"),
        "swift_arguments": ("{}", "-y 'swift_arguments: {weight_decay: 0.1}'"),
    }
    for name, (value, way) in wrong.items():
        with pytest.raises(InputError, match=re.escape(way)):
            refuse_wrong({name: value}, declared)
    with pytest.raises(InputError, match="a list is -y 'source: "):
        sources.read_source('["a.jsonl", "b.jsonl"]')
    for folder, fault in (("Makefile/x", "is a file, or below one"), ("x" * 300, "File name too")):
        with pytest.raises(InputError, match=fault):
            refuse_wrong({"run_dir": folder}, {"run_dir": "str"})
    with pytest.raises(InputError, match="must be a text; write its name in quotes"):
        refuse_setting(1.5)
