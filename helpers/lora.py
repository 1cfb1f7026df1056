"""LoRA on one real matrix: find it, read it alone, count weights, and a correction to learn."""

import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from helpers import InputError
from helpers.budgets import CORNER
from helpers.models import find_model, load_config, trusts


class Matrix(NamedTuple):
    """One linear layer of a model, or its corner, in full precision."""

    name: str
    """Of the layer, such as "model.layers.9.mlp.up_proj"."""
    weight: torch.Tensor
    """d_out × d_in."""
    bias: torch.Tensor | None
    """d_out, where the layer has one."""


def empty_model(model: str):
    """A model with all its shapes and no contents, in next to no memory.

    Args:
        model: see models.find_model.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(load_config(model), trust_remote_code=trusts(model))


def linear_layers(network) -> dict[str, tuple[int, int]]:
    """Shapes (d_out, d_in) of a model's linear layers by name, without its output matrix.

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
    """The layer to take apart.

    Args:
        layers: by name; see `linear_layers`.
        layer: a name of them; None chooses an up_proj in the middle, or the middle layer of all.

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

    Weights that do not lie in safetensors are loaded once, as they were saved.

    Args:
        model: see models.find_model.
        name: of the layer.
        corner: most rows and columns of it.
    """
    folder = Path(find_model(model))
    weight = read_tensor(folder, f"{name}.weight", corner)
    if weight is not None:
        return Matrix(name, weight, read_tensor(folder, f"{name}.bias", corner))
    from transformers import AutoModelForCausalLM

    options = {"dtype": "auto", "trust_remote_code": trusts(model)}
    layer = AutoModelForCausalLM.from_pretrained(folder, **options).get_submodule(name)
    values = [layer.weight[:corner, :corner], None if layer.bias is None else layer.bias[:corner]]
    # copies, so that the whole model can go
    return Matrix(name, *(None if v is None else v.detach().float().clone() for v in values))


def read_tensor(folder: Path, name: str, corner: int) -> torch.Tensor | None:
    """A tensor's first entries along each side, out of safetensors; None where no file holds it."""
    from safetensors import safe_open

    file = file_of(folder, name)
    if file is None:
        return None
    with safe_open(file, "pt") as saved:
        part = saved.get_slice(name)
        return part[(slice(corner),) * len(part.get_shape())].float()


def file_of(folder: Path, tensor: str) -> Path | None:
    """The safetensors file of a model's folder that holds a tensor; None where none does."""
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        name = json.loads(index.read_text(encoding="utf-8"))["weight_map"].get(tensor)
        return folder / name if name else None
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as saved:
            if tensor in saved.keys():
                return file
    return None


def lies_alone(model: str, name: str) -> bool:
    """Whether a layer's matrix can be read by itself; else all weights are loaded once.

    Args:
        model: see models.find_model.
        name: of the layer.
    """
    return file_of(Path(find_model(model)), f"{name}.weight") is not None


def peft_layer(matrix: Matrix, **choices):
    """peft's own LoRA layer on the same matrix, untrained.

    Args:
        matrix: the frozen layer.
        **choices: of peft's LoraConfig, such as r, lora_alpha, use_rslora.

    Returns:
        peft's layer; it has lora_A, lora_B, scaling and merge.
    """
    from peft import LoraConfig, get_peft_model

    d_out, d_in = matrix.weight.shape
    with torch.device("meta"):  # its contents follow
        linear = torch.nn.Linear(d_in, d_out, bias=matrix.bias is not None)
    values = {"weight": matrix.weight.clone(), "bias": matrix.bias}  # merging writes into it
    linear.load_state_dict({k: v for k, v in values.items() if v is not None}, assign=True)
    holder = torch.nn.Sequential()
    holder.add_module("layer", linear)
    return get_peft_model(holder, LoraConfig(target_modules=["layer"], **choices)).model.layer


def layer_choices(layers: dict) -> dict[str, list[str]]:
    """Three choices of layers that fit any model's names: attention, MLP, all linear.

    Args:
        layers: by name; see `linear_layers`.

    Returns:
        Names of layers by choice; a choice without any is not among them.
    """
    attention = [name for name in layers if "attn" in name or "attention" in name]
    others = [name for name in layers if name not in attention]
    choices = {"attention": attention, "MLP": others, "all linear": list(layers)}
    return {choice: names for choice, names in choices.items() if names}


def weights_by_formula(layers: dict, names: list[str], rank: int) -> int:
    """Trained weights of an adapter: r (d_in + d_out), summed over its layers.

    Args:
        layers: shapes by name.
        names: of the layers that get a correction.
        rank: of each correction.
    """
    return rank * sum(sum(layers[name]) for name in names)


def weights_by_peft(model: str, names: list[str], rank: int) -> int:
    """The same, counted by peft on a model without contents.

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
    """What adapters of several ranks on several choices of layers amount to.

    Args:
        layers: shapes by name.
        total: weights of the whole model.
        ranks: to compare.

    Returns:
        A row a choice and rank: millions of weights, their share in per cent, and MiB of their
        gradients and Adam's two moments, twelve bytes a weight.
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
    """Share of each direction in its energy, largest first; sums to 1."""

    def of(self, x: torch.Tensor) -> torch.Tensor:
        """What it adds to a layer's output, rows × d_out; its mean square is 1.

        Args:
            x: inputs, rows × d_in.
        """
        return (x @ self.right.T) @ self.left.T

    @torch.no_grad()
    def missed(self, a: torch.Tensor, b: torch.Tensor, scale: float) -> float:
        """The share of it that scale · B A misses, 1 for B = 0; no product of full size is made.

        Args:
            a: rank × d_in.
            b: d_out × rank.
            scale: of the product.
        """
        right, left = torch.cat([self.right, a]), torch.cat([self.left, -scale * b], dim=1)
        difference = torch.linalg.qr(left.double())[1] @ torch.linalg.qr(right.T.double())[1].T
        return float(difference.square().sum() / self.left.double().square().sum())

    def floor(self, rank: int) -> float:
        """The least share of it that a correction of this rank must miss (Eckart and Young).

        Args:
            rank: of the correction that learns.
        """
        return float(self.energy[rank:].sum())


def hidden_correction(
    d_out: int, d_in: int, strengths: tuple[float, ...] = (4, 3, 2, 1), seed: int = 0
) -> HiddenCorrection:
    """A random correction with one direction for each strength.

    Args:
        d_out: rows.
        d_in: columns.
        strengths: its singular values, up to a common factor.
        seed: of the directions.
    """
    draw, rank = torch.Generator().manual_seed(seed), len(strengths)
    left = torch.linalg.qr(torch.randn(d_out, rank, generator=draw))[0]
    right = torch.linalg.qr(torch.randn(d_in, rank, generator=draw))[0].T
    values = torch.tensor(strengths).sort(descending=True).values.float()
    energy = values**2 / (values**2).sum()
    # a row x of independent numbers has |right x|² of 1 a direction, so outputs get mean square 1
    return HiddenCorrection(left * (d_out * energy).sqrt(), right, energy)
