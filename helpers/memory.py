"""Where memory goes: what a run needs, by a closed form or a trace; what it took, measured.

A trace runs the model's own code on tensors without contents. `chapter_needs` says what each
chapter of the book takes, and `pick_lengths` chooses sizes that fit.
"""

import copy
import math
import resource
from collections.abc import Callable
from contextlib import nullcontext

import psutil
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from helpers import InputError
from helpers.models import pick_attention, pick_dtype

GIB = 2**30
PARTS = (
    "weights",
    "adapters",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "cache",
    "attention scores",
)
ANSWER_POSITIONS = 3
"""Positions of a training row whose logits are computed: a short answer, its end token, the
position before.
"""
SLACK = 0.005
"""How far a traced peak may lie below the true one: looking for freed storages only this often
keeps a trace to seconds.
"""
ASIDE_GIB = 1.0
"""Set aside for Python, CUDA and fragments, GiB."""
CORNER = 2048
"""Most rows and columns that chapter 3 reads of a matrix: of a larger one its corner does."""
TREE_NODES = 64
"""Positions at which the scorer computes logits of a row: the tokens of its options, about."""
TOKENS_AT_ONCE = 4096
"""Most tokens of the rows that are asked together; fewer where they would not fit."""
READING = (2, 5, 8)
"""Chapters that ask a model about rows."""


class StorageTracker(TorchDispatchMode):
    """Follows every storage that operators create inside the context.

    Storages that existed before (the model's weights) are not counted. A storage counts from the
    operator that returned it until it is freed; memory that an operator uses inside itself is not
    seen. The peak is exact while few storages are alive, and to half a percent beyond.

    Args:
        name: what to call a new tensor.

    Attributes:
        peak: most bytes alive at once.
        largest: bytes of the largest storage.
        parts: bytes alive at the peak, by name.
    """

    def __init__(self, name: Callable[[torch.Tensor], str] = lambda tensor: "activations"):
        super().__init__()
        self.peak = self.largest = 0
        self.parts: dict[str, int] = {}
        self._name, self._bound = name, 0
        self._alive: dict[StorageWeakRef, tuple[int, str]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in known:
                self._add(leaf)
        return result

    def sweep(self) -> int:
        """Forget the storages that were freed; bytes of the others."""
        self._alive = {
            reference: entry for reference, entry in self._alive.items() if not reference.expired()
        }
        self._bound = sum(size for size, _ in self._alive.values())
        return self._bound

    def _add(self, tensor: torch.Tensor) -> None:
        reference, size = (
            StorageWeakRef(tensor.untyped_storage()),
            tensor.untyped_storage().nbytes(),
        )
        if reference in self._alive:
            return
        self._alive[reference] = (size, self._name(tensor))
        self._bound += size  # what was freed since the last look is still in it: never too small
        self.largest = max(self.largest, size)
        if (
            self._bound > self.peak * (1 + SLACK * (len(self._alive) > 256))
            and self.sweep() > self.peak
        ):
            self.peak, self.parts = self._bound, {}
            for bytes_, part in self._alive.values():
                self.parts[part] = self.parts.get(part, 0) + bytes_


def traced(run: Callable[[], object]) -> dict[str, float]:
    """What operators create while `run` runs, beyond what was there before.

    Args:
        run: called once.

    Returns:
        "peak_gib" and "largest_gib" (the largest single tensor).
    """
    with StorageTracker() as tracker:
        run()
    return {"peak_gib": tracker.peak / GIB, "largest_gib": tracker.largest / GIB}


def measured(run: Callable[[], object]) -> dict[str, float]:
    """Peak while `run` really runs, beyond what was there before, as the allocator saw it.

    On a GPU it is the caching allocator's own count. On a CPU every allocation and release counts
    that torch's profiler records, an operator's inner scratch space among them.

    Args:
        run: called once.

    Returns:
        "peak_gib", and on a GPU "reserved_gib".
    """
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        torch.cuda.reset_peak_memory_stats()
        run()
        after = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return {
            "peak_gib": (after[0] - before[0]) / GIB,
            "reserved_gib": (after[1] - before[1]) / GIB,
        }
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    live = peak = 0
    events = [
        event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return {"peak_gib": peak / GIB}


def weights_gib(model) -> float:
    """GiB of a model's parameters and buffers, shared storages once."""
    storages = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()
        for tensor in (*model.parameters(), *model.buffers())
    }
    return sum(storages.values()) / GIB


def linear_gib(model) -> float:
    """GiB of the linear layers' matrices without the output matrix: what quantising shrinks."""
    linear = [
        part
        for part in model.modules()
        if isinstance(part, torch.nn.Linear) and part is not model.get_output_embeddings()
    ]
    return sum(part.weight.untyped_storage().nbytes() for part in linear) / GIB


def forward(
    model, ids: list[int], last_only: bool, batch: int = 1, chunk: int | None = None
) -> Callable[[], object]:
    """A prefill at inference: a row is read, its keys and values stay.

    Args:
        model: a causal language model.
        ids: the row's token ids.
        last_only: logits for the last position only, else for every position.
        batch: copies of the row that are read together.
        chunk: tokens that are read at once, all of them by default.

    Returns:
        Runs it once when called.
    """

    @torch.no_grad()  # inference_mode would hide from a tracker what composite operators do inside
    def run():
        tokens = torch.tensor([ids] * batch, device=model.device)  # batch × length
        cache = None
        for part in tokens.split(chunk or len(ids), dim=1):
            output = model(
                part, past_key_values=cache, use_cache=True, logits_to_keep=1 if last_only else 0
            )
            cache = output.past_key_values
        return output

    return run


def lora_step(model, ids: list[int], batch: int = 1, padded: bool = False) -> Callable[[], object]:
    """Forward and backward as a training step does them, supervised on the last two tokens.

    Args:
        model: with trainable adapter weights, see `add_lora`.
        ids: the row's token ids.
        batch: copies of the row.
        padded: the first token is padding, so that an attention mask is written out, as in a
            batch of rows of unlike length.

    Returns:
        Runs it once when called.
    """

    def run():
        tokens = torch.tensor([ids] * batch, device=model.device)  # batch × length
        mask = torch.ones_like(tokens)
        mask[:, : int(padded)] = 0
        logits = (
            model(tokens, attention_mask=mask, use_cache=False, logits_to_keep=ANSWER_POSITIONS)
            .logits[:, :-1]
            .float()
        )  # batch × (ANSWER_POSITIONS - 1) × vocabulary
        torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), tokens[:, 1 - ANSWER_POSITIONS :].flatten()
        ).backward()
        model.zero_grad(set_to_none=True)

    return run


