"""By forecast, every chapter of every GPU profile fits the card that its comment names; chapters
that really run under too small a budget give way, or stop and say what would help.
"""

import json
import re
import resource
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import GPU_PROFILES, run_cells
from transformers import AutoConfig

from helpers import (
    ROOT,
    InputError,
    budgets,
    estimates,
    files,
    memory,
    models,
    out_of_memory,
    profiles,
    templating,
)
from tools import ask

GPU = {"dtype": "bfloat16"}
"""The type that such a card computes in, whatever this machine's is."""


def card(name):
    """GiB of the card that a profile's comment names, without what is set aside for CUDA."""
    comment = (ROOT / "profiles" / f"{name}.yml").read_text(encoding="utf-8")
    return (16 if "16 GB" in comment else 24) * 1e9 / memory.GIB - budgets.ASIDE_GIB


@pytest.mark.parametrize("name", GPU_PROFILES)
@pytest.mark.parametrize("chapter", [2, 3, 5, 8])
def test_reading_chapters_fit(name, chapter):
    profile, config = profiles.read_profile(name), models.recorded_config(GPU_PROFILES[name])
    length = profile.values["max_length"]
    batch = max(1, budgets.TOKENS_AT_ONCE // length)
    assert 0 < budgets.chapter_needs(config, chapter, length, batch, **GPU) <= card(name)
    line = budgets.check_chapter(config, chapter, length, budget=card(name), **GPU)
    assert f"chapter {chapter} needs" in line and "in place of" not in line


@pytest.mark.parametrize("name", GPU_PROFILES)
def test_the_chapter_on_lora_fits_even_where_it_must_load_all_weights(name):
    config = models.recorded_config(GPU_PROFILES[name])
    alone, whole = (
        budgets.chapter_needs(config, 3, in_safetensors=known, **GPU) for known in (True, False)
    )
    assert alone < 0.5
    assert whole - alone == pytest.approx(estimates.estimate(config, 1)["weights"])
    assert whole <= card(name)


@pytest.mark.parametrize("name", GPU_PROFILES)
def test_the_training_chapter_fits_every_setting(name):
    profile, config = profiles.read_profile(name), models.recorded_config(GPU_PROFILES[name])
    for setting in profile.settings:
        given = profile.training_parameters(setting)
        needs = budgets.chapter_needs(
            config,
            4,
            given["max_length"],
            given["batch_size"],
            rank=given["rank"],
            checkpointing=given["swift_arguments"]["gradient_checkpointing"],
            **GPU,
        )
        assert needs <= card(name)


@pytest.mark.parametrize("name", GPU_PROFILES)
def test_the_chapter_on_memory_picks_lengths_that_fit(name):
    profile, config = profiles.read_profile(name), models.recorded_config(GPU_PROFILES[name])
    wanted = profile.values["memory"]["lengths"]
    lengths, line = budgets.pick_lengths(config, wanted, card(name), **GPU)
    assert budgets.chapter_needs(config, 6, max(lengths), **GPU) <= card(name)
    assert line and "\n" not in line


def test_a_chapter_without_room_stops_with_what_would_help():
    config = models.load_config(models.PACKAGED)
    with pytest.raises(InputError, match=r"what would help: .*smaller model") as error:
        budgets.check_chapter(config, 5, 2048, 2, budget=0.7)
    assert "\n" not in str(error.value)
    assert budgets.chapter_needs(config, 1) == budgets.chapter_needs(config, 7) == 0
    with pytest.raises(InputError, match="there is no chapter 9"):
        budgets.chapter_needs(config, 9)


def test_a_forecast_counts_in_what_this_machine_computes_in(monkeypatch):
    config = models.load_config(models.PACKAGED)
    for dtype in ("float32", "bfloat16"):
        monkeypatch.setattr(budgets, "pick_dtype", lambda dtype=dtype: dtype)
        for chapter in (2, 3, 5, 6, 8):
            wanted = budgets.chapter_needs(config, chapter, 256, dtype=dtype)
            assert budgets.chapter_needs(config, chapter, 256) == wanted
        weights = estimates.estimate(config, 1, dtype=dtype)["weights"]
        assert f"the weights of this one take {weights:.1f}" in budgets.no_room(config, 5, 9, 1, [])


def test_fewer_rows_are_asked_at_once_where_more_do_not_fit():
    config = models.load_config(models.PACKAGED)
    one, sixteen = (budgets.chapter_needs(config, 5, 256, rows, **GPU) for rows in (1, 16))
    line = budgets.check_chapter(config, 5, 256, budget=sixteen, **GPU)
    assert line == f"chapter 5 needs about {sixteen:.1f} GiB; {sixteen:.1f} are free"
    line = budgets.check_chapter(config, 5, 256, budget=(one + sixteen) / 2, **GPU)
    assert "so it asks about 8 rows at once in place of 16" in line
    with pytest.raises(InputError, match="chapter 5 needs about"):
        budgets.check_chapter(config, 5, 256, budget=one * 0.9, **GPU)


def test_long_lists_of_options_are_forecast_and_fewer_rows_asked():
    """The numbers come from a trace of 16 rows of 256 tokens, with 64 and with 316 nodes a row."""
    config = models.load_config(models.PACKAGED)
    few, many = (budgets.chapter_needs(config, 5, 256, 16, nodes=n, **GPU) for n in (64, 316))
    assert few == budgets.chapter_needs(config, 5, 256, 16, nodes=2, **GPU) < 1.25
    assert few == budgets.chapter_needs(config, 5, 256, 16, **GPU)
    assert 3.43 <= many < 1.1 * 3.43
    line = budgets.check_chapter(config, 5, 256, budget=few * 1.5, nodes=316, **GPU)
    assert "rows at once in place of 16" in line
    with pytest.raises(InputError, match="fewer options a row: ") as error:
        budgets.check_chapter(config, 5, 256, budget=few * 0.7, nodes=316, **GPU)
    with pytest.raises(InputError) as other:
        budgets.check_chapter(config, 5, 256, budget=0.3, **GPU)
    assert "fewer options" not in str(other.value) and "\n" not in str(error.value)


def test_what_the_chapter_on_memory_measures_is_what_was_forecast():
    """The step that its profile would do, on a small model in two bytes with adapters in four."""
    shape = {
        "hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 2000,
    }  # fmt: skip
    config = AutoConfig.for_model("qwen3", **shape)
    network = memory.build_on_meta(config, "bfloat16", "sdpa").to_empty(device="cpu").eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    grid = out_of_memory.growth(network, [5] * 256, [256]).set_index("way")["peak_gib"]
    before = ("weights", "adapters", "optimizer")
    for way, choices in {
        "training step": {"training": True},
        "inference, naive": {"last_only": False},
        "inference, eager attention": {"attention": "eager"},
    }.items():
        parts = memory.forecast(config, 256, **choices)
        expected = parts["total"] - sum(parts[part] for part in before)
        # the forecast also counts the mask of a padded batch
        assert 0.85 * expected < grid[way] < 1.05 * expected, way
    assert not any("lora" in name for name, _ in network.named_modules())


def run_chapter(chapter, parameters, folder, data_gib=None):
    """Really run a notebook; return its exit status, what it printed, and the executed notebook.

    Args:
        chapter: one of CHAPTERS.
        parameters: of the notebook.
        folder: gets the executed notebook.
        data_gib: the memory of its own that each process may hold, as set by `ulimit -d`.
    """
    target = folder / f"{chapter}.ipynb"

    def restrict():
        limit = int(data_gib * memory.GIB)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    command = [sys.executable, "-m", "helpers.notebooks", f"notebooks/{chapter}.ipynb", str(target)]
    done = subprocess.run(
        [*command, "--parameters", json.dumps(parameters)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=restrict if data_gib else None,
    )
    return done.returncode, done.stdout + done.stderr, target


@pytest.fixture(scope="module")
def run(tmp_path_factory, sample):
    """The folder of a run with a few rows that are split already."""
    folder = tmp_path_factory.mktemp("run")
    long = sorted(sample["train"], key=lambda row: -len(row["text"]))
    for split, rows in (("train", long[:6]), ("val", long[6:8]), ("test", long[8:10])):
        named = [
            {"id": f"{split}-{place}", "source_id": None, **row} for place, row in enumerate(rows)
        ]
        files.write_jsonl(folder / "data" / f"{split}.jsonl", named)
    return folder


@pytest.mark.parametrize("chapter", ["04-training", "06-out-of-memory"])
def test_every_chapter_leaves_room_for_python(chapter, run, monkeypatch, capsys):
    """ASIDE_GIB is taken from what is free, as the page on clusters says; for the other chapters,
    `check_chapter` does so.
    """
    monkeypatch.setattr(budgets, "available_gib", lambda: budgets.ASIDE_GIB + 0.3)
    with pytest.raises(InputError, match=r" and 0\.3 are free; what would help: "):
        run_cells(chapter, run_dir=str(run))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_no_chapter_counts_what_is_free_by_itself(path):
    assert not re.search("available_gib|available_bytes", path.read_text(encoding="utf-8"))


def test_a_limit_of_the_shell_is_part_of_what_is_free(monkeypatch):
    """In new processes and with 64 GiB free, because this process holds whatever ran before."""
    code = (
        "from types import SimpleNamespace\n"
        "from helpers import machine\n"
        "machine.psutil.virtual_memory = lambda: SimpleNamespace(available=64 * 2**30)\n"
        "machine.group_bytes = lambda: []\n"
        "print(machine.available_bytes())"
    )
    free = {}
    for limit in (3.0, None):

        def restrict(limit=limit):
            if limit:
                size = int(limit * memory.GIB)
                resource.setrlimit(resource.RLIMIT_DATA, (size, size))

        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
            preexec_fn=restrict,
        )  # fmt: skip
        free[limit] = int(done.stdout)
    assert 2 < free[3.0] / memory.GIB < 3 and free[None] == 64 * memory.GIB
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(budgets, "available_bytes", lambda: free[3.0])
    assert budgets.available_gib() == free[3.0] / memory.GIB


def test_asking_ahead_of_the_chapter_stops_where_the_chapter_would(run, tmp_path, monkeypatch):
    shutil.copytree(run / "data", tmp_path / "tiny" / "data")
    monkeypatch.setattr(sys, "argv", ["ask", str(tmp_path / "tiny"), "base-plain"])
    monkeypatch.setattr(budgets, "available_gib", lambda: budgets.ASIDE_GIB + 0.1)
    monkeypatch.delenv("BOOK_FAILURES", raising=False)
    asked = []
    monkeypatch.setattr(ask.asking, "answers", lambda *given: asked.append(given))
    with pytest.raises(SystemExit, match=r"^✗ base-plain: chapter 5 needs about .* help: "):
        ask.main()
    assert not asked
    monkeypatch.setattr(budgets, "available_gib", lambda: 1000.0)
    ask.main()
    assert asked


def test_the_chapter_on_memory_gives_way_and_ends(run, tmp_path):
    """There is room for the packaged model and a short row, so longer rows are left out."""
    config, dtype = models.load_config(models.PACKAGED), models.pick_dtype()
    short, long = (budgets.chapter_needs(config, 6, n, dtype=dtype) for n in (64, 1024))
    parameters = {"run_dir": str(run), "lengths": [64, 1024], "memory_gib": (short + long) / 2}
    code, printed, notebook = run_chapter("06-out-of-memory", parameters, tmp_path)
    assert code == 0, printed
    assert "up to 64 tokens, chapter 6 needs about" in printed
    assert "(left out, for want of memory: 1,024 tokens)" in printed
    report = json.loads((run / "memory" / "report.json").read_text(encoding="utf-8"))
    assert {line["tokens"] for line in report["grid"]} == {64}
    # the measured peak is what the forecast said
    assert max(line["peak_gib"] for line in report["grid"]) < (short + long) / 2
    assert notebook.is_file()


def test_the_chapter_on_memory_without_any_room_stops_with_what_would_help(run, tmp_path):
    shutil.copytree(run / "data", tmp_path / "data")
    with pytest.raises(InputError, match=r"^chapter 6 needs about .*; what would help: ") as error:
        run_cells("06-out-of-memory", run_dir=str(tmp_path), memory_gib=0.3)
    assert "0.3 are free" in str(error.value) and "a smaller model" in str(error.value)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_training_chapter_without_room_stops_before_it_starts(run, monkeypatch):
    """Eight long rows at once do not fit."""
    parameters = {
        "run_dir": str(run), "setting": "wide", "max_length": 2048, "batch_size": 8,
        "rows_per_step": 8, "steps": 1, "evaluations": 1,
    }  # fmt: skip
    monkeypatch.setattr(budgets, "available_gib", lambda: budgets.ASIDE_GIB + 2.5)
    with pytest.raises(InputError, match=r"^a step needs about .* and 2\.5 are free; ") as error:
        run_cells("04-training", **parameters)
    said = str(error.value)
    assert "\n" not in said and "what would help: max_length" in said
    assert "batch_size 1: " in said and "gradient_checkpointing True: " in said
    assert not (run / "train").exists()


def test_the_chapter_on_own_articles_without_room_stops_with_what_would_help(
    run, tmp_path, draw_adapter
):
    """The notebook really runs, in a process of its own that has to read its limit."""
    own = templating.PromptFormat(templating.PLAIN, 2048, True)
    draw_adapter(run / "train" / "s", own, ["Art", "Law"], r=2)
    parameters = {"run_dir": str(run), "adapter": str(run / "train" / "s" / "adapter")}
    code, printed, _ = run_chapter("08-classify-your-articles", parameters, tmp_path, data_gib=1.6)
    assert code == 1 and not (run / "answers").exists() and not list(tmp_path.iterdir())
    last = printed.strip().splitlines()[-1]
    assert last.startswith("✗ 08-classify-your-articles: chapter 8 needs about")
    assert "are free; what would help:" in last
