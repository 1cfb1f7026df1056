"""What an adapter learned: how many directions its corrections have, and where they are large."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import InputError
from helpers.adapters import BASE_CHANGING, adapter_digest
from helpers.files import read_json

OUTSIDE = -1
"""The block number of a layer that belongs to no block, such as the output matrix."""


def left_out(folder: str | Path) -> str | None:
    """Why an adapter cannot be taken apart here, in one line; None where it can.

    Args:
        folder: the adapter's.

    Raises:
        InputError: when an adapter's file is missing.
    """
    config = read_config(folder)
    if config.get("peft_type", "LORA") != "LORA":
        return f"{config['peft_type']} is not LoRA: its correction is no product B A"
    if config.get("use_dora"):
        return "DoRA computes another formula: it also learns a length beside the correction"
    start = str(config.get("init_lora_weights"))
    if start.lower().startswith(BASE_CHANGING):
        return f"it began as {start}, so its product B A holds a part of the base model"
    return None


def adapter_spectra(folder: str | Path) -> np.ndarray:
    """Singular values of every correction scale · B A of a LoRA adapter.

    The values of a layer with a smaller rank than others end in zeros, as those of its correction
    do.

    Args:
        folder: the adapter's.

    Returns:
        layers × rank, largest first.

    Raises:
        InputError: when it is no plain LoRA (see `left_out`), or a file is missing.
    """
    values = [product_spectrum(a, b) * scale for _, a, b, scale in corrections(folder)]
    spectra = np.zeros((len(values), max(map(len, values))))
    for row, own in zip(spectra, values):
        row[: len(own)] = own
    return spectra


def layer_changes(folder: str | Path) -> pd.DataFrame:
    """How much a LoRA adapter changes a typical weight of each layer that it corrects.

    A norm grows with the number of entries of a matrix, so norms of large and small layers can
    hardly be compared. The root mean square of the entries can.

    Args:
        folder: the adapter's.

    Returns:
        Columns block (see OUTSIDE), module (such as "up_proj") and change: the correction's
        Frobenius norm over the root of the number of its entries.

    Raises:
        InputError: when it is no plain LoRA (see `left_out`), or a file is missing.
    """
    lines = []
    for layer, a, b, scale in corrections(folder):
        block = re.search(r"\.(\d+)\.", layer)
        norm = scale * float(np.linalg.norm(product_spectrum(a, b)))
        change = norm / (a.shape[1] * b.shape[0]) ** 0.5
        lines.append((int(block[1]) if block else OUTSIDE, layer.rsplit(".", 1)[-1], change))
    return pd.DataFrame(lines, columns=["block", "module", "change"])


def energy_share(spectra: np.ndarray, directions: int = 4) -> float:
    """Share of a correction's energy in its strongest directions, averaged over the layers.

    Args:
        spectra: layers × rank; a layer whose correction is zero does not count.
        directions: how many directions are taken.

    Returns:
        0 to 1; 0 where no layer has a correction.
    """
    energy = spectra[spectra.any(axis=1)] ** 2
    if not len(energy):
        return 0.0
    return float((energy[:, :directions].sum(axis=1) / energy.sum(axis=1)).mean())


def used_rank(spectra: np.ndarray, share: float = 0.9) -> int:
    """How many directions hold `share` of the energy, in the median layer.

    Args:
        spectra: layers × rank, largest first.
        share: of the sum of the squared singular values, 0 to 1.

    Returns:
        The (upper) median over layers; 0 where no layer has a correction.
    """
    energy = np.cumsum(spectra[spectra.any(axis=1)] ** 2, axis=1)
    if not len(energy):
        return 0
    missing = energy < share * energy[:, -1:] * (1 - 1e-12)  # layers × rank
    return int(np.sort(missing.sum(axis=1) + 1)[len(energy) // 2])


def relative_spectra(folders: dict[str, Path]) -> dict[str, np.ndarray]:
    """Singular values of several adapters, those of each layer divided by its largest one.

    An adapter that cannot be taken apart is left out, and a printed line says so.

    Args:
        folders: of the adapters, by name.

    Returns:
        For each name, layers × rank, with values of at most 1.
    """
    relative = {}
    for name, folder in folders.items():
        if reason := left_out(folder):
            print(f"{name} is left out here. {reason}.")
            continue
        spectra = adapter_spectra(folder)
        spectra = spectra[spectra.any(axis=1)]  # 0 / 0 says nothing
        relative[name] = spectra / spectra[:, :1]
    return relative


def corrections(folder: str | Path) -> list[tuple[str, np.ndarray, np.ndarray, float]]:
    """Layer, A (rank × d_in), B (d_out × rank) and scale of each correction, sorted by layer name.

    Args:
        folder: the adapter's.

    Raises:
        InputError: when it is no plain LoRA (see `left_out`), has no correction, or a file is
            missing.
    """
    from peft.utils.other import get_pattern_key
    from safetensors import safe_open

    if reason := left_out(folder):
        raise InputError(f"the adapter in {folder} cannot be taken apart: {reason}")
    config, end, layers = read_config(folder), ".lora_A.weight", []
    alphas = config.get("alpha_pattern") or {}
    with safe_open(Path(folder) / "adapter_model.safetensors", "pt") as saved:
        for name in sorted(name for name in saved.keys() if name.endswith(end)):
            layer = name.removesuffix(end).removeprefix("base_model.model.")
            a = saved.get_tensor(name).float().numpy()
            b = saved.get_tensor(name.replace("lora_A", "lora_B")).float().numpy()
            alpha = alphas.get(get_pattern_key(alphas, layer), config["lora_alpha"])
            rank = len(a)  # the layer's own, which may differ from others'
            layers.append((layer, a, b, alpha / rank ** (0.5 if config.get("use_rslora") else 1)))
    if not layers:
        raise InputError(f"the adapter in {folder} corrects no linear layer")
    return layers


def product_spectrum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Singular values of B A, computed from two small triangular matrices.

    With A' = Q R and B = P S, they are the singular values of S R'.

    Args:
        a: rank × d_in.
        b: d_out × rank.
    """
    right, left = np.linalg.qr(a.T)[1], np.linalg.qr(b)[1]
    return np.linalg.svd(left @ right.T, compute_uv=False)


