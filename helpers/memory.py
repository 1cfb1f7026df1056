"""Where memory goes: a trace finds what a run needs, a measurement what it took.

A trace runs the model's own code on tensors without contents. The closed form is in `estimates`,
and what each chapter needs in `budgets`.
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
"""The number of positions of a training row whose logits are computed: those of a short answer and
its end token, and the position before.
"""
SLACK = 0.005
"""The share by which a traced peak may lie below the true one. Freed storages are looked for only
when the peak may have grown by more than this, so that a trace takes no more than seconds.
"""


class StorageTracker(TorchDispatchMode):
    """A context that follows every storage that operators create inside it.

    Storages that existed before (the model's weights) are not counted. A storage counts from the
    operator that returned it until it is freed; memory that an operator uses internally is not
    seen. The peak is exact while few storages are alive; with many, it is at most half a per cent
    too low (see SLACK).

    Args:
        name: gives the name under which a new tensor is counted.

    Attributes:
        peak: the most bytes alive at once.
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
        # Seven of ten calls ask a fake tensor for its device. They create nothing, and looking
        # for storages in their arguments and results would take a fifth of a trace's time.
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
        """Forget the storages that were freed; return the bytes of the others."""
        self._alive = {
            reference: entry for reference, entry in self._alive.items() if not reference.expired()
        }
        self._bound = sum(size for size, _ in self._alive.values())
        return self._bound

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        reference, size = StorageWeakRef(storage), storage.nbytes()
        if reference in self._alive:
            return
        self._alive[reference] = (size, self._name(tensor))
        self._bound += size  # never too small: it still counts what was freed since the sweep
        self.largest = max(self.largest, size)
        if (
            self._bound > self.peak * (1 + SLACK * (len(self._alive) > 256))
            and self.sweep() > self.peak
        ):
            self.peak, self.parts = self._bound, {}
            for bytes_, part in self._alive.values():
                self.parts[part] = self.parts.get(part, 0) + bytes_


def traced(run: Callable[[], object]) -> dict[str, float]:
    """The memory that operators take while `run` runs, beyond what was there before.

    Args:
        run: called once.

    Returns:
        "peak_gib" and "largest_gib" (of the largest single tensor).
    """
    with StorageTracker() as tracker:
        run()
    return {"peak_gib": tracker.peak / GIB, "largest_gib": tracker.largest / GIB}


def measured(run: Callable[[], object]) -> dict[str, float]:
    """The peak of a real run, beyond what was there before, as the allocator saw it.

    On a GPU it is the caching allocator's own count. On a CPU it is the peak of the running sum
    of all allocations and releases that torch's profiler records, including an operator's internal
    scratch space.

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
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler's log fills the notebook
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
    """GiB of a model's parameters and buffers; a shared storage counts once."""
    storages = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()
        for tensor in (*model.parameters(), *model.buffers())
    }
    return sum(storages.values()) / GIB


def linear_gib(model) -> float:
    """GiB of what quantising shrinks: the matrices of linear layers, without the output matrix."""
    linear = [
        part
        for part in model.modules()
        if isinstance(part, torch.nn.Linear) and part is not model.get_output_embeddings()
    ]
    return sum(part.weight.untyped_storage().nbytes() for part in linear) / GIB


