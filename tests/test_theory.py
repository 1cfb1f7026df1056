"""Notebook 3 on adapters that the book itself does not train: layers of the reader's choice,
another scale, DoRA beside them.
"""

import nbformat

from helpers import ROOT
from helpers.notebooks import run_notebook


def test_the_claims_hold_for_the_layers_that_a_setting_names(tmp_path, draw_adapter):
    run, output = tmp_path / "run", tmp_path / "03.ipynb"
    for setting, choices in {
        "dora": {"use_dora": True},
        "attention-only": {"use_rslora": True},
    }.items():
        draw_adapter(run / "train" / setting, r=4, target_modules=["q_proj", "v_proj"], **choices)
    run_notebook(
        ROOT / "notebooks" / "03-lora-theory.ipynb",
        output,
        {"run_dir": str(run), "settings": ["dora", "attention-only"]},
    )
    printed = "".join(
        part.get("text", "")
        for cell in nbformat.read(output, 4).cells
        if cell.cell_type == "code"
        for part in cell.outputs
    )
    assert "DoRA computes another formula: dora\n" in printed
    assert "q_proj: W0 is 1024 × 640, r = 4, scale 4\n" in printed  # 8 / √4
