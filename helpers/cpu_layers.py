"""Gemma's attention (see `cpu_attention`), norms and MLPs on a CPU in fewer passes over memory, for
training and for inference.

They compute the same, rounding aside. One pass over a batch's activations costs a good part of what
a matrix product costs, and transformers' own code makes up to ten passes for a norm.
"""

import torch
from torch.autograd import Function
from transformers.models.gemma3.modeling_gemma3 import Gemma3MLP, Gemma3RMSNorm

from helpers.cpu_attention import group_heads
from helpers.models import multiplies_in_bfloat16


def join_passes(model) -> None:
    """Replace Gemma's attention, norms and MLPs in a model on a CPU, by `group_heads`,
    `FrozenNorm` and `MLP`.

    Any other module is left as it is.

    Args:
        model: of transformers, with or without an adapter; its weights keep their names.
    """
    if model.device.type != "cpu":
        return
    group_heads(model)
    for module in model.modules():
        if type(module) is Gemma3RMSNorm:
            module.__class__ = FrozenNorm
        elif type(module) is Gemma3MLP and module.config.hidden_activation == "gelu_pytorch_tanh":
            module.__class__ = MLP


class FrozenNorm(Gemma3RMSNorm):
    """Gemma's norm, faster where its scale is not learned."""

    def forward(self, x):
        if torch.is_grad_enabled() and self.weight.requires_grad:
            return super().forward(x)
        return Norm.apply(x, 1 + self.weight.detach().float(), self.eps)


class MLP(Gemma3MLP):
    """Gemma's MLP. Where gradients are switched off, its matrix products also do the gelu and
    multiply the two halves.
    """

    def forward(self, x):
        halves = self.gate_proj, self.up_proj
        if torch.is_grad_enabled() or not all(joins(layer, x) for layer in halves):
            return super().forward(x)
        product = torch.ops.mkldnn._linear_pointwise
        gated = product(x, self.gate_proj.weight, None, "gelu", [], "tanh")
        return self.down_proj(product.binary(x, gated, self.up_proj.weight, None, "mul"))


def joins(layer, x: torch.Tensor) -> bool:
    """Whether oneDNN can join a layer's matrix product with the operation that follows it.

    Args:
        layer: a module of the model.
        x: its input.
    """
    return (
        type(layer) is torch.nn.Linear
        and layer.bias is None
        and x.dtype == layer.weight.dtype == torch.bfloat16
        and multiplies_in_bfloat16()
    )


class Norm(Function):
    """x / √(mean x² + ε) times a frozen scale, computed in four-byte floats.

    The backward pass is its derivative, r (g s − x r² mean(g s x)), where s is the scale, g the
    gradient and r = 1 / √(mean x² + ε).
    """

    @staticmethod
    def forward(ctx, x, scale, eps):
        wide = x.to(torch.float32, copy=True)  # torch is slow at multiplying two different types
        root = (
            torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
            .square_()
            .div_(x.shape[-1])
            .add_(eps)
            .rsqrt_()
        )
        ctx.save_for_backward(x, scale, root)
        return wide.mul_(root).mul_(scale).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        x, scale, root = ctx.saved_tensors
        wide, scaled = x.float(), gradient.to(torch.float32, copy=True).mul_(scale)
        shared = (scaled * wide).mean(-1, keepdim=True).mul_(root.square())
        return scaled.addcmul_(wide, shared, value=-1).mul_(root).to(x.dtype), None, None