def read_config(folder: str | Path) -> dict:
    """An adapter's adapter_config.json."""
    adapter_digest(folder)  # refuses a folder, naming the file that is missing
    return read_json(Path(folder) / "adapter_config.json")


def learned_figures(relative: dict[str, np.ndarray], changes: pd.DataFrame) -> dict:
    """The figures and words that the page of one training says about its adapter.

    Args:
        relative: of this adapter alone; see `relative_spectra`. Empty where it was left out.
        changes: see `layer_changes`; empty where it was left out.

    Returns:
        "energy" (of its four strongest directions, per cent), "used_rank", "strongest" (the kind of
        layer that was changed most), and the sentences "learned_words", which mention the four
        directions only if there are more.
    """
    spectra = next(iter(relative.values()), np.zeros((0, 0)))
    if not len(spectra) or changes.empty:
        words = "There is no correction here that we could take apart."
        return {"energy": float("nan"), "used_rank": 0, "strongest": "–", "learned_words": words}
    energy, used = 100 * energy_share(spectra), used_rank(spectra)
    strongest = str(changes.groupby("module")["change"].mean().idxmax())
    rank = spectra.shape[1]
    words = ""
    if rank > 4:
        words = (
            f"On average over the layers, the four strongest directions carry {energy:.0f} % of a "
            "correction's energy. "
        )
    words += (
        f"In at least half of the layers, {used} of {rank} directions hold 90 % of the energy. "
        f"The weights of the layers called {strongest} were changed most."
    )
    return {"energy": energy, "used_rank": used, "strongest": strongest, "learned_words": words}
