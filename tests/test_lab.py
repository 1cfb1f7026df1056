"""JupyterLab as a reader uses it: notebooks 3 and 6 opened in Chromium, Run All from the menu, the
sliders moved by keyboard.
"""

import json
import os
import re
import subprocess
import time

import nbformat
import pytest
from playwright.sync_api import expect

from helpers import ROOT, files

TOKEN = {"token": "a-token"}
LOCAL = re.compile(r"(https?|wss?)://(localhost|127\.0\.0\.1)[:/]|data:|blob:")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, sample, draw_adapter):
    """What notebooks 3 and 6 read: splits of a few rows, and two adapters whose weights are drawn,
    not trained.
    """
    folder = tmp_path_factory.mktemp("run")
    for split, rows in sample.items():
        files.write_jsonl(
            folder / "data" / f"{split}.jsonl", sorted(rows, key=lambda row: len(row["text"]))[-4:]
        )
    for rank in (4, 8):
        draw_adapter(
            folder / "train" / f"rank{rank}", r=rank, lora_alpha=16, target_modules="all-linear"
        )
    return folder


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, run_dir):
    """A folder with copies of both notebooks, the defaults in their parameters cells pointing to
    `run_dir`; and one that fails.
    """
    folder = tmp_path_factory.mktemp("notebooks")
    defaults = {"run_dir": str(run_dir), "settings": ["rank4", "rank8"], "lengths": [64, 128]}
    for name in ("03-lora-theory", "06-oom-and-max-length"):
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        cell = next(
            cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])
        )
        for key, value in defaults.items():
            cell.source = re.sub(
                rf"^({key}\b.*? = ).*?(?=  #)",
                lambda found, value=value: found[1] + repr(value),
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
    """JupyterLab as `make lab` starts it, but on a free port and with settings of its own; yields
    its address.
    """
    own = tmp_path_factory.mktemp("jupyter")
    places = (
        "JUPYTER_RUNTIME_DIR",
        "JUPYTER_CONFIG_DIR",
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
        "IPYTHONDIR",
    )
    environment = os.environ | {place: str(own / place.lower()) for place in places}
    shown = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/.ready", "lab"]
    quiet = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")
    }  # make itself runs these tests
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
            if found := list((own / "jupyter_runtime_dir").glob("jpserver-*.json")):
                break
            assert process.poll() is None, (own / "log").read_text()
            time.sleep(0.2)
        yield json.loads(found[0].read_text())["url"]
    finally:
        process.terminate()  # the server ends its kernels
        process.wait(timeout=60)


@pytest.fixture
def page(chromium, server):
    """A page that can reach this machine only; what else it asks for is refused and fails the test.
    Its kernels end with it.
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
    return context.request.get(f"{server}api/kernels", params=TOKEN).json()


def run_all(page, server, notebook, seconds):
    """Open a notebook, run all of its cells from the menu, wait for the kernel, save; the notebook
    as it then lies on the disk.
    """
    page.goto(f"{server}lab/tree/{notebook.name}?token={TOKEN['token']}&reset")
    for _ in range(300):  # the page calls a kernel idle before there is one: ask the server
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
    ended = re.compile(
        r"Kernel status: Idle\s*(Executed \d+ cells.*)?$"
    )  # between two cells it says 3/22; after an error nothing
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


def shown_beside(slider):
    """What the slider's cell and the one above it show, text and pictures, without the sliders
    themselves.
    """
    return slider.evaluate(
        """slider => [slider.closest('.jp-Cell'), slider.closest('.jp-Cell').previousElementSibling]
            .flatMap(cell => [...cell.querySelectorAll('.jp-OutputArea-output')])
            .filter(output => !output.querySelector('.widget-slider'))
            .map(output => output.innerText + [...output.querySelectorAll('img, svg')].map(drawn => drawn.src || drawn.outerHTML))"""
    )


def move_each_slider(page):
    """Names of the sliders; each is moved by one key, after which an output beside it must be
    another one.
    """
    names = []
    for slider in page.locator(".widget-slider").all():
        slider.scroll_into_view_if_needed()
        slider.locator(".noUi-handle").focus()
        page.wait_for_timeout(1000)  # what scrolling brings into view is drawn
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


@pytest.mark.parametrize(
    ("name", "sliders", "seconds"),
    [
        ("03-lora-theory", ["rank", "α"], 240),
        ("06-oom-and-max-length", ["tokens", "batch", "rank"], 420),
    ],
)
def test_run_all_ends_without_an_error_and_sliders_move(
    name, sliders, seconds, server, workplace, page
):
    ran = run_all(page, server, workplace / f"{name}.ipynb", seconds)
    assert errors(ran) == [] and never_ran(ran) == []
    widgets = [cell for cell in ran.cells if "Slider(" in cell.source]
    assert bool(widgets) >= bool(sliders)
    if widgets:
        page.locator(".widget-slider").first.wait_for(state="attached")
        assert set(sliders) <= set(move_each_slider(page))


def test_a_cell_that_fails_is_found(server, workplace, page):
    ran = run_all(page, server, workplace / "failing.ipynb", 60)
    assert errors(ran) == ["division by zero"] and never_ran(ran) == [ran.cells[-1].id]
