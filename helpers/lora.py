"""LoRA on one real matrix: choose and read it, count an adapter's weights, make a correction to
learn.
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from helpers import InputError
from helpers.budgets import CORNER
from helpers.files import read_json
from helpers.models import find_model, load_config, trusts


class Matrix(NamedTuple):
    """One linear layer of a model, or the corner of one, in full precision."""

    name: str
    """The layer's name, such as "model.layers.9.mlp.up_proj"."""
    weight: torch.Tensor
    """d_out × d_in."""
    bias: torch.Tensor | None
    """d_out, where the layer has one."""


def empty_model(model: str):
    """A model that has all of its shapes but no contents, and takes next to no memory.

    Args:
        model: see models.find_model.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(load_config(model), trust_remote_code=trusts(model))


def linear_layers(network) -> dict[str, tuple[int, int]]:
    """The shapes (d_out, d_in) of a model's linear layers by name, without its output matrix.

    Args:
        network: a causal language model.
    """
    output = network.get_output_embeddings()
    return {
        name: tuple(layer.weight.shape)
        for name, layer in network.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not output
    }


def choose_layer(layers: dict, layer: str | None = None) -> str:
    """The name of the layer to take apart.

    Args:
        layers: by name; see `linear_layers`.
        layer: one of these names; None chooses the middle up_proj, or else the middle layer.

    Raises:
        InputError: when there is no such layer.
    """
    if not layers:
        raise InputError("this model's blocks hold no linear layer that LoRA could stand beside")
    if layer is None:
        middle = [name for name in layers if name.endswith(".up_proj")] or list(layers)
        return middle[len(middle) // 2]
    if layer not in layers:
        raise InputError(
            f"layer {layer!r} is none of this model's {len(layers)} linear layers; "
            f"some of them: {', '.join(list(layers)[:3])}"
        )
    return layer


def read_matrix(model: str, name: str, corner: int = CORNER) -> Matrix:
    """One linear layer out of a model's files; nothing else of the model is read.

    Where the weights are not in safetensors, the whole model is loaded once, as it was saved.

    Args:
        model: see models.find_model.
        name: of the layer.
        corner: the most rows and columns to read.
    """
    folder = Path(find_model(model))
    weight = read_tensor(folder, f"{name}.weight", corner)
    if weight is not None:
        return Matrix(name, weight, read_tensor(folder, f"{name}.bias", corner))
    from transformers import AutoModelForCausalLM

    options = {"dtype": "auto", "trust_remote_code": trusts(model)}
    layer = AutoModelForCausalLM.from_pretrained(folder, **options).get_submodule(name)
    values = [layer.weight[:corner, :corner], None if layer.bias is None else layer.bias[:corner]]
    # copies, so that the rest of the model can be freed
    return Matrix(name, *(None if v is None else v.detach().float().clone() for v in values))


def read_tensor(folder: Path, name: str, corner: int) -> torch.Tensor | None:
    """A corner of a tensor, read from safetensors; None where no file holds the tensor."""
    from safetensors import safe_open

    file = file_of(folder, name)
    if file is None:
        return None
    with safe_open(file, "pt") as saved:
        part = saved.get_slice(name)
        return part[(slice(corner),) * len(part.get_shape())].float()


def file_of(folder: Path, tensor: str) -> Path | None:
    """The safetensors file in a model's folder that holds a tensor; None where none does."""
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        name = read_json(index)["weight_map"].get(tensor)
        return folder / name if name else None
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as saved:
            if tensor in saved.keys():
                return file
    return None


def lies_alone(model: str, name: str) -> bool:
    """Whether a layer's matrix can be read by itself; else the whole model is loaded once.

    Args:
        model: see models.find_model.
        name: of the layer.
    """
    return file_of(Path(find_model(model)), f"{name}.weight") is not None


def peft_layer(matrix: Matrix, **choices):
    """peft's own LoRA layer on the same matrix, untrained.

    Args:
        matrix: the frozen layer.
        **choices: arguments of peft's LoraConfig, such as r, lora_alpha, use_rslora.

    Returns:
        peft's layer; it has lora_A, lora_B, scaling and merge.
    """
    from peft import LoraConfig, get_peft_model

    d_out, d_in = matrix.weight.shape
    with torch.device("meta"):  # the contents follow below
        linear = torch.nn.Linear(d_in, d_out, bias=matrix.bias is not None)
    # a copy of the weight, because merging writes into it
    values = {"weight": matrix.weight.clone(), "bias": matrix.bias}
    linear.load_state_dict({k: v for k, v in values.items() if v is not None}, assign=True)
    holder = torch.nn.Sequential()
    holder.add_module("layer", linear)
    return get_peft_model(holder, LoraConfig(target_modules=["layer"], **choices)).model.layer


