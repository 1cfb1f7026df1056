"""Text of a data set is data: markup in a row, an option or a label is published as text."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from helpers import ROOT
from helpers.files import write_jsonl
from helpers.notebooks import run_notebook
from helpers.profiles import CHAPTERS

HOSTILE = (
    "<script>document.title='run'</script><form action=x><input name=q></form>"
    "<img src=x onerror=alert(1)> $x$ \\(y\\) {{ z }} {glue:text}`n`"
)
LABELS = ["<b>Art</b>", "Sports & $1", "Law"]
PAGE = "01-dataset-exploration"


@pytest.fixture(scope="module")
def pages(tmp_path_factory, sample):
    """The published page of chapter 1, which shows a row as it is, here for rows full of markup."""
    folder = tmp_path_factory.mktemp("markup")
    articles = [row["text"][:600] for row in sample["train"] if len(row["text"]) > 600][:30]
    rows = [
        {"text": HOSTILE + text, "category": LABELS, "output": LABELS[i % 3]}
        for i, text in enumerate(articles)
    ]
    write_jsonl(folder / "rows.jsonl", rows)
    given = {"run_dir": str(folder / "run"), "source": str(folder / "rows.jsonl")}
    given |= {"val_limit": 4, "test_limit": 4}
    output = folder / "run" / "notebooks" / f"{PAGE}.ipynb"
    run_notebook(ROOT / "notebooks" / f"{PAGE}.ipynb", output, given)
    site = folder / "site"
    stage = [sys.executable, "-m", "tools.stage", str(folder / "run"), str(site)]
    subprocess.run([*stage, "--title", "markup", "--settings", "none"], cwd=ROOT, check=True)
    # this chapter and the glossary link to the other chapters, which did not run
    others = [name for name in CHAPTERS if name not in (PAGE, "04-training")]
    for name in others:
        (site / f"{name}.md").write_text(f"# {name}\n")
    chapters = [{"file": name} for name in (PAGE, "glossary", *others)]
    toc = {"format": "jb-book", "root": "references", "chapters": chapters}
    (site / "_toc.yml").write_text(yaml.safe_dump(toc))
    publish = [sys.executable, "-m", "tools.publish", str(site), "_config.yml"]
    built = subprocess.run(
        [*publish, str(folder / "html")], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    downloads = sorted((folder / "html" / "_downloads").rglob("*.ipynb"))
    return {
        PAGE: (folder / "html" / f"{PAGE}.html").read_text(encoding="utf-8"),
        "downloads": [path.read_text(encoding="utf-8") for path in downloads],
        "folder": folder / "html",
    }


def html(pages):
    return [(name, page) for name, page in pages.items() if name not in ("downloads", "folder")]


def test_markup_in_a_row_is_shown_as_text(pages):
    for name, page in html(pages):
        assert "&lt;script&gt;document.title" in page, name
        assert "{glue:text}`n`" in page.replace("&#96;", "`"), name


def test_nothing_of_a_row_becomes_an_element(pages):
    for name, page in html(pages):
        assert "<script>document.title" not in page, name
        assert not re.search(r"<form[^>]*action=.?x|<img[^>]*onerror|<b>Art", page), name


def test_the_downloadable_notebook_holds_it_as_plain_text_too(pages):
    """JupyterLab renders text/html outputs, so none of them may hold an element from a row."""
    assert len(pages["downloads"]) == 1
    for notebook in map(json.loads, pages["downloads"]):
        outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
        rich = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]
        assert any(rich)
        assert not [text for text in rich if re.search(r"<script>document|<form|<img|<b>Art", text)]


def test_a_browser_runs_nothing_of_a_row(pages, offline):
    for name, _ in html(pages):
        offline.goto((pages["folder"] / f"{name}.html").as_uri())
        assert offline.title() != "run"
        assert offline.locator("form[action=x], img[src=x], article b:text-is('Art')").count() == 0
        assert (
            "<script>document.title='run'</script><form action=x><input name=q></form>"
            in offline.locator("article").inner_text()
        )
    assert offline.complaints == [] and offline.asked == []
