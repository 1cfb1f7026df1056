"""Say how long a book will take on this machine: `python -m tools.expect sample`.

The rate at which this machine multiplies matrices is measured for a second; the profile says how
many tokens are learned from and read. What share of that rate training and asking reach, and how
long a notebook takes to start, was measured once (benchmarks/, two cores).
"""

import json
import sys
import time

import torch

from helpers import InputError, models, profiles

TRAINING_SHARE, ASKING_SHARE = 0.45, 0.8
"""Of the product rate, reached by a training step and by a pass over prompts."""
START_SECONDS = 20
"""For a notebook's kernel, its imports and the tokenizer, on one core."""


def product_rate(dtype: str, seconds: float = 1.0) -> float:
    """Floating-point operations a second in a product of 2048 × 2048 matrices.

    Args:
        dtype: a torch type's name.
        seconds: how long to measure.
    """
    left = torch.randn(2048, 2048).to(getattr(torch, dtype))
    left @ left  # the first one sets up
    times, started = [], time.perf_counter()
    while time.perf_counter() - started < seconds or not times:
        begun = time.perf_counter()
        left @ left
        times.append(time.perf_counter() - begun)
    return 2 * 2048**3 / sorted(times)[len(times) // 2]


def operations_a_token(config: dict) -> float:
    """Operations of a forward pass for one token, the output matrix left out.

    Args:
        config: the content of a model's config.json.
    """
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or hidden // heads
    shared = config.get("num_key_value_heads") or heads
    layer = 2 * hidden * size * (heads + shared) + 3 * hidden * inner
    return 2.0 * config["num_hidden_layers"] * layer


def expected_minutes(profile: profiles.Profile, rate: float, config: dict) -> float:
    """Minutes that a profile's book takes, as far as its products decide it.

    Args:
        profile: what is trained and asked.
        rate: operations a second; see `product_rate`.
        config: the content of the model's config.json.
    """
    values, once = profile.values, operations_a_token(config)
    settings = [profile.training_parameters(name) for name in profile.settings]
    rows = values["data"]
    # every model is asked about the test rows, the tuned ones about the validation rows, too
    questions = (rows.get("test_limit") or 1000) * 1.3 + (rows.get("val_limit") or 60)
    entrants = len(settings) + len(profile.base_names)
    learned = sum(
        (setting.get("steps") or 100) * setting.get("rows_per_step", 4) * setting["max_length"]
        for setting in settings
    )
    read = questions * entrants * values["max_length"] * 1.2
    # forward and backward for the inputs of frozen layers: twice a forward pass
    seconds = 2 * learned * once / (TRAINING_SHARE * rate) + read * once / (ASKING_SHARE * rate)
    return (seconds + START_SECONDS * (7 + 2 * len(settings)) + 60) / 60


def main() -> None:
    try:
        profile = profiles.read_profile(sys.argv[1])
    except InputError as error:
        sys.exit(str(error))
    cores = torch.get_num_threads()
    if torch.cuda.is_available() or profile.values["model"] != models.PACKAGED:
        print(f"▶ {profile.values['title']}: how long it takes here is not known")
        return
    rate = product_rate(models.pick_dtype())
    config = models.packaged_model() / "config.json"
    minutes = expected_minutes(profile, rate, json.loads(config.read_text(encoding="utf-8")))
    print(
        f"▶ {profile.values['title']}: about {minutes:.0f} minutes when all is to be made "
        f"({cores} cores, {rate / 1e12:.2f} TFLOP/s in {models.pick_dtype()})",
        flush=True,
    )


if __name__ == "__main__":
    main()
