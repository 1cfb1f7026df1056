import pytest
import torch

from helpers import memory


def test_peak_counts_what_is_alive_together():
    def run():
        first = torch.zeros(2**20)  # 4 MiB
        second = first + 1  # 8 MiB alive
        del first
        return second * 2  # 8 MiB alive

    assert memory.traced(run) == {"peak_gib": pytest.approx(8 / 1024), "largest_gib": pytest.approx(4 / 1024)}


def test_views_and_in_place_results_cost_nothing():
    weight = torch.zeros(2**20)
    assert memory.traced(lambda: weight.view(1024, -1).add_(1).t())["peak_gib"] == 0


def test_logits_for_every_position_are_length_times_vocabulary(base):
    ids = list(range(100, 164))
    naive, last = (memory.traced(memory.forward(base, ids, last_only)) for last_only in (False, True))
    assert naive["largest_gib"] == pytest.approx(64 * base.config.vocab_size * 4 / memory.GIB)
    assert last["peak_gib"] < naive["peak_gib"] / 2


def test_weights_are_counted_once(base):
    assert memory.weights_gib(base) == pytest.approx(sum(p.numel() for p in base.parameters()) * 4 / memory.GIB, rel=1e-3)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_forecast_is_what_the_real_step_allocates(checkpointing):
    """The same step on real tensors of a small random model, followed by the same tracker."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = AutoConfig.for_model("qwen3", vocab_size=1000, head_dim=16, **small)
    expected = memory.forecast_training(config, 96, 2, 8, dtype="float32", checkpointing=checkpointing)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    assert expected["weights"] == pytest.approx(memory.weights_gib(model))
    model = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear")).train()
    if checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    peak = memory.traced(memory.lora_step(model, [5] * 96, 2, padded=True))["peak_gib"]
    assert expected["gradients"] + expected["activations"] == pytest.approx(peak, rel=0.05)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert expected["optimizer"] == pytest.approx(2 * 4 * trained / memory.GIB)
