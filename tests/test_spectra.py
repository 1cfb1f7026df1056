"""What an adapter learned, compared with products written out; layers and scales of all kinds."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from safetensors.torch import save_file

from helpers import InputError, curves, plotting, spectra

LAYERS = {
    "model.layers.0.self_attn.q_proj": (12, 10),
    "model.layers.0.mlp.up_proj": (20, 10),
    "model.layers.3.self_attn.q_proj": (12, 10),
}
"""Shapes are d_out × d_in; not every block is adapted."""


def write_adapter(folder, ranks=None, layers=LAYERS, b_scale=1.0, **changes):
    """Write an adapter's folder with random weights; return the matrices A and B by layer."""
    draw = torch.Generator().manual_seed(0)
    saved, parts = {}, {}
    for name, (d_out, d_in) in layers.items():
        rank = (ranks or {}).get(name, 4)
        a = torch.randn(rank, d_in, generator=draw)
        b = torch.randn(d_out, rank, generator=draw) * b_scale
        saved[f"base_model.model.{name}.lora_A.weight"] = a
        saved[f"base_model.model.{name}.lora_B.weight"] = b
        parts[name] = (a, b)
    saved["base_model.model.score.weight"] = torch.ones(3, 3)  # a head beside it does not count
    folder.mkdir(parents=True, exist_ok=True)
    save_file(saved, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8} | changes
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return parts


def test_spectra_are_those_of_the_products_written_out(tmp_path):
    parts = write_adapter(tmp_path)
    values = spectra.adapter_spectra(tmp_path)
    assert values.shape == (3, 4)
    for own, name in zip(values, sorted(parts)):
        a, b = parts[name]
        whole = torch.linalg.svdvals(8 / 4 * b @ a).numpy()
        assert own == pytest.approx(whole[:4], rel=1e-5) and whole[4] == pytest.approx(0, abs=1e-4)


def test_changes_name_block_and_module(tmp_path):
    parts = write_adapter(tmp_path)
    changes = spectra.layer_changes(tmp_path).set_index(["block", "module"])["change"]
    assert set(changes.index) == {(0, "q_proj"), (0, "up_proj"), (3, "q_proj")}
    a, b = parts["model.layers.3.self_attn.q_proj"]
    typical = float((2 * b @ a).square().mean().sqrt())  # independent of the layer's size
    assert changes[3, "q_proj"] == pytest.approx(typical, rel=1e-5)


def test_the_scale_of_rslora_and_of_layers_with_values_of_their_own(tmp_path):
    plain = write_adapter(tmp_path / "plain") and spectra.adapter_spectra(tmp_path / "plain")
    write_adapter(tmp_path / "rs", use_rslora=True)
    assert spectra.adapter_spectra(tmp_path / "rs") == pytest.approx(2 * plain)  # 8/√4 for 8/4
    own = {"alpha_pattern": {"up_proj": 16}}
    write_adapter(tmp_path / "own", **own)
    times = spectra.adapter_spectra(tmp_path / "own") / plain
    assert times == pytest.approx(np.array([[2.0], [1], [1]]) + np.zeros((3, 4)))  # up_proj first


def test_a_layer_of_smaller_rank_ends_in_zeros_and_has_its_own_scale(tmp_path):
    small = "model.layers.0.mlp.up_proj"
    parts = write_adapter(tmp_path, {small: 2}, rank_pattern={"up_proj": 2})
    values = spectra.adapter_spectra(tmp_path)[0]
    a, b = parts[small]
    assert values[:2] == pytest.approx(torch.linalg.svdvals(8 / 2 * b @ a).numpy()[:2], rel=1e-5)
    assert (values[2:] == 0).all()


def test_a_layer_outside_of_the_blocks_is_said_to_be_there(tmp_path):
    write_adapter(tmp_path, layers={"lm_head": (30, 10)})
    (line,) = spectra.layer_changes(tmp_path).to_dict("records")
    assert (line["block"], line["module"]) == (spectra.OUTSIDE, "lm_head") and line["change"] > 0


