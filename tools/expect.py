"""Say how long a book will take on this machine: `python -m tools.expect sample`.

The rate at which this machine multiplies matrices is measured for a second; the profile says how
many tokens are learned from and read. A token costs the time of its matrix products and, on any
machine, the time to move its activations between them, which faster products do not shorten. Both
costs were fitted to epochs of the Fudan corpus on three machines (0.087 TFLOP/s a core in float32,
0.2 and 1.2 in bfloat16). They were lowered by hand twice, because the book has become faster since:
on a fourth machine (0.47 in bfloat16) the sample took 10.4 minutes where 11.5 are predicted. The
cost of moving in float32 was measured on a fifth machine (0.12 in float32), where the sample took
35 minutes. How long a notebook takes to start was measured on two cores.
"""

import sys
import time

import torch

from helpers import ROOT, InputError, models, profiles
from helpers.files import read_json
from helpers.parameters import defaults_of
from helpers.swift_arguments import total_steps

PRODUCT_SHARE = 0.8
"""The part of the measured rate that products reach in training and in a pass over prompts."""
TRAINING_MOVES, ASKING_MOVES = {2: 0.8e-3, 4: 2.2e-3}, {2: 0.15e-3, 4: 0.6e-3}
"""Seconds per token, on one core, for everything but matrix products, by the bytes of a number."""
MANY_ROWS = 1000
"""The most rows of a split that we assume to be asked about, and how many are learned from where
nothing says how many there are.
"""
START_SECONDS = 13
"""Seconds to start a notebook's kernel and to load its imports and the tokenizer, on one core."""


def product_rate(dtype: str) -> float:
    """Floating-point operations per second in a product of 2048 × 2048 matrices.

    Args:
        dtype: a torch type's name.
    """
    left = torch.randn(2048, 2048).to(getattr(torch, dtype))
    left @ left  # the first product sets things up, and is not timed
    times, started = [], time.perf_counter()
    while time.perf_counter() - started < 1 or not times:
        begun = time.perf_counter()
        left @ left
        times.append(time.perf_counter() - begun)
    return 2 * 2048**3 / sorted(times)[len(times) // 2]


def operations_a_token(config: dict) -> float:
    """Operations of a forward pass for one token, without the output matrix.

    Args:
        config: the content of a model's config.json.
    """
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or hidden // heads
    shared = config.get("num_key_value_heads") or heads
    layer = 2 * hidden * size * (heads + shared) + 3 * hidden * inner
    return 2.0 * config["num_hidden_layers"] * layer


def rows_at_most(files: list[str]) -> int:
    """How many rows a source's files hold at most, as far as their lines tell.

    Args:
        files: see profiles.local_files.

    Returns:
        The number of lines in all files; MANY_ROWS where rows are not lines or no file lies here.
    """
    lines = 0
    for path in map(ROOT.joinpath, files):
        if path.suffix not in (".jsonl", ".csv", ".tsv"):
            return MANY_ROWS
        with path.open("rb") as file:
            lines += sum(1 for _ in file)
    return lines or MANY_ROWS


def expected_minutes(
    profile: profiles.Profile, rate: float, config: dict, cores: int, number_bytes: int
) -> float:
    """Minutes that a profile's book takes.

    Args:
        profile: what is trained and asked.
        rate: operations per second of all cores together; see `product_rate`.
        config: the content of the model's config.json.
        cores: how many share the work.
        number_bytes: the size of one number of an activation, 2 in bfloat16 and 4 in float32.
    """
    values, once = profile.values, operations_a_token(config)
    settings = [profile.training_parameters(name) for name in profile.settings]
    rows, all_rows = values["data"], rows_at_most(profiles.local_files(values["source"]))
    most = min(all_rows, MANY_ROWS)
    shares = defaults_of(ROOT / "notebooks" / "01-dataset-exploration.ipynb") | rows
    held_out = shares["val_share"] + shares["test_share"]
    train_rows = min(rows.get("train_limit") or all_rows, max(1, round(all_rows * (1 - held_out))))
    # every model is asked about the test rows, the tuned ones about the validation rows, too
    questions = min(rows.get("test_limit") or most, most) * 1.3
    questions += min(rows.get("val_limit") or round(all_rows * shares["val_share"]), most)
    prompts = [*settings, *profile.bases.values()]
    asked, learned = questions * sum(prompt["max_length"] for prompt in prompts), 0  # tokens
    for setting in settings:
        a_step, extra = setting.get("rows_per_step", 4), dict(setting["swift_arguments"])
        steps = total_steps(setting.get("steps", 100), extra, train_rows, a_step)
        learned += steps * a_step * setting["max_length"]
        if setting.get("curve"):
            from helpers.curves import CURVE_ROWS, curve_steps  # slow to load

            asked += len(curve_steps(steps)) * CURVE_ROWS * setting["max_length"]
    read = asked * 1.2
    products = once / (PRODUCT_SHARE * rate)
    # a single training keeps its share of the cores and leaves the rest to other work
    at_once = min(values["side_by_side"]["notebooks"], cores)
    busy = min(at_once, len(settings)) / at_once
    # forward and backward for the inputs of frozen layers: twice a forward pass
    seconds = learned * (2 * products + TRAINING_MOVES[number_bytes] / cores) / busy
    seconds += read * (products + ASKING_MOVES[number_bytes] / cores)
    return (seconds + START_SECONDS * (7 + 2 * len(settings)) + 60) / 60


def say_how_long(name: str) -> None:
    """Print how long a profile's book takes here, after checking what would stop it at once.

    Args:
        name: of the profile.

    Raises:
        InputError: for a profile or a model that is not sound, or a cache that cannot be written.
    """
    profile = profiles.read_profile(name)
    models.refuse_closed(models.cache_dir().parent)  # Snakemake keeps files there, too
    cores = torch.get_num_threads()
    if torch.cuda.is_available() or profile.values["model"] != models.PACKAGED:
        print(f"▶ {profile.values['title']}: how long it takes here is not known")
        return
    dtype = models.pick_dtype()
    rate = product_rate(dtype)
    config = read_json(models.packaged_model() / "config.json")
    minutes = expected_minutes(profile, rate, config, cores, getattr(torch, dtype).itemsize)
    print(
        f"▶ {profile.values['title']}: about {minutes:.0f} minutes when all is to be made "
        f"({cores} core{'s' * (cores > 1)}, {rate / 1e12:.2f} TFLOP/s in {dtype})",
        flush=True,
    )


def main() -> None:
    try:
        say_how_long(sys.argv[1])
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
