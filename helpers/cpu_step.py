"""The same training step in fewer passes over memory: a callback for swift, which is loaded by
`--external_plugins` and asked for as `cpu_step`.

A step computes the same, rounding aside. On a CPU, a small model's step spends much of its time not
on matrix products but on reading and writing activations for operations of one flop per number.
This module joins such operations.
"""

from functools import wraps

import torch
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from swift.callbacks import TrainerCallback
from swift.callbacks.mapping import callbacks_map
from torch.autograd import Function
from transformers.models.gemma3.modeling_gemma3 import Gemma3ForCausalLM

from helpers.cpu_layers import join_passes


class CpuStep(TrainerCallback):
    """Slims the model when a training begins, whether new or resumed."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        slim(self.trainer.accelerator.unwrap_model(model), mixed=args.bf16 or args.fp16)


callbacks_map["cpu_step"] = CpuStep


def slim(model, mixed: bool) -> None:
    """Replace slow forward passes of a LoRA model.

    These are the passes of its output matrix and, on a CPU, of its adapted linear layers and of
    Gemma's attention, norms, MLPs and last layer. On a GPU peft's own layers stay, because other
    libraries hook into them there. Whatever is itself trained (a norm, a base weight) stays
    everywhere, because the replacements compute no gradient for it.

    Args:
        model: with LoRA adapters; changed in place.
        mixed: whether autocast runs the step in fewer bytes than the adapters have.
    """
    if (head := model.get_output_embeddings()) is not None:  # a classifier has none
        flatten_rows(head)
    if model.device.type != "cpu":
        return
    join_passes(model)
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            # peft would cast an adapter's input to four bytes, and autocast straight back.
            module.cast_input_dtype_enabled = not mixed
        if is_plain(module):
            module.forward = lambda x, module=module: adapted(module, x)
        elif isinstance(module, Gemma3ForCausalLM):
            shorten_last_layer(module)


def shorten_last_layer(model: Gemma3ForCausalLM) -> None:
    """Let the last layer continue after its attention with those positions only whose logits are
    asked for.

    Nothing reads the other positions, and the loss of a short answer asks for few logits.
    """
    layer, whole, keep = model.model.layers[-1], model.forward, slice(None)

    # not a hook, because peft calls forward directly; `wraps`, because swift looks at the names of
    # its arguments
    @wraps(whole)
    def forward(*args, logits_to_keep=0, **kwargs):
        nonlocal keep
        last = isinstance(logits_to_keep, int)
        keep = slice(-logits_to_keep, None) if last else logits_to_keep
        return whole(*args, logits_to_keep=0, **kwargs)

    def last_layer(hidden, **kwargs):
        seen, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden), **kwargs)
        hidden = (hidden + layer.post_attention_layernorm(seen))[:, keep]
        read = layer.mlp(layer.pre_feedforward_layernorm(hidden))
        return hidden + layer.post_feedforward_layernorm(read)

    model.forward, layer.forward = forward, last_layer


def flatten_rows(head) -> None:
    """Let the output matrix read rows × features.

    With an input of batch × rows × features, its backward pass would copy the whole matrix.
    """
    if "forward" not in vars(head):
        forward = head.forward
        head.forward = lambda hidden: forward(hidden.flatten(0, -2)).unflatten(0, hidden.shape[:-1])


def is_plain(module) -> bool:
    """Whether `module` is a frozen linear layer with one plain LoRA adapter: one without dropout,
    without a bias of its own, and not a variant of LoRA.
    """
    if (
        type(module) is not Linear
        or module.merged
        or module.disable_adapters
        or len(module.active_adapters) != 1
    ):
        return False
    name, base = module.active_adapters[0], module.base_layer
    return (
        isinstance(module.lora_dropout[name], torch.nn.Identity)
        and name not in module.lora_variant
        and not module.lora_bias[name]
        and type(base) is torch.nn.Linear
        and not base.weight.requires_grad
    )


def adapted(module: Linear, x: torch.Tensor) -> torch.Tensor:
    """The output of an adapted layer, W x + bias + s B A x, in the type that autocast asks for."""
    name, base = module.active_adapters[0], module.base_layer
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    weights = base.weight, module.lora_A[name].weight, module.lora_B[name].weight
    result = AdaptedProduct.apply(
        x.to(dtype), *(weight.to(dtype) for weight in weights), module.scaling[name]
    )
    return result if base.bias is None else result + base.bias.to(dtype)


class AdaptedProduct(Function):
    """x Wᵀ + s x Aᵀ Bᵀ for a frozen W; forward and backward, the correction is added to the product
    in place.

    Left to autograd, the correction would be written, scaled and added in three passes over a
    tensor as large as the layer's output. A tensor that is only as wide as the adapter's rank is
    kept transposed, rank × rows, because a product with few columns is several times slower than
    the same product with few rows.
    """

    @staticmethod
    def forward(ctx, x, weight, a, b, scale):
        rows = x.flatten(0, -2)
        low = a @ rows.T  # rank × rows
        ctx.save_for_backward(rows, weight, a, b, low)
        ctx.scale, ctx.shape = scale, x.shape
        return (rows @ weight.T).addmm_(low.T, b.T, alpha=scale).unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx, gradient):
        rows, weight, a, b, low = ctx.saved_tensors
        gradient = gradient.flatten(0, -2)
        of_low = (b.T @ gradient.T).mul_(ctx.scale)  # rank × rows
        of_x = (
            (gradient @ weight).addmm_(of_low.T, a).view(ctx.shape)
            if ctx.needs_input_grad[0]
            else None
        )
        return of_x, None, of_low @ rows, (low @ gradient).mul_(ctx.scale).T, None
