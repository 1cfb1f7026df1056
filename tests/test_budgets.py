"""Every chapter of every GPU profile fits the card that its comment names, by forecast."""

import pytest

from helpers import ROOT, InputError, memory, models, out_of_memory, profiles

CONFIGS = {
    "yi-6b": "Yi-6B",
    "qwen1.5-1.8b": "Qwen1.5-1.8B",
    "qwen3-0.6b": "Qwen3-0.6B-Base",
    "baichuan2-7b": "Baichuan2-7B-Base",
}
TOKENS_AT_ONCE = 4096
"""Of a batch that is asked; see scoring.ask_in_batches."""


def card(name):
    """GiB of the card that a profile's comment names, less what is set aside for CUDA."""
    comment = (ROOT / "profiles" / f"{name}.yml").read_text(encoding="utf-8")
    return (16 if "16 GB" in comment else 24) * 1e9 / memory.GIB - memory.ASIDE_GIB


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("chapter", [2, 3, 5, 8])
def test_reading_chapters_fit(name, chapter):
    profile, config = profiles.read_profile(name), out_of_memory.recorded_config(CONFIGS[name])
    length = profile.values["max_length"]
    batch = max(1, TOKENS_AT_ONCE // length)
    assert 0 < memory.chapter_needs(config, chapter, length, batch) <= card(name)
    assert f"chapter {chapter} needs" in memory.check_chapter(
        config, chapter, length, batch, budget=card(name)
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_the_training_chapter_fits_every_setting(name):
    profile, config = profiles.read_profile(name), out_of_memory.recorded_config(CONFIGS[name])
    for setting in profile.settings:
        given = profile.training_parameters(setting)
        needs = memory.chapter_needs(
            config,
            4,
            given["max_length"],
            given["batch_size"],
            rank=given["rank"],
            checkpointing=given["swift_arguments"]["gradient_checkpointing"],
        )
        assert needs <= card(name)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_chapter_on_memory_picks_lengths_that_fit(name):
    profile, config = profiles.read_profile(name), out_of_memory.recorded_config(CONFIGS[name])
    lengths, line = memory.pick_lengths(config, profile.values["memory"]["lengths"], card(name))
    assert memory.chapter_needs(config, 6, max(lengths)) <= card(name)
    assert line and "\n" not in line


def test_a_chapter_without_room_stops_with_what_would_help():
    config = models.load_config(models.PACKAGED)
    with pytest.raises(InputError, match=r"what would help: .*smaller model") as error:
        memory.check_chapter(config, 5, 2048, 2, budget=0.7)
    assert "\n" not in str(error.value)
    assert memory.chapter_needs(config, 1) == memory.chapter_needs(config, 7) == 0
    with pytest.raises(InputError, match="there is no chapter 9"):
        memory.chapter_needs(config, 9)
