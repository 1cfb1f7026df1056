"""Attention on a CPU whose query heads share keys and values: written out as transformers' "eager"
is, in fewer passes over memory.

The queries of all heads that share a key head lie in one matrix, so that keys and values are not
copied once a head; scaling and mask are part of the product. What is computed stays as it is,
rounding aside: there is less of it.
"""

import torch
from torch.autograd import Function
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

NAME = "grouped"


def group_heads(model) -> None:
    """Let a model of Gemma 3 on a CPU whose attention is "eager" compute it by `attention`; others
    stay.

    Args:
        model: of transformers, under an adapter or not.
    """
    config = model.config.get_text_config()
    if (
        model.device.type == "cpu"
        and config.model_type == "gemma3_text"
        and config._attn_implementation == "eager"
        and not config.attn_logit_softcapping
        and not config.attention_dropout
    ):
        model.set_attn_implementation(NAME)


def attention(
    module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask, scaling, **others
) -> tuple[torch.Tensor, None]:
    """What transformers asks of an attention function.

    Args:
        module: whose attention it is.
        query: batch × heads × tokens × head size.
        key: batch × key heads × keys × head size.
        value: like `key`.
        mask: batch × 1 × tokens × keys, 0 or the type's lowest number; None hides nothing.
        scaling: of the products of queries and keys.
        others: what Gemma's layers say beside, and this does not need.

    Returns:
        batch × tokens × heads × head size, and None in place of the weights.
    """
    on = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if on else value.dtype
    if mask is not None and mask.dtype != dtype:
        # the lowest number of four bytes would be -inf in two, and a row that sees nothing NaN
        mask = mask.clamp(min=torch.finfo(dtype).min).to(dtype)
    parts = (part.to(dtype) for part in (query, key, value))
    return GroupedAttention.apply(*parts, mask, scaling), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, eager_mask)


class GroupedAttention(Function):
    """softmax(s Q Kᵀ + mask) V, with the queries of heads that share a key head in one matrix."""

    @staticmethod
    def forward(ctx, query, key, value, mask, scaling):
        batch, heads, tokens, size = query.shape
        shared, keys = key.shape[1:3]
        group = heads // shared
        rows = together(query.transpose(1, 2), shared)
        key, value = key.flatten(0, 1), value.flatten(0, 1)
        if mask is None:
            weights = torch.bmm(rows, key.mT).mul_(scaling)
        else:
            # the same for all heads: batch · shared × tokens · group × keys
            everywhere = mask[:, :, :, None].expand(batch, shared, -1, group, -1)
            weights = everywhere.clone(memory_format=torch.contiguous_format)
            weights = weights.view(-1, tokens * group, keys).baddbmm_(rows, key.mT, alpha=scaling)
        weights = weights.softmax(-1)
        ctx.save_for_backward(rows, key, value, weights)
        ctx.scaling, ctx.shape = scaling, (batch, shared, tokens, group, size)
        return apart(torch.bmm(weights, value), ctx.shape)

    @staticmethod
    def backward(ctx, gradient):
        rows, key, value, weights = ctx.saved_tensors
        batch, shared, _, _, size = ctx.shape
        gradient = together(gradient, shared)
        of_value = torch.bmm(weights.mT, gradient)
        of_weights = torch.bmm(gradient, value.mT)
        of_products = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_products.mul_(ctx.scaling)
        of_rows, of_key = torch.bmm(of_products, key), torch.bmm(of_products.mT, rows)
        like_key = (batch, shared, -1, size)
        return (
            apart(of_rows, ctx.shape).transpose(1, 2),
            of_key.view(like_key),
            of_value.view(like_key),
            None,
            None,
        )


def together(tensor: torch.Tensor, shared: int) -> torch.Tensor:
    """batch × tokens × heads × size as batch · shared × tokens · group × size: no copy where one
    key head serves all.
    """
    batch, tokens, heads, size = tensor.shape
    parts = tensor.reshape(batch, tokens, shared, heads // shared, size).transpose(1, 2)
    return parts.reshape(batch * shared, -1, size)


def apart(tensor: torch.Tensor, shape: tuple) -> torch.Tensor:
    """The reverse of `together`.

    Args:
        tensor: batch · shared × tokens · group × size.
        shape: (batch, shared, tokens, group, size).
    """
    return tensor.view(shape).transpose(1, 2).flatten(2, 3)
