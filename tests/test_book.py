"""The whole chain on the tiny profile: notebooks by papermill, in Snakemake's order, and the
published pages.
"""

import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import warnings
from pathlib import Path
from urllib.parse import unquote, urlsplit

import matplotlib
import nbformat
import notojp_matplotlib
import psutil
import pytest
import yaml
from bs4 import BeautifulSoup

from helpers import ROOT, plotting, sources

sys.path.insert(0, str(ROOT / "book"))
from reference import as_text, helper_reference
from stage import other_book

RUN = ROOT / "runs" / "tiny"
SNAKEMAKE = [
    *(
        str(Path(sys.executable).with_name("snakemake")),
        "--nolock",
        "--rerun-incomplete",
        "--cores",
        "all",
        "--quiet",
        "all",
    ),
    *("--config", "profile=tiny"),
]


def make(*arguments, **environment):
    return subprocess.run(
        ["make", "-s", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment or None,
    )


@pytest.fixture(scope="module")
def book(tiny):
    return tiny.printed


def test_it_ends_with_the_table_and_the_page(book):
    assert "rank8" in book and "tfidf_svm" in book
    assert book.rstrip().endswith("Open runs/tiny/html/index.html")


def test_metrics_are_those_of_the_predictions(book):
    metrics = json.loads((RUN / "eval" / "metrics.json").read_text())
    for name, modes in metrics["models"].items():
        lines = [
            json.loads(line)
            for line in (RUN / "eval" / name / "predictions.jsonl").read_text().splitlines()
        ]
        assert len(lines) == 6
        for mode in ("generate", "score"):
            right = sum(line[mode]["prediction"] == line["label"] for line in lines)
            assert modes[mode]["accuracy"] == pytest.approx(right / len(lines))
            assert modes[mode]["ci95"][0] <= modes[mode]["accuracy"] <= modes[mode]["ci95"][1]
        for line in lines:
            best = max(range(len(line["options"])), key=line["score"]["logprobs"].__getitem__)
            assert line["options"][best] == line["score"]["prediction"]


def test_every_page_is_there_with_numbers_from_the_run(book):
    names = [
        "index",
        "01-dataset-exploration",
        "02-prompt-design",
        "03-lora-theory",
        "05-evaluation",
        "06-oom-and-max-length",
    ]
    names += [
        f"04-training-{setting}"
        for setting in yaml.safe_load((ROOT / "profiles" / "tiny.yml").read_text())["settings"]
    ]
    for name in names:
        page = (RUN / "html" / f"{name}.html").read_text(encoding="utf-8")
        assert "glue:text" not in page and "{{" not in page, name
    metrics = json.loads((RUN / "eval" / "metrics.json").read_text())
    index = re.sub(r"<[^>]+>", "", (RUN / "html" / "index.html").read_text(encoding="utf-8"))
    svm = metrics["baselines"]["tfidf_svm"]
    assert f"{100 * svm['accuracy']:.1f} % ({100 * svm['ci95'][0]:.1f}" in index


def test_a_page_loads_nothing_from_a_network(book):
    """Scripts, styles, pictures and fonts are local; links that a reader may follow are not looked
    at.
    """
    for path in sorted((RUN / "html").glob("*.html")):
        page = path.read_text(encoding="utf-8")
        loads = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="([^"]+)"', page)
        loads += re.findall(
            r'<link(?=[^>]*rel="(?:stylesheet|preload|icon|preconnect)")[^>]*\shref="([^"]+)"', page
        )
        assert loads and not [address for address in loads if re.match(r"(https?:)?//", address)], (
            path.name
        )


def test_every_link_inside_the_book_leads_somewhere(book):
    """The files that pages link to, load or show are there, and so are the places in them."""
    html, broken, checked = (RUN / "html").resolve(), [], 0
    soups = {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in html.glob("*.html")
    }
    places = {
        path: {element["id"] for element in soup.find_all(id=True)} for path, soup in soups.items()
    }
    for page, soup in soups.items():
        for address in [
            element.get("href") or element.get("src") for element in soup.select("[href], [src]")
        ]:
            parts = urlsplit(address or "")
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            checked += 1
            if not target.is_file() or (
                parts.fragment
                and target.suffix == ".html"
                and unquote(parts.fragment) not in places[target]
            ):
                broken.append((page.name, address))
    assert checked > 500 and broken == []


