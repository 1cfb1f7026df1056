"""Stage the site: pages, executed notebooks and a table of contents, ready for Jupyter Book.

python -m tools.stage runs/sample runs/sample/site --title "the sample" --settings rank8 rank16
"""

import argparse
import base64
import datetime
import importlib.resources
import json
import os
import shutil
from pathlib import Path

import yaml

from helpers import ROOT
from helpers.adapters import TRUST
from helpers.files import read_json
from helpers.profiles import notebook_names, read_profile
from tools import recorded
from tools.reference import helper_reference

BOOK = ROOT / "book"
PARAMETERS = {"parameters", "injected-parameters"}
PICTURES = {"image/svg+xml", "image/png"}
WIDGET = "application/vnd.jupyter.widget-view+json"


def table_of_contents(settings: list[str]) -> dict:
    """The content of _toc.yml, with one training page for each setting."""
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
    for part in toc["parts"]:
        chapters = []
        for chapter in part["chapters"]:
            if chapter["file"] == "04-training":
                chapters += [{"file": f"04-training-{setting}"} for setting in settings]
            else:
                chapters.append(chapter)
        part["chapters"] = chapters
    return toc


def provenance(record: dict, name: str) -> str:
    """The line below a page's title: when its notebook ran, how long, and the notebook itself.

    Args:
        record: papermill's record of the run.
        name: of the notebook's file.
    """
    start = datetime.datetime.fromisoformat(record["start_time"]).astimezone(datetime.UTC)
    minutes, seconds = divmod(round(record["duration"]), 60)
    took = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return (
        f"{{.provenance}}\nRan on {start:%Y-%m-%d at %H:%M} UTC for {took}, "
        "with the parameters that unfold below. "
        f"Download {{download}}`the executed notebook <executed/{name}>`."
    )


def stage_notebook(source: Path, target: Path) -> None:
    """Copy an executed notebook, with housekeeping folded away and its training named in the title.

    Args:
        source: the executed notebook. A copy for readers is put into executed/ beside the target.
        target: the page.
    """
    executed = target.parent / "executed" / source.name
    executed.parent.mkdir(exist_ok=True)
    text = without_places(source.read_text(encoding="utf-8"))
    executed.write_text(text, encoding="utf-8")
    content = json.loads(text)
    cells = content["cells"]
    injected = any("injected-parameters" in cell["metadata"].get("tags", []) for cell in cells)
    # a page has no kernel, so progress bars and sliders would be dead in it
    content["metadata"].pop("widgets", None)
    for cell in cells:
        if "outputs" in cell:
            live = [output for output in cell["outputs"] if WIDGET not in output.get("data", {})]
            cell["outputs"] = live
        fold(cell, injected)
    title, rest = "".join(cells[0]["source"]).split("\n", 1)
    line = provenance(content["metadata"]["papermill"], source.name)
    if source.stem.startswith("04-training-"):
        setting = source.stem.removeprefix("04-training-")
        title = title.replace("Training: one setting", f"Training: {setting}")
        for cell in cells:  # a figure's name must be unique in the book
            if figure := cell["metadata"].get("mystnb", {}).get("figure"):
                figure["name"] += f"-{setting}"
    cells[0]["source"] = f"{title}\n\n{line}\n{rest}"
    target.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def without_places(notebook: str) -> str:
    """An executed notebook that gives only the names of files on the machine where it ran.

    Args:
        notebook: its JSON; its parameters may hold absolute paths, such as the source's.
    """
    given = texts_in(json.loads(notebook)["metadata"]["papermill"]["parameters"])
    paths = {os.path.expanduser(text.removeprefix(TRUST)) for text in given}
    for path in sorted(paths, key=len, reverse=True):  # a longer one may begin with a shorter
        if not Path(path).is_absolute() or len(Path(path).parts) < 3:
            continue
        # as the record has it, and as papermill writes it into a cell
        for written in (path, path.encode("unicode_escape").decode()):
            place = json.dumps(written, ensure_ascii=False)[1:-1]
            notebook = notebook.replace(place, Path(path).name)
    return notebook


