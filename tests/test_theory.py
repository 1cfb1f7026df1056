"""Chapter 3 on models that the book itself does not train: with biases, tied or not, other sizes.

The folders hold one matrix and nothing else of the model, so that loading more would fail.
"""

import IPython.display
import pytest
from conftest import run_cells
from safetensors.torch import save_file
from test_lora import make_model

from helpers import pages


class Shown:
    """The output that a front end would redraw during a lesson."""

    def update(self, figure):
        pass


@pytest.mark.parametrize(
    ("kind", "changes", "given", "says"),
    [
        (
            "qwen2",
            {},
            {"layer": "model.layers.2.self_attn.q_proj", "rank": 4, "alpha": 8},
            "model.layers.2.self_attn.q_proj, one of 21 linear layers\n32 × 32 weights",
        ),
        (
            "gemma3_text",
            {"tie_word_embeddings": True, "head_dim": 16},
            {"rank": 2},
            "model.layers.1.mlp.up_proj, one of 21 linear layers\n48 × 32 weights",
        ),
    ],
    ids=["a query's matrix and bias", "tied weights"],
)
def test_the_claims_hold_on_one_matrix_of_any_model(
    kind, changes, given, says, tmp_path, monkeypatch, capsys
):
    network, name = make_model(kind, **changes), given.get("layer", "model.layers.1.mlp.up_proj")
    network.config.save_pretrained(tmp_path)
    parts = network.get_submodule(name).state_dict()
    assert ("bias" in parts) == ("q_proj" in name)  # only one of the two layers has a bias
    alone = {f"{name}.{part}": value.bfloat16() for part, value in parts.items()}
    save_file(alone, tmp_path / "model.safetensors")
    glued = {}
    monkeypatch.setattr(IPython.display, "display", lambda *shown, **choices: Shown())
    monkeypatch.setattr(pages, "glue_all", lambda **values: glued.update(values))
    run_cells(
        "03-lora-theory", **{"run_dir": str(tmp_path / "run"), "model": str(tmp_path)} | given
    )
    assert says in capsys.readouterr().out
    missed, least = glued["one_missed"], glued["one_floor"]
    assert least <= missed < 100  # it learned, but no more than its rank can
    assert not (tmp_path / "run").exists()