def replace_meta_tensors(model) -> None:
    """Zeros of the same shapes in place of a meta model's parameters and buffers, shared ones once.

    Inside a FakeTensorMode the zeros have no contents either, but a device.

    Args:
        model: on the meta device; changed in place.
    """
    made = {}
    for module in model.modules():
        for place in (module._parameters, module._buffers):
            for name, old in place.items():
                if old is not None and id(old) not in made:
                    new = torch.zeros(old.shape, dtype=old.dtype)
                    made[id(old)] = (
                        torch.nn.Parameter(new, old.requires_grad)
                        if isinstance(old, torch.nn.Parameter)
                        else new
                    )
                place[name] = old if old is None else made[id(old)]


def add_lora(model, rank: int, targets: str | list[str]):
    """The model with LoRA adapters of four-byte floats, as this book trains them.

    Below four bytes run it under autocast, which casts the inputs.

    Args:
        model: a causal language model, on the meta device or not.
        rank: of the adapters.
        targets: names of the linear layers, or "all-linear".
    """
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    shapes_only = model.device.type == "meta"
    model = get_peft_model(
        model, LoraConfig(r=rank, target_modules=targets), low_cpu_mem_usage=shapes_only
    ).train()
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False
    return model


def build_on_meta(config, dtype: str, attention: str):
    """The model of a config on the meta device: shapes without contents.

    Args:
        config: a transformers config.
        dtype: a torch type's name.
        attention: "sdpa" or "eager".
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, dtype), attn_implementation=attention
        )


def forecast(
    config,
    length: int,
    batch: int = 1,
    training: bool = False,
    rank: int = 8,
    targets: str | list[str] = "all-linear",
    dtype: str = "bfloat16",
    attention: str = "sdpa",
    checkpointing: bool = False,
    last_only: bool = True,
    chunk: int | None = None,
    bits: int | None = None,
) -> dict[str, float]:
    """Expected peak of a prefill, or of a LoRA training step, by a trace.

    The model's own code runs on fake tensors, which have sizes and no contents: nothing is computed
    and next to nothing allocated. Adapters, their gradients and Adam's two moments are four-byte
    floats, as swift keeps them; what is alive at the peak is told apart by its shape.

    Layers of one kind need alike, so not all of a deep model are traced. An inference holds one
    layer's activations at a time: six layers show its peak, and the weights and the cache of the
    others are added. A training step is traced with six and with eight layers; each further one
    adds half of what these two differ by.

    Args:
        config: a transformers config.
        length: tokens of a row.
        batch: rows.
        training: a LoRA step, else a prefill.
        rank: of the adapters.
        targets: linear layers with an adapter.
        dtype: of the weights, a torch type's name.
        attention: "sdpa" or "eager".
        checkpointing: a training step throws activations away and computes them again.
        last_only: an inference computes logits for its last position only.
        chunk: tokens that an inference reads at once, all by default.
        bits: of a number in the linear layers, where they are quantised.

    Returns:
        GiB by part (see PARTS) and their "total".
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    text = config.get_text_config()
    if training and (further := text.num_hidden_layers - 8) > 0:
        step = (length, batch, training, rank, targets, dtype, attention, checkpointing)
        few, more = (forecast(first_layers(config, count), *step, bits=bits) for count in (6, 8))
        parts = {part: more[part] + further * (more[part] - few[part]) / 2 for part in PARTS}
        return parts | {"total": sum(parts.values())}
    model = build_on_meta(config, dtype, attention)
    weights, adapters, cache = weights_gib(model), 0.0, 0.0
    # Layers with a sliding window and those without fill a cache at different paces.
    alike = chunk is None or len(set(getattr(text, "layer_types", None) or ["full"])) == 1
    if not training and not bits and alike and text.num_hidden_layers > 6:
        shown = forecast(
            first_layers(config, 6), length, batch, dtype=dtype, attention=attention,
            last_only=last_only, chunk=chunk,
        )  # fmt: skip
        parts = shown | {"weights": weights, "cache": cache_gib(config, length, batch, dtype)}
        return parts | {"total": sum(parts[part] for part in PARTS)}
    if bits:
        weights -= linear_gib(model) * (1 - bits / 8 / getattr(torch, dtype).itemsize)

    def part(tensor) -> str:
        shape = tensor.shape
        if shape and shape[-1] == text.vocab_size:
            return "logits"
        written = (
            len(shape) > 2
            and shape[-1] == length
            and shape.numel() == batch * heads_of(text)[0] * length * shape[-2]
        )
        return "attention scores" if written and shape[-2] in (length, chunk) else "activations"

    if training:
        model = add_lora(model, rank, targets)
        adapters = (
            4 * sum(weight.numel() for weight in model.parameters() if weight.requires_grad) / GIB
        )
    else:
        cache = cache_gib(config, length, batch, dtype)
    with FakeTensorMode():
        replace_meta_tensors(model)
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": False})
        run = (
            lora_step(model, [0] * length, batch, padded=True)
            if training
            else forward(model, [0] * length, last_only, batch, chunk)
        )
        mixed = training and dtype != "float32"
        with (
            torch.autocast("cpu", getattr(torch, dtype)) if mixed else nullcontext(),
            StorageTracker(part) as tracker,
        ):
            run()
    traced_parts = {name: size / GIB for name, size in tracker.parts.items()}
    parts = (
        dict.fromkeys(PARTS, 0.0)
        | {
            "weights": weights,
            "adapters": adapters,
            "gradients": adapters,
            "optimizer": 2 * adapters,
        }
        | traced_parts
    )
    parts["activations"] = max(0.0, parts["activations"] - adapters - cache)
    parts["cache"] = cache
    return parts | {"total": sum(parts.values())}


