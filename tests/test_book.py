"""The whole chain on the tiny profile: notebooks by papermill, in Snakemake's order, and the
published pages.
"""

import ast
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
from conftest import project_environment, run_cells
from snakemake.cli import parse_config

from helpers import ROOT, InputError, plotting, profiles, sources
from tools import publish
from tools.reference import as_text, helper_reference, signature
from tools.stage import other_book, stage_notebook

SNAKEMAKE = [
    *(sys.executable, "-m", "snakemake", "--nolock", "--rerun-incomplete", "--cores", "all"),
    *("--quiet", "all", "--config", "profile=tiny"),
]
DRY_RUN = [word for word in SNAKEMAKE if word not in ("--quiet", "all")] + ["--dry-run"]
DRY_RUN.insert(DRY_RUN.index("--cores") + 1, "all")


@pytest.fixture(scope="module")
def make(project):
    """make("book", …) runs make in the scratch copy."""

    def run(*arguments):
        command = ["make", "-s", "--old-file=.venv/.ready", *arguments]
        environment = project_environment(project)
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)

    return run


@pytest.fixture(scope="module")
def run_in(project):
    """run_in(command) runs a command in the scratch copy, with the copy's own helpers."""

    def run(command):
        environment = project_environment(project)
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)

    return run


@pytest.fixture
def book(tiny):
    return tiny


def test_it_ends_with_the_table_and_the_page(book):
    assert "rank8" in book.printed and "tfidf_svm" in book.printed
    assert book.printed.rstrip().endswith("Open runs/tiny/html/index.html")


def test_metrics_are_those_of_the_predictions(book):
    metrics = json.loads((book.run / "eval" / "metrics.json").read_text())
    for name, modes in metrics["models"].items():
        lines = [
            json.loads(line)
            for line in (book.run / "eval" / name / "predictions.jsonl").read_text().splitlines()
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
    settings = profiles.read_profile("tiny").settings
    names = ["index", *profiles.notebook_names(settings)]
    for name in names:
        page = (book.run / "html" / f"{name}.html").read_text(encoding="utf-8")
        assert "glue:text" not in page and "{{" not in page, name
    for path in (book.run / "html").glob("*.html"):  # a block that was not understood
        assert "```" not in path.read_text(encoding="utf-8"), path.name
    metrics = json.loads((book.run / "eval" / "metrics.json").read_text())
    index = re.sub(r"<[^>]+>", "", (book.run / "html" / "index.html").read_text(encoding="utf-8"))
    svm = metrics["baselines"]["tfidf_svm"]
    assert f"{100 * svm['accuracy']:.1f} % ({100 * svm['ci95'][0]:.1f}" in index


def test_a_page_loads_nothing_from_a_network(book):
    """Scripts, styles, pictures and fonts must be local; links that a reader may follow need not
    be.
    """
    for path in sorted((book.run / "html").glob("*.html")):
        page = path.read_text(encoding="utf-8")
        loads = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="([^"]+)"', page)
        loads += re.findall(
            r'<link(?=[^>]*rel="(?:stylesheet|preload|icon|preconnect)")[^>]*\shref="([^"]+)"', page
        )
        assert loads and not [address for address in loads if re.match(r"(https?:)?//", address)], (
            path.name
        )


def test_every_link_inside_the_book_leads_somewhere(book):
    """The files that pages link to, load or show exist, and so do the anchors in them."""
    html, broken, checked = (book.run / "html").resolve(), [], 0
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
    """When figures in the notebooks change, those in the table of the first page change, too."""
    shutil.copytree(book.run / "notebooks", tmp_path / "run" / "notebooks")
    evaluation = tmp_path / "run" / "notebooks" / "05-evaluation.ipynb"
    content = json.loads(evaluation.read_text(encoding="utf-8"))
    outputs = [output for cell in content["cells"] for output in cell.get("outputs", [])]
    glued = [output for output in outputs if "scrapbook" in output.get("metadata", {})]
    (figure,) = [
        output for output in glued if output["metadata"]["scrapbook"]["name"] == "best_score"
    ]
    figure["data"]["application/papermill.record/text/plain"] = "12.3456"
    evaluation.write_text(json.dumps(content), encoding="utf-8")
    settings = profiles.read_profile("tiny").settings
    stage = [sys.executable, "-m", "tools.stage", str(tmp_path / "run"), str(tmp_path / "site")]
    stage += ["--title", "x", "--settings", *settings]
    subprocess.run(stage, cwd=ROOT, check=True)
    publish = [sys.executable, "-m", "tools.publish", str(tmp_path / "site"), "_config.yml"]
    subprocess.run([*publish, str(tmp_path / "html")], cwd=ROOT, check=True)
    index = re.sub(r"<[^>]+>", "", (tmp_path / "html" / "index.html").read_text(encoding="utf-8"))
    assert "12.3 %" in index
    before = (book.run / "html" / "index.html").read_text(encoding="utf-8")
    assert "12.3 %" not in re.sub(r"<[^>]+>", "", before)


