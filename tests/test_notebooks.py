"""How a notebook talks to its kernel: two that start together must not share a port."""

import json
import os
import tempfile

import nbformat
import pytest

from helpers import ROOT
from helpers.notebooks import LONGEST_ADDRESS, run_notebook

SAYS_HOW = """
import json
from ipykernel.connect import get_connection_info
print("SPOKEN", json.dumps(get_connection_info(unpack=True), default=str))
"""


@pytest.fixture
def chapter(tmp_path):
    """A notebook that prints by which channels its kernel is reached."""
    parameters = nbformat.v4.new_code_cell("colour = 'red'", metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(SAYS_HOW)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, tmp_path / "chapter.ipynb")
    return tmp_path / "chapter.ipynb"


def channels(chapter, capsys):
    """What the kernel printed about its channels."""
    run_notebook(chapter, chapter.with_name("out.ipynb"), {})
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("SPOKEN"))
    return json.loads(line.removeprefix("SPOKEN"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such sockets for a kernel")
def test_a_kernel_is_spoken_to_by_sockets_of_its_own(chapter, capsys, monkeypatch):
    short = tempfile.mkdtemp()
    monkeypatch.setattr(tempfile, "tempdir", short)
    spoken = channels(chapter, capsys)
    assert spoken["transport"] == "ipc" and spoken["ip"].startswith(short)
    assert os.listdir(short) == []  # nothing is left when the notebook has run
    os.rmdir(short)


def test_a_shell_neither_hides_figures_nor_runs_code(chapter, tmp_path, monkeypatch):
    (tmp_path / "start.py").write_text("sneaked = 1")
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "start.py"))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("JPY_SESSION_NAME", "mine.ipynb")
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "start.py").write_text("sneaked = 2")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    foreign = tmp_path / "jupyter" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    spec = {"argv": ["false"], "display_name": "Foreign", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    notebook = nbformat.read(chapter, as_version=4)
    draw = "import pylab\npylab.plot([1, 2])\nassert 'sneaked' not in globals()\n"
    draw += "from helpers.pages import glue_all\nglue_all(share=0.5)"
    notebook.cells.append(nbformat.v4.new_code_cell(draw))
    nbformat.write(notebook, chapter)
    run_notebook(chapter, tmp_path / "out.ipynb", {})
    drawn = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs
    assert any("image/png" in output.get("data", {}) for output in drawn)
    assert not any(output.output_type == "stream" for output in drawn)  # the page says the share


def test_where_a_folder_has_too_long_a_name_ports_are_used(chapter, tmp_path, capsys, monkeypatch):
    long = tmp_path / ("深" * (LONGEST_ADDRESS // 3))
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert channels(chapter, capsys)["transport"] == "tcp"
    assert os.listdir(long) == []


def test_nothing_inherits_from_what_a_notebook_is_known_to_fail_by():
    """Only the name of an error in a notebook comes through. Another name would be taken for a
    fault of the book itself, and would leave a file behind.
    """
    for path in (ROOT / "helpers").glob("*.py"):
        assert "(InputError):" not in path.read_text(encoding="utf-8"), path.name
