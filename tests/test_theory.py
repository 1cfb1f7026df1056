"""Notebook 3 on adapters that the book itself does not train: layers of the reader's choice, another scale, DoRA beside them."""

import nbformat
import torch
from peft import LoraConfig, get_peft_model

from helpers import ROOT, data, models
from helpers.notebooks import run_notebook


def test_the_claims_hold_for_the_layers_that_a_setting_names(tmp_path):
    torch.manual_seed(0)
    for setting, choices in {"dora": {"use_dora": True}, "attention-only": {"use_rslora": True}}.items():
        adapted = get_peft_model(models.load_model(models.PACKAGED), LoraConfig(r=4, target_modules=["q_proj", "v_proj"], **choices))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.01)
        adapted.save_pretrained(tmp_path / "run" / "train" / setting / "adapter")
        data.write_json(tmp_path / "run" / "train" / setting / "summary.json", {})
    output = tmp_path / "03.ipynb"
    run_notebook(
        ROOT / "notebooks" / "03-lora-theory.ipynb", output, {"run_dir": str(tmp_path / "run"), "settings": ["dora", "attention-only"]}
    )
    printed = "".join(part.get("text", "") for cell in nbformat.read(output, 4).cells if cell.cell_type == "code" for part in cell.outputs)
    assert "DoRA computes another formula: dora\n" in printed
    assert "q_proj: W0 is 1024 × 640, r = 4, scale 4\n" in printed  # 8 / √4
