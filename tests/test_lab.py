"""JupyterLab as a reader uses it: chapters are opened in Chromium in order and run from the menu.

Their defaults are made small and point to a run folder of the test's own, which is empty at first.
"""

import json
import os
import re
import subprocess
import time

import nbformat
import pytest
from playwright.sync_api import expect

from helpers import ROOT
from helpers.profiles import CHAPTERS

TOKEN = {"token": "a-token"}
LOCAL = re.compile(r"(https?|wss?)://(localhost|127\.0\.0\.1)[:/]|data:|blob:")
SMALL = {
    "train_limit": 32,
    "val_limit": 4,
    "test_limit": 6,
    "max_length": 192,
    "probe_rows": 2,
    "orders": 2,
    "steps": 2,
    "rows_per_step": 2,
    "batch_size": 2,
    "evaluations": 1,
    "checkpoint_rows": None,
    "lengths": [64, 128],
}
"""Small defaults of parameters, for whichever chapters have them."""
SLIDERS = {"03-lora-theory": ["rank", "α"], "06-out-of-memory": ["tokens", "batch", "rank"]}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("lab") / "run"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, run_dir):
    """A folder with copies of all chapters, made small, and with a notebook that fails."""
    folder = tmp_path_factory.mktemp("notebooks")
    for name in CHAPTERS:
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        cell = next(
            cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])
        )
        for key, value in (SMALL | {"run_dir": str(run_dir)}).items():
            cell.source = re.sub(
                rf"^({key}\b.*? = ).*?(?=  #)",
                lambda line, value=value: line[1] + repr(value),
                cell.source,
                flags=re.M,
            )
        assert str(run_dir) in cell.source
        nbformat.write(notebook, folder / f"{name}.ipynb")
    failing = nbformat.v4.new_notebook(metadata=notebook.metadata)
    failing.cells = [
        nbformat.v4.new_code_cell(source)
        for source in ("import time; time.sleep(2)", "1 / 0", "print('never')")
    ]
    nbformat.write(failing, folder / "failing.ipynb")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, workplace):
    """The address of a JupyterLab started as by `make lab`, on a free port, with own settings."""
    own = tmp_path_factory.mktemp("jupyter")
    places = (
        "JUPYTER_RUNTIME_DIR",
        "JUPYTER_CONFIG_DIR",
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
        "IPYTHONDIR",
    )
    environment = os.environ | {place: str(own / place.lower()) for place in places}
    environment |= {"PYTHONPATH": str(ROOT)}
    shown = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/.ready", "lab"]
    # these tests may themselves be run by make
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = subprocess.check_output(shown, cwd=ROOT, env=quiet, text=True).strip()
    command = command.replace(
        "--notebook-dir=. notebooks/01-dataset-exploration",
        f"--notebook-dir={workplace} {workplace}/failing",
    )
    options = f"--no-browser --ServerApp.port=0 --IdentityProvider.token={TOKEN['token']}"
    with open(own / "log", "w") as log:
        process = subprocess.Popen(
            f"exec {command} {options}",
            shell=True,
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(300):
            if addresses := list((own / "jupyter_runtime_dir").glob("jpserver-*.json")):
                break
            assert process.poll() is None, (own / "log").read_text()
            time.sleep(0.2)
        yield json.loads(addresses[0].read_text())["url"]
    finally:
        process.terminate()  # the server ends its kernels
        process.wait(timeout=60)


@pytest.fixture
def page(chromium, server):
    """A page that can reach this machine only; any other request is refused and fails the test.

    The page's kernels end with it.
    """
    context = chromium.new_context(viewport={"width": 1300, "height": 1000})
    refused = []

    def gate(route):
        if LOCAL.match(route.request.url):
            return route.continue_()
        refused.append(route.request.url)
        return route.abort()

    context.route("**/*", gate)
    yield context.new_page()
    for kernel in kernels(context, server):
        context.request.delete(f"{server}api/kernels/{kernel['id']}", params=TOKEN)
    context.close()
    assert not refused


def kernels(context, server):
    """The kernels that run; none while the server can't say, as when one of them is ending."""
    answer = context.request.get(f"{server}api/kernels", params=TOKEN)
    return answer.json() if answer.ok else []


def run_all(page, server, notebook, seconds):
    """Run all cells of a notebook from the menu; return the notebook as it is saved then."""
    page.goto(f"{server}lab/tree/{notebook.name}?token={TOKEN['token']}&reset")
    for _ in range(300):  # the page shows an idle kernel before there is one, so ask the server
        if any(
            kernel["execution_state"] == "idle" and kernel["connections"]
            for kernel in kernels(page.context, server)
        ):
            break
        page.wait_for_timeout(300)
    indicator = page.locator(".jp-Notebook-ExecutionIndicator")
    expect(indicator).to_have_attribute("data-status", "idle", timeout=90_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
    expect(indicator).to_contain_text("Executed", timeout=30_000)
    # between two cells the text also says 3/22, after an error nothing
    ended = re.compile(r"Kernel status: Idle\s*(Executed \d+ cells.*)?$")
    expect(indicator).to_have_text(ended, timeout=1000 * seconds)
    before = notebook.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    for _ in range(100):
        if notebook.stat().st_mtime_ns > before:
            break
        page.wait_for_timeout(100)
    page.wait_for_timeout(500)
    return nbformat.read(notebook, as_version=4)


def errors(notebook):
    return [
        output.evalue
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "error"
    ]


def never_ran(notebook):
    return [
        cell.id
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.execution_count is None
    ]


def marks_shown(page):
    """Marks such as {term} that stand in the shown text as they were written."""
    page.locator(".jp-MarkdownOutput a, .myst a").first.wait_for(state="attached")
    texts = page.locator(".jp-MarkdownOutput, .myst").all_inner_texts()
    return re.findall(
        r"\{(?:term|doc|glue:text|cite|dropdown|admonition)\}.{0,30}", "\n".join(texts)
    )


def lists_figures(cell):
    """Whether a cell says the figures that sentences of the page hold."""
    printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    return bool(re.search("^[a-z_0-9]+: .", printed, re.M))


def shown_beside(slider):
    """What the slider's cell and the cell above it show, without the sliders themselves."""
    return slider.evaluate(
        """slider => [slider.closest('.jp-Cell'), slider.closest('.jp-Cell').previousElementSibling]
            .flatMap(cell => [...cell.querySelectorAll('.jp-OutputArea-output')])
            .filter(output => !output.querySelector('.widget-slider'))
            .map(output => output.innerText
                + [...output.querySelectorAll('img, svg')].map(one => one.src || one.outerHTML))"""
    )


def move_each_slider(page):
    """Move each slider by one key and check that the output beside it changes; return the names."""
    names = []
    for slider in page.locator(".widget-slider").all():
        slider.scroll_into_view_if_needed()
        slider.locator(".noUi-handle").focus()
        page.wait_for_timeout(1000)  # until what scrolling brought into view is drawn
        names.append(slider.locator(".widget-label").inner_text())
        before = shown_beside(slider)
        page.keyboard.press("ArrowRight")
        for _ in range(100):
            if shown_beside(slider) != before:
                break
            page.wait_for_timeout(200)
        assert any(before) and shown_beside(slider) != before, (
            f"nothing beside the slider {names[-1]} follows it"
        )
    return names


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_run_by_number_ends_without_an_error(name, server, workplace, page):
    """The tests run in reading order, so that each chapter finds what those before it made."""
    ran = run_all(page, server, workplace / f"{name}.ipynb", 600)
    assert errors(ran) == [] and never_ran(ran) == []
    assert marks_shown(page) == []
    assert all(lists_figures(cell) for cell in ran.cells if "glue_all(" in cell.source)
    if name in SLIDERS:
        page.locator(".widget-slider").first.wait_for(state="attached")
        assert set(SLIDERS[name]) <= set(move_each_slider(page))


def test_a_cell_that_fails_is_found(server, workplace, page):
    ran = run_all(page, server, workplace / "failing.ipynb", 60)
    assert errors(ran) == ["division by zero"] and never_ran(ran) == [ran.cells[-1].id]


def test_a_chapter_without_its_input_says_which_makes_it(server, workplace, page, tmp_path):
    """Chapter 5 in an empty run folder names chapter 1, in one line."""
    notebook = nbformat.read(workplace / "05-evaluation.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = re.sub(r"(run_dir: str = ).*?(?=  #)", rf"\1{str(tmp_path)!r}", cell.source)
    nbformat.write(notebook, workplace / "05-empty.ipynb")
    ran = run_all(page, server, workplace / "05-empty.ipynb", 120)
    (message,) = errors(ran)
    assert "01-dataset-exploration.ipynb makes it" in message and "\n" not in message
