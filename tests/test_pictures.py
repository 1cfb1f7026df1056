"""Pictures of recorded runs are drawn from the recorded figures."""

import pytest

from tools import pictures, recorded


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fudan", ("Who learns faster", "What the seconds buy", "Cascade, the linear SVM first")),
        ("fudan-bare", ("What the seconds buy", "Cascade, the linear SVM first")),
    ],
)
def test_a_run_on_the_real_corpus_gets_its_panels(name, said, tmp_path):
    metrics = recorded.read_results(name)["metrics"]
    pictures.draw_corpus(metrics, tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert all(title in drawn for title in said)
    assert ("Who learns faster" in drawn) == bool(metrics.get("curve"))


def test_the_samples_shares_are_drawn_with_their_names(tmp_path):
    metrics = recorded.read_results("sample")["metrics"]
    pictures.draw_shares(metrics, tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert all(f"{name}, writes" in drawn for name in metrics["models"])
