"""Both READMEs say the same, and their figures, conclusions, commands and files are true."""

import json
import re

import pytest
import yaml

from helpers import ROOT
from tools.results import cell, table

READMES = ("README.md", "README.zh.md")
PAGES = (*READMES, "CONTRIBUTING.md", "book/index.md", "book/your-data.md", "book/cluster.md")
NOT_TOLD_APART = {"README.md": "no tuned model alone can be told apart", "README.zh.md": "分不出"}
NEVER_IN_FORM = {
    "README.md": "never answers in the asked form",
    "README.zh.md": "从不按要求的格式作答",
}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def metrics():
    return json.loads(read("book/results/sample.json"))["metrics"]


def code_blocks(text):
    """The lines of the shell blocks, without comments, and with continued lines joined."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#.*", "", line).strip() for line in lines if line.strip()]


def commands(text):
    """Every command on a page: the lines of its shell blocks, and whatever is in backticks."""
    inline = re.findall(r"`((?:make|\.venv/bin/)[^`]*)`", text)
    return code_blocks(text) + inline


@pytest.mark.parametrize("readme", READMES)
def test_the_table_is_the_recorded_one(readme, metrics):
    (content,) = re.findall(
        r"<!-- results:sample -->\n(.*?)\n<!-- /results -->", read(readme), re.S
    )
    assert content == table(metrics)


@pytest.mark.parametrize("readme", READMES)
def test_its_conclusions_are_those_of_the_record(readme, metrics):
    """The two sentences below the table are there exactly when the figures support them."""
    against_svm = [
        pair["p"]
        for pair in metrics["mcnemar"]
        if pair["b"] == "tfidf_svm" and pair["a"] in metrics["cost"]
    ]
    assert len(against_svm) == len(metrics["cost"]) > 0
    open_question = all(p >= 0.05 for p in against_svm)
    assert (NOT_TOLD_APART[readme] in read(readme)) == open_question
    silent = all(
        modes["generate"]["valid"] == 0
        for name, modes in metrics["models"].items()
        if name.startswith("base-")
    )
    assert (NEVER_IN_FORM[readme] in read(readme)) == silent
    assert f" {metrics['baselines']['tfidf_svm']['n']} " in read(readme)


@pytest.mark.parametrize("readme", READMES)
def test_its_figures_of_the_real_corpus_are_recorded(readme):
    kept = json.loads(read("book/results/fudan.json"))["metrics"]
    tuned, svm = kept["models"]["rank16-prompt"]["score"], kept["baselines"]["tfidf_svm"]
    line = next(line for line in read(readme).splitlines() if f"{tuned['n']:,}" in line)
    figures = re.findall(r"\d+\.\d", line)
    for share in (tuned, svm):
        assert set(re.findall(r"\d+\.\d", cell(share))) <= set(figures)


def test_both_languages_have_the_same_commands_figures_links_and_tables():
    english, chinese = map(read, READMES)
    assert code_blocks(english) == code_blocks(chinese)
    assert len(code_blocks(english)) >= 6

    def papermill(text):
        return re.findall(r"`\.venv/bin/papermill[^`]*`", text)

    assert papermill(english) == papermill(chinese) != []

    def links(text):
        return sorted(set(re.findall(r"\]\(([^)]+)\)", text)) - set(READMES))

    assert links(english) == links(chinese)

    def figures(text):
        return sorted(re.findall(r"\d+(?:[.,]\d+)*", text))

    assert figures(english) == figures(chinese)

    def table_keys(text):
        rows = re.findall(r"^\|([^|]*)\|(.*)$", text, flags=re.M)
        return [(first.strip(), rest.count("|")) for first, rest in rows]

    def code_in_tables(text):
        return [key.replace("、", ", ") for key, _ in table_keys(text)]

    assert code_in_tables(english) == code_in_tables(chinese)
    assert [n for _, n in table_keys(english)] == [n for _, n in table_keys(chinese)]
    headings = [len(re.findall(r"^## ", text, flags=re.M)) for text in (english, chinese)]
    assert headings[0] == headings[1]


@pytest.mark.parametrize("readme", READMES)
def test_it_fits_on_a_screen(readme):
    assert len(read(readme).splitlines()) <= 76


@pytest.mark.parametrize("readme", READMES)
def test_its_profiles_are_those_that_there_are(readme):
    rows = re.findall(r"^\| (`[^|]*`) \|[^|]*\|[^|]*\|[^|]*\|$", read(readme), flags=re.M)
    listed = [name for row in rows for name in re.findall(r"`([a-z0-9.-]+)`", row)]
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "profiles").glob("*.yml"))


@pytest.mark.parametrize("page", PAGES)
def test_every_make_command_exists(page):
    """Its target is in the Makefile, its variables are read there, and its profile exists."""
    makefile = read("Makefile")
    lines = [line for line in commands(read(page)) if line.startswith("make ")]
    assert lines or page == "book/cluster.md"
    profiles = {path.stem for path in (ROOT / "profiles").glob("*.yml")}
    for line in lines:
        target, *variables = line.split()[1:]
        assert re.search(rf"^{target}:.*## ", makefile, flags=re.M), line
        for name, value in (variable.split("=", 1) for variable in variables):
            assert re.search(rf"\$\({name}\)|call said,{name}\b", makefile), line
            if name == "PROFILE":
                assert value in profiles | {"mine", "name", "名字"}, line


@pytest.mark.parametrize("page", PAGES)
def test_every_papermill_command_names_parameters_that_there_are(page):
    for line in commands(read(page)):
        if "papermill" not in line:
            continue
        (path,) = re.findall(r"notebooks/[\w-]+\.ipynb", line)
        cells = json.loads(read(path))["cells"]
        (source,) = [
            "".join(cell["source"])
            for cell in cells
            if "parameters" in cell["metadata"].get("tags", [])
        ]
        given = re.findall(r" -p (\w+)", line)
        given += [
            name for text in re.findall(r" -y '([^']*)'", line) for name in yaml.safe_load(text)
        ]
        known = re.findall(r"^(\w+)\s*[:=]", source, flags=re.M)
        assert given and set(given) <= set(known), line


@pytest.mark.parametrize("page", [*READMES, "CONTRIBUTING.md", "LICENSE-CONTENT.md"])
def test_its_links_and_pictures_lead_to_files(page):
    """Links are relative to the page; web addresses are not checked."""
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", read(page))
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert local
    assert [target for target in local if not (ROOT / target).is_file()] == []


def test_the_rules_named_for_a_cluster_are_in_the_snakefile():
    page = read("book/cluster.md")
    (command,) = [line for line in code_blocks(page) if "snakemake" in line]
    rules = re.findall(r"(\w+):gres=", command)
    rules += re.findall(r"(\w+)=", command.split("--set-threads")[1])
    assert rules and set(rules) <= set(re.findall(r"^rule (\w+):", read("Snakefile"), flags=re.M))


def test_no_text_of_an_article_is_recorded():
    """Records hold only figures and names, so no string is longer than a line of settings."""

    def strings(value):
        if isinstance(value, dict):
            yield from (text for part in value.values() for text in strings(part))
        elif isinstance(value, list):
            yield from (text for part in value for text in strings(part))
        elif isinstance(value, str):
            yield value

    records = sorted((ROOT / "book" / "results").glob("*.json"))
    assert records
    for path in records:
        assert max(map(len, strings(json.loads(path.read_text(encoding="utf-8"))))) < 200