def first_layers(config, count: int):
    """A copy of a config that has its first `count` layers only."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    text.num_hidden_layers = count
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:count]
    return config


def on_shapes(
    config,
    run: Callable[[torch.nn.Module], object],
    dtype: str = "bfloat16",
    attention: str = "sdpa",
) -> float:
    """Weights and peak of whatever run(model) does, on tensors without contents.

    Args:
        config: a transformers config.
        run: called once with the model.
        dtype: of the weights, a torch type's name.
        attention: "sdpa" or "eager".

    Returns:
        GiB.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = build_on_meta(config, dtype, attention).eval()
    weights = weights_gib(model)
    with FakeTensorMode(), torch.no_grad():
        replace_meta_tensors(model)
        return weights + traced(lambda: run(model))["peak_gib"]


def cache_gib(config, length: int, batch: int = 1, dtype: str = "bfloat16") -> float:
    """GiB of keys and values: 2 × layers × key-value heads × head size × tokens × bytes.

    Args:
        config: a transformers config.
        length: tokens of a row.
        batch: rows.
        dtype: a torch type's name.
    """
    text = config.get_text_config()
    _, shared, width = heads_of(text)
    numbers = 2 * text.num_hidden_layers * shared * width * length * batch
    return numbers * getattr(torch, dtype).itemsize / GIB


