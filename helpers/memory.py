"""Where memory goes: tensor bytes followed while real code runs, whatever the device."""

from collections.abc import Callable

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GIB = 2**30


class StorageTracker(TorchDispatchMode):
    """Follows every storage that operators create inside the context: `live`, `peak` and `largest`, in bytes.

    Storages that existed before (the model's weights) are not counted. A storage counts from the operator that returned it
    until it is freed; memory that an operator uses inside itself is not seen.
    """

    def __init__(self):
        super().__init__()
        self.live = self.peak = self.largest = 0
        self._sizes: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for reference in [reference for reference in self._sizes if reference.expired()]:
            self.live -= self._sizes.pop(reference)
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in known:
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage) -> None:
        reference = StorageWeakRef(storage)
        if reference not in self._sizes:
            self._sizes[reference] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak, self.largest = max(self.peak, self.live), max(self.largest, storage.nbytes())


def traced(run: Callable[[], object]) -> dict[str, float]:
    """Peak and largest single allocation while `run` runs, in GiB, beyond what was there before."""
    with StorageTracker() as tracker:
        run()
    return {"peak_gib": tracker.peak / GIB, "largest_gib": tracker.largest / GIB}


def weights_gib(model) -> float:
    """Bytes of the model's parameters and buffers, shared storages once, in GiB."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in (*model.parameters(), *model.buffers())}
    return sum(storages.values()) / GIB


def forward(model, ids: list[int], last_only: bool) -> Callable[[], object]:
    """An inference prefill over `ids` with logits for every position or only the last."""

    @torch.inference_mode()
    def run():
        return model(torch.tensor([ids], device=model.device), use_cache=True, logits_to_keep=1 if last_only else 0)

    return run


def lora_step(model, ids: list[int], batch: int = 1, padded: bool = False) -> Callable[[], object]:
    """Forward and backward over `batch` copies of `ids` as a training step does it, supervised on the last two tokens.

    `model` must have trainable adapter weights (see peft.get_peft_model). padded: the first token is padding, so that an
    attention mask is written out, as in a batch of rows of unlike length.
    """

    def run():
        tokens = torch.tensor([ids] * batch, device=model.device)
        mask = torch.ones_like(tokens)
        mask[:, : int(padded)] = 0
        logits = model(tokens, attention_mask=mask, use_cache=False, logits_to_keep=3).logits[:, :-1].float()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, -2:].flatten()).backward()
        model.zero_grad(set_to_none=True)

    return run


def fake(model) -> None:
    """Put tensors of the same shapes in the place of the parameters and buffers of a model on the meta device, shared ones once."""
    made = {}
    for module in model.modules():
        for place in (module._parameters, module._buffers):
            for name, old in place.items():
                if old is not None and id(old) not in made:
                    new = torch.zeros(old.shape, dtype=old.dtype)
                    made[id(old)] = torch.nn.Parameter(new, old.requires_grad) if isinstance(old, torch.nn.Parameter) else new
                place[name] = old if old is None else made[id(old)]


def forecast_training(
    config, length: int, batch: int, rank: int, targets: str | list[str] = "all-linear", dtype: str = "bfloat16",
    attention: str = "sdpa", checkpointing: bool = False,
) -> dict[str, float]:  # fmt: skip
    """Expected peak of a LoRA training step by part, in GiB: weights, adapters, gradients, optimizer, activations, total.

    config: a transformers config. length: tokens of a row. The model is built and its step is run on fake tensors, which
    have sizes and no contents: nothing is computed and next to nothing allocated. Adapters, their gradients and Adam's two
    moments are four-byte floats, as swift keeps them; activations are what the trace adds at its peak, the attention mask of a
    padded batch among them.
    """
    from peft import LoraConfig, get_peft_model
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation=attention)
        weights = weights_gib(model)
        model = get_peft_model(model, LoraConfig(r=rank, target_modules=targets)).train()
    with FakeTensorMode():
        fake(model)
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": False})
        adapters = 4 * sum(weight.numel() for weight in model.parameters() if weight.requires_grad) / GIB
        with torch.autocast("cpu", getattr(torch, dtype), enabled=dtype != "float32"):
            peak = traced(lora_step(model, [0] * length, batch))["peak_gib"]
    parts = {"weights": weights, "adapters": adapters, "gradients": adapters, "optimizer": 2 * adapters}
    parts["activations"] = max(0.0, peak - adapters)
    return parts | {"total": sum(parts.values())}
