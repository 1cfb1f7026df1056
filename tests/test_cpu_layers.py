"""Gemma's norms and MLPs in fewer passes, compared with transformers' own."""

import pytest
import torch
from conftest import small_model

from helpers import cpu_layers, models

IDS = torch.randint(100, (3, 12), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def products(monkeypatch):
    """Make products in bfloat16, built in or imitated, join the operations that follow them."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no products in bfloat16 on this processor")
    monkeypatch.setattr(cpu_layers, "multiplies_in_bfloat16", lambda: True)


def joined_model(**choices):
    model = small_model(**choices)
    cpu_layers.join_passes(model)
    return model


def test_every_norm_and_mlp_is_replaced_and_weights_keep_their_names():
    model = joined_model()
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(cpu_layers.FrozenNorm) == 2 * 6 + 1 and kinds.count(cpu_layers.MLP) == 2
    assert model.state_dict().keys() == small_model().state_dict().keys()


@torch.no_grad()
def test_logits_stay_where_nothing_is_learned():
    torch.testing.assert_close(
        joined_model()(IDS).logits, small_model()(IDS).logits, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("frozen", [True, False])
def test_gradients_stay(frozen):
    """So do the gradients of the norms' scales, where these are learned."""
    results = []
    for model in (small_model(), joined_model()):
        for name, weight in model.named_parameters():
            weight.requires_grad_(not (frozen and "norm" in name))
        model(IDS).logits.square().mean().backward()
        results.append({name: weight.grad for name, weight in model.named_parameters()})
    for name, before in results[0].items():
        assert (before is None) == (frozen and "norm" in name)
        if before is not None:
            size = before.abs().max().item()
            torch.testing.assert_close(results[1][name], before, rtol=1e-3, atol=1e-4 * size)


@torch.no_grad()
def test_in_two_bytes_it_is_no_farther_from_the_truth_than_before(products, monkeypatch):
    exact, errors, fused = small_model()(IDS).logits, [], []
    product = torch.ops.mkldnn._linear_pointwise
    for model in (small_model().bfloat16(), joined_model().bfloat16()):
        errors.append((model(IDS).logits.float() - exact).square().mean().sqrt().item())
    assert 0 < errors[1] < 1.1 * errors[0]
    mlp, x = joined_model().bfloat16().model.layers[0].mlp, torch.randn(2, 5, 32).bfloat16()
    counted = lambda *args: (fused.append(args[3]), product(*args))[1]  # noqa: E731
    counted.binary = product.binary
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    assert mlp(x).shape == x.shape and fused == ["gelu"]
    mlp.up_proj = torch.nn.Sequential(mlp.up_proj)  # like a layer under an adapter
    assert mlp(x).shape == x.shape and fused == ["gelu"]


def test_a_model_can_learn_where_its_weights_are_not_frozen(products):
    model = joined_model().bfloat16()
    model(IDS).logits.square().mean().backward()
    assert all(weight.grad is not None for weight in model.parameters())


@torch.no_grad()
def test_nothing_is_joined_to_imitated_products(monkeypatch):
    monkeypatch.setattr(cpu_layers, "multiplies_in_bfloat16", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", None)
    assert joined_model().bfloat16()(IDS).logits.isfinite().all()


def test_another_activation_is_left_alone():
    model = joined_model(hidden_activation="gelu")
    assert not any(isinstance(module, cpu_layers.MLP) for module in model.modules())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has kernels of its own")
def test_the_packaged_model_is_asked_with_it():
    layer = models.load_model(models.PACKAGED).model.layers[0]
    assert type(layer.mlp) is cpu_layers.MLP
    assert type(layer.self_attn.q_norm) is cpu_layers.FrozenNorm
