"""What a model needs in closed form: microseconds, and close enough to search with."""

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
"""Types of models whose weights the closed form counts; of all others, those of a meta model."""
LONGEST = 2**20
"""Tokens beyond which nobody looks where a model has no last position."""
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
    """What a prefill or a LoRA step needs, in closed form; a trace is memory.forecast.

    LoRA is on all linear layers. With H hidden size, I inner size of the MLP, V vocabulary, n and m
    query and key-value heads of d numbers, L layers, b bytes a number, T tokens in all rows, s
    tokens a row:

    * weights: b (V H (1, or 2 when the output matrix is not shared) + L (2 H n d + 2 H m d + 3 H
      I)); of a model that is none of DENSE, counted on the meta device, once
    * adapters: 4 bytes × L × rank × (sum of both sides of the seven linear layers); gradients as
      much, Adam's moments twice that
    * inference: cache 2 L m d b T; activations of one layer, b T (4 H + 3 I); logits b V for each
      position kept
    * training, kept for the way back in each layer and for each token: 4 H a norm (four bytes), 2 b
      H inputs of the linear layers, b (2 n d + 2 k d) queries, keys, values and output of attention
      (k = n, the keys repeated for each query head, unless m = 1), 4 b I in the MLP, 4 (n + m) d
      where queries and keys are normed, and b s of the mask
    * with checkpointing only b H of each layer, and one layer in full
    * scores written out (eager): per token n s (b + 4) kept in training (n s 4 in float32, where a
      softmax needs no wider copy), n s (b + 8) in one layer at inference

    Counted on the tensors that autograd keeps for the models of transformers 5, bias vectors and
    norms' weights left out. A mixture of experts counts as if the experts of one token were one MLP
    (see `inner_size`): the right order, no more. Source of the scheme: Korthikanti et al. 2023,
    Reducing activation recomputation in large transformer models.

    Args:
        config: a transformers config.
        length: tokens of a row.
        batch: rows.
        training: a LoRA step, else a prefill.
        rank: of the adapters.
        dtype: of the weights, a torch type's name.
        attention: "sdpa" or "eager".
        checkpointing: a training step throws activations away and computes them again.
        last_only: an inference computes logits for its last position only.

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
        at_once = 2 if checkpointing else layers + 1  # one layer's gradients beside what is kept
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
    """Numbers between the matrices of an MLP; in a mixture of experts, of all that a token meets.

    Args:
        text: a transformers config, see its get_text_config.
    """
    hidden = size_of(text, "hidden_size")
    inner = size_of(text, "intermediate_size", "ffn_dim", "n_inner", otherwise=4 * hidden)
    expert = size_of(text, "moe_intermediate_size", otherwise=inner)
    routed = expert * size_of(text, "num_experts_per_tok", otherwise=0)
    shared = size_of(text, "shared_expert_intermediate_size", otherwise=0)
    return max(inner, routed + shared)


def counted_gib(config, dtype: str, otherwise: float) -> float:
    """GiB of a model's weights, counted on the meta device; kept for the next time.

    Args:
        config: a transformers config.
        dtype: of the weights, a torch type's name.
        otherwise: GiB where the model cannot be built there.
    """
    key = config.to_json_string(use_diff=False), dtype
    if key not in _counted:
        try:
            _counted[key] = weights_gib(build_on_meta(config, dtype, "eager"))
        except Exception:  # code of a model's own may raise anything where there are no contents
            _counted[key] = otherwise
    return _counted[key]


def longest(config, budget: float, **choices) -> int:
    """The most tokens a row may have, by the closed form; never more than the model has positions.

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
    """The most tokens that a model has positions for; None where it counts none, as Bloom does.

    Args:
        config: a transformers config.
    """
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def last_that_fits(needs: Callable[[int], float], budget: float, most: int) -> int:
    """The largest length whose needs stay within a budget, by halving.

    Args:
        needs: GiB of a length; grows with it.
        budget: GiB.
        most: no length beyond this.

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
    """What would make a training step fit, each lever alone with what the closed form makes of it.

    What is pulled already, and rows of no length, are no levers.

    Args:
        config: a transformers config.
        budget: GiB.
        length: tokens of a row.
        batch: rows.
        weights: GiB of the model's, which may be quantised.
        checkpointing: whether the step has gradient checkpointing.
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