def forward(
    model, ids: list[int], last_only: bool, batch: int = 1, chunk: int | None = None
) -> Callable[[], object]:
    """A prefill at inference: it reads a row and keeps its keys and values.

    Args:
        model: a causal language model.
        ids: the row's token ids.
        last_only: whether to compute logits for the last position only, or else for every one.
        batch: copies of the row that are read together.
        chunk: tokens that are read at once, all of them by default.

    Returns:
        A function that runs the prefill once.
    """

    @torch.no_grad()  # inference_mode would hide the inside of composite operators from a tracker
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
    """The forward and backward pass of a training step that is supervised on the last two tokens.

    Args:
        model: with trainable adapter weights, see `add_lora`.
        ids: the row's token ids.
        batch: copies of the row.
        padded: whether the first token is padding. Then an attention mask is written out, as in a
            batch of rows of different lengths.

    Returns:
        A function that runs the step once.
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
    """Put zeros of the same shapes in place of a meta model's parameters and buffers.

    Shared tensors stay shared. Inside a FakeTensorMode the zeros have no contents either, but they
    have a device.

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
    """The model with LoRA adapters in four-byte floats, as this book trains them.

    A model in fewer bytes must run under autocast, which casts the inputs.

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
    """The model of a config on the meta device, which has shapes but no contents.

    Args:
        config: a transformers config.
        dtype: a torch type's name.
        attention: "sdpa" or "eager".
    """
    from transformers import AutoModelForCausalLM

    # a config from a model's own code was trusted when it was loaded; transformers asks unless told
    trusted = type(config).__module__.startswith("transformers_modules")
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            copy.deepcopy(config),  # else its attention would change, also for a loaded model
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
    """The expected peak of a prefill or of a LoRA training step, found by a trace.

    The model's own code runs on fake tensors, which have sizes but no contents: nothing is computed
    and next to nothing is allocated. Adapters, their gradients and Adam's two moments are four-byte
    floats, as swift keeps them. The parts that are alive at the peak are told apart by shape.

    Layers of one kind need the same memory, so only a few of a deep model are traced: three where
    all are of one kind, and six where kinds alternate, as in Gemma. Inference holds one layer's
    activations at a time. So these few layers show its peak, and the weights and the cache of the
    others are added. A training step is traced a second time with two more layers; each further
    layer adds half of the difference between the two.

    Args:
        config: a transformers config.
        length: tokens of a row.
        batch: rows.
        training: whether it is a LoRA step; else it is a prefill.
        rank: of the adapters.
        targets: names of the linear layers that get an adapter, or "all-linear".
        dtype: of the weights, a torch type's name.
        attention: "sdpa" or "eager".
        checkpointing: whether a training step drops activations and computes them again.
        last_only: whether inference computes logits for the last position only.
        chunk: tokens that inference reads at once, all by default.
        bits: of each number in the linear layers, where they are quantised.

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
    # Layers with and without a sliding window fill a cache at different paces.
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
    parts = dict.fromkeys(PARTS, 0.0) | {name: size / GIB for name, size in tracker.parts.items()}
    parts["activations"] = max(0.0, parts["activations"] - adapters - cache)
    parts |= {"weights": weights, "adapters": adapters, "gradients": adapters}
    parts |= {"optimizer": 2 * adapters, "cache": cache}
    return parts | {"total": sum(parts.values())}


def of_one_kind(text) -> bool:
    """Whether all layers of a text model are alike: none has a sliding window that another lacks.

    Args:
        text: what a transformers config returns by get_text_config.
    """
    return len(set(getattr(text, "layer_types", None) or ["full"])) == 1


def enough_layers(text) -> int:
    """How many layers are enough to show what each further one needs.

    Where all are of one kind, they are a first one, a last one, of which less may run, and one
    between; where kinds alternate, they are one round of kinds.

    Args:
        text: see `of_one_kind`.
    """
    return 3 if of_one_kind(text) else 6


def first_layers(config, count: int):
    """A copy of a config with only its first `count` layers."""
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
    """GiB of the weights plus the peak of what run(model) does, on tensors without contents.

    Args:
        config: a transformers config.
        run: called once with the model.
        dtype: of the weights, a torch type's name.
        attention: "sdpa" or "eager".
        cached: for an inference that keeps nothing of a layer but keys and values, the number of
            tokens whose keys and values it keeps. Then only a few layers are traced, and the cache
            of the others is added.
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
    """The number of query heads, that of key-value heads, and the head size of a text config.

    Raises:
        InputError: see `size_of`.
    """
    heads = size_of(text, "num_attention_heads")
    shared = size_of(text, "num_key_value_heads", otherwise=heads)
    # Falcon's first models have one key head; later ones repeat theirs for each query head
    if getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False):
        shared = 1
    hidden = size_of(text, "hidden_size")
    return heads, shared, size_of(text, "head_dim", otherwise=hidden // heads)


def size_of(text, *names: str, otherwise: int | None = None) -> int:
    """A size that a text config gives; the largest one where layers differ.

    Args:
        text: what a transformers config returns by get_text_config.
        names: of the size; the first name counts that the config has.
        otherwise: returned when the config has none of them.

    Raises:
        InputError: when the config has none of them and `otherwise` is None.
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