def heads_of(text) -> tuple[int, int, int]:
    """Query heads, key-value heads and head size of a text config."""
    heads = text.num_attention_heads
    return (
        heads,
        getattr(text, "num_key_value_heads", None) or heads,
        getattr(text, "head_dim", None) or text.hidden_size // heads,
    )


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
    """The same in closed form: microseconds, and close enough to search with.

    LoRA is on all linear layers. With H hidden size, I inner size of the MLP, V vocabulary, n and m
    query and key-value heads of d numbers, L layers, b bytes a number, T tokens in all rows, s
    tokens a row:

    * weights: b (V H (1, or 2 when the output matrix is not shared) + L (2 H n d + 2 H m d + 3 H
      I))
    * adapters: 4 bytes × L × rank × (sum of both sides of the seven linear layers); gradients as
      much, Adam's moments twice that
    * inference: cache 2 L m d b T; activations of one layer, b T (4 H + 3 I); logits b V for each
      position kept
    * training, kept for the way back in each layer and for each token: 4 H a norm (four bytes), 2 b
      H inputs of the linear layers, b (2 n d + 2 k d) queries, keys, values and output of attention
      (k = n, the keys repeated for each query head, unless m = 1), 4 b I in the MLP, 4 (n + m) d
      where queries and keys are normed, and b s of the mask
    * with checkpointing only b H of each layer, and one layer in full
    * scores written out (eager): per token n s (b + 4) kept in training, n s (b + 8) in one layer
      at inference

    Counted on the tensors that autograd keeps for the models of transformers 5, bias vectors and
    norms' weights left out. Source of the scheme: Korthikanti et al. 2023, Reducing activation
    recomputation in large transformer models.

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
    """
    text, size = config.get_text_config(), getattr(torch, dtype).itemsize
    hidden, inner, layers, vocabulary = (
        text.hidden_size,
        text.intermediate_size,
        text.num_hidden_layers,
        text.vocab_size,
    )
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
        parts["attention scores"] = (
            eager
            * tokens
            * heads
            * length
            * ((size + 4) * (1 if checkpointing else layers) + size + 4)
        )
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
        config.get_text_config().max_position_embeddings,
    )


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


def available_gib() -> float:
    """Memory that a run could still have on this machine, GiB: the GPU's, or the processor's.

    Where a shell or a scheduler limits the data of a process (`ulimit -d`), no more than that.
    """
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / GIB
    free, (limit, _) = psutil.virtual_memory().available, resource.getrlimit(resource.RLIMIT_DATA)
    if limit != resource.RLIM_INFINITY:
        free = max(0, min(free, limit - getattr(psutil.Process().memory_info(), "data", 0)))
    return free / GIB


def remedies(config, budget: float, length: int, batch: int, **choices) -> str:
    """What would make a training step fit, each lever alone with what the closed form makes of it.

    Args:
        config: a transformers config.
        budget: GiB.
        length: tokens of a row.
        batch: rows.
        **choices: see `estimate`.
    """
    shorter = longest(config, budget, batch=batch, training=True, **choices)
    levers = [f"max_length {length} → {shorter}"]
    for lever, change in (
        ("batch_size", {"batch": 1}),
        ("gradient_checkpointing", {"checkpointing": True}),
    ):
        values = {"batch": batch} | choices | change
        total = estimate(config, length, training=True, **values)["total"]
        levers.append(f"{lever} {next(iter(change.values()))}: {total:.1f} GiB")
    return "; ".join(levers)