def test_energy_and_used_rank():
    values = np.array([[3.0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])  # the last never learned
    assert spectra.energy_share(values, 1) == pytest.approx((0.9 + 0.25) / 2)
    assert spectra.energy_share(values, 4) == pytest.approx(1)
    assert spectra.used_rank(values[:1]) == 1 and spectra.used_rank(values[1:2]) == 4
    assert spectra.used_rank(values[:1], 0.91) == 2
    assert spectra.energy_share(values[2:]) == 0 and spectra.used_rank(values[2:]) == 0


def test_dora_is_named_and_left_out(tmp_path, capsys):
    write_adapter(tmp_path / "plain")
    write_adapter(tmp_path / "dora", use_dora=True)
    with pytest.raises(InputError, match="DoRA computes another formula"):
        spectra.adapter_spectra(tmp_path / "dora")
    with pytest.raises(InputError, match="DoRA computes another formula"):
        spectra.layer_changes(tmp_path / "dora")
    relative = spectra.relative_spectra({name: tmp_path / name for name in ("dora", "plain")})
    assert list(relative) == ["plain"] and (relative["plain"][:, 0] == 1).all()
    assert "dora is left out here. DoRA computes another formula" in capsys.readouterr().out


def test_another_kind_of_adapter_and_a_missing_file_are_one_line(tmp_path):
    write_adapter(tmp_path / "ia3", peft_type="IA3")
    assert "IA3 is not LoRA" in spectra.left_out(tmp_path / "ia3")
    write_adapter(tmp_path / "olora", init_lora_weights="olora")
    assert "it began as olora" in spectra.left_out(tmp_path / "olora")
    write_adapter(tmp_path / "gaussian", init_lora_weights="gaussian")
    assert spectra.left_out(tmp_path / "gaussian") is None
    with pytest.raises(InputError, match="train it with notebook 04"):
        spectra.adapter_spectra(tmp_path / "nothing")
    write_adapter(tmp_path / "empty", layers={})
    with pytest.raises(InputError, match="corrects no linear layer"):
        spectra.adapter_spectra(tmp_path / "empty")


def test_an_adapter_as_peft_saves_it(tmp_path):
    """Other target layers, rsLoRA's scale and ranks by pattern agree with what peft merges."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    block = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(6, 8), "v_proj": torch.nn.Linear(6, 4)})
    network = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([block])})
    config = LoraConfig(
        r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "v_proj"],
        rank_pattern={"v_proj": 2}, alpha_pattern={"q_proj": 3},
    )  # fmt: skip
    adapted = get_peft_model(network, config)
    layers = {}
    for name in ("q_proj", "v_proj"):
        layer = adapted.get_submodule(f"base_model.model.layers.0.{name}")
        torch.nn.init.normal_(layer.lora_B["default"].weight)
        layers[name] = float(layer.get_delta_weight("default").detach().square().mean().sqrt())
    adapted.save_pretrained(tmp_path)
    changes = spectra.layer_changes(tmp_path).set_index("module")["change"].to_dict()
    assert changes == pytest.approx(layers, rel=1e-5)


def test_the_words_of_a_page_follow_the_adapter(tmp_path):
    write_adapter(tmp_path, alpha_pattern={"up_proj": 80})
    relative = spectra.relative_spectra({"own": tmp_path})
    changes = spectra.layer_changes(tmp_path)
    figures = spectra.learned_figures(relative, changes)
    assert figures["strongest"] == "up_proj" and figures["energy"] == pytest.approx(100)
    assert "layers called up_proj" in figures["learned_words"]
    assert figures["learned_words"].startswith("In at least half")  # its rank is four
    nothing = spectra.learned_figures({}, pd.DataFrame())
    assert nothing["strongest"] == "–" and "no correction" in nothing["learned_words"]
    write_adapter(tmp_path / "zero", b_scale=0.0)  # never learned
    relative = spectra.relative_spectra({"zero": tmp_path / "zero"})
    assert "no correction" in spectra.learned_figures(relative, changes)["learned_words"]


def log(**columns):
    empty = dict.fromkeys(("loss", "eval_loss", "eval_seq_acc"), [float("nan")] * 3)
    return pd.DataFrame({"step": [1, 2, 3]} | empty | columns)


def test_the_figures_of_a_log_with_and_without_val():
    whole = log(loss=[4.0, 2, 1], eval_seq_acc=[None, 0.25, 0.75], **{"train_speed(s/it)": [1] * 3})
    figures = curves.run_figures(whole, [10, 30], rows_per_step=2, steps=3, val_rows=8)
    assert figures["first_loss"] == 4 and figures["last_loss"] == pytest.approx(7 / 3)
    assert figures["val_accuracy"] == 75 and "75 % of the 8 validation" in figures["val_words"]
    assert figures["row_tokens"] == 20 and figures["tokens_a_second"] == 40
    bare = curves.run_figures(log(loss=[4.0, 2, 1]), [10], rows_per_step=2, steps=3, val_rows=8)
    assert bare["rows_seen"] == 3  # there is one row, however many a step may see
    assert np.isnan(bare["val_accuracy"]) and "not asked" in bare["val_words"]


@pytest.mark.parametrize(
    ("steps", "rows", "read"),
    [(96, 401, 384), (680, 2726, 2720), (3, 10, 10), (4, 10, 14), (6, 10, 20), (5, 3, 15)],
)
def test_the_last_step_of_an_epoch_reads_what_is_left(steps, rows, read):
    assert curves.rows_read(steps, 4, rows) == read


@pytest.mark.parametrize(
    ("total", "steps"),
    [(128, (4, 8, 16, 32, 64, 128)), (2, (1, 2)), (1, (1,)), (112, (4, 7, 14, 28, 56, 112))],
)
def test_a_learning_curve_keeps_its_steps_once(total, steps):
    assert curves.curve_steps(total) == steps


def test_figures_say_so_when_there_is_nothing_to_draw():
    figure = plotting.learning_curves({"a": log(loss=[4.0, 2, 1])}, {"a": 8})
    assert [text.get_text() for text in figure.axes[1].texts] == [
        "val was not asked for whole answers"
    ]
    for empty in (plotting.singular_values({}), plotting.layer_changes(pd.DataFrame())):
        assert [text.get_text() for text in empty.axes[0].texts] == ["no correction to take apart"]
    plt.close("all")


def test_the_loss_of_a_head_is_that_of_a_row():
    words, head = log(loss=[4.0, 2, 1]), log(loss=[4.0, 2, 1], eval_acc=[0.5] * 3)
    for logs, unit in (({"a": words}, "a token"), ({"b": head}, "a row")):
        axes = plotting.learning_curves(logs, dict.fromkeys(logs, 8)).axes[0]
        assert axes.get_ylabel() == f"loss, nats {unit}"
    plt.close("all")


def test_the_bars_of_the_learning_curves_are_wilson_intervals():
    figure = plotting.learning_curves({"a": log(eval_seq_acc=[0.0, 0.5, 1.0])}, {"a": 10})
    (bars,) = figure.axes[1].containers
    low, high = np.array([line[:, 1] for line in bars[2][0].get_segments()]).T
    assert low == pytest.approx([0, 23.66, 72.25], abs=0.01)
    assert high == pytest.approx([27.75, 76.34, 100], abs=0.01)
    plt.close("all")


def test_layers_of_one_kind_in_a_block_are_averaged():
    frame = pd.DataFrame({"block": [0, 0, 10, 2], "module": ["up"] * 4, "change": [1.0, 3, 5, 7]})
    figure = plotting.layer_changes(frame)
    (mesh,) = figure.axes[0].collections
    assert mesh.get_array().flatten().tolist() == [2, 7, 5]  # blocks 0, 2, 10
    plt.close("all")
