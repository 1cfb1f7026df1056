"""Shared parts: the packaged model and its tokenizer, adapters for it, rows of the sample, the tiny
book, a browser without a network.
"""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from filelock import FileLock
from peft import LoraConfig, get_peft_model
from playwright.sync_api import sync_playwright

from helpers import ROOT, files, models, sources


class Book(NamedTuple):
    """What `make book PROFILE=tiny` printed, and a copy of its pages as they were then."""

    printed: str
    html: Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, request) -> Book:
    """The tiny book, made afresh by whichever test process comes first; the others wait for it."""
    shared = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        shared = shared.parent  # of all test processes
    printed, html = shared / "tiny.txt", shared / "tiny"
    with FileLock(shared / "tiny.lock"):
        if not html.is_dir():
            shutil.rmtree(ROOT / "runs" / "tiny", ignore_errors=True)
            done = subprocess.run(
                ["make", "-s", "book", "PROFILE=tiny"], cwd=ROOT, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
            printed.write_text(done.stdout, encoding="utf-8")
            shutil.copytree(ROOT / "runs" / "tiny" / "html", html)
    return Book(printed.read_text(encoding="utf-8"), html)


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


@pytest.fixture
def offline(chromium):
    """Opens browser windows that read files only: `offline(…)` gives a page; what it complained of
    and what it asked for are beside it.
    """
    contexts = []

    def window(**options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.complaints, page.asked = [], []

        def serve(route):
            if route.request.url.startswith("file://"):
                return route.continue_()
            page.asked.append(route.request.url)
            return route.abort()

        context.route("**/*", serve)
        page.on(
            "console",
            lambda message: (
                page.complaints.append(message.text)
                if message.type in ("error", "warning")
                else None
            ),
        )
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("requestfailed", lambda request: page.complaints.append(f"failed: {request.url}"))
        return page

    yield window
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def tokenizer():
    return models.load_tokenizer(models.PACKAGED)


@pytest.fixture(scope="session")
def sample():
    return {split: list(rows) for split, rows in sources.read_source("sample").splits.items()}


@pytest.fixture(scope="session")
def base():
    return models.load_model(models.PACKAGED, dtype="float32")


@pytest.fixture(scope="session")
def draw_adapter():
    """draw_adapter(folder, **choices of LoraConfig): what a setting's training leaves in its
    folder, its weights drawn.
    """

    def draw(folder, **choices):
        torch.manual_seed(0)
        adapted = get_peft_model(models.load_model(models.PACKAGED), LoraConfig(**choices))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.01)
        adapted.save_pretrained(folder / "adapter")
        files.write_json(folder / "summary.json", {})

    return draw
