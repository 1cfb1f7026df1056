"""What a model needs, in closed form: it takes microseconds and is close enough to search with."""

from collections.abc import Callable

import torch

from helpers.memory import (
    ANSWER_POSITIONS,
    GIB,
    PARTS,
    build_on_meta,
    heads_of,
    size_of,
    weights_gib,
)

DENSE = ("baichuan", "gemma", "gemma2", "gemma3_text", "llama", "mistral", "qwen2", "qwen3")
"""Model types whose weights the closed form counts; for any other, a model on meta is counted."""
LONGEST = 2**20
"""The most tokens that are considered where a model does not limit its positions."""
_counted: dict[tuple[str, str], float] = {}


def estimate(
    config,
    length: int,
    batch: int = 1,
    training: bool = False,
    rank: int = 8,
    dtype: str = "bfloat16",
    attention: str = "sdpa",
    checkpointing: bool = False,
    last_only: bool = True,
) -> dict[str, float]:
    """What a prefill or a LoRA step needs, in closed form; memory.forecast finds it by a trace.

    LoRA is on all linear layers. H is the hidden size, I the inner size of the MLP, V the
    vocabulary, n and m the query and key-value heads of d numbers each, L the layers, b the bytes
    of a number, T the tokens of all rows and s those of one row:

    * weights: b (V H (1, or 2 when the output matrix is not shared) + L (2 H n d + 2 H m d + 3 H
      I)); for a model type that is not in DENSE, counted once on the meta device
    * adapters: 4 bytes × L × rank × (sum of both sides of the seven linear layers); gradients take
      as much, Adam's moments twice as much
    * inference: a cache of 2 L m d b T; activations of one layer, b T (4 H + 3 I); logits, b V for
      each position that is kept
    * training keeps for the backward pass, in each layer and for each token: 4 H for each norm (in
      four bytes), 2 b H for the inputs of the linear layers, b (2 n d + 2 k d) for queries, keys,
      values and the output of attention (k = n, because keys are repeated for each query head,
      unless m = 1), 4 b I in the MLP, 4 (n + m) d where queries and keys are normed, and b s for
      the mask
    * with checkpointing: only b H of each layer, and one layer in full
    * scores written out (eager): for each token n s (b + 4) kept in training (4 n s in float32,
      where softmax needs no wider copy), n s (b + 8) in one layer at inference

    The terms count the tensors that autograd keeps for the models of transformers 5, without bias
    vectors and norms' weights. A mixture of experts counts as if the experts of one token were one
    MLP (see `inner_size`), which gives the right order of magnitude, no more. Source of the scheme:
    Korthikanti et al. 2023, Reducing activation recomputation in large transformer models.

    Args:
        config: a transformers config.
        length: tokens of a row.
        batch: rows.
        training: whether it is a LoRA step; else it is a prefill.
        rank: of the adapters.
        dtype: of the weights, a torch type's name.
        attention: "sdpa" or "eager".
        checkpointing: whether a training step drops activations and computes them again.
        last_only: whether inference computes logits for the last position only.

    Returns:
        GiB by part (see PARTS) and their "total".

    Raises:
        InputError: when the config lacks a size.
    """
    text, size = config.get_text_config(), getattr(torch, dtype).itemsize
    hidden, layers, vocabulary = (
        size_of(text, name) for name in ("hidden_size", "num_hidden_layers", "vocab_size")
    )
    inner = inner_size(text)
    heads, shared, width = heads_of(text)
    tokens = length * batch
    queries, keys = heads * width, shared * width
    tied = getattr(config, "tie_word_embeddings", False)
    parts = dict.fromkeys(PARTS, 0.0)
    linear = [
        (hidden, queries),
        (hidden, keys),
        (hidden, keys),
        (queries, hidden),
        (hidden, inner),
        (hidden, inner),
        (inner, hidden),
    ]
    body = layers * sum(a * b for a, b in linear)
    parts["weights"] = size * (vocabulary * hidden * (1 if tied else 2) + body)
    if config.model_type not in DENSE:
        parts["weights"] = GIB * counted_gib(config, dtype, parts["weights"] / GIB)
    norms = 4 if text.model_type.startswith("gemma") else 2
    normed = hasattr(text, "query_pre_attn_scalar") or text.model_type.startswith("qwen3")
    eager = attention == "eager"
    if training:
        parts["adapters"] = parts["gradients"] = 4 * layers * rank * sum(a + b for a, b in linear)
        parts["optimizer"] = 2 * parts["adapters"]
        repeated = keys if shared == 1 else queries
        layer = (
            norms * 4 * hidden
            + 2 * size * hidden
            + size * (2 * queries + 2 * repeated)
            + 4 * size * inner
        )
        layer += 4 * (queries + keys) * normed + (0 if eager else size * length)
        stored = size * hidden * (layers - 1) + layer if checkpointing else layer * layers
        parts["activations"] = tokens * (stored + 2 * size * inner)
        bytes_a_score = 4 + (size if size < 4 else 0)
        at_once = 2 if checkpointing else layers + 1  # what is kept, and one layer's gradients
        parts["attention scores"] = eager * tokens * heads * length * bytes_a_score * at_once
        parts["logits"] = batch * ANSWER_POSITIONS * vocabulary * (size + 4 + 4)
    else:
        parts["cache"] = 2 * layers * keys * size * tokens
        scores = eager * tokens * heads * length * (size + 8)
        last = size * vocabulary * (batch if last_only else tokens)
        layer = tokens * size * (4 * hidden + 3 * inner)
        # Three moments compete for the peak: scores, the MLP, the logits.
        parts |= max(
            (
                {
                    "attention scores": scores,
                    "activations": tokens * size * (hidden + queries + 2 * keys),
                },
                {"activations": layer},
                {"logits": last, "activations": tokens * size * hidden},
            ),
            key=lambda moment: sum(moment.values()),
        )
    parts = {name: value / GIB for name, value in parts.items()}
    return parts | {"total": sum(parts.values())}


