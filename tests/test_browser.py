"""The published pages in a real browser, opened from the file system with the network blocked."""

import json
import re
import threading
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import axe_playwright_python
import pytest
from conftest import offline_page
from playwright.sync_api import TimeoutError

from helpers import ROOT

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LOOKS = {
    "light-laptop": {"color_scheme": "light", "viewport": {"width": 1366, "height": 768}},
    "dark-phone": {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}},
}


@pytest.fixture
def served():
    """served(folder) serves a folder on this machine during the test and returns its address."""
    servers = []

    def start(folder):
        servers.append(
            ThreadingHTTPServer(
                ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder)
            )
        )
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def visit(page, path):
    page.complaints.clear()
    page.goto(path.as_uri())
    page.wait_for_function(
        "document.readyState == 'complete' && !!document.documentElement.dataset.theme"
    )


def pages(book):
    found = sorted(book.html.glob("*.html"))
    assert {f"{name}.html" for name in ("index", "helpers", "references", "citing", "search")} <= {
        path.name for path in found
    }
    return found


class Seen(NamedTuple):
    """What a page shows in one look, that is, in one theme and size."""

    complaints: list[str]
    asked: list[str]
    """Addresses that it asked for and that are no files."""
    theme: str
    width: int
    """The width in pixels that the page needs."""
    formulas: int
    formulas_set: int
    formulas_in_error: int
    pictures: list
    """For each picture its address, its own width and its alternative text."""
    headings: list[str]
    """Of each table of results."""
    cut_tables: list
    words_alike: int
    """See ONE_OF_EACH_LOOK."""
    rules_passed: list[str]
    violations: list
    """Serious and critical ones of axe-core, with all cells unfolded: rule and elements."""


@pytest.fixture(scope="module")
def seen(tiny, chromium):
    """seen[look][page's file] is what the page shows; each page is opened once for each look."""
    shown = {}
    for look, options in LOOKS.items():
        with chromium.new_context(**options) as context:
            page = offline_page(context)
            shown[look] = {path.name: look_at(page, path) for path in pages(tiny)}
    return shown


def look_at(page, path) -> Seen:
    page.asked.clear()
    visit(page, path)
    formulas = page.locator(".math").count()
    with suppress(TimeoutError):
        page.wait_for_function(
            f"document.querySelectorAll('.math mjx-container svg').length >= {formulas}",
            timeout=20000,
        )
    folded = dict(
        complaints=list(page.complaints),
        asked=list(page.asked),
        theme=page.evaluate("document.documentElement.dataset.theme"),
        width=page.evaluate("document.documentElement.scrollWidth"),
        formulas=formulas,
        formulas_set=page.locator(".math mjx-container svg").count(),
        formulas_in_error=page.locator("mjx-merror, [data-mjx-error]").count(),
        pictures=page.evaluate(
            "[...document.images].map("
            "i => [i.getAttribute('src'), i.naturalWidth, (i.alt || '').trim()])"
        ),
        headings=page.eval_on_selector_all(
            ".cell_output table",
            "tables => tables.map(table => table.tHead?.textContent.trim() ?? '')",
        ),
        cut_tables=page.eval_on_selector_all(
            ".cell_output table.dataframe",
            "tables => tables.filter(t => t.offsetWidth > t.parentElement.clientWidth)"
            ".map(t => [t.offsetWidth, t.tHead.textContent.split(/\\s+/).join(' ')])",
        ),
    )
    page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    # once the layout has settled, the theme looks for what scrolls
    page.evaluate("new Promise(done => setTimeout(done, 400))")
    alike = page.evaluate(ONE_OF_EACH_LOOK)
    page.evaluate(AXE)
    # preload would fetch the style sheets, which a browser denies to a page opened as a file
    report = page.evaluate("axe.run(document, {resultTypes: ['violations'], preload: false})")
    bad = [rule for rule in report["violations"] if rule["impact"] in ("serious", "critical")]
    return Seen(
        **folded,
        words_alike=alike,
        rules_passed=[rule["id"] for rule in report["passes"]],
        violations=[(rule["id"], node["html"][:100]) for rule in bad for node in rule["nodes"][:3]],
    )


ONE_OF_EACH_LOOK = """() => {
    const looks = (element, ...parts) => parts.map(part => getComputedStyle(element)[part]).join();
    const beneath = new Map(), seen = new Set(), again = [];
    for (const block of document.querySelectorAll('pre')) {
        let behind = '';
        for (let above = block; above; above = above.parentElement)
            behind += looks(above, 'backgroundColor', 'backgroundImage', 'opacity') + ';';
        beneath.set(block, behind);
    }
    for (const span of document.querySelectorAll('pre > span:not([id], :has(*))')) {
        const look = looks(span, 'color', 'backgroundColor', 'opacity', 'fontSize', 'fontWeight');
        const key = beneath.get(span.parentElement) + look;
        if (seen.has(key)) again.push(span);
        seen.add(key);
    }
    for (const span of again) span.replaceWith(...span.childNodes);
    return again.length;
}"""
"""Takes the colour from words of code that look like an earlier word on the same background, and
returns how many there were: axe checks the contrast of each word, and there are thousands.
"""


