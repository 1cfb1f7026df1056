"""Where memory goes: what a run needs, in closed form and traced on tensors without contents; and
what it took, measured.
"""

import copy
from collections.abc import Callable
from contextlib import nullcontext

import psutil
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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
KEPT = 3
"""Positions of a training row whose logits are computed: a short answer, its end token, the
position before.
"""
SLACK = 0.005
"""How far a traced peak may lie below the true one: looking for freed storages only this often
keeps a trace to seconds.
"""


class StorageTracker(TorchDispatchMode):
    """Follows every storage that operators create inside the context: `peak` and `largest`, in
    bytes.

    Storages that existed before (the model's weights) are not counted. A storage counts from the
    operator that returned it until it is freed; memory that an operator uses inside itself is not
    seen. name: what to call a new tensor; `parts` sums what was alive at the peak by these names.
    The peak is exact while few storages are alive, and to half a percent beyond.
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
            reference: kept for reference, kept in self._alive.items() if not reference.expired()
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
            for held, part in self._alive.values():
                self.parts[part] = self.parts.get(part, 0) + held


def traced(run: Callable[[], object]) -> dict[str, float]:
    """Peak and largest single allocation while `run` runs, in GiB, beyond what was there before."""
    with StorageTracker() as tracker:
        run()
    return {"peak_gib": tracker.peak / GIB, "largest_gib": tracker.largest / GIB}


def measured(run: Callable[[], object]) -> dict[str, float]:
    """Peak while `run` really runs, in GiB beyond what was there before, as the allocator saw it;
    "reserved_gib" on a GPU.

    On a GPU the caching allocator's own count. On a CPU every allocation and release that torch's
    profiler records, an operator's inner scratch space among them.
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
    """Bytes of the model's parameters and buffers, shared storages once, in GiB."""
    storages = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()
        for tensor in (*model.parameters(), *model.buffers())
    }
    return sum(storages.values()) / GIB


def linear_gib(model) -> float:
    """Bytes of the linear layers' matrices, the output matrix left out: what quantising makes
    smaller. In GiB.
    """
    linear = [
        part
        for part in model.modules()
        if isinstance(part, torch.nn.Linear) and part is not model.get_output_embeddings()
    ]
    return sum(part.weight.untyped_storage().nbytes() for part in linear) / GIB


def forward(
    model, ids: list[int], last_only: bool, batch: int = 1, chunk: int | None = None
) -> Callable[[], object]:
    """An inference prefill over `batch` copies of `ids`, its keys and values kept, with logits for
    every position or only the last.

    chunk: tokens that are read at once, all of them by default.
    """

    @torch.no_grad()  # inference_mode would hide from a tracker what composite operators do inside
    def run():
        tokens = torch.tensor([ids] * batch, device=model.device)
        cache = None
        for part in tokens.split(chunk or len(ids), dim=1):
            output = model(
                part, past_key_values=cache, use_cache=True, logits_to_keep=1 if last_only else 0
            )
            cache = output.past_key_values
        return output

    return run


def lora_step(model, ids: list[int], batch: int = 1, padded: bool = False) -> Callable[[], object]:
    """Forward and backward over `batch` copies of `ids` as a training step does it, supervised on
    the last two tokens.

    `model` must have trainable adapter weights (see peft.get_peft_model). padded: the first token
    is padding, so that an attention mask is written out, as in a batch of rows of unlike length.
    """

    def run():
        tokens = torch.tensor([ids] * batch, device=model.device)
        mask = torch.ones_like(tokens)
        mask[:, : int(padded)] = 0
        logits = (
            model(tokens, attention_mask=mask, use_cache=False, logits_to_keep=KEPT)
            .logits[:, :-1]
            .float()
        )
        torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), tokens[:, 1 - KEPT :].flatten()
        ).backward()
        model.zero_grad(set_to_none=True)

    return run


def fake(model) -> None:
    """Put tensors of the same shapes in the place of the parameters and buffers of a model on the
    meta device, shared ones once.
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
    """The model with LoRA adapters of four-byte floats, whose inputs autocast need not widen first,
    as this book trains them.
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


