"""The replacements of helpers.cpu_step compute what the originals do: losses and gradients are
compared with peft's and transformers' own.
"""

import pytest
import torch
from conftest import padded_batch, small_model
from peft import LoraConfig, get_peft_model

from helpers import cpu_step


def adapted_model(make, **lora):
    """A small random model whose adapters have an effect."""
    model = small_model(make, key_heads=2)
    model = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", **lora)
    ).train()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return model


def learned(model, mixed=False):
    """The loss and the gradient of each adapter weight, by name, for a batch padded on the left."""
    ids, mask = padded_batch()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        loss = model(ids, attention_mask=mask, labels=ids).loss
    loss.backward()
    return loss.item(), {
        name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None
    }


def assert_alike(others, gradients):
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            others[name], gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item()
        )


@pytest.mark.parametrize("make", ["gemma3_text", "qwen2", "llama"])
@pytest.mark.parametrize("stabilised", [False, True])
def test_loss_and_gradients_stay(make, stabilised):
    plain, slimmed = (adapted_model(make, use_rslora=stabilised) for _ in range(2))
    cpu_step.slim(slimmed, mixed=False)
    replaced = [module for module in slimmed.modules() if "forward" in vars(module)]
    assert len(replaced) == 1 + 2 * 7 + 2 * (make == "gemma3_text")
    (loss, gradients), (other, others) = learned(plain), learned(slimmed)
    assert other == pytest.approx(loss, rel=1e-5)
    assert len(gradients) == 2 * 2 * 7
    assert_alike(others, gradients)


def test_in_two_bytes_it_is_no_farther_from_the_truth_than_before():
    """Compared with float32, rounding differs but must not be worse."""
    _, exact = learned(adapted_model("gemma3_text"))
    errors = []
    for slim in (False, True):
        model = adapted_model("gemma3_text")
        if slim:
            cpu_step.slim(model, mixed=True)
        _, gradients = learned(model, mixed=True)
        errors.append(
            sum((gradients[name] - value).square().sum().item() for name, value in exact.items())
            ** 0.5
        )
    assert 0 < errors[1] < 1.2 * errors[0]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("keep", [0, 1, 4, [3, 4, 11]])
def test_the_last_layer_goes_on_with_the_logits_asked_for(keep, checkpointing):
    """As swift asks for them: logits of the last positions, or of any positions of a single row."""
    # the task that swift names; for it, peft calls forward directly, without hooks
    plain, slimmed = (adapted_model("gemma3_text", task_type="CAUSAL_LM") for _ in range(2))
    cpu_step.slim(slimmed, mixed=False)
    mlp, sizes = slimmed.get_base_model().model.layers[-1].mlp, []
    mlp.register_forward_hook(lambda module, args, output: sizes.append(output.shape[1]))
    ids = torch.randint(100, (3, 12), generator=torch.Generator().manual_seed(1))
    logits = []
    for model in (plain, slimmed):
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": False})
        wanted = torch.tensor(keep) if isinstance(keep, list) else keep
        logits.append(model(ids, logits_to_keep=wanted).logits)
        logits[-1].square().mean().backward()
    asked = len(keep) if isinstance(keep, list) else keep or 12
    assert set(sizes) == {asked} and len(sizes) == 1 + checkpointing
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)
    for weight, other in zip(plain.parameters(), slimmed.parameters()):
        if weight.requires_grad:
            size = weight.grad.abs().max().item()
            torch.testing.assert_close(other.grad, weight.grad, rtol=1e-3, atol=1e-4 * size)


@pytest.mark.parametrize("lora", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_what_is_more_than_a_plain_adapter_is_left_to_peft(lora):
    model = adapted_model("qwen2", **lora)
    cpu_step.slim(model, mixed=False)
    assert not any(cpu_step.is_plain(module) for module in model.modules())
    assert [module for module in model.modules() if "forward" in vars(module)] == [
        model.get_output_embeddings()
    ]


def test_what_is_trained_beside_the_adapters_keeps_its_gradient():
    """Norms and base weights may be trained by `modules_to_save` or full tuning."""
    plain, slimmed = (adapted_model("gemma3_text") for _ in range(2))
    for model in (plain, slimmed):
        for name, weight in model.named_parameters():
            weight.requires_grad_("lora_" in name or "norm" in name or "mlp.up_proj" in name)
    cpu_step.slim(slimmed, mixed=False)
    (_, gradients), (_, others) = learned(plain), learned(slimmed)
    assert sum("norm" in name for name in gradients) == 2 * 6 + 1
    assert_alike(others, gradients)


def test_no_gradient_is_made_for_an_evaluation():
    model = adapted_model("gemma3_text")
    cpu_step.slim(model, mixed=False)
    with torch.no_grad():
        assert not model(torch.ones(1, 4, dtype=torch.long)).logits.requires_grad
