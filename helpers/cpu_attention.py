"""Attention on a CPU for models whose query heads share keys and values. It writes the scores out,
as transformers' "eager" does, but in fewer passes over memory.

The queries of all heads that share a key head lie in one matrix, so that keys and values are not
copied for each head; scaling and mask are part of the product. The result is the same, rounding
aside, with less work.
"""

import torch
from torch.autograd import Function
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

NAME = "grouped"


def group_heads(model) -> None:
    """Make a Gemma 3 model on a CPU compute its "eager" attention by `attention`.

    Any other model is left as it is.

    Args:
        model: of transformers, with or without an adapter.
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
    """Grouped attention with the signature that transformers expects of such a function.

    Args:
        module: the layer whose attention is computed.
        query: batch × heads × tokens × head size.
        key: batch × key heads × keys × head size.
        value: like `key`.
        mask: batch × 1 × tokens × keys, each 0 or the type's lowest number; None hides nothing.
        scaling: the factor of the products of queries and keys.
        others: what Gemma's layers pass in addition; it is not needed here.

    Returns:
        batch × tokens × heads × head size, and None in place of the weights.
    """
    on = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if on else value.dtype
    if mask is not None and mask.dtype != dtype:
        # four bytes' lowest number would become -inf in two, and a row that sees nothing NaN
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
            # every head has the same mask: batch · shared × tokens · group × keys
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
    """Reshape batch × tokens × heads × size to batch · shared × tokens · group × size.

    Nothing is copied where one key head serves all query heads.
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