def build(config, dtype: str, attention: str):
    """The model of `config` on the meta device: shapes without contents."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, dtype), attn_implementation=attention
        )


def forecast(
    config, length: int, batch: int = 1, training: bool = False, rank: int = 8, targets: str | list[str] = "all-linear",
    dtype: str = "bfloat16", attention: str = "sdpa", checkpointing: bool = False, last_only: bool = True, chunk: int | None = None,
    bits: int | None = None,
) -> dict[str, float]:  # fmt: skip
    """Expected peak by part, in GiB (see PARTS) and their total: of a prefill, or of a LoRA
    training step.

    config: a transformers config. length: tokens of a row. last_only: logits of an inference for
    its last position only.
    chunk: tokens that an inference reads at once. bits: of a number in the linear layers, where
    they are quantised. The model's own code runs on fake tensors, which have sizes and no contents:
    nothing is computed and next to nothing allocated. Adapters, their gradients and Adam's two
    moments are four-byte floats, as swift keeps them; what the trace finds alive at its peak is
    told apart by its shape. A deep model's training step is traced with six and with eight layers;
    each further one adds half of what these two differ by.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    text = config.get_text_config()
    if training and (further := text.num_hidden_layers - 8) > 0:
        step = (length, batch, training, rank, targets, dtype, attention, checkpointing)
        few, more = (forecast(with_layers(config, count), *step, bits=bits) for count in (6, 8))
        parts = {part: more[part] + further * (more[part] - few[part]) / 2 for part in PARTS}
        return parts | {"total": sum(parts.values())}
    model = build(config, dtype, attention)
    weights, adapters, cache = weights_gib(model), 0.0, 0.0
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
        fake(model)
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
    found = {name: size / GIB for name, size in tracker.parts.items()}
    parts = (
        dict.fromkeys(PARTS, 0.0)
        | {
            "weights": weights,
            "adapters": adapters,
            "gradients": adapters,
            "optimizer": 2 * adapters,
        }
        | found
    )
    parts["activations"] = max(0.0, parts["activations"] - adapters - cache)
    parts["cache"] = cache
    return parts | {"total": sum(parts.values())}


def with_layers(config, count: int):
    """The same config with its first `count` layers only."""
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
    """Weights and the peak of whatever run(model) does with a model of `config` on tensors without
    contents, GiB.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = build(config, dtype, attention).eval()
    weights = weights_gib(model)
    with FakeTensorMode(), torch.no_grad():
        fake(model)
        return weights + traced(lambda: run(model))["peak_gib"]


def cache_gib(config, length: int, batch: int = 1, dtype: str = "bfloat16") -> float:
    """Keys and values: 2 × layers × key-value heads × head size × length × batch × bytes, in
    GiB.
    """
    text = config.get_text_config()
    return (
        2
        * text.num_hidden_layers
        * heads_of(text)[1]
        * heads_of(text)[2]
        * length
        * batch
        * getattr(torch, dtype).itemsize
        / GIB
    )


def heads_of(text) -> tuple[int, int, int]:
    """Query heads, key-value heads and head size of a text config."""
    heads = text.num_attention_heads
    return (
        heads,
        getattr(text, "num_key_value_heads", None) or heads,
        getattr(text, "head_dim", None) or text.hidden_size // heads,
    )


def estimate(
    config, length: int, batch: int = 1, training: bool = False, rank: int = 8, dtype: str = "bfloat16", attention: str = "sdpa",
    checkpointing: bool = False, last_only: bool = True,
) -> dict[str, float]:  # fmt: skip
    """The same in closed form, in microseconds: what grows with what, and good enough to search
    with. LoRA on all linear layers.

    With H hidden size, I inner size of the MLP, V vocabulary, n and m query and key-value heads of
    d numbers, L layers, b bytes a number, T tokens in all rows, s tokens a row:

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
        kept = size * hidden * (layers - 1) + layer if checkpointing else layer * layers
        parts["activations"] = tokens * (kept + 2 * size * inner)
        parts["attention scores"] = (
            eager
            * tokens
            * heads
            * length
            * ((size + 4) * (1 if checkpointing else layers) + size + 4)
        )
        parts["logits"] = batch * KEPT * vocabulary * (size + 4 + 4)
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
    """The most tokens a row may have for `estimate` with `choices` to stay within `budget` GiB; 0
    when nothing fits.

    Never more than the positions that the model knows.
    """
    low, high = 0, config.get_text_config().max_position_embeddings
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high)
            if estimate(config, middle, **choices)["total"] <= budget
            else (low, middle - 1)
        )
    return low


def available_gib() -> float:
    """Memory that a run could still have on this machine, GiB: the GPU's, or the processor's."""
    return (
        torch.cuda.mem_get_info()[0]
        if torch.cuda.is_available()
        else psutil.virtual_memory().available
    ) / GIB


def remedies(config, budget: float, length: int, batch: int, **choices) -> str:
    """What would make a training step fit into `budget` GiB, each lever alone with what the closed
    form makes of it.
    """
    found = [
        f"max_length {length} → {longest(config, budget, batch=batch, training=True, **choices)}"
    ]
    for lever, change in (
        ("batch_size", {"batch": 1}),
        ("gradient_checkpointing", {"checkpointing": True}),
    ):
        values = {"batch": batch} | choices | change
        found.append(
            f"{lever} {next(iter(change.values()))}: {estimate(config, length, training=True, **values)['total']:.1f} GiB"
        )
    return "; ".join(found)