def test_the_index_follows_the_run(book, tmp_path):
    """Other figures in the notebooks, other figures in the table of the first page."""
    shutil.copytree(RUN / "notebooks", tmp_path / "run" / "notebooks")
    evaluation = tmp_path / "run" / "notebooks" / "05-evaluation.ipynb"
    content = json.loads(evaluation.read_text(encoding="utf-8"))
    glued = [
        output
        for cell in content["cells"]
        for output in cell.get("outputs", [])
        if "scrapbook" in output.get("metadata", {})
    ]
    (figure,) = [
        output for output in glued if output["metadata"]["scrapbook"]["name"] == "best_score"
    ]
    figure["data"]["application/papermill.record/text/plain"] = "12.3456"
    evaluation.write_text(json.dumps(content), encoding="utf-8")
    settings = list(
        yaml.safe_load((ROOT / "profiles" / "tiny.yml").read_text(encoding="utf-8"))["settings"]
    )
    stage = [
        sys.executable,
        "tools/stage.py",
        str(tmp_path / "run"),
        str(tmp_path / "site"),
        "--title",
        "x",
        "--settings",
        *settings,
    ]
    subprocess.run(stage, cwd=ROOT, check=True)
    publish = [
        sys.executable,
        "tools/publish.py",
        str(tmp_path / "site"),
        "_config.yml",
        str(tmp_path / "html"),
    ]
    subprocess.run(publish, cwd=ROOT, check=True)
    index = re.sub(r"<[^>]+>", "", (tmp_path / "html" / "index.html").read_text(encoding="utf-8"))
    assert "12.3 %" in index
    assert "12.3 %" not in re.sub(
        r"<[^>]+>", "", (RUN / "html" / "index.html").read_text(encoding="utf-8")
    )


@pytest.mark.parametrize(("name", "other"), [("sample", "fudan"), ("fudan", "sample")])
def test_two_books_link_to_each_other(tmp_path, name, other):
    assert other_book(tmp_path / name) == ""
    (tmp_path / other / "html").mkdir(parents=True)
    (tmp_path / other / "html" / "index.html").write_text("")
    address = re.search(r'href="([^"]+)"', other_book(tmp_path / name))[1]
    assert (
        tmp_path / name / "html" / address
    ).resolve() == tmp_path / other / "html" / "index.html"
    assert other_book(tmp_path / "mine") == ""


def test_the_helper_reference_says_what_the_docstrings_say():
    text = helper_reference(ROOT / "helpers")
    for path in (ROOT / "helpers").glob("*.py"):
        public = re.findall(r"^(?:def|class) ([A-Za-z]\w*)", path.read_text(encoding="utf-8"), re.M)
        assert all(f"### {name}\n" in text for name in public if name != "main"), path.name
    assert "a lone \\<bos>, 3 \\* 4 and `a*b<c>`" == as_text("a lone <bos>, 3 * 4 and `a*b<c>`")


def test_chinese_names_in_a_figure_find_their_glyphs(tmp_path):
    plotting.style()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that no font has
        plotting.confusion(["体育", "环境"], ["体育", None], ["体育", "环境"]).savefig(
            tmp_path / "figure.svg"
        )
    assert matplotlib.rcParams["font.family"][-1] == notojp_matplotlib.FAMILY


def test_the_citation_names_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    assert citation["version"] == version and citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "date-released"} <= citation.keys()
    assert f"Version {version}" in (ROOT / "book" / "citing.md").read_text(encoding="utf-8")


def pages(folder):
    for path in [
        *folder.rglob("*.html"),
        *folder.rglob("*.ipynb"),
        *folder.rglob("*.js"),
        *folder.rglob("*.svg"),
    ]:
        yield path, path.read_text(encoding="utf-8", errors="replace")


def grams(text, size=16):
    text = "".join(text.split())
    return (text[i : i + size] for i in range(0, len(text) - size + 1))


