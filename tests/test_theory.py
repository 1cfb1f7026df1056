"""Chapter 3 on models that the book itself does not train: with biases, tied or not, other sizes.

The folders hold one matrix and nothing else of the model: whatever loads more fails.
"""

import json

import nbformat
import pytest
from safetensors.torch import save_file
from test_lora import make_model

from helpers import ROOT
from helpers.notebooks import run_notebook


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
def test_the_claims_hold_on_one_matrix_of_any_model(kind, changes, given, says, tmp_path):
    network, name = make_model(kind, **changes), given.get("layer", "model.layers.1.mlp.up_proj")
    network.config.save_pretrained(tmp_path)
    parts = network.get_submodule(name).state_dict()
    assert ("bias" in parts) == ("q_proj" in name)  # one of the layers has one
    alone = {f"{name}.{part}": value.bfloat16() for part, value in parts.items()}
    save_file(alone, tmp_path / "model.safetensors")
    output = tmp_path / "03.ipynb"
    run_notebook(
        ROOT / "notebooks" / "03-lora-theory.ipynb",
        output,
        {"run_dir": str(tmp_path / "run"), "model": str(tmp_path)} | given,
    )
    cells = [cell for cell in nbformat.read(output, 4).cells if cell.cell_type == "code"]
    outputs = [part for cell in cells for part in cell.outputs]
    assert says in "".join(part.get("text", "") for part in outputs)
    glued = {
        part.metadata["scrapbook"]["name"]: part.data
        for part in outputs
        if "scrapbook" in part.get("metadata", {})
    }
    missed = json.loads(glued["one_missed"]["application/papermill.record/text/plain"])
    least = json.loads(glued["one_floor"]["application/papermill.record/text/plain"])
    assert least <= missed < 100  # it learned, and no more than a rank of 1 can
    assert not (tmp_path / "run").exists()
