"""The published pages in a real browser, opened from the file system with the network blocked."""

import json
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import axe_playwright_python
import pytest

from helpers import ROOT

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
LAPTOP = {"width": 1366, "height": 768}


@pytest.fixture
def served():
    """Serves a folder on this machine: `served(folder)` is the address it has while the test
    runs.
    """
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
    return path.name


def pages(book):
    found = sorted(book.html.glob("*.html"))
    assert {f"{name}.html" for name in ("index", "helpers", "references", "citing", "search")} <= {
        path.name for path in found
    }
    return found


def test_every_page_opens_without_a_complaint_and_without_a_network(tiny, offline):
    page = offline(viewport=DESK)
    wrong = {visit(page, path): list(page.complaints) for path in pages(tiny)}
    assert {name: complaints for name, complaints in wrong.items() if complaints} == {}
    assert page.asked == []


def test_the_guard_sees_what_a_page_asks_for(offline, tmp_path):
    (tmp_path / "page.html").write_text(
        "<html data-theme=light><script src=https://example.org/x.js></script>", encoding="utf-8"
    )
    page = offline()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.asked == ["https://example.org/x.js"] and page.complaints


def test_formulas_are_set(tiny, offline):
    page, formulas = offline(viewport=DESK), {}
    for path in pages(tiny):
        name = visit(page, path)
        written = page.locator(".math").count()
        if written:
            page.wait_for_function(
                f"document.querySelectorAll('.math mjx-container svg').length >= {written}",
                timeout=20000,
            )
            assert page.locator("mjx-merror, [data-mjx-error]").count() == 0, name
            formulas[name] = written
    assert formulas.get("03-lora-theory.html", 0) > 5


def test_every_picture_loads_and_says_what_it_shows(tiny, offline):
    page, shown = offline(viewport=DESK), {}
    for path in pages(tiny):
        name = visit(page, path)
        shown[name] = page.evaluate(
            "[...document.images].map("
            "i => [i.getAttribute('src'), i.naturalWidth, (i.alt || '').trim()])"
        )
        for source, width, alt in shown[name]:
            assert width > 0 and len(alt) > 10 and alt not in source, (name, source, alt)
            assert source.endswith(".svg"), (name, source)  # crisp at every size
    for notebook in NOTEBOOKS:
        if "plotting." in notebook.read_text(encoding="utf-8").replace("plotting.style()", ""):
            assert any(
                pictures for name, pictures in shown.items() if name.startswith(notebook.stem)
            ), notebook.name


def test_every_table_of_results_shows_its_headings_and_stands_whole_on_a_laptop(tiny, offline):
    page, tables, cut = offline(viewport=LAPTOP), 0, {}
    for path in pages(tiny):
        name = visit(page, path)
        headings = page.eval_on_selector_all(
            ".cell_output table",
            "tables => tables.map(table => table.tHead?.textContent.trim() ?? '')",
        )
        assert all(headings), (name, headings)
        tables += len(headings)
        if wide := page.eval_on_selector_all(
            ".cell_output table.dataframe",
            "tables => tables.filter(t => t.offsetWidth > t.parentElement.clientWidth)"
            ".map(t => [t.offsetWidth, t.tHead.textContent.split(/\\s+/).join(' ')])",
        ):
            cut[name] = wide
    assert tables > 20 and cut == {}


def test_no_page_is_wider_than_a_phone(tiny, offline):
    page, wide = offline(viewport=PHONE), {}
    for path in pages(tiny):
        name = visit(page, path)
        if (width := page.evaluate("document.documentElement.scrollWidth")) > PHONE["width"]:
            wide[name] = width
    assert wide == {}


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
"""Coloured words of code that look like one before them, on a like ground, lose their colour: axe
looks at each word's contrast, and there are thousands. How many words did.
"""


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", DESK), ("dark", PHONE)], ids=["light-desk", "dark-phone"]
)
def test_nothing_keeps_a_reader_out(tiny, offline, scheme, size):
    """axe-core finds nothing serious or critical, unfolded cells included."""
    page, found, alike = offline(viewport=size, color_scheme=scheme), {}, 0
    for path in pages(tiny):
        name = visit(page, path)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        page.evaluate(
            "for (const folded of document.querySelectorAll('details')) folded.open = true"
        )
        page.evaluate(
            "new Promise(done => setTimeout(done, 400))"
        )  # the theme looks for what scrolls once layout has settled
        alike += page.evaluate(ONE_OF_EACH_LOOK)
        page.evaluate(AXE)
        report = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert any(rule["id"] == "color-contrast" for rule in report["passes"])
        bad = [rule for rule in report["violations"] if rule["impact"] in ("serious", "critical")]
        if bad:
            found[name] = [
                (rule["id"], node["html"][:100]) for rule in bad for node in rule["nodes"][:3]
            ]
    assert found == {} and alike > 5000


def own_words():
    """For each notebook the longest word of its prose that no other notebook's prose has."""
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
    page = offline(viewport=DESK)
    for name, word in own_words():
        page.goto((tiny.html / "search.html").as_uri() + f"?q={word}")
        page.wait_for_selector("#search-results ul.search li a", timeout=20000)
        results = page.eval_on_selector_all(
            "#search-results ul.search li a",
            "links => links.map(link => link.getAttribute('href'))",
        )
        assert any(address.startswith(name) for address in results), (name, word, results)
    assert page.complaints == [] and page.asked == []


def test_the_executed_notebook_is_offered(tiny, offline, chromium, served):
    """From the file system the link opens the notebook, which a browser may not hand over there;
    from a server it downloads it.
    """
    path = tiny.html / "01-dataset-exploration.html"
    page = offline(viewport=DESK)
    visit(page, path)
    line = page.locator(".provenance")
    assert re.search(
        r"Ran on \d{4}-\d\d-\d\d at \d\d:\d\d UTC for (\d+ min )?\d+ s", line.inner_text()
    )
    line.locator("a").click()
    page.wait_for_url("**/01-dataset-exploration.ipynb")
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(served(tiny.html) + path.name)
        with page.expect_download() as download:
            page.locator(".provenance a").click()
        assert download.value.suggested_filename == "01-dataset-exploration.ipynb"
        notebook = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert notebook["metadata"]["papermill"]["parameters"]["run_dir"].startswith("runs/")
    assert any(cell.get("outputs") for cell in notebook["cells"])
