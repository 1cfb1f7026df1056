"""How long a book will take: what makes it take longer, and by how much at most."""

import json

import pytest

from helpers import InputError, models, profiles
from tools import expect


@pytest.fixture(scope="module")
def minutes():
    """minutes(profile, rate, …) forecasts with the packaged model's configuration."""
    config = json.loads((models.packaged_model() / "config.json").read_text(encoding="utf-8"))

    def of(name, rate, cores=2, number_bytes=2):
        return expect.expected_minutes(
            profiles.read_profile(name), rate, config, cores, number_bytes
        )

    return of


def test_operations_of_a_token_are_those_of_its_products():
    config = {
        "hidden_size": 4, "intermediate_size": 10, "num_attention_heads": 2, "head_dim": 3,
        "num_key_value_heads": 1, "num_hidden_layers": 5,
    }  # fmt: skip
    # a layer has query 4 × 6, key and value 4 × 3 each, output 6 × 4, and three of 4 × 10
    assert expect.operations_a_token(config) == 2 * 5 * (24 + 24 + 24 + 120)


def test_a_faster_product_shortens_the_products_alone(minutes):
    times = [minutes("sample", rate) for rate in (0.2e12, 0.4e12, 0.8e12, 1e18, 1e21)]
    assert times == sorted(times, reverse=True)
    assert times[0] < 2 * times[1]
    assert times[3] == pytest.approx(times[4], rel=1e-3) and times[4] > 5


def test_wider_numbers_and_fewer_cores_take_longer(minutes):
    assert minutes("sample", 1e12) < minutes("sample", 1e12, number_bytes=4)
    assert minutes("sample", 1e12) < minutes("sample", 1e12, cores=1)


def test_profiles_stand_in_their_order(minutes):
    times = [minutes(name, 0.4e12) for name in ("tiny", "quick", "sample", "fudan")]
    assert times == sorted(times)


def test_a_small_file_of_ones_own_takes_less(minutes, monkeypatch, tmp_path):
    """Without limits, a thousand test rows are assumed, but never more than the file has lines."""
    before = minutes("fudan", 0.4e12)  # its source is on a hub
    times = []
    for lines in (40, 200, 5000):
        path = tmp_path / "articles.jsonl"
        path.write_text("{}\n" * lines)
        assert expect.rows_at_most([str(path)]) == lines
        monkeypatch.setattr(profiles, "local_files", lambda source, path=path: [str(path)])
        times.append(minutes("fudan", 0.4e12))
    assert times[0] < times[1] < times[2] == before
    assert expect.rows_at_most(["my.xlsx"]) == expect.rows_at_most([]) == expect.MANY_ROWS


def test_epochs_take_as_long_as_their_steps(minutes, monkeypatch, tmp_path):
    path = tmp_path / "articles.jsonl"
    path.write_text("{}\n" * 5000)
    times = []
    for lasts in (
        "steps: null, num_train_epochs: 1",
        "steps: 750",
        "steps: null, num_train_epochs: 2",
    ):
        (tmp_path / "own.yml").write_text(
            f"like: sample\ntitle: mine\nsource: {path}\ntraining: {{{lasts}}}\n"
        )
        (tmp_path / "sample.yml").write_text(
            (profiles.PROFILES / "sample.yml").read_text(encoding="utf-8")
        )
        with monkeypatch.context() as patch:
            patch.setattr(profiles, "PROFILES", tmp_path)
            times.append(minutes("own", 0.4e12))
    assert times[0] == pytest.approx(times[1]) and times[2] > 1.5 * times[0]  # 3,000 of 5,000 rows


def test_all_validation_rows_take_longer_than_some(minutes, monkeypatch):
    own, times = profiles.read_profile("sample"), []
    monkeypatch.setattr(profiles, "read_profile", lambda name: own)
    for limit in (20, 60, None):
        own.values["data"]["val_limit"] = limit
        times.append(minutes("sample", 0.4e12))
    assert times[0] < times[1] < times[2]


@pytest.mark.parametrize("profile", ["tiny", "yi-6b"])
def test_a_cache_that_cannot_be_written_is_one_line(profile, tmp_path, monkeypatch):
    """It is said before anything runs, for Snakemake uses it, too, and would show a traceback."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set XDG_CACHE_HOME to a folder that can") as error:
        expect.say_how_long(profile)
    assert "\n" not in str(error.value)


def test_the_sample_takes_what_it_took(minutes):
    """It took 10.4 minutes after the installation, on two cores with 0.94 TFLOP/s together.

    An earlier state took 23 to 25 minutes on two cores with 0.4, where none was measured since.
    """
    assert 9.5 < minutes("sample", 0.94e12) < 12.5
    assert 16 < minutes("sample", 0.4e12) < 24


def test_the_sample_takes_what_it_took_in_float32(minutes):
    """It took 35 minutes after the installation, on two cores with 0.23 TFLOP/s together and no
    products in bfloat16.
    """
    assert 31 < minutes("sample", 0.23e12, number_bytes=4) < 39