def test_a_page_says_of_a_readers_files_their_names_alone(book, tmp_path):
    """The full path of a source or a model would show who built the book, and where."""
    source, model = "/home/alice/客户 one/secret.jsonl", "trust:/home/alice/models/mine"
    content = json.loads((book.run / "notebooks" / "01-dataset-exploration.ipynb").read_text())
    given = {"source": [source, "sample"], "columns": {"text": "/"}, "model": model}
    content["metadata"]["papermill"]["parameters"] = given
    code = f"source = ['{source.encode('unicode_escape').decode()}']\nmodel = {model!r}"
    content["cells"][1]["source"] = code + f"\nprint('{source} line 2')"
    (tmp_path / "run.ipynb").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "site").mkdir()
    stage_notebook(tmp_path / "run.ipynb", tmp_path / "site" / "page.ipynb")
    for path in (tmp_path / "site").rglob("*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert "alice" not in text and "secret.jsonl line 2" in text and "trust:mine" in text
        assert json.loads(text)["cells"]


@pytest.mark.parametrize("name", ["2024.10", "007", "1e3", "sample"])
def test_a_profiles_name_stays_what_it_is_where_yaml_reads_a_number(name):
    make = ["make", "--dry-run", "--old-file=.venv/.ready", "book", f"PROFILE={name}"]
    said = subprocess.run(make, cwd=ROOT, capture_output=True, text=True).stdout
    assert parse_config(re.findall("--config '(.*?)'", said)) == {"profile": name}


def test_jupyter_book_starts_from_an_environment_that_was_moved(tmp_path, monkeypatch):
    """The script jupyter-book names the interpreter that it was installed with."""
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with pytest.raises(SystemExit, match=r"site. does not exist[^✗]*✗ jupyter-book build failed"):
        publish.main(tmp_path / "site", ROOT / "_config.yml", tmp_path / "html")


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
        shown = set(re.findall(r"^```python\n(?:class )?(\w+)\(", text, re.M))
        assert set(public) - {"main"} <= shown, path.name
        module = ast.parse(path.read_text(encoding="utf-8"))
        assert as_text(ast.get_docstring(module) or "") in text, path.name
        for node in module.body:
            if getattr(node, "name", None) in public and ast.get_docstring(node):
                said = f"{signature(node)}\n```\n\n{as_text(ast.get_docstring(node))}\n\n"
                assert said in text, f"{path.name}: {node.name}"
    assert "a lone \\<bos>, 3 \\* 4 and `a*b<c>`" == as_text("a lone <bos>, 3 * 4 and `a*b<c>`")


def test_chinese_names_in_a_figure_find_their_glyphs(tmp_path):
    plotting.style()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where no font has a glyph
        plotting.confusion(["体育", "环境"], ["体育", None], ["体育", "环境"]).savefig(
            tmp_path / "figure.svg"
        )
    assert matplotlib.rcParams["font.family"][-1] == notojp_matplotlib.FAMILY


def test_a_readers_matplotlibrc_changes_no_figure():
    """`usetex` needs LaTeX; where that is missing, it used to end every chapter that draws."""
    plotting.style()
    usual = dict(matplotlib.rcParams)
    matplotlib.rcParams.update({"text.usetex": True, "axes.grid.axis": "x", "lines.linewidth": 9})
    plotting.style()
    assert dict(matplotlib.rcParams) == usual


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
    assert (
        leaked(book.run / "html", [row["text"] for rows in sample.values() for row in rows]) == []
    )


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


def test_nothing_of_this_machine_is_published(book, project):
    names = [
        *(re.escape(str(place)) for place in (ROOT, project)),
        re.escape(f"{Path.home()}/"),
        rf"\b{socket.gethostname()}:",
        rf"\b{getpass.getuser()}@",
    ]
    assert [
        (path.name, name)
        for path, page in pages(book.run / "html")
        for name in names
        if re.search(name, page)
    ] == []


def test_nothing_changed_means_nothing_runs(book, run_in):
    done = run_in(DRY_RUN)
    assert "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("edited", "reruns", "spares"),
    [
        (
            "notebooks/06-out-of-memory.ipynb",
            ["memory", "site", "html"],
            ["train", "evaluate", "dataset", "lengths"],
        ),
        (
            "helpers/scoring.py",
            ["prompts", "evaluate", "memory", "site", "html"],
            ["train", "dataset", "lora"],
        ),
        ("helpers/audit.py", ["evaluate", "site"], ["train", "memory", "dataset", "lora"]),
        ("data/configs/Yi-6B.json", ["memory", "lengths"], ["train", "evaluate", "dataset"]),
        ("data/riddle1/trace.py", ["memory", "site"], ["train", "evaluate", "dataset"]),
    ],
)
def test_an_edit_reruns_only_what_depends_on_it(book, project, run_in, edited, reruns, spares):
    path = project / edited
    before = path.read_bytes()
    try:
        path.write_bytes(before + b"\n")
        done = run_in(DRY_RUN)
    finally:
        stamp = path.stat()
        path.write_bytes(before)
        os.utime(
            path,
            ns=(stamp.st_atime_ns, (book.run / "data" / "summary.json").stat().st_mtime_ns - 10**9),
        )
    rules = set(re.findall(r"^rule (\w+):", done.stdout, re.M))
    assert set(reruns) <= rules and not rules & set(spares), rules


