"""What a chapter run by hand left in a run is made anew by the book."""

import pytest

from helpers import files, profiles
from tools.restore import restore


@pytest.fixture
def run(tmp_path):
    """A finished run of the tiny profile, as far as it matters here."""
    for split in ("train", "val", "test"):
        files.write_jsonl(tmp_path / "data" / f"{split}.jsonl", [{"text": split}])
    rows = [tmp_path / "data" / f"{split}.jsonl" for split in ("train", "val", "test")]
    texts = {"01-dataset-exploration": files.digest(*rows)}
    for setting in profiles.read_profile("tiny").settings:
        texts[f"04-training-{setting}"] = fingerprint = f"fingerprint of {setting}"
        files.write_json(
            tmp_path / "train" / setting / "summary.json", {"fingerprint": fingerprint}
        )
    for name, text in texts.items():
        files.write_text(
            tmp_path / "notebooks" / f"{name}.ipynb",
            [f"None of it was done by hand, nothing: '{text}'"],
        )
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
