"""Shared parts: a scratch copy of the project and its tiny book, the packaged model, a browser."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import hypothesis
import nbformat
import psutil
import pytest
import torch
from filelock import FileLock
from matplotlib import pyplot as plt
from peft import LoraConfig, get_peft_model
from playwright.sync_api import sync_playwright
from transformers import AutoConfig, AutoModelForCausalLM

from helpers import ROOT, InputError, adapters, files, models, sources, templating

LONGEST = (
    "test_lab test_book test_training_runs test_classify test_scoring test_profiles test_heads "
    "test_budgets test_browser test_odd_sizes test_export test_models"
).split()
"""Files that take minutes. They begin first, so that no core waits for the last of them alone."""
GPU_PROFILES = {
    "yi-6b": "Yi-6B",
    "qwen1.5-1.8b": "Qwen1.5-1.8B",
    "qwen3-0.6b": "Qwen3-0.6B-Base",
    "baichuan2-7b": "Baichuan2-7B-Base",
}
"""Profiles whose models are not at hand, and the file in data/configs that describes each model."""
SCRATCH = "路径 有空格"
"""The scratch copy's folder: a path with spaces and Chinese characters, as readers have them."""
LEFT_OUT = (".venv", "runs/", "data/downloads/")
"""What a scratch copy goes without: it is gigabytes of the reader's."""