def test_every_page_opens_without_a_complaint_and_without_a_network(seen):
    for look, shown in seen.items():
        for name, page in shown.items():
            assert (page.complaints, page.asked) == ([], []), (look, name)


def test_the_guard_sees_what_a_page_asks_for(offline, tmp_path):
    (tmp_path / "page.html").write_text(
        "<html data-theme=light><script src=https://example.org/x.js></script>", encoding="utf-8"
    )
    offline.goto((tmp_path / "page.html").as_uri())
    assert offline.asked == ["https://example.org/x.js"] and offline.complaints


def test_formulas_are_set(seen):
    shown = seen["light-laptop"]
    for name, page in shown.items():
        assert page.formulas_set >= page.formulas and page.formulas_in_error == 0, name
    assert shown["03-lora-theory.html"].formulas > 5


def test_every_picture_loads_and_says_what_it_shows(seen):
    shown = seen["light-laptop"]
    for name, page in shown.items():
        for source, width, alt in page.pictures:
            assert width > 0 and len(alt) > 10 and alt not in source, (name, source, alt)
            assert source.endswith(".svg"), (name, source)  # crisp at every size
    for notebook in NOTEBOOKS:
        if "plotting." in notebook.read_text(encoding="utf-8").replace("plotting.style()", ""):
            assert any(
                page.pictures for name, page in shown.items() if name.startswith(notebook.stem)
            ), notebook.name


def test_every_table_of_results_shows_its_headings_and_stands_whole_on_a_laptop(seen):
    shown, tables = seen["light-laptop"], 0
    for name, page in shown.items():
        assert all(page.headings), (name, page.headings)
        tables += len(page.headings)
    assert tables > 20
    assert {name: page.cut_tables for name, page in shown.items() if page.cut_tables} == {}


def test_no_page_is_wider_than_a_phone(seen):
    shown, phone = seen["dark-phone"], LOOKS["dark-phone"]["viewport"]["width"]
    assert {name: page.width for name, page in shown.items() if page.width > phone} == {}


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_keeps_a_reader_out(seen, look):
    shown = seen[look]
    for name, page in shown.items():
        assert page.theme == LOOKS[look]["color_scheme"], name
        assert "color-contrast" in page.rules_passed, name
    assert {name: page.violations for name, page in shown.items() if page.violations} == {}
    assert sum(page.words_alike for page in shown.values()) > 5000


def own_words():
    """For each notebook, the longest word of its prose that is in no other notebook's prose."""
    words = {}
    for notebook in NOTEBOOKS:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        prose = " ".join(
            "".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"
        )
        prose = re.sub(r"`[^`]*`|\$[^$]*\$|\{[^}]*\}|\]\([^)]*\)", " ", prose)
        words[notebook.stem] = set(re.findall(r"\b[a-z]{6,}\b", prose))
    for name, own in words.items():
        yield (
            name,
            max(
                own - set().union(*(others for other, others in words.items() if other != name)),
                key=lambda word: (len(word), word),
            ),
        )


def test_the_search_finds_a_word_of_each_notebook(tiny, offline):
    for name, word in own_words():
        offline.goto((tiny.html / "search.html").as_uri() + f"?q={word}")
        offline.wait_for_selector("#search-results ul.search li a", timeout=20000)
        results = offline.eval_on_selector_all(
            "#search-results ul.search li a",
            "links => links.map(link => link.getAttribute('href'))",
        )
        assert any(address.startswith(name) for address in results), (name, word, results)
    assert offline.complaints == [] and offline.asked == []


def test_the_executed_notebook_is_offered(tiny, offline, chromium, served):
    """On a page opened as a file, the link opens the notebook, because a browser may not offer it
    as a download there; on a page from a server, the link downloads it.
    """
    path = tiny.html / "01-dataset-exploration.html"
    visit(offline, path)
    line = offline.locator(".provenance")
    assert re.search(
        r"Ran on \d{4}-\d\d-\d\d at \d\d:\d\d UTC for (\d+ min )?\d+ s", line.inner_text()
    )
    line.locator("a").click()
    offline.wait_for_url("**/01-dataset-exploration.ipynb")
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(served(tiny.html) + path.name)
        with page.expect_download() as download:
            page.locator(".provenance a").click()
        assert download.value.suggested_filename == "01-dataset-exploration.ipynb"
        notebook = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert notebook["metadata"]["papermill"]["parameters"]["run_dir"].startswith("runs/")
    assert any(cell.get("outputs") for cell in notebook["cells"])
