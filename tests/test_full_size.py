"""Full-size runs: a model with random weights, a limit that holds, and a table for the page."""

import json
import re
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks import full_size
from helpers import budgets, estimates, models, profiles, sources
from tools import recorded

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 3000,
    "initializer_range": 0.05,
}


@pytest.mark.parametrize(
    ("kind", "tied"), [("llama", False), ("qwen2", False), ("qwen3", True)], ids=str
)
def test_a_drawn_model_is_whole(kind, tied, tmp_path, monkeypatch, qwen_tokenizer):
    """The files hold every weight and nothing else, and the tokenizer's ids fit the vocabulary."""
    monkeypatch.setattr(full_size.models, "qwen_tokenizer", lambda: qwen_tokenizer)
    config = AutoConfig.for_model(kind, **SHAPE, head_dim=8, tie_word_embeddings=tied)
    full_size.write_model(tmp_path / "model", config)
    network, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", dtype="auto", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert network.dtype == torch.bfloat16
    embedding = network.get_input_embeddings().weight
    assert embedding.float().std().item() == pytest.approx(0.05, rel=0.05)
    assert (network.get_output_embeddings().weight is embedding) == tied
    assert all((w == 1).all() for n, w in network.named_parameters() if n.endswith("norm.weight"))
    assert not any(w.any() for n, w in network.named_parameters() if n.endswith("bias"))
    # one file for each layer, so that the weights are never in memory twice
    assert len(list((tmp_path / "model").glob("*.safetensors"))) == 3 + 2 + (not tied)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    text = "市图书馆昨天下午举办读书会。\nABC <|endoftext|>"
    ids = tokenizer(text, split_special_tokens=True)["input_ids"]
    assert max(ids) < config.vocab_size and tokenizer.eos_token_id < config.vocab_size
    assert tokenizer.decode(ids) == text


def test_a_cut_vocabulary_is_the_first_part_of_the_whole(qwen_tokenizer):
    small = full_size.cut_tokenizer(qwen_tokenizer, 64_000)
    assert len(small) == 64_000
    assert full_size.cut_tokenizer(qwen_tokenizer, len(qwen_tokenizer)) is qwen_tokenizer
    text = "The news of the day: 新闻"
    whole, cut = (tokenizer(text)["input_ids"] for tokenizer in (qwen_tokenizer, small))
    assert len(cut) >= len(whole) and cut[:6] == whole[:6]  # common words have low ranks
    assert small.decode(cut) == text


def test_rows_are_the_samples_and_can_be_split(tmp_path):
    full_size.write_rows(tmp_path / "rows.jsonl")
    rows = list(sources.read_source(str(tmp_path / "rows.jsonl")).splits["train"])
    labels = [row["output"] for row in rows]
    assert len(rows) >= 20 and min(map(labels.count, labels)) >= 2
    assert min(len(row["text"]) for row in rows) > 1500


@pytest.mark.parametrize("name", full_size.CONFIGS)
def test_only_rows_and_steps_are_fewer_than_the_profiles(name, tmp_path):
    profile = profiles.read_profile(name)
    config = models.recorded_config(full_size.CONFIGS[name])
    assert estimates.estimate(config, 1)["weights"] + 1 < full_size.LIMIT_GIB
    for chapter in profiles.CHAPTERS:
        own = profile.parameters(chapter, "rank16")
        given = full_size.few_parameters(profile, chapter, "rank16", tmp_path, None)
        changed = {key for key in given if own.get(key) != given[key]}
        expected = {"run_dir", "model", "source", "settings", *full_size.FEW.get(chapter, {})}
        assert changed <= expected
    shorter = full_size.few_parameters(profile, "06-out-of-memory", "rank16", tmp_path, 300)
    assert shorter["lengths"] == [256]


@pytest.fixture
def memory_of_others_ignored(monkeypatch):
    """Otherwise a run would also end where other programs leave the machine too little memory."""
    monkeypatch.setattr(full_size, "LEFT_GIB", 0)


HOLD = "import time; held = b'x' * ({mib} * 2**20); time.sleep(1.5)"


@pytest.mark.usefixtures("memory_of_others_ignored")
def test_a_peak_is_what_the_processes_held(tmp_path):
    inner = HOLD.format(mib=200)
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    outcome = full_size.run_limited([sys.executable, "-c", code], 2.0, tmp_path / "log")
    assert outcome.ended == ""
    assert 200 / 1024 < outcome.process_gib < 240 / 1024
    assert outcome.process_gib <= outcome.peak_gib < 280 / 1024
    assert outcome.seconds > 1.5