@pytest.mark.parametrize("chapter", ["01-dataset-exploration", "04-training", "05-evaluation"])
def test_a_chapter_run_by_hand_makes_the_book_redo_nothing(book, run_in, chapter):
    """As in JupyterLab, its cells run. Its files would stay the same, so they are not written."""
    log = book.run / "train" / "rank8" / "swift.log"
    before = log.stat().st_mtime_ns
    given = profiles.read_profile("tiny").parameters(chapter, "rank8")
    run_cells(chapter, **given | {"run_dir": str(book.run)})
    assert log.stat().st_mtime_ns == before  # a trained setting is reused, not trained again
    dry = run_in(DRY_RUN)
    assert "Nothing to be done" in dry.stdout + dry.stderr, dry.stdout[-2000:]


def test_a_moved_project_trains_nothing_again(book, tmp_path):
    """A training is identified without any path, so a copy of its folder is reused elsewhere."""
    shutil.copytree(book.run / "data", tmp_path / "moved" / "data")
    shutil.copytree(book.run / "train", tmp_path / "moved" / "train")
    given = profiles.read_profile("tiny").parameters("04-training", "rank8")
    ran = run_cells("04-training", **given | {"run_dir": str(tmp_path / "moved")})
    assert ran["summary"]["reused"]


def command_line(process):
    """The command line of a process; empty for one that has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_ctrl_c_loses_no_finished_step_and_leaves_no_lock(book, make, project):
    # what is made from the notebook is removed, too; else Snakemake would not ask for the notebook
    (book.run / "notebooks" / "07-max-length.ipynb").unlink(missing_ok=True)
    shutil.rmtree(book.run / "site")
    (book.run / "html" / "index.html").unlink()
    finished = {path: path.stat().st_mtime_ns for path in (book.run / "notebooks").glob("0[!7]*")}
    process = subprocess.Popen(
        ["make", "--old-file=.venv/.ready", "book", "PROFILE=tiny"],
        cwd=project,
        env=project_environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # tests that run in the background inherit an ignored SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stdout:
        if "▶ 07-max-length" in line:
            break
    started, deadline = [], time.monotonic() + 90
    while not any("ipykernel" in words for words in map(command_line, started)):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.5)
        started = psutil.Process(process.pid).children(recursive=True)
    time.sleep(1)  # until its first cells run
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=90)
    assert process.returncode != 0
    assert psutil.wait_procs(started, timeout=15)[1] == []
    again = make("book", "PROFILE=tiny")
    assert again.returncode == 0, again.stderr[-2000:]
    assert "▶ 07-max-length" in again.stdout and again.stdout.count("▶ 0") == 1
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("missing-key", "title: x\n", "is missing"),
        ("unknown-key", "like: tiny\ncolour: red\n", "unknown key 'colour'"),
        ("not-yaml", "title: [", "not valid YAML"),
        (
            "beside",
            "like: tiny\nside_by_side: {notebooks: 2, gib: 0}\n",
            "side_by_side needs notebooks and gib",
        ),
        ("itself", "like: test-itself\n", "is like itself"),
    ],
)
def test_a_bad_profile_is_one_line(project, make, name, text, says):
    path = project / "profiles" / f"test-{name}.yml"
    path.write_text(text)
    try:
        done = make("book", f"PROFILE=test-{name}")
    finally:
        path.unlink()
    assert done.returncode != 0
    assert says in done.stderr and "Traceback" not in done.stderr


def test_a_bad_source_is_named_at_the_end_too(book, project, make):
    """The line that helps is repeated at the end, after all that Snakemake says of the failure."""
    path, run = project / "profiles" / "test-source.yml", project / "runs" / "test-source"
    path.write_text("like: tiny\nsource: data/test-source.csv\n")
    (project / "data" / "test-source.csv").write_text("text,output\n一篇文章\n")
    (run / "notebooks").mkdir(parents=True)
    shutil.copy(book.run / "notebooks" / "03-lora-theory.ipynb", run / "notebooks")
    try:
        done = make("book", "PROFILE=test-source")
        *_, failure, of_make = done.stderr.splitlines()
        assert done.returncode != 0 and of_make.startswith("make: ***")
        assert re.match(r"✗ 01-dataset-exploration: .*test-source\.csv", failure)
        assert done.stderr.count(failure) == 2 and "Traceback" not in done.stderr
        assert not list((project / "runs").glob(".failures*")) and not (run / "data").exists()
        assert [path.name for path in (run / "notebooks").iterdir()] == ["03-lora-theory.ipynb"]
    finally:
        path.unlink()
        (project / "data" / "test-source.csv").unlink()
        shutil.rmtree(run)


def test_an_unknown_profile_lists_those_there_are(make, project):
    done = make("book", "PROFILE=nowhere")
    assert done.returncode != 0 and "sample" in done.stderr and "Traceback" not in done.stderr
    assert not (project / "runs" / "nowhere").exists()


@pytest.mark.parametrize(
    ("notebook", "parameters", "says"),
    [
        (
            "01-dataset-exploration",
            {"run_dir": "runs/test-bad", "source": "nowhere.jsonl"},
            "nowhere.jsonl",
        ),
        ("05-evaluation", {"run_dir": "runs/tiny", "colour": "red"}, "has no parameter colour"),
    ],
)
def test_a_bad_parameter_is_one_line_and_leaves_nothing(
    book, project, run_in, tmp_path, notebook, parameters, says
):
    command = [sys.executable, "-m", "helpers.notebooks", f"notebooks/{notebook}.ipynb"]
    done = run_in([*command, str(tmp_path / "out.ipynb"), "--parameters", json.dumps(parameters)])
    assert done.returncode != 0
    assert says in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()) and not (project / "runs" / "test-bad").exists()


@pytest.mark.parametrize(
    ("notebook", "there", "parameters", "says"),
    [
        ("02-prompt-design", [], {}, "01-dataset-exploration"),
        (
            "04-training",
            ["data"],
            {"setting": "x", "template": "poem"},
            "template 'poem' is unknown",
        ),
        ("05-evaluation", ["data", "train"], {"settings": ["never"]}, "04-training"),
    ],
)
def test_what_a_chapter_cannot_use_is_refused_before_it_writes(
    book, tmp_path, notebook, there, parameters, says
):
    """Cells run in this process; the test above covers how a kernel ends with a refusal."""
    for part in there:
        shutil.copytree(book.run / part, tmp_path / "run" / part)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=says):
        run_cells(notebook, run_dir=str(tmp_path / "run"), **parameters)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_committed_notebooks_are_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    for cell in code:  # short enough to take in at a glance, and no wider than the page
        lines = cell.source.splitlines()
        shown = not {"hide-input", "solution"} & set(cell.metadata.get("tags", []))
        assert not shown or (len(lines) <= 12 and max(map(len, lines)) <= 88), cell.source


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_a_chapter_reads_as_a_chapter(path):
    """There is prose between cells, exercises have solutions, and parameters come at the end."""
    cells = nbformat.read(path, as_version=4).cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    solutions = [cell for cell in cells if "solution" in cell.metadata.get("tags", [])]
    assert len(solutions) >= 3 and sum("{admonition} Exercise" in text for text in prose) >= 3
    assert "{dropdown}" in prose[-1] and cells[0].source.startswith(f"# {int(path.stem[:2])} · ")
    run = longest = 0
    for cell in cells:
        tags = set(cell.metadata.get("tags", []))
        folded = {"hide-input", "solution"} & tags
        # JupyterLab folds by a mark of its own, and shows the first line of what is folded
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert hidden == (bool(folded) and "parameters" not in tags)
        assert ("solution" in tags) == cell.source.startswith("# A solution\n")
        run = 0 if cell.cell_type == "markdown" else run + (not folded)
        longest = max(longest, run)
    assert longest <= 2
