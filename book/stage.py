"""Stage the site: prose pages, executed notebooks and a table of contents in one folder, ready for Jupyter Book.

python book/stage.py runs/sample runs/sample/site --title "the packaged sample" --settings rank8 rank16
"""

import argparse
import json
import shutil
from pathlib import Path

import yaml
from results import result_rows

BOOK = Path(__file__).parent
FOLDED = {"parameters", "injected-parameters"}


def table_of_contents(settings: list[str]) -> dict:
    """_toc.yml with the training page once a setting."""
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


def stage_notebook(source: Path, target: Path) -> None:
    """Copy an executed notebook; cells of parameters are folded away, training pages carry their setting in the title."""
    content = json.loads(source.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        tags = cell["metadata"].setdefault("tags", [])
        if FOLDED & set(tags) and "hide-input" not in tags:
            tags.append("hide-input")
    if source.stem.startswith("04-training-"):
        setting = source.stem.removeprefix("04-training-")
        text = "".join(content["cells"][0]["source"])
        content["cells"][0]["source"] = text.replace("Training: one setting", f"Training: {setting}", 1)
        for cell in content["cells"]:  # a figure's name must be unique in the book
            if figure := cell["metadata"].get("mystnb", {}).get("figure"):
                figure["name"] += f"-{setting}"
    target.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def real_corpus() -> str:
    """The committed numbers of runs on the real corpus (see results.py) as Markdown: one section a run."""
    sections = []
    for file in sorted((BOOK / "results").glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        rows, summary = result_rows(record["metrics"]), record["summary"]
        lines = [f"## {record['title']}", "", f"Measured on {record['date']}: {record['device']}.", ""]
        counts = ", ".join(f"{count:,} {split}" for split, count in summary["rows"].items())
        tokens = next(iter(summary["tokens"].values()))
        lines.append(f"* Rows: {counts}; {summary['classes']} classes.")
        lines.append(f"* Length: half of the rows have more than {tokens['median']:,} tokens, the longest {tokens['max']:,}.")
        lines += [f"* {key}: {value}" for key, value in record["settings"].items()]
        lines += [f"* Versions: {', '.join(f'{name} {version}' for name, version in record['versions'].items())}.", ""]
        lines += ["Right answers on the test rows, % (95 % Wilson interval):", "", "| | generate | score |", "|---|---|---|"]
        lines += [f"| {name} | {generate} | {score} |" for name, generate, score in rows]
        pairs = [f"{pair['a']} and {pair['b']}: p = {pair['p']:.2g}" for pair in record["metrics"]["mcnemar"]]
        lines += ["", "Exact McNemar tests by `score`:", "", *(f"* {pair}" for pair in pairs), ""]
        sections.append("\n".join(lines))
    return "\n".join(sections) or "*No run on the real corpus has been recorded yet (`book/results.py --record`).*"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("site", type=Path)
    parser.add_argument("--title", required=True)
    parser.add_argument("--settings", nargs="+", required=True)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.site, ignore_errors=True)
    arguments.site.mkdir(parents=True)
    filled = {"{{ run_title }}": arguments.title, "{{ real_corpus }}": real_corpus()}
    for page in [*BOOK.glob("*.md"), *BOOK.glob("*.bib")]:
        text = page.read_text(encoding="utf-8")
        for mark, value in filled.items():
            text = text.replace(mark, value)
        (arguments.site / page.name).write_text(text, encoding="utf-8")
    shutil.copy(BOOK.parent / "data" / "README.md", arguments.site / "data-card.md")
    shutil.copytree(BOOK / "_static", arguments.site / "_static")
    for notebook in sorted((arguments.run / "notebooks").glob("*.ipynb")):
        if not notebook.name.endswith(".failed.ipynb"):
            stage_notebook(notebook, arguments.site / notebook.name)
    toc = table_of_contents(arguments.settings)
    (arguments.site / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