def inner_size(text) -> int:
    """The inner size of an MLP; in a mixture of experts, the sum over those that a token meets.

    Args:
        text: what a transformers config returns by get_text_config.
    """
    hidden = size_of(text, "hidden_size")
    inner = size_of(text, "intermediate_size", "ffn_dim", "n_inner", otherwise=4 * hidden)
    expert = size_of(text, "moe_intermediate_size", otherwise=inner)
    routed = expert * size_of(text, "num_experts_per_tok", otherwise=0)
    shared = size_of(text, "shared_expert_intermediate_size", otherwise=0)
    return max(inner, routed + shared)


def counted_gib(config, dtype: str, otherwise: float) -> float:
    """GiB of a model's weights, counted on the meta device and remembered.

    Args:
        config: a transformers config.
        dtype: of the weights, a torch type's name.
        otherwise: GiB to return when the model cannot be built there.
    """
    key = config.to_json_string(use_diff=False), dtype
    if key not in _counted:
        try:
            _counted[key] = weights_gib(build_on_meta(config, dtype, "eager"))
        except Exception:  # a model's own code may raise anything on tensors without contents
            _counted[key] = otherwise
    return _counted[key]


def longest(config, budget: float, **choices) -> int:
    """The most tokens that a row may have by the closed form, within the positions of the model.

    Args:
        config: a transformers config.
        budget: GiB.
        **choices: see `estimate`.

    Returns:
        Tokens; 0 when nothing fits.
    """
    return last_that_fits(
        lambda length: estimate(config, length, **choices)["total"],
        budget,
        positions(config) or LONGEST,
    )


def positions(config) -> int | None:
    """The most tokens that a model has positions for; None where there is no limit, as in Bloom.

    Args:
        config: a transformers config.
    """
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def last_that_fits(needs: Callable[[int], float], budget: float, most: int) -> int:
    """The largest length whose needs stay within a budget, found by bisection.

    Args:
        needs: GiB for a length; must grow with it.
        budget: GiB.
        most: the largest length to consider.

    Returns:
        A length; 0 when not even 1 fits.
    """
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needs(middle) <= budget else (low, middle - 1)
    return low


def remedies(
    config, budget: float, length: int, batch: int, weights: float, checkpointing: bool, **choices
) -> str:
    """What would make a training step fit: each lever by itself, with its GiB by the closed form.

    Levers that are in use already are left out, and so is a max_length of 0.

    Args:
        config: a transformers config.
        budget: GiB.
        length: tokens of a row.
        batch: rows.
        weights: GiB of the model's weights, which may be quantised.
        checkpointing: whether the step uses gradient checkpointing already.
        **choices: see `estimate`.
    """

    def needs(tokens: int, **change) -> float:
        values = {"batch": batch, "checkpointing": checkpointing} | choices | change
        parts = estimate(config, tokens, training=True, **values)
        return parts["total"] - parts["weights"] + weights

    levers = []
    if shorter := last_that_fits(needs, budget, length - 1):
        levers.append(f"max_length {shorter}, for the longest row has {length} tokens")
    if batch > 1:
        levers.append(f"batch_size 1: {needs(length, batch=1):.1f} GiB")
    if not checkpointing:
        levers.append(f"gradient_checkpointing True: {needs(length, checkpointing=True):.1f} GiB")
    levers.append(f"a smaller model (the weights of this one take {weights:.1f})")
    return "; ".join(levers)
