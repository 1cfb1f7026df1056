"""Have pages remade that no longer describe what a run holds: `python -m tools.restore sample`.

A chapter that is run by hand in a run's folder, with values of one's own, leaves other rows,
another adapter or other figures there than the book's page describes. A run that was copied under
another name holds the pages of another profile. Snakemake is content with either, because all files
are newer than what they are made from. So the page's notebook is deleted, and `make book` runs it
again.
"""

import json
import sys
from pathlib import Path

from helpers import ROOT, InputError, files
from helpers.parameters import defaults_of
from helpers.profiles import Profile, notebook_names, read_profile
from helpers.splits import SPLITS


def made(run: Path, profile: Profile) -> dict[str, str | None]:
    """The digests that the notebooks of chapters 1 and 4 have to hold, by the notebook's name.

    They are those of the rows and of the trainings, as far as these are there; None where a
    training's summary is damaged.

    Args:
        run: the run's folder.
        profile: of the run.
    """
    kept: dict[str, str | None] = {}
    rows = [run / "data" / f"{split}.jsonl" for split in SPLITS]
    if all(path.is_file() for path in rows):
        kept["01-dataset-exploration"] = files.digest(*rows)
    for setting in profile.settings:
        summary = run / "train" / setting / "summary.json"
        if summary.is_file():
            try:
                known_by = files.read_json(summary)["fingerprint"]
            except files.DAMAGE:
                known_by = None
            kept[f"04-training-{setting}"] = known_by
    return kept


def made_otherwise(content: bytes, given: dict) -> bool:
    """Whether an executed notebook was given other parameters than now; True for a damaged one.

    Args:
        content: of its file, in which papermill recorded the parameters.
        given: the parameters that the profile gives it.
    """
    try:
        record = json.loads(content)["metadata"]["papermill"]
        return record["parameters"] != json.loads(json.dumps(given))
    except files.DAMAGE:
        return True


def compared_otherwise(run: Path, profile: Profile) -> bool:
    """Whether chapter 5 wrote its figures with other parameters than the profile gives it.

    Args:
        run: the run's folder.
        profile: of the run.
    """
    try:
        text = (run / "eval" / "metrics.json").read_text(encoding="utf-8")
        used = json.loads(text)["parameters"]
    except files.DAMAGE:
        return False  # there are no figures, or they are from before parameters were kept
    chapter = "05-evaluation"
    given = defaults_of(ROOT / "notebooks" / f"{chapter}.ipynb") | profile.parameters(chapter)
    given |= {"settings": sorted(profile.settings)}
    return any(given.get(name) != value for name, value in used.items())


def restore(run: Path, profile: Profile) -> list[str]:
    """Delete the notebooks that describe something other than what lies in the run.

    Args:
        run: the run's folder.
        profile: of the run.

    Returns:
        The names of the deleted ones.
    """
    gone, digests = [], made(run, profile)
    for name, (chapter, setting) in notebook_names(profile.settings).items():
        notebook = run / "notebooks" / f"{name}.ipynb"
        if not notebook.is_file():
            continue
        content = notebook.read_bytes()
        other = made_otherwise(content, profile.parameters(chapter, setting))
        if name in digests:
            digest = digests[name]
            other = other or not (digest and digest.encode() in content)
        if chapter == "05-evaluation":
            other = other or compared_otherwise(run, profile)
        if other:
            notebook.unlink()
            gone.append(name)
    return gone


def main() -> None:
    try:
        profile = read_profile(sys.argv[1])
    except InputError as error:
        sys.exit(str(error))
    for name in restore(ROOT / profile.run_dir, profile):
        print(f"▶ {name} was run with other values, and is run again", flush=True)


if __name__ == "__main__":
    main()