def leaked(folder, texts):
    """Pages in which a 16-character piece of a text appears."""
    known = {
        gram for text in texts for gram in grams(text) if re.search(r"[\u4e00-\u9fff]{6}", gram)
    }
    return sorted({path.name for path, page in pages(folder) if not known.isdisjoint(grams(page))})


def test_no_article_is_published_when_the_profile_says_so(book, sample):
    assert leaked(RUN / "html", [row["text"] for rows in sample.values() for row in rows]) == []


@pytest.mark.skipif(
    not (ROOT / "runs/fudan/html").is_dir(), reason="the real corpus has not been run here"
)
def test_no_article_of_the_real_corpus_is_published():
    source = yaml.safe_load((ROOT / "profiles/fudan.yml").read_text())["source"]
    assert (
        leaked(
            ROOT / "runs/fudan/html",
            [row["text"] for rows in sources.read_source(source).splits.values() for row in rows],
        )
        == []
    )


def test_the_search_for_leaks_finds_one(tmp_path):
    text = "这是一篇用来检验搜索是否有效的文章，它有足够多的汉字。"
    (tmp_path / "page.html").write_text(f"<p>{text[3:25]}</p>", encoding="utf-8")
    assert leaked(tmp_path, [text]) == ["page.html"]


def test_nothing_of_this_machine_is_published(book):
    names = [
        re.escape(str(ROOT)),
        re.escape(f"{Path.home()}/"),
        rf"\b{socket.gethostname()}:",
        rf"\b{getpass.getuser()}@",
    ]
    assert [
        (path.name, name)
        for path, page in pages(RUN / "html")
        for name in names
        if re.search(name, page)
    ] == []


