"""What a chapter that was run by hand left in a run is remade by the book."""

import json

import pytest

from helpers import files, profiles
from helpers.parameters import defaults_of
from tools.restore import restore


@pytest.fixture
def run(tmp_path):
    """The parts of a finished run of the tiny profile that matter here."""
    for split in ("train", "val", "test"):
        files.write_jsonl(tmp_path / "data" / f"{split}.jsonl", [{"text": split}])
    rows = [tmp_path / "data" / f"{split}.jsonl" for split in ("train", "val", "test")]
    tiny = profiles.read_profile("tiny")
    texts = {"01-dataset-exploration": files.digest(*rows), "05-evaluation": "no digest"}
    for setting in tiny.settings:
        texts[f"04-training-{setting}"] = fingerprint = f"fingerprint of {setting}"
        files.write_json(
            tmp_path / "train" / setting / "summary.json", {"fingerprint": fingerprint}
        )
    for name, text in texts.items():
        chapter, setting = (name[:11], name[12:]) if name[:2] == "04" else (name, None)
        record = {"papermill": {"parameters": tiny.parameters(chapter, setting)}}
        content = {"metadata": record, "cells": [f"None of it was done by hand: '{text}'"]}
        files.write_json(tmp_path / "notebooks" / f"{name}.ipynb", content)
    return tmp_path


def test_nothing_is_taken_away_where_pages_tell_of_what_is_there(run, tmp_path):
    tiny = profiles.read_profile("tiny")
    assert restore(run, tiny) == [] == restore(tmp_path / "not run yet", tiny)


def test_a_page_goes_that_tells_of_another_adapter_or_of_other_rows(run):
    tiny = profiles.read_profile("tiny")
    first, *others = tiny.settings
    files.write_json(run / "train" / first / "summary.json", {"fingerprint": "another"})
    assert restore(run, tiny) == [f"04-training-{first}"]
    assert restore(run, tiny) == []
    (run / "train" / others[0] / "summary.json").write_text("")  # cut off by a crash
    files.write_jsonl(run / "data" / "val.jsonl", [{"text": "other"}])
    assert restore(run, tiny) == ["01-dataset-exploration", f"04-training-{others[0]}"]
    assert list((run / "notebooks").glob("0[14]*")) == []


def test_a_page_goes_that_was_made_with_other_parameters(run):
    """As in a run that was copied under another name, so that Snakemake does not know of it."""
    tiny = profiles.read_profile("tiny")
    first = next(iter(tiny.settings))
    notebook = run / "notebooks" / f"04-training-{first}.ipynb"
    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["metadata"]["papermill"]["parameters"]["learning_rate"] = 0.5
    files.write_json(notebook, content)
    assert restore(run, tiny) == [f"04-training-{first}"]
    (run / "notebooks" / "05-evaluation.ipynb").write_text("{")
    assert restore(run, tiny) == ["05-evaluation"]


@pytest.mark.parametrize("other", [{"val_rows": 3}, {"settings": ["rank8"]}, {}])
def test_figures_of_another_comparison_are_made_anew(run, other):
    tiny = profiles.read_profile("tiny")
    given = defaults_of(files.ROOT / "notebooks" / "05-evaluation.ipynb")
    given |= tiny.parameters("05-evaluation") | {"settings": sorted(tiny.settings)}
    names = ("settings", "at_step", "probe_rows", "val_rows", "ladder", "encoder")
    used = {name: given[name] for name in names} | other
    files.write_json(run / "eval" / "metrics.json", {"parameters": used})
    assert restore(run, tiny) == (["05-evaluation"] if other else [])
