"""Attention with shared key heads, compared with transformers' own, which writes scores out."""

import pytest
import torch
from conftest import padded_batch, small_model

from helpers import cpu_attention, models


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("padded", [True, False])
def test_logits_and_gradients_stay(key_heads, padded):
    ids, mask = padded_batch()
    results = []
    for grouped in (False, True):
        model = small_model(key_heads=key_heads).train()
        if grouped:
            cpu_attention.group_heads(model)
            assert model.config._attn_implementation == cpu_attention.NAME
        logits = model(ids, attention_mask=mask if padded else None).logits
        loss = logits[mask.bool()].square().sum()
        loss.backward()
        results.append([logits[mask.bool()], *(weight.grad for weight in model.parameters())])
    for before, after in zip(*results):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5 * before.abs().max().item())


def test_a_mask_for_all_rows_serves_them_and_stays_as_it_was():
    query, key, value = (torch.randn(3, heads, 5, 8) for heads in (2, 2, 2))
    mask = torch.full((1, 1, 5, 5), torch.finfo(torch.float32).min).triu(1)
    before = mask.clone()
    seen, _ = cpu_attention.attention(None, query, key, value, mask, 8**-0.5)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(seen, expected.transpose(1, 2))
    assert torch.equal(mask, before)


def test_in_two_bytes_it_is_no_farther_from_the_truth_than_before():
    ids, mask = padded_batch()
    exact = small_model()(ids, attention_mask=mask).logits[mask.bool()]
    errors = []
    for grouped in (False, True):
        model = small_model().bfloat16()
        if grouped:
            cpu_attention.group_heads(model)
        rounded = model(ids, attention_mask=mask).logits[mask.bool()]
        errors.append((rounded.float() - exact).square().mean().sqrt().item())
    assert 0 < errors[1] < 1.2 * errors[0]


def test_written_token_by_token_from_a_cache_it_is_the_same():
    ids = padded_batch()[0][:1]
    written = []
    for grouped in (False, True):
        model = small_model().eval()
        if grouped:
            cpu_attention.group_heads(model)
        written.append(model.generate(ids, max_new_tokens=8, do_sample=False))
    assert written[0].tolist() == written[1].tolist()


@pytest.mark.parametrize(
    ("make", "choices"),
    [
        ("qwen2", {}),
        ("gemma3_text", {"attn_logit_softcapping": 30.0}),
        ("gemma3_text", {"attention_dropout": 0.1}),
    ],
)
def test_what_it_does_not_compute_stays_as_it_is(make, choices):
    model = small_model(make, **choices)
    cpu_attention.group_heads(model)
    assert model.config._attn_implementation == "eager"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has kernels of its own")
def test_the_packaged_model_is_asked_with_it_where_attention_is_written_out():
    assert models.load_model(models.PACKAGED).config._attn_implementation == "sdpa"
    network = models.load_model(models.PACKAGED, attention="eager")
    assert network.config._attn_implementation == cpu_attention.NAME