def test_nothing_changed_means_nothing_runs(book):
    done = subprocess.run(
        [*SNAKEMAKE[:-4], "--dry-run", *SNAKEMAKE[-2:]], cwd=ROOT, capture_output=True, text=True
    )
    assert "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("edited", "reruns", "spares"),
    [
        (
            "notebooks/06-oom-and-max-length.ipynb",
            ["memory", "site", "html"],
            ["train", "evaluate", "dataset"],
        ),
        (
            "helpers/scoring.py",
            ["prompts", "evaluate", "memory", "site", "html"],
            ["train", "dataset", "lora"],
        ),
        (
            "helpers/metrics.py",
            ["prompts", "evaluate", "site"],
            ["train", "memory", "dataset", "lora"],
        ),
    ],
)
def test_an_edit_reruns_only_what_depends_on_it(book, edited, reruns, spares):
    path = ROOT / edited
    before = path.read_bytes()
    try:
        path.write_bytes(before + b"\n")
        done = subprocess.run(
            [*SNAKEMAKE[:-4], "--dry-run", *SNAKEMAKE[-2:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    finally:
        stamp = path.stat()
        path.write_bytes(before)
        os.utime(
            path, ns=(stamp.st_atime_ns, (RUN / "data" / "summary.json").stat().st_mtime_ns - 10**9)
        )
    rules = set(re.findall(r"^rule (\w+):", done.stdout, re.M))
    assert set(reruns) <= rules and not rules & set(spares), rules


def test_a_trained_setting_is_reused(book):
    log = RUN / "train" / "rank8" / "swift.log"
    before = log.stat().st_mtime_ns
    done = subprocess.run(
        [*SNAKEMAKE, "--forcerun", "train", "--", "runs/tiny/notebooks/04-training-rank8.ipynb"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert log.stat().st_mtime_ns == before
    assert "reused" in done.stdout


def test_any_file_of_rows_is_answered_by_plain_papermill(book, tmp_path, sample):
    rows = [
        {**row, "output": row["output"] if i % 2 else None}
        for i, row in enumerate(sample["test"][:4])
    ]
    (tmp_path / "mine.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    papermill = [
        str(Path(sys.executable).with_name("papermill")),
        "--cwd",
        "notebooks",
        "notebooks/05-evaluation.ipynb",
    ]
    given = {
        "run_dir": "runs/tiny",
        "eval_file": tmp_path / "mine.jsonl",
        "adapter": "runs/tiny/train/rank8/adapter",
    }
    command = [
        *papermill,
        str(tmp_path / "out.ipynb"),
        *(word for name, value in given.items() for word in ("-p", name, str(value))),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = (RUN / "eval" / "file-mine" / "answers.csv").read_text(encoding="utf-8").splitlines()
    assert answers[0] == "id,answer,probability" and len(answers) == 5
    for line, row in zip(answers[1:], rows):
        _, answer, probability = line.split(",")
        assert answer in row["category"] and 0 < float(probability) <= 1
    said = json.dumps(json.loads((tmp_path / "out.ipynb").read_text(encoding="utf-8")))
    assert "4 rows answered; 2 of them have a label" in said


def test_ctrl_c_loses_no_finished_step_and_leaves_no_lock(book):
    (RUN / "notebooks" / "05-evaluation.ipynb").unlink()
    finished = {path: path.stat().st_mtime_ns for path in (RUN / "notebooks").glob("*.ipynb")}
    process = subprocess.Popen(
        ["make", "book", "PROFILE=tiny"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # tests that run in the background inherit it ignored
    )
    for line in process.stdout:
        if "▶ 05-evaluation" in line:
            break
    time.sleep(3)
    started = psutil.Process(process.pid).children(recursive=True)
    assert any("ipykernel" in " ".join(child.cmdline()) for child in started)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=90)
    assert process.returncode != 0
    assert psutil.wait_procs(started, timeout=15)[1] == []
    again = make("book", "PROFILE=tiny")
    assert again.returncode == 0, again.stderr[-2000:]
    assert "▶ 05-evaluation" in again.stdout and "▶ 04-training" not in again.stdout
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("missing-key", "title: x\n", "is missing"),
        ("unknown-key", None, "unknown key 'colour'"),
        ("not-yaml", "title: [", "not valid YAML"),
        (
            "beside",
            (ROOT / "profiles/tiny.yml").read_text().replace("gib: 3", "gib: 0"),
            "side_by_side needs notebooks and gib",
        ),
    ],
)
def test_a_bad_profile_is_one_line(name, text, says):
    path = ROOT / "profiles" / f"test-{name}.yml"
    path.write_text(text or (ROOT / "profiles/tiny.yml").read_text() + "colour: red\n")
    try:
        done = make("book", f"PROFILE=test-{name}")
    finally:
        path.unlink()
    assert done.returncode != 0
    assert says in done.stderr and "Traceback" not in done.stderr


def test_an_unknown_profile_lists_those_there_are():
    done = make("book", "PROFILE=nowhere")
    assert done.returncode != 0 and "sample" in done.stderr and "Traceback" not in done.stderr
    assert not (ROOT / "runs" / "nowhere").exists()


@pytest.mark.parametrize(
    ("notebook", "parameters", "says"),
    [
        (
            "01-dataset-exploration",
            {"run_dir": "runs/test-bad", "source": "nowhere.jsonl"},
            "nowhere.jsonl",
        ),
        ("02-prompt-design", {"run_dir": "runs/test-bad"}, "01-dataset-exploration"),
        (
            "04-training",
            {"run_dir": "runs/tiny", "setting": "x", "template": "poem"},
            "template 'poem' is unknown",
        ),
        (
            "05-evaluation",
            {"run_dir": "runs/tiny", "settings": {"never": ["plain", 192]}},
            "04-training",
        ),
        ("05-evaluation", {"run_dir": "runs/tiny", "colour": "red"}, "has no parameter colour"),
    ],
)
def test_a_bad_parameter_is_one_line_and_leaves_nothing(book, tmp_path, notebook, parameters, says):
    output = tmp_path / "out.ipynb"
    command = [
        sys.executable,
        "-m",
        "helpers.notebooks",
        f"notebooks/{notebook}.ipynb",
        str(output),
        "--parameters",
        json.dumps(parameters),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert says in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()) and not (ROOT / "runs" / "test-bad").exists()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_committed_notebooks_are_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    for cell in code:
        shown = "hide-input" not in cell.metadata.get("tags", [])
        lines = cell.source.splitlines()
        assert not shown or (len(lines) <= 16 and max(map(len, lines)) <= 92), (
            cell.source
        )  # a glance, no wider than the page