def texts_in(value) -> list[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [text for part in value for text in texts_in(part)] if isinstance(value, list) else []


def fold(cell: dict, injected: bool) -> None:
    """Fold a cell's housekeeping away under a name that says what is there.

    Args:
        cell: of a notebook; changed in place.
        injected: whether the run was given parameters, which stand in a cell of their own.
    """
    tags = set(cell["metadata"].get("tags", []))
    if tags & PARAMETERS:
        tags.add("hide-input")
    name = None
    if "parameters" in tags and injected:
        name = "the defaults"  # the values that the run was given follow
    elif "solution" in tags:
        name = "a solution"
    elif tags & PARAMETERS:
        name = "the parameters of this run"
    elif "hide-input" in tags:
        name = "the set-up" if "import " in "".join(cell["source"]) else "how it is done"
    if name:
        prompts = {"code_prompt_show": f"Show {name}", "code_prompt_hide": f"Hide {name}"}
        cell["metadata"]["mystnb"] = cell["metadata"].get("mystnb", {}) | prompts
    cell["metadata"]["tags"] = sorted(tags)


def extract_figure(notebook: Path, name: str, target: Path) -> None:
    """Write the picture of one figure of an executed notebook as a file that other pages can show.

    Args:
        notebook: the executed notebook.
        name: of the figure.
        target: the file, to which .svg or .png is added.
    """
    for cell in read_json(notebook)["cells"]:
        if cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") == name:
            pictures = next(
                output["data"]
                for output in cell["outputs"]
                if PICTURES & output.get("data", {}).keys()
            )
            if "image/svg+xml" in pictures:
                target.with_suffix(".svg").write_text(
                    "".join(pictures["image/svg+xml"]), encoding="utf-8"
                )
            else:
                target.with_suffix(".png").write_bytes(base64.b64decode(pictures["image/png"]))
            return
    raise SystemExit(f"{notebook} has no figure {name}")


def other_book(run: Path) -> str:
    """A link to the book of the other corpus, if it has been built beside this one."""
    other = {"sample": "fudan", "fudan": "sample"}.get(run.name)
    if other is None or not (run.parent / other / "html" / "index.html").is_file():
        return ""
    title = read_profile(other).values["title"]
    address = f"../../{other}/html/index.html"
    return f'The same book was built on another corpus: <a href="{address}">{title}</a>.'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("site", type=Path)
    parser.add_argument("--title", required=True)
    parser.add_argument("--settings", nargs="+", required=True)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.site, ignore_errors=True)
    arguments.site.mkdir(parents=True)
    filled = {
        "{{ run_title }}": arguments.title,
        "{{ trainings }}": ", ".join(
            f"{{doc}}`{setting} <04-training-{setting}>`" for setting in arguments.settings
        ),
        "{{ study }}": recorded.study_sentence(),
        "{{ seeds }}": recorded.seed_tables(),
        "{{ benchmarks }}": recorded.benchmark_tables(),
        "{{ full_size_most }}": recorded.full_size_most(),
        "{{ full_size }}": recorded.full_size_tables(),
        "{{ helpers }}": helper_reference(ROOT / "helpers"),
        "{{ other_book }}": other_book(arguments.run),
    }
    for page in [*BOOK.glob("*.md"), *BOOK.glob("*.bib")]:
        text = recorded.place_runs(page.read_text(encoding="utf-8"))
        for mark, value in filled.items():
            text = text.replace(mark, value)
        (arguments.site / page.name).write_text(text, encoding="utf-8")
    for picture in recorded.RESULTS.glob("*.svg"):
        shutil.copy(picture, arguments.site)
    shutil.copy(ROOT / "data" / "README.md", arguments.site / "data-card.md")
    shutil.copy(ROOT / "CITATION.cff", arguments.site)
    shutil.copytree(BOOK / "_static", arguments.site / "_static")
    mathjax = importlib.resources.files("mathjax") / "static" / "mathjax" / "es5" / "tex-svg.js"
    # not in _static: Jupyter Book loads every script in there on every page
    local = arguments.site / "extra" / "mathjax" / mathjax.name
    local.parent.mkdir(parents=True)
    local.write_bytes(mathjax.read_bytes())
    # by name, because the folder may also hold what an earlier layout left
    for name in notebook_names(arguments.settings):
        notebook = arguments.run / "notebooks" / f"{name}.ipynb"
        if notebook.is_file():
            stage_notebook(notebook, arguments.site / notebook.name)
    if (evaluation := arguments.run / "notebooks" / "05-evaluation.ipynb").is_file():
        extract_figure(evaluation, "fig-accuracy", arguments.site / "fig-accuracy")
    toc = table_of_contents(arguments.settings)
    (arguments.site / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
