"""What tests share: a scratch copy of the project with its tiny book, models, and a browser."""

import os
import random
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
from transformers import AutoConfig, AutoModelForCausalLM, HfArgumentParser

from helpers import ROOT, InputError, adapters, files, models, sources, swift_setup, templating

LONGEST = (
    "test_lab test_book test_training_runs test_classify test_scoring test_profiles test_heads "
    "test_budgets test_browser test_odd_sizes test_export test_models"
).split()
"""Test files that take minutes. They begin first, so that no core waits for the last one alone."""
GPU_PROFILES = {
    "yi-6b": "Yi-6B",
    "qwen1.5-1.8b": "Qwen1.5-1.8B",
    "qwen3-0.6b": "Qwen3-0.6B-Base",
    "baichuan2-7b": "Baichuan2-7B-Base",
}
"""Profiles whose models are not at hand, and the file in data/configs that describes each model."""
SCRATCH = "路径 有空格"
"""The scratch copy's folder: a name with a space and Chinese characters, as readers have them."""
LEFT_OUT = (".venv", "runs/", "data/downloads/")
"""What is not copied into a scratch copy: it may be gigabytes of the reader's."""

# Examples are the same for the same code, and none are kept; on a busy machine, one may be slow.
hypothesis.settings.register_profile("book", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("book")


class Book(NamedTuple):
    """The tiny book in the scratch copy: what `make` printed, and a copy of its pages."""

    printed: str
    html: Path
    run: Path
    """The run's folder; tests may read it, and may edit what they put back."""


def copy_project(folder: Path) -> Path:
    """Copy the project as it is, with tracked and new files, and with the same virtual environment.

    Args:
        folder: the copy; made here.
    """
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    if not any(names):  # a project out of an archive has no list of files
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    for name in names:
        if (ROOT / name).is_file() and not name.startswith(LEFT_OUT):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to((ROOT / ".venv").resolve())
    return folder


def project_environment(folder: Path) -> dict[str, str]:
    """An environment in which a copy of the project uses its own helpers."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return own | {"PYTHONPATH": str(folder)}


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores, because some tests wait for a browser or a server.

    There are fewer where memory is short: with what it starts, a process holds 5 GB at its peak.
    """
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return max(1, min(cores + 1, psutil.virtual_memory().total // 5_000_000_000))


def pytest_collection_modifyitems(items):
    """Run the longest files first; the tests within a file keep their order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session", autouse=True)
def refusals_are_one_line():
    """Check in all tests that an InputError raised in their process has a message of one line."""

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
    """The scratch copy of the project, which tests may run and edit."""
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
            # .ready may be older than the copied lists, but all that they ask for is installed
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
    """A browser: Debian's Chromium, or its counterpart on other systems."""
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
        )  # Chromium has no sandbox for root, as in a container
        yield browser
        browser.close()


def offline_page(context):
    """A page that can read nothing but files.

    Its lists `complaints` and `asked` note what it complained of, and what else it asked for.

    Args:
        context: a browser context for this page alone.
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
    """A page of 1280 × 900 pixels that can read nothing but files."""
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield offline_page(context)


def run_cells(name, **parameters):
    """Run a chapter's own cells with these parameters; return the names that they define."""
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
    """Run the solution of a chapter's exercise; return the names that it defines."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if "solution" in cell.metadata.get("tags", [])]
    exec(compile(cells[exercise - 1].source, f"{name}, exercise {exercise}", "exec"), given)
    return given


FORMAT = templating.PromptFormat(templating.PLAIN, 192, True)


def sft_arguments(**changes):
    """Arguments of swift for training the packaged model, but for what is changed."""
    values = {
        "model": models.PACKAGED,
        "prompt_format": FORMAT,
        "rank": 16,
        "alpha": 32,
        "dropout": 0.0,
        "steps": 40,
        "rows_per_step": 8,
        "batch_size": 4,
        "learning_rate": 4e-4,
        "evaluations": 3,
        "seed": 42,
        "train_rows": 100,
    }
    return swift_setup.sft_arguments(**values | changes)


@pytest.fixture(scope="session")
def parse():
    """parse(arguments) gives what swift understands of them, and what it does not know."""
    from swift.arguments import SftArguments

    parser = HfArgumentParser(SftArguments)

    def parse(arguments):
        line = []
        for key, value in arguments.items():
            line += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
        return parser.parse_known_args(line)

    return parse


def texts_of(count):
    """Texts of 300 random characters, the same each time."""
    rng = random.Random(0)
    return ["".join(chr(rng.randrange(0x4E00, 0x9F00)) for _ in range(300)) for _ in range(count)]


def with_copies(count, copies):
    """Such texts and near copies of the first ones, and labels A and B in turns."""
    texts = texts_of(count)
    texts += [text[:150] + "，" + text[150:] + "（完）" for text in texts[:copies]]
    labels = ["AB"[i % 2] for i in range(count)] + ["AB"[i % 2] for i in range(copies)]
    return texts, labels


@pytest.fixture(scope="session")
def tokenizer():
    return models.load_tokenizer(models.PACKAGED)


@pytest.fixture(scope="session")
def qwen_tokenizer():
    """Qwen's tokenizer, over bytes and with no token in front; converting it takes seconds."""
    return models.qwen_tokenizer()


@pytest.fixture(scope="session")
def copy_tokenizer():
    """copy_tokenizer(folder) puts the packaged model's tokenizer beside another model.

    Saved by the library, a tokenizer takes three times the bytes, and seconds more to load.
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
    """A small model, the same each time, in which biases and norms' weights are random, too."""
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


def padded_batch():
    """Three rows of token ids for such a model, the first padded on the left, and their mask."""
    ids = torch.randint(100, (3, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    return ids, mask


@pytest.fixture(scope="session")
def draw_adapter():
    """draw_adapter(folder, **choices of LoraConfig) fills a folder as training a setting does, but
    with random weights.
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
    """A folder with a BERT of one layer, random weights, a tokenizer and a head for two classes."""
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
