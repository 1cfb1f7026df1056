"""One matrix of a model, the count of trained weights, and the correction that a layer learns."""

import pytest
import torch

from helpers import InputError, lora

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "tie_word_embeddings": False,
}


def make_model(kind, **changes):
    """A random model of a few thousand weights; in Qwen2, queries have biases."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZES | changes)
    return AutoModelForCausalLM.from_config(config)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """A model with biases and an output matrix of its own, saved to a folder in several files."""
    folder, network = tmp_path_factory.mktemp("qwen"), make_model("qwen2")
    network.save_pretrained(folder, max_shard_size="12KB")
    assert len(list(folder.glob("*.safetensors"))) > 3
    return network, folder


@pytest.mark.parametrize(
    ("kind", "changes", "count"),
    [
        ("qwen2", {}, 21),
        ("llama", {"tie_word_embeddings": True}, 21),
        ("gemma3_text", {"tie_word_embeddings": True, "head_dim": 16}, 21),
        ("gpt_neox", {}, 12),
    ],
)
def test_formula_and_peft_count_alike_on_any_model(kind, changes, count, tmp_path):
    make_model(kind, **changes).config.save_pretrained(tmp_path)
    network = lora.empty_model(str(tmp_path))
    assert all(weight.is_meta for weight in network.parameters())
    layers = lora.linear_layers(network)
    assert len(layers) == count and not any("lm_head" in name for name in layers)
    choices = lora.layer_choices(layers)
    assert list(choices) == ["attention", "MLP", "all linear"]
    for names in choices.values():
        formula = lora.weights_by_formula(layers, names, 4)
        assert 0 < formula == lora.weights_by_peft(str(tmp_path), names, 4)


def test_the_table_of_sizes_is_the_formula():
    layers = {"layers.0.attn.q": (6, 4), "layers.0.up": (9, 1)}
    table = lora.size_table(layers, total=1000, ranks=(2, 5))
    row = table.loc[("all linear", 5)]
    assert row["million weights"] == pytest.approx(5 * 20 / 1e6)
    assert row["of the model, %"] == pytest.approx(10)
    assert row["gradients and moments, MiB"] == pytest.approx(1200 / 2**20)
    assert table.loc[("attention", 2), "million weights"] == pytest.approx(20 / 1e6)


def test_a_layer_in_the_middle_or_the_one_that_is_named(qwen):
    layers = lora.linear_layers(qwen[0])
    assert lora.choose_layer(layers) == "model.layers.1.mlp.up_proj"
    own = "model.layers.2.self_attn.k_proj"
    assert lora.choose_layer(layers, own) == own
    with pytest.raises(InputError, match=r"layer 'up' is none of this model's 21 .*q_proj, model"):
        lora.choose_layer(layers, "up")
    assert lora.choose_layer({"h.0.a": (1, 1), "h.1.a": (1, 1)}) == "h.1.a"
    with pytest.raises(InputError, match="layer 'up' is none of this model's 1 linear layers"):
        lora.choose_layer({"h.0.a": (1, 1)}, "up")
    with pytest.raises(InputError, match="no linear layer"):
        lora.choose_layer({})


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj", "model.layers.2.self_attn.q_proj"])
def test_the_matrix_is_the_models_own(qwen, name):
    network, folder = qwen
    layer, matrix = network.get_submodule(name), lora.read_matrix(str(folder), name)
    assert torch.equal(matrix.weight, layer.weight)
    assert (matrix.bias is None) == (layer.bias is None)
    assert matrix.bias is None or torch.equal(matrix.bias, layer.bias)
    corner = lora.read_matrix(str(folder), name, corner=5)
    assert torch.equal(corner.weight, layer.weight[:5, :5])
    assert corner.bias is None or torch.equal(corner.bias, layer.bias[:5])


def test_no_other_file_of_the_weights_is_read(qwen, tmp_path):
    network, folder = qwen
    name = "model.layers.1.mlp.up_proj"
    holder = lora.file_of(folder, f"{name}.weight")
    for path in folder.iterdir():
        other = path.suffix == ".safetensors" and path != holder
        (tmp_path / path.name).write_bytes(b"damaged" if other else path.read_bytes())
    matrix = lora.read_matrix(str(tmp_path), name)
    assert torch.equal(matrix.weight, network.get_submodule(name).weight)


def test_half_precision_is_widened_and_weights_without_safetensors_are_found(qwen, tmp_path):
    network, name = qwen[0], "model.layers.1.self_attn.v_proj"
    network.config.save_pretrained(tmp_path)
    half = {key: value.bfloat16() for key, value in network.state_dict().items()}
    torch.save(half, tmp_path / "pytorch_model.bin")
    assert lora.lies_alone(str(qwen[1]), name) and not lora.lies_alone(str(tmp_path), name)
    matrix = lora.read_matrix(str(tmp_path), name, corner=7)
    layer = network.get_submodule(name)
    assert matrix.weight.dtype == torch.float32 and matrix.weight.shape == (7, 7)
    assert torch.equal(matrix.weight, layer.weight[:7, :7].bfloat16().float())
    assert torch.equal(matrix.bias, layer.bias[:7].bfloat16().float())


@pytest.mark.parametrize("bias", [None, torch.arange(6.0)])
def test_pefts_layer_computes_the_formula_and_merging_leaves_our_matrix(bias):
    torch.manual_seed(0)
    matrix = lora.Matrix("up", torch.randn(6, 5), bias)
    before, x = matrix.weight.clone(), torch.randn(3, 5)
    layer = lora.peft_layer(matrix, r=2, lora_alpha=6)
    assert torch.equal(layer(x), torch.nn.functional.linear(x, matrix.weight, bias))  # B = 0
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    delta = 3 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, before + delta, bias))
    layer.merge()
    torch.testing.assert_close(layer.base_layer.weight, before + delta)
    assert torch.equal(matrix.weight, before)


def test_the_hidden_correction_has_mean_square_one_and_its_energy():
    hidden = lora.hidden_correction(40, 30, strengths=(1, 3, 2), seed=3)
    assert hidden.energy.tolist() == pytest.approx([9 / 14, 4 / 14, 1 / 14])
    x = torch.randn(20000, 30, generator=torch.Generator().manual_seed(0))
    assert float(hidden.of(x).square().mean()) == pytest.approx(1, rel=0.03)
    again = lora.hidden_correction(40, 30, strengths=(1, 3, 2), seed=3)
    assert torch.equal(hidden.left, again.left) and torch.equal(hidden.right, again.right)


def test_what_is_missed_and_the_least_that_a_rank_must_miss():
    hidden = lora.hidden_correction(40, 30)
    whole = hidden.left @ hidden.right
    u, s, v = torch.linalg.svd(whole, full_matrices=False)
    assert hidden.missed(torch.randn(3, 30), torch.zeros(40, 3), 4.0) == pytest.approx(1)
    for rank in (1, 2, 4, 8):
        best = u[:, :rank] * s[:rank]  # the nearest matrix of this rank
        missed = hidden.missed(v[:rank], best / 4, 4.0)
        assert missed == pytest.approx(hidden.floor(rank), abs=1e-6)
    a, b = torch.randn(3, 30), torch.randn(40, 3)
    by_hand = float((whole - 0.5 * b @ a).square().sum() / whole.square().sum())
    assert hidden.missed(a, b, 0.5) == pytest.approx(by_hand, rel=1e-5)
