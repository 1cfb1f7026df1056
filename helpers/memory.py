"""Where memory goes: what a run needs, by a trace; what it took, measured.

A trace runs the model's own code on tensors without contents. The closed form beside it stands in
`estimates`, what each chapter takes in `budgets`.
"""

import copy
import os
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from helpers import InputError

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
        # Seven of ten calls ask a fake tensor for its device. They create nothing, and to look for
        # storages among what they take and return is a fifth of a trace's time.
        if func is torch.ops.prim.device.default:
            return func(*args)
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
        "peak_gib".
    """
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return {"peak_gib": (torch.cuda.max_memory_allocated() - before) / GIB}
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler's own log fills the notebook
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
        following = tokens[:, len(ids) - logits.shape[1] :]  # a row may be shorter than an answer
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten()).backward()
        model.zero_grad(set_to_none=True)

    return run


def replace_meta_tensors(model) -> None:
    """Zeros of the same shapes in place of a meta model's parameters and buffers, shared ones once.

    Inside a FakeTensorMode the zeros have no contents either, but a device.

    Args:
        model: on the meta device; changed in place.
    """
    replacements = {}
    for module in model.modules():
        for place in (module._parameters, module._buffers):
            for name, old in place.items():
                if old is not None and id(old) not in replacements:
                    new = torch.zeros(old.shape, dtype=old.dtype)
                    replacements[id(old)] = (
                        torch.nn.Parameter(new, old.requires_grad)
                        if isinstance(old, torch.nn.Parameter)
                        else new
                    )
                place[name] = old if old is None else replacements[id(old)]


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

    # a config out of a model's own code was trusted when it was loaded; unsaid, transformers asks
    trusted = type(config).__module__.startswith("transformers_modules")
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            copy.deepcopy(config),  # which would take over the attention, a loaded model's too
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            trust_remote_code=trusted,
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

    Layers of one kind need alike, so not all of a deep model are traced: three where all are of one
    kind, and six where kinds alternate, as in Gemma. An inference holds one layer's activations at
    a time: these few show its peak, and the weights and the cache of the others are added. A
    training step is also traced with two layers more; each further one adds half of what these two
    steps differ by.

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
    depth, enough = text.num_hidden_layers, enough_layers(text)
    if training and (further := depth - enough - 2) > 0:
        step = (length, batch, training, rank, targets, dtype, attention, checkpointing)
        few, more = (
            forecast(first_layers(config, count), *step, bits=bits)
            for count in (enough, enough + 2)
        )
        parts = {part: more[part] + further * (more[part] - few[part]) / 2 for part in PARTS}
        return parts | {"total": sum(parts.values())}
    model = build_on_meta(config, dtype, attention)
    weights, adapters, cache = weights_gib(model), 0.0, 0.0
    # Layers with a sliding window and those without fill a cache at different paces.
    alike = chunk is None or of_one_kind(text)
    if not training and not bits and alike and depth > enough:
        few_layers = forecast(
            first_layers(config, enough), length, batch, dtype=dtype, attention=attention,
            last_only=last_only, chunk=chunk,
        )  # fmt: skip
        parts = few_layers | {"weights": weights, "cache": cache_gib(config, length, batch, dtype)}
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


def of_one_kind(text) -> bool:
    """Whether all layers of a text model's config are alike: none has a window that another lacks.

    Args:
        text: a transformers config, see its get_text_config.
    """
    return len(set(getattr(text, "layer_types", None) or ["full"])) == 1


def enough_layers(text) -> int:
    """How many layers show what each further one needs: a first one, a last one, of which less may
    run, and one between; where kinds alternate, one round of them.

    Args:
        text: see `of_one_kind`.
    """
    return 3 if of_one_kind(text) else 6


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
    cached: int | None = None,
) -> float:
    """Weights and peak of whatever run(model) does, on tensors without contents.

    Args:
        config: a transformers config.
        run: called once with the model.
        dtype: of the weights, a torch type's name.
        attention: "sdpa" or "eager".
        cached: tokens of an inference whose keys and values stay, where nothing else of a layer
            does. Then a few layers are traced, and the cache of the others is added.

    Returns:
        GiB.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    model, text = build_on_meta(config, dtype, attention).eval(), config.get_text_config()
    untraced = weights_gib(model)
    if cached and (enough := enough_layers(text)) < text.num_hidden_layers:
        few = first_layers(config, enough)
        untraced += cache_gib(config, cached, dtype=dtype) - cache_gib(few, cached, dtype=dtype)
        model = build_on_meta(few, dtype, attention).eval()
    with FakeTensorMode(), torch.no_grad():
        replace_meta_tensors(model)
        return untraced + traced(lambda: run(model))["peak_gib"]


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
    """Query heads, key-value heads and head size of a text config.

    Raises:
        InputError: see `size_of`.
    """
    heads = size_of(text, "num_attention_heads")
    shared = size_of(text, "num_key_value_heads", otherwise=heads)
    # Falcon's first models keep one key head, and later ones repeat theirs for each query head
    if getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False):
        shared = 1
    hidden = size_of(text, "hidden_size")
    return heads, shared, size_of(text, "head_dim", otherwise=hidden // heads)


def size_of(text, *names: str, otherwise: int | None = None) -> int:
    """A size that a text config gives, the largest one where layers differ.

    Args:
        text: a transformers config, see its get_text_config.
        names: of the size; the first one counts that the config gives.
        otherwise: where it gives none of them.

    Raises:
        InputError: when it gives none of them and nothing else was said.
    """
    by_layer = getattr(text, "per_layer_attributes", None) or ()
    for name in names:
        layers = text.per_layer_config if name in by_layer else [text]
        values = [getattr(layer, name, None) for layer in layers]
        values = values[0] if isinstance(values[0], list) else values
        if known := [value for value in values if value]:
            return max(known)
    if otherwise is None:
        raise InputError(
            f"what a model of type {text.model_type!r} needs cannot be told, for its configuration "
            f"gives no {names[0]}; take a model with attention in every layer"
        )
    return otherwise