# The same examples each time, none kept beside the tests; an example may be slow on a busy machine.
hypothesis.settings.register_profile("book", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("book")


class Book(NamedTuple):
    """The tiny book in the scratch copy: what `make` printed, and a copy of its pages."""

    printed: str
    html: Path
    run: Path
    """The run's folder; tests may read it, and edit what they put back."""


def copy_project(folder: Path) -> Path:
    """A copy of the project as it stands, tracked or new, with the same virtual environment.

    Args:
        folder: to be made.
    """
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    if not any(names):  # an archive of the project has no list
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    for name in names:
        if (ROOT / name).is_file() and not name.startswith(LEFT_OUT):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to((ROOT / ".venv").resolve())
    return folder


def project_environment(folder: Path) -> dict[str, str]:
    """An environment in which a copy of the project uses its own helpers, not this one's."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return own | {"PYTHONPATH": str(folder)}


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores, for some tests wait for a browser or a server; fewer
    where memory would not last: at its peak a process holds 5 GB, with what it starts.
    """
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return max(1, min(cores + 1, psutil.virtual_memory().total // 5_000_000_000))


def pytest_collection_modifyitems(items):
    """The longest files first; what stands in one file keeps its order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session", autouse=True)
def refusals_are_one_line():
    """No test has to ask it: what is said to the reader in its process stands on one line."""

    def say(error, *said):
        assert "\n" not in "".join(map(str, said)), f"more than one line: {said}"
        ValueError.__init__(error, *said)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InputError, "__init__", say)
        yield


@pytest.fixture(scope="session")
def of_all_processes(tmp_path_factory, request) -> Path:
    """A scratch folder that all test processes share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if hasattr(request.config, "workerinput") else folder


@pytest.fixture(scope="session")
def project(of_all_processes) -> Path:
    """The scratch copy of the project: tests may run and edit it."""
    folder = of_all_processes / SCRATCH
    with FileLock(of_all_processes / "project.lock"):
        if not folder.is_dir():
            copy_project(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(project, of_all_processes) -> Book:
    """The tiny book, made afresh by whichever test process comes first; the others wait for it."""
    printed, html = of_all_processes / "tiny.txt", of_all_processes / "tiny"
    run = project / "runs" / "tiny"
    with FileLock(of_all_processes / "tiny.lock"):
        if not html.is_dir():
            # the .ready file may be older than the copy's lists; what they ask for is installed
            make = ["make", "-s", "--old-file=.venv/.ready", "book", "PROFILE=tiny"]
            done = subprocess.run(
                make, cwd=project, env=project_environment(project), capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
            printed.write_text(done.stdout, encoding="utf-8")
            shutil.copytree(run / "html", html)
    return Book(printed.read_text(encoding="utf-8"), html, run)


@pytest.fixture(scope="session")
def chromium():
    """A browser: Debian's Chromium, or what is called so elsewhere."""
    found = [
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ]
    if not found:
        pytest.skip("needs Chromium: apt-get install chromium fonts-noto-cjk")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found[0], args=["--no-sandbox"]
        )  # root, as in a container, has none
        yield browser
        browser.close()


def offline_page(context):
    """A page that reads files only; what it complained of and asked for beyond them is noted in its
    lists `complaints` and `asked`.

    Args:
        context: a browser's, for this page alone.
    """
    page = context.new_page()
    page.complaints, page.asked = [], []

    def serve(route):
        if route.request.url.startswith("file://"):
            return route.continue_()
        page.asked.append(route.request.url)
        return route.abort()

    def complain(message):
        if message.type in ("error", "warning"):
            page.complaints.append(message.text)

    context.route("**/*", serve)
    page.on("console", complain)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("requestfailed", lambda request: page.complaints.append(f"failed: {request.url}"))
    return page


@pytest.fixture
def offline(chromium):
    """A page of 1280 × 900 that reads files only."""
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield offline_page(context)


def run_cells(name, **parameters):
    """The names that a chapter's own cells leave behind, run here with these parameters."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    space = {"__name__": "chapter", "display": lambda *shown, **choices: None}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            code = cell.source.replace("check_parameters()", "None", 1)
            exec(compile(code, f"{name}, {cell.id}", "exec"), space)
            if "parameters" in cell.metadata.get("tags", []):
                assert parameters.keys() <= space.keys()
                space |= parameters
        plt.close("all")
    return space


def run_solution(name, exercise, **given):
    """The names that the solution of a chapter's exercise leaves behind."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if "solution" in cell.metadata.get("tags", [])]
    exec(compile(cells[exercise - 1].source, f"{name}, exercise {exercise}", "exec"), given)
    return given


@pytest.fixture(scope="session")
def tokenizer():
    return models.load_tokenizer(models.PACKAGED)


@pytest.fixture(scope="session")
def qwen_tokenizer():
    """Over bytes, and without a token in front; it takes seconds to convert."""
    return models.qwen_tokenizer()


@pytest.fixture(scope="session")
def copy_tokenizer():
    """copy_tokenizer(folder): the packaged model's tokenizer beside another model. As a tokenizer
    saves itself, it takes thrice the bytes, and every process that loads it seconds more.
    """

    def copy(folder):
        for path in models.packaged_model().glob("tokenizer*.json"):
            shutil.copy(path, folder)

    return copy


@pytest.fixture(scope="session")
def sample():
    return {split: list(rows) for split, rows in sources.read_source("sample").splits.items()}


@pytest.fixture(scope="session")
def base():
    return models.load_model(models.PACKAGED, dtype="float32")


def small_model(make="gemma3_text", key_heads=1, **choices):
    """A small random model, biases and norms' weights included: the same one each time."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": key_heads, "sliding_window": 6}
    config = AutoConfig.for_model(make, **sizes | heads | {"vocab_size": 100} | choices)
    if make == "gemma3_text":
        config.layer_types = ["sliding_attention", "full_attention"]
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model


@pytest.fixture(scope="session")
def draw_adapter():
    """draw_adapter(folder, **choices of LoraConfig): what a setting's training leaves in its
    folder, its weights drawn.
    """

    def draw(folder, prompt_format=None, labels=("a", "b"), **choices):
        torch.manual_seed(0)
        adapted = get_peft_model(models.load_model(models.PACKAGED), LoraConfig(**choices))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.01)
        adapted.save_pretrained(folder / "adapter")
        prompt_format = prompt_format or templating.PromptFormat(templating.PLAIN, 256, True)
        own = adapters.AdapterPrompt(models.PACKAGED, prompt_format, list(labels))
        adapters.write_prompt(folder / "adapter", own)
        files.write_json(folder / "summary.json", {})

    return draw


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory):
    """A BERT of one layer with drawn weights, its tokenizer and a head for two classes."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set("油画法院足球的新闻"))]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder
