"""What qwen1.5-1.8b asks for, tensor by tensor, while it reads a long article: `python
data/riddle1/trace.py OUT.json`.

Runs the model's real forward pass on fake tensors (sizes without contents) under the transformers
that is installed, and writes for each hypothesis the request of 6.44 GiB that comes nearest to the
study's message, and what was allocated at that moment. The study's library was of its time:
events-4.41.2.json was made in an environment of its own with

    pip install torch==2.13.0 transformers==4.41.2 "huggingface_hub<0.26" "numpy<3"
"""

import json
import sys
from contextlib import suppress

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import Qwen2Config, Qwen2ForCausalLM

GIB = 2**30
ASKED, ALLOCATED, CAPACITY = 6.44, 13.90, 23.69
"""GiB in the study's message: the request that failed, what PyTorch had allocated, the card's
total.
"""
CONFIG = Qwen2Config(
    vocab_size=151936,
    hidden_size=2048,
    intermediate_size=5504,
    num_hidden_layers=24,
    num_attention_heads=16,
    num_key_value_heads=16,
    max_position_embeddings=32768,
    rope_theta=1e6,
    rms_norm_eps=1e-6,
    tie_word_embeddings=False,
)

# Each hypothesis: what the 6.44 GiB are, how the model was run, and the length at which that tensor
# has this size.
HYPOTHESES = [
    (
        "float32 softmax of eager attention, bfloat16 model",
        "eager",
        "bfloat16",
        (ASKED * GIB / (16 * 4)) ** 0.5,
    ),
    (
        "float32 copy of the logits of every position, eager attention",
        "eager",
        "bfloat16",
        ASKED * GIB / (151936 * 4),
    ),
    (
        "float32 copy of the logits of every position, sdpa",
        "sdpa",
        "bfloat16",
        ASKED * GIB / (151936 * 4),
    ),
    ("bfloat16 scores of eager attention", "eager", "bfloat16", (ASKED * GIB / (16 * 2)) ** 0.5),
    (
        "float32 scores of eager attention, float32 weights",
        "eager",
        "float32",
        (ASKED * GIB / (16 * 4)) ** 0.5,
    ),
    ("bfloat16 logits of every position, sdpa", "sdpa", "bfloat16", ASKED * GIB / (151936 * 2)),
]


class TooMuch(Exception):
    """A request that no card of this size could meet."""


class Requests(TorchDispatchMode):
    """Every new storage of at least 16 MiB: the operator, its size and the sum of what was live
    before, all in bytes.

    Args:
        capacity: bytes; the request that asks for more than is left of them is the last one.

    Raises:
        TooMuch: behind that request, for nothing that follows would ever run.
    """

    def __init__(self, capacity):
        super().__init__()
        self.events, self.live, self.sizes, self.capacity = [], 0, {}, capacity

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for reference in [reference for reference in self.sizes if reference.expired()]:
            self.live -= self.sizes.pop(reference)
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in known:
                reference, size = (
                    StorageWeakRef(leaf.untyped_storage()),
                    leaf.untyped_storage().nbytes(),
                )
                if reference not in self.sizes:
                    if size >= 2**24:
                        self.events.append((str(func), size, self.live))
                        if self.live + size > self.capacity:
                            raise TooMuch
                    self.sizes[reference] = size
                    self.live += size
        return result


def resting_gib(model) -> float:
    """Parameters and buffers, rotary caches among them, GiB."""
    storages = {
        t.untyped_storage()._cdata: t.untyped_storage().nbytes()
        for t in (*model.parameters(), *model.buffers())
    }
    return sum(storages.values()) / GIB


def trace() -> dict:
    """The record of every hypothesis under the transformers that is installed: see the top."""
    rows, default = [], torch.get_default_dtype()
    for what, attention, dtype, length in HYPOTHESES:
        n = round(length)
        torch.set_default_dtype(getattr(torch, dtype))
        CONFIG._attn_implementation = attention
        try:
            # Of the meta device alone sdpa would write the scores out, which no kernel of a card
            # does.
            with FakeTensorMode():
                model = Qwen2ForCausalLM._from_config(CONFIG, attn_implementation=attention).eval()
                resting = resting_gib(model)
                with (
                    suppress(TooMuch),
                    torch.no_grad(),  # inference_mode would hide what composite operators do inside
                    Requests((CAPACITY - resting) * GIB) as requests,
                ):
                    model(torch.zeros(1, n, dtype=torch.long), use_cache=True)
        finally:  # a notebook goes on after an interrupt
            torch.set_default_dtype(default)
        # Of the requests of 6.44 GiB within one layer (no operator twice): the one that comes
        # nearest to 13.90.
        alike = [event for event in requests.events if abs(event[1] / GIB - ASKED) < 0.005]
        alike = alike[
            : next(
                (
                    i
                    for i, event in enumerate(alike)
                    if event[0] in [earlier[0] for earlier in alike[:i]]
                ),
                None,
            )
        ]
        found = min(
            alike, key=lambda event: abs(resting + event[2] / GIB - ALLOCATED), default=None
        )
        row = {
            "hypothesis": what,
            "attention": attention,
            "dtype": dtype,
            "length": n,
            "resting_gib": resting,
        }
        if found:
            row |= {"of_that_size": [(op, round(resting + live / GIB, 2)) for op, _, live in alike]}
            row |= {
                "operator": found[0],
                "requested_gib": found[1] / GIB,
                "allocated_gib": resting + found[2] / GIB,
            }
            row["residual_gib"] = row["allocated_gib"] - ALLOCATED
        rows.append(row)
    rows.sort(key=lambda row: abs(row.get("residual_gib", 99)))
    return {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "asked_gib": ASKED,
        "allocated_gib": ALLOCATED,
        "rows": rows,
    }


if __name__ == "__main__":
    with open(sys.argv[1], "w") as file:
        json.dump(trace(), file, indent=1)
        file.write("\n")
