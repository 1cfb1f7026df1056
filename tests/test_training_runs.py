"""Real runs of `swift sft` on tiny random models: resumption, divergence, several processes, the
architectures of the profiles.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from helpers import ROOT, InputError, models, training

STEPS = 24


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory, tokenizer):
    """A folder with a random model of the packaged one's architecture and tokenizer, a thousandth
    of its size.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-gemma"
    config = AutoConfig.from_pretrained(models.find_model(models.PACKAGED))
    shrunk = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_dim": 16,
    }
    for name, value in shrunk.items():
        setattr(config, name, value)
    config.layer_types = config.layer_types[-2:]
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def messages(tokenizer, sample):
    rows = [row for row in sample["train"] if len(row["text"]) < 400]
    return {
        "train": training.prepare_rows(tokenizer, "plain", rows[:64], 160, True)[0],
        "val": training.prepare_rows(tokenizer, "plain", rows[64:68], 160, True)[0],
    }


def arguments(model, rows_per_step=4, batch_size=2, learning_rate=1e-3, nproc=1, steps=STEPS):
    extra = {"torch_dtype": "float32"}
    return training.sft_arguments(
        model,
        True,
        4,
        16,
        0.0,
        steps,
        rows_per_step,
        batch_size,
        learning_rate,
        160,
        6,
        42,
        nproc,
        extra,
    )


def losses(folder):
    return training.read_log(folder / "logging.jsonl").dropna(subset="loss")["loss"].to_list()


@pytest.fixture(scope="module")
def straight(tmp_path_factory, tiny_model, messages, tokenizer):
    """The run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("straight") / "rank4"
    summary = training.train(
        folder, arguments(tiny_model) | {"report_to": "tensorboard"}, messages, tokenizer
    )
    assert not summary["reused"] and summary["peak_gib"] > 0.1
    return folder


def test_a_run_learns_and_leaves_only_its_adapter(straight):
    assert len(losses(straight)) == STEPS and losses(straight)[-1] < losses(straight)[0]
    assert {path.name for path in straight.iterdir()} == {
        *(
            "sft.yaml",
            "train.jsonl",
            "val.jsonl",
            "swift.log",
            "logging.jsonl",
            "summary.json",
            "adapter",
            "runs",
        )
    }


def test_what_is_reported_to_tensorboard_stays(straight):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(straight / "runs")).Reload()
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(
        losses(straight), abs=1e-5
    )


def swift_processes(folder):
    """Processes that run below `folder`."""
    found = []
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] and Path(process.info["cwd"]) == folder:
            found.append(process.pid)
    return found


def test_a_killed_run_goes_on_and_ends_with_the_same_weights(
    straight, tmp_path, tiny_model, messages, tokenizer
):
    folder = tmp_path / "rank4"
    job = {"folder": str(folder), "arguments": arguments(tiny_model), "messages": messages}
    (tmp_path / "job.json").write_text(json.dumps(job))
    code = (
        "import json, sys, pathlib; from helpers import models, training\n"
        "job = json.load(open(sys.argv[1])); tokenizer = models.load_tokenizer(models.PACKAGED)\n"
        "training.train(pathlib.Path(job['folder']), job['arguments'], job['messages'], tokenizer)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "job.json")],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not training.last_checkpoint(folder / "swift"):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while swift_processes(folder):
        assert time.monotonic() < deadline, "swift went on without the process that had started it"
        time.sleep(0.1)
    assert not (folder / "adapter").exists()
    summary = training.train(folder, job["arguments"], messages, tokenizer)
    assert "resume_from_checkpoint" in (folder / "swift.log").read_text()
    assert losses(folder) == pytest.approx(losses(straight), abs=1e-6)
    undisturbed = load_file(straight / "adapter" / "adapter_model.safetensors")
    resumed = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert undisturbed.keys() == resumed.keys()
    for name, weight in undisturbed.items():
        torch.testing.assert_close(resumed[name], weight, rtol=0, atol=1e-7)
    assert summary["best_step"] == json.loads((straight / "summary.json").read_text())["best_step"]
    seen = training.read_log(folder / "logging.jsonl").set_index("step")["eval_seq_acc"].dropna()
    assert summary["best_step"] == seen[seen == seen.max()].index[-1]


def test_two_processes_learn_what_one_does_with_twice_the_accumulation(
    straight, tmp_path, tiny_model, messages, tokenizer
):
    folder = tmp_path / "two"
    given = arguments(tiny_model, nproc=2)
    assert given["gradient_accumulation_steps"] == 1
    training.train(folder, given, messages, tokenizer, nproc=2)
    assert losses(folder) == pytest.approx(losses(straight), rel=1e-3)


def test_a_diverged_run_stops_early_and_is_not_gone_on_from(
    tmp_path, tiny_model, messages, tokenizer
):
    with pytest.raises(InputError, match=r"the run diverged: loss (nan|inf).*learning_rate"):
        training.train(
            tmp_path / "wild",
            arguments(tiny_model, learning_rate=1e30, steps=400),
            messages,
            tokenizer,
        )
    assert (
        not swift_processes(tmp_path / "wild") and not (tmp_path / "wild" / training.BEGUN).exists()
    )