def chapter_needs(
    config,
    chapter: int,
    length: int = 1,
    batch: int = 1,
    dtype: str | None = None,
    attention: str | None = None,
    rank: int = 8,
    checkpointing: bool = False,
    in_safetensors: bool = True,
) -> float:
    """What a chapter takes at its worst moment, in closed form, beside Python and CUDA.

    Args:
        config: the model's transformers config.
        chapter: 1 to 8.
        length: tokens of the longest row it reads or trains on.
        batch: rows at once.
        dtype: of the weights, a torch type's name; by default what this machine computes in.
        attention: of chapters 2, 5 and 8, by default what they choose for such rows; chapter 6
            measures both ways.
        rank: of the adapters of chapters 4 and 6.
        checkpointing: of the training step of chapter 4; that of chapter 6 has none.
        in_safetensors: whether chapter 3 can read one matrix of the weights alone.

    Returns:
        GiB.

    Raises:
        InputError: when there is no such chapter.
    """
    if chapter in (1, 7):  # no model is loaded, or only a toy
        return 0.0
    dtype = dtype or pick_dtype()
    common = {"length": length, "batch": batch, "dtype": dtype}
    if chapter in READING:
        return reading_gib(config, attention=attention or pick_attention(length), **common)
    if chapter == 3:
        return matrix_gib(config, dtype, in_safetensors)
    step = {"training": True, "rank": rank} | common
    if chapter == 4:
        return estimate(config, checkpointing=checkpointing, **step)["total"]
    if chapter == 6:
        ways = (step, common | {"last_only": False}, common | {"attention": "eager"})
        return max(estimate(config, **way)["total"] for way in ways)
    raise InputError(f"there is no chapter {chapter}; there are 1 to 8")


def reading_gib(
    config,
    length: int,
    batch: int = 1,
    dtype: str = "bfloat16",
    attention: str = "sdpa",
) -> float:
    """GiB of the model loaded once, which reads rows and scores their options.

    Args:
        config: a transformers config.
        length: tokens of the longest row.
        batch: rows at once.
        dtype: of the weights, a torch type's name.
        attention: "sdpa" or "eager".
    """
    size, vocabulary = getattr(torch, dtype).itemsize, config.get_text_config().vocab_size
    # batch × nodes × vocabulary, and one row of them as four-byte floats with their normaliser
    logits = TREE_NODES * vocabulary * (batch * size + 2 * 4) / GIB
    parts = estimate(config, length, batch, dtype=dtype, attention=attention)
    resting = parts["weights"] + parts["cache"]
    # options are read when the prompts' own scores and activations have gone
    return resting + max(parts["total"] - resting, logits)


def matrix_gib(config, dtype: str = "bfloat16", in_safetensors: bool = True) -> float:
    """GiB of one matrix's corner in four-byte floats, as often as chapter 3 holds it.

    Args:
        config: a transformers config.
        dtype: of the weights, a torch type's name.
        in_safetensors: whether one matrix can be read alone; else all are loaded once.
    """
    text = config.get_text_config()
    sides = (min(side, CORNER) for side in (text.hidden_size, text.intermediate_size))
    whole = 0.0 if in_safetensors else estimate(config, 1, dtype=dtype)["weights"]
    # the frozen one, peft's copy, a correction, the merged one, and what a comparison needs
    return whole + 6 * 4 * math.prod(sides) / GIB


def budget_gib(memory_gib: float | None = None) -> float:
    """GiB that a chapter may take: what it was given, or what is free less ASIDE_GIB.

    Args:
        memory_gib: a limit that the reader set.

    Raises:
        InputError: when the limit is not above 0.
    """
    if memory_gib is None:
        return max(0.0, available_gib() - ASIDE_GIB)
    if memory_gib <= 0:
        raise InputError(
            f"memory_gib {memory_gib} is not above 0; leave it out to use what is free"
        )
    return float(memory_gib)