def layer_choices(layers: dict) -> dict[str, list[str]]:
    """Three choices of layers that fit any model's names: attention, MLP, all linear.

    Args:
        layers: by name; see `linear_layers`.

    Returns:
        Names of layers by choice; a choice without any layer is left out.
    """
    attention = [name for name in layers if "attn" in name or "attention" in name]
    others = [name for name in layers if name not in attention]
    choices = {"attention": attention, "MLP": others, "all linear": list(layers)}
    return {choice: names for choice, names in choices.items() if names}


def weights_by_formula(layers: dict, names: list[str], rank: int) -> int:
    """The number of trained weights of an adapter: r (d_in + d_out), summed over its layers.

    Args:
        layers: shapes by name.
        names: of the layers that get a correction.
        rank: of each correction.
    """
    return rank * sum(sum(layers[name]) for name in names)


def weights_by_peft(model: str, names: list[str], rank: int) -> int:
    """The same number as `weights_by_formula`, counted by peft on a model without contents.

    Args:
        model: see models.find_model.
        names: of the layers that get a correction.
        rank: of each correction.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, target_modules=names)
    adapted = get_peft_model(empty_model(model), config, low_cpu_mem_usage=True)
    return sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)


def size_table(layers: dict, total: int, ranks: tuple[int, ...] = (4, 8, 16, 64)) -> pd.DataFrame:
    """The sizes of adapters of several ranks on several choices of layers.

    Args:
        layers: shapes by name.
        total: weights of the whole model.
        ranks: to compare.

    Returns:
        A row for each choice and rank: millions of weights, their share of the model in per cent,
        and MiB of their gradients and Adam's two moments (twelve bytes for each weight).
    """
    lines = {}
    for choice, names in layer_choices(layers).items():
        for rank in ranks:
            n = weights_by_formula(layers, names, rank)
            lines[choice, rank] = {
                "million weights": n / 1e6,
                "of the model, %": 100 * n / total,
                "gradients and moments, MiB": 12 * n / 2**20,
            }
    return pd.DataFrame(lines).T.rename_axis(["layers", "r"])


class HiddenCorrection(NamedTuple):
    """A correction of low rank that a layer is to learn from inputs and outputs alone."""

    left: torch.Tensor
    """d_out × rank."""
    right: torch.Tensor
    """rank × d_in."""
    energy: torch.Tensor
    """The share of each direction in the correction's energy, largest first; sums to 1."""

    def of(self, x: torch.Tensor) -> torch.Tensor:
        """What the correction adds to a layer's output, rows × d_out; its mean square is 1.

        Args:
            x: inputs, rows × d_in.
        """
        return (x @ self.right.T) @ self.left.T

    @torch.no_grad()
    def missed(self, a: torch.Tensor, b: torch.Tensor, scale: float) -> float:
        """The share of the correction that scale · B A misses, 1 for B = 0.

        No product of full size is formed.

        Args:
            a: rank × d_in.
            b: d_out × rank.
            scale: the factor of the product.
        """
        right, left = torch.cat([self.right, a]), torch.cat([self.left, -scale * b], dim=1)
        difference = torch.linalg.qr(left.double())[1] @ torch.linalg.qr(right.T.double())[1].T
        return float(difference.square().sum() / self.left.double().square().sum())

    def floor(self, rank: int) -> float:
        """The least share that any correction of this rank must miss (Eckart and Young).

        Args:
            rank: of the correction that is learned.
        """
        return float(self.energy[rank:].sum())


def hidden_correction(
    d_out: int, d_in: int, strengths: tuple[float, ...] = (4, 3, 2, 1), seed: int = 0
) -> HiddenCorrection:
    """A random correction that has one direction for each strength.

    Args:
        d_out: rows.
        d_in: columns.
        strengths: the singular values, up to a common factor.
        seed: of the directions.
    """
    draw, rank = torch.Generator().manual_seed(seed), len(strengths)
    left = torch.linalg.qr(torch.randn(d_out, rank, generator=draw))[0]
    right = torch.linalg.qr(torch.randn(d_in, rank, generator=draw))[0].T
    values = torch.tensor(strengths).sort(descending=True).values.float()
    energy = values**2 / (values**2).sum()
    # for a row x of independent numbers, right x has a mean square of 1 in each direction, so that
    # outputs have a mean square of 1
    return HiddenCorrection(left * (d_out * energy).sqrt(), right, energy)
