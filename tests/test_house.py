"""The housekeeping: licences, changelog, hooks, workflows, and pages that fit together."""

import json
import re
import subprocess
import tomllib

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from helpers import ROOT
from helpers.profiles import CHAPTERS

BOOK = ROOT / "book"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STAGED = {"data-card"}  # written by tools/stage.py, from data/README.md
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def markdown_of(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(BOOK.glob("*.md"))} | {
    path.stem: markdown_of(path) for path in NOTEBOOKS
}


def test_the_licences_are_whole():
    licence = read("LICENSE")
    assert "Apache License" in licence and "Version 2.0, January 2004" in licence
    headings = re.findall(r"^   (\d)\. [A-Z]", licence, flags=re.M)
    assert headings == [str(number) for number in range(1, 10)]
    assert "END OF TERMS AND CONDITIONS" in licence
    content = read("LICENSE-CONTENT.md")
    assert "Creative Commons Attribution 4.0 International" in content
    for address in (
        "https://creativecommons.org/licenses/by/4.0/legalcode",
        "https://ai.google.dev/gemma/terms",
    ):
        assert address in content


def test_the_changelog_names_the_version_of_the_package():
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    changelog = read("CHANGELOG.md")
    headings = re.findall(r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?$", changelog, flags=re.M)
    assert headings[0] == ("Unreleased", "")
    assert version in dict(headings)
    assert all(date for name, date in headings[1:])
    kinds = set(re.findall(r"^### (\w+)$", changelog, flags=re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_files_and_tests_named_to_contributors_are_there():
    named = re.findall(r"`((?:tests|helpers|data|book|\.ci)/[\w./-]+)`", read("CONTRIBUTING.md"))
    templates = {"helpers/name.py", "tests/test_name.py"}
    assert len(named) > 8
    assert [n for n in named if n not in templates and not (ROOT / n).exists()] == []


@pytest.mark.parametrize(
    "path",
    [
        ".pre-commit-config.yaml",
        ".github/ISSUE_TEMPLATE/config.yml",
        ".github/ISSUE_TEMPLATE/bug.yml",
        ".github/ISSUE_TEMPLATE/question.yml",
        *(str(path.relative_to(ROOT)) for path in WORKFLOWS),
    ],
)
def test_it_is_yaml(path):
    assert isinstance(yaml.safe_load(read(path)), dict)


def test_a_form_asks_for_everything_by_a_name_of_its_own():
    for name in ("bug", "question"):
        form = yaml.safe_load(read(f".github/ISSUE_TEMPLATE/{name}.yml"))
        assert form["name"] and form["description"]
        names = [field["id"] for field in form["body"] if field["type"] != "markdown"]
        assert names and len(set(names)) == len(names)
        assert all(field["attributes"]["label"] for field in form["body"])


def test_pull_requests_are_tested_from_the_oldest_python_to_the_newest():
    workflow = yaml.safe_load(read(".github/workflows/pull-request.yml"))
    assert "pull_request" in workflow[True]  # YAML reads the key `on` as a truth value
    job = workflow["jobs"]["test"]
    known = SpecifierSet(tomllib.loads(read("pyproject.toml"))["project"]["requires-python"])
    fitting = [f"3.{minor}" for minor in range(100) if f"3.{minor}" in known]
    assert job["strategy"]["matrix"]["python"] == fitting == ["3.11", "3.12", "3.13"]
    assert {"run": "make test"} in job["steps"]
    assert workflow["permissions"] == {"contents": "read"}


def test_hooks_are_local_and_know_a_notebook_with_outputs():
    config = yaml.safe_load(read(".pre-commit-config.yaml"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = {hook["id"]: hook for hook in config["repos"][0]["hooks"]}
    assert set(hooks) == {"ruff-check", "ruff-format", "codespell", "notebooks-without-outputs"}
    rule = re.compile(hooks["notebooks-without-outputs"]["entry"])
    cell = {"cell_type": "code", "source": ["1"], "outputs": [], "execution_count": None}

    def fires(**changes):
        text = json.dumps({"cells": [cell | changes]}, indent=1)
        return any(rule.search(line) for line in text.splitlines())

    assert not fires()
    assert fires(execution_count=3)
    assert fires(outputs=[{"output_type": "stream", "text": ["1"]}])
    lines = [line for path in NOTEBOOKS for line in path.read_text("utf-8").splitlines()]
    assert not any(rule.search(line) for line in lines)


def test_every_page_is_in_the_table_of_contents_once():
    toc = yaml.safe_load(read("book/_toc.yml"))
    files = [toc["root"]] + [c["file"] for part in toc["parts"] for c in part["chapters"]]
    assert len(set(files)) == len(files)
    assert files[1 : 1 + len(CHAPTERS)] == list(CHAPTERS)
    pages = {path.stem for path in BOOK.glob("*.md")} | STAGED
    assert set(files) - set(CHAPTERS) == pages
    assert set(CHAPTERS) == {path.stem for path in NOTEBOOKS}


def glossary_terms():
    (body,) = re.findall(r"^```\{glossary\}\n(.*?)^```", TEXTS["glossary"], flags=re.M | re.S)
    terms = [line for line in body.splitlines() if line and not line.startswith(" ")]
    # A bare apostrophe would become a typographic one, which no link spells.
    assert not re.search(r"(?<!\\)'", "".join(terms))
    return [term.replace("\\'", "'") for term in terms]


def test_the_glossary_is_in_order_and_each_entry_explains():
    terms = glossary_terms()
    folded = [term.casefold() for term in terms]
    assert folded == sorted(folded) and len(set(folded)) == len(folded)
    entries = re.split(r"\n\n", TEXTS["glossary"].split("```{glossary}\n")[1].split("\n```")[0])
    assert len(entries) == len(terms)
    for entry in entries:
        term, text = entry.split("\n", 1)
        sentences = re.findall(r"[.?!](?=\s|$)", text)
        assert 2 <= len(sentences) <= 5, term


@pytest.mark.parametrize("name", TEXTS)
def test_every_term_that_a_page_links_is_in_the_glossary(name):
    """Spellings agree, except for a capital at the start of a sentence, which Sphinx accepts."""
    roles = re.findall(r"\{term\}`([^`]+)`", TEXTS[name])
    targets = {re.sub(r"^.*<([^>]+)>$", r"\1", " ".join(role.split())) for role in roles}
    terms = {term.casefold() for term in glossary_terms()}
    assert sorted(target for target in targets if target.casefold() not in terms) == []


def test_every_work_that_is_cited_is_in_the_bibliography():
    keys = set(re.findall(r"^@\w+\{([^,]+),", read("book/references.bib"), flags=re.M))
    cited = {
        key.strip()
        for text in TEXTS.values()
        for role in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text)
        for key in role.split(",")
    }
    assert cited and sorted(cited - keys) == []
    assert sorted(keys - cited) == []  # a work that is never cited


@pytest.mark.parametrize("name", TEXTS)
def test_every_page_that_a_page_links_is_there(name):
    roles = re.findall(r"\{doc\}`([^`]+)`", TEXTS[name])
    targets = {re.sub(r"^.*<([^>]+)>$", r"\1", " ".join(role.split())) for role in roles}
    missing = {target for target in targets if target not in TEXTS.keys() | STAGED}
    assert sorted(missing) == []


def test_the_study_is_introduced_where_it_is_named():
    """It is introduced on every page that a newcomer may open first."""
    for name in ("README.md", "book/index.md"):
        assert "unpublished course report of 2024" in " ".join(read(name).split()), name
    assert "没有发表的课程报告" in read("README.zh.md")


def test_committed_prose_names_no_path_of_a_machine():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "*.md", "*.yml", "*.yaml", "*.bib", "*.cff", "*.css"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    paths = [ROOT / path for path in listed.split("\0") if path] or list(ROOT.glob("*.md"))
    homes = re.compile(r"(?<![\w.~])/(?:home|root|work|Users)/\w")
    prose = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in paths} | TEXTS
    assert [name for name, text in prose.items() if homes.search(text)] == []