@pytest.mark.usefixtures("memory_of_others_ignored")
def test_a_process_over_the_limit_fails(tmp_path):
    command = [sys.executable, "-c", HOLD.format(mib=600)]
    outcome = full_size.run_limited(command, 0.5, tmp_path / "log")
    assert "MemoryError" in outcome.ended and outcome.peak_gib < 0.5


@pytest.mark.usefixtures("memory_of_others_ignored")
def test_weights_mapped_from_a_file_count_once(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(300 * 2**18)}, tmp_path / "a.safetensors")  # 300 MiB
    load = "import sys, torch; from safetensors import safe_open; a = safe_open("
    load += "sys.argv[1], 'pt').get_slice('a')[...]; print(float(a.sum()))"
    command = [sys.executable, "-c", load, str(tmp_path / "a.safetensors")]
    fits = full_size.run_limited(command, 1.0, tmp_path / "log")
    assert fits.ended == "" and fits.process_gib > 300 / 1024
    assert full_size.run_limited(command, 0.4, tmp_path / "log").ended


@pytest.mark.usefixtures("memory_of_others_ignored")
def test_processes_that_are_too_large_together_are_stopped(tmp_path):
    inner = HOLD.format(mib=200)
    code = "import subprocess, sys; "
    code += f"[p.wait() for p in [subprocess.Popen([sys.executable, '-c', {inner!r}])"
    code += " for _ in range(3)]]"
    outcome = full_size.run_limited([sys.executable, "-c", code], 0.5, tmp_path / "log")
    assert outcome.ended.startswith("stopped: its processes together held 0.")
    assert outcome.process_gib < 0.3


def test_the_page_shows_what_was_measured_or_says_that_nothing_was(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "RESULTS", tmp_path / "results")
    assert "has not been run" in recorded.full_size_tables()
    line = {"chapter": 3, "forecast_gib": 1.5, "peak_gib": 2.0, "process_gib": 1.9, "seconds": 61.2}
    record = {
        "config": "Yi-6B", "weights_gib": 11.3, "setting": "rank16", "rank": 16, "max_length": 256,
        "own_max_length": 2048, "dtype": "bfloat16", "date": "2026-01-02", "machine": "a CPU",
        "python": "3.13.0", "versions": {"torch": "2"}, "chapters": [line],
    }  # fmt: skip
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "full-size.json").write_text(json.dumps({"yi-6b": record}))
    table = recorded.full_size_tables()
    assert "| 3 | 1.5 | 2.5 | 1.9 | -24 | 2.0 | 61 |" in table
    assert "at most 256 tokens in place of the profile's 2,048" in table
    assert "2026-01-02: a CPU" in table
    assert recorded.full_size_most().endswith("| yi-6b | 11.3 | 256 | 3 | 2.5 | 1.9 |")


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
def test_the_readmes_call_measured_what_was_measured(readme):
    kept = json.loads(full_size.RESULTS.read_text(encoding="utf-8"))
    text = " ".join((full_size.ROOT / readme).read_text(encoding="utf-8").split())
    mark = "calculated that it fits the card." if readme == "README.md" else "装进显卡是预测；"
    sentence = text.split(mark)[1].split("24 GB")[0]
    whole = {name for name, record in kept.items() if len(record["chapters"]) == 8}
    assert set(re.findall(r"`([\w.-]+)`", sentence)) == whole
    for record in kept.values():
        assert max(line["peak_gib"] for line in record["chapters"]) < full_size.LIMIT_GIB


def test_what_differs_by_more_than_a_tenth_is_explained():
    """Only chapters that the page lists may differ, among them those without a model, for which
    nothing is forecast.
    """
    page = (full_size.ROOT / "book" / "cluster.md").read_text(encoding="utf-8")
    explained = page.split("differ by more than a tenth")[1].split("```")[0]
    numbers = {int(n) for n in re.findall(r"\d", " ".join(re.findall(r"\*\*(.*?)\*\*", explained)))}
    kept = json.loads(full_size.RESULTS.read_text(encoding="utf-8"))
    for name, record in kept.items():
        for line in record["chapters"]:
            expected = line["forecast_gib"] + budgets.ASIDE_GIB
            near = abs(line["process_gib"] / expected - 1) <= 0.1
            assert near or line["chapter"] in numbers, (name, line["chapter"])
