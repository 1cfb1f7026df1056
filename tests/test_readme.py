"""The README's result tables are the recorded figures, in both languages."""

import json
import sys

import pytest

from helpers import ROOT

sys.path.insert(0, str(ROOT / "book"))
from results import result_rows


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
@pytest.mark.parametrize("run", ["sample", "fudan"])
def test_its_tables_are_the_recorded_figures(readme, run):
    metrics = json.loads((ROOT / "book" / "results" / f"{run}.json").read_text(encoding="utf-8"))[
        "metrics"
    ]
    text = (ROOT / readme).read_text(encoding="utf-8")
    for name, generate, score in result_rows(metrics):
        assert f"| {name} | {generate} | {score} |" in text


def test_no_text_of_an_article_is_recorded(sample):
    """Records hold figures and names only: no string in them is longer than a sentence of
    settings.
    """

    def strings(value):
        if isinstance(value, dict):
            yield from (text for part in value.values() for text in strings(part))
        elif isinstance(value, list):
            yield from (text for part in value for text in strings(part))
        elif isinstance(value, str):
            yield value

    for path in (ROOT / "book" / "results").glob("*.json"):
        assert max(map(len, strings(json.loads(path.read_text(encoding="utf-8"))))) < 200