def usual_rows(length: int) -> int:
    """How many rows of so many tokens are asked together where there is room for them."""
    return max(1, TOKENS_AT_ONCE // length)


def rows_at_once(needs: Callable[[int], float], length: int, budget: float) -> int:
    """How many rows are asked together: the usual number, or fewer where these do not fit.

    Args:
        needs: GiB for a number of rows.
        length: tokens of the longest row.
        budget: GiB.

    Returns:
        At least 1, whether it fits or not.
    """
    rows = usual_rows(length)
    while rows > 1 and needs(rows) > budget:
        rows //= 2
    return rows


def tokens_at_once(model, length: int) -> int:
    """Most tokens of rows that a loaded model is asked about together.

    Args:
        model: of transformers, where it will compute.
        length: tokens of the longest row.
    """
    config, budget = model.config, budget_gib()
    dtype = str(model.dtype).removeprefix("torch.")
    weights = estimate(config, 1, dtype=dtype)["weights"]  # of the model, which is there already

    def needs(rows: int) -> float:
        attention = config.get_text_config()._attn_implementation
        return reading_gib(config, length, rows, dtype, attention) - weights

    rows = rows_at_once(needs, length, budget)
    return TOKENS_AT_ONCE if rows == usual_rows(length) else rows * length


def check_chapter(
    config,
    chapter: int,
    length: int = 1,
    batch: int | None = None,
    budget: float | None = None,
    **choices,
) -> str:
    """What a chapter will need, as a line to print before it loads anything.

    Args:
        config: the model's transformers config.
        chapter: 1 to 8.
        length: tokens of the longest row.
        batch: rows at once; by default what the scorer will choose.
        budget: GiB, `budget_gib()` by default.
        **choices: see `chapter_needs`.

    Raises:
        InputError: when it needs more than the budget, with what would help.
    """
    budget = budget_gib() if budget is None else budget

    def needs(tokens: int, rows: int) -> float:
        return chapter_needs(config, chapter, tokens, rows, **choices)

    chosen = batch is None and chapter in READING
    rows = rows_at_once(lambda n: needs(length, n), length, budget) if chosen else batch or 1
    if (gib := needs(length, rows)) <= budget:
        shown = max(gib, 0.1)  # never said to be nothing
        line = f"chapter {chapter} needs about {shown:.1f} GiB; {budget:.1f} are free"
        if chosen and rows < usual_rows(length):
            line += f", so it asks about {rows} rows at once in place of {usual_rows(length)}"
        return line
    levers = []
    if rows > 1 and needs(length, 1) < gib:
        levers.append(f"rows one at a time: {needs(length, 1):.1f} GiB")
    if shorter := last_that_fits(lambda tokens: needs(tokens, rows), budget, length - 1):
        levers.append(f"rows of at most {shorter:,} tokens")
    raise InputError(no_room(config, chapter, gib, budget, levers, **choices))


def no_room(config, chapter: int, needs: float, budget: float, levers: list[str], **choices) -> str:
    """The message of a chapter that does not fit.

    Args:
        config: the model's transformers config.
        chapter: 1 to 8.
        needs: GiB.
        budget: GiB.
        levers: what would help, beside a smaller model and more memory.
        **choices: see `chapter_needs`.
    """
    weights = estimate(config, 1, dtype=choices.get("dtype") or pick_dtype())["weights"]
    smaller = f"a smaller model (the weights of this one take {weights:.1f})"
    helps = "; ".join([*levers, smaller, "other programs closed, or a machine with more memory"])
    return (
        f"chapter {chapter} needs about {needs:.1f} GiB and {budget:.1f} are free; "
        f"what would help: {helps}"
    )


def pick_lengths(
    config,
    lengths: list[int],
    budget: float,
    most: int | None = None,
    chapter: int = 6,
    **choices,
) -> tuple[list[int], str]:
    """The lengths that a chapter can afford, and a line to print that says what was left out.

    Args:
        config: the model's transformers config.
        lengths: tokens; in any order.
        budget: GiB.
        most: tokens of the longest row there is; no length goes beyond it.
        chapter: whose needs count.
        **choices: see `chapter_needs`.

    Returns:
        Lengths in ascending order, at least one; the line.

    Raises:
        InputError: when there is no length, or not even the shortest fits, with what would help.
    """
    if not lengths or any(type(n) is not int or n < 1 for n in lengths):
        raise InputError(f"lengths must be whole numbers above 0, at least one, not {lengths}")
    positions = config.get_text_config().max_position_embeddings
    limit = min(positions, most or positions)
    reachable = sorted({n for n in lengths if n <= limit}) or [limit]

    def needs(length: int) -> float:
        return chapter_needs(config, chapter, length, **choices)

    fitting = [n for n in reachable if needs(n) <= budget]
    if not fitting:
        shorter = last_that_fits(needs, budget, reachable[0])
        levers = [f"lengths: [{shorter}]"] if shorter else []
        raise InputError(no_room(config, chapter, needs(reachable[0]), budget, levers, **choices))
    line = (
        f"up to {fitting[-1]:,} tokens, chapter {chapter} needs about "
        f"{needs(fitting[-1]):.1f} GiB; {budget:.1f} are free"
    )
    if dropped := [f"{n:,}" for n in reachable if n not in fitting]:
        line += f" (left out, for want of memory: {', '.join(dropped)} tokens)"
    return fitting, line
