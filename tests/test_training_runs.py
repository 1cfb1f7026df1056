"""Real runs of `swift sft` on tiny random models: resumption, divergence, several processes, and
the architectures of the profiles.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from conftest import sft_arguments
from safetensors.torch import load_file

from helpers import ROOT, InputError, adapters, models, templating, training, training_log
from helpers.adapters import AdapterPrompt
from helpers.templating import PromptFormat

STEPS = 24
FORMAT = PromptFormat(templating.PLAIN, 160, True)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory, copy_tokenizer):
    """A folder with a random model that has the packaged model's architecture and tokenizer, but a
    thousandth of its size.
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
    copy_tokenizer(folder)
    return str(folder)


@pytest.fixture(scope="module")
def messages(tokenizer, sample):
    """Rows of the sample after characters that tokenizers change when decoding, as ▁ to a space.

    swift's first row is compared by ids, because comparing text would give a false alarm.
    """
    rows = [
        row | {"text": f"▁▂▃ ﬁ 产量▁图　{row['text']}"}
        for row in sample["train"]
        if len(row["text"]) < 400
    ]
    return {
        "train": training.prepare_rows(tokenizer, FORMAT, rows[:64])[0],
        "val": training.prepare_rows(tokenizer, FORMAT, rows[64:68])[0],
    }


def arguments(model, **changes):
    values = {"model": model, "prompt_format": FORMAT, "rank": 4, "alpha": 16, "steps": STEPS}
    values |= {"rows_per_step": 4, "batch_size": 2, "learning_rate": 1e-3, "evaluations": 6}
    values |= {"train_rows": 64, "extra": {"torch_dtype": "float32"}}
    return sft_arguments(**values | changes)


def losses(folder):
    return training_log.read_log(folder / "logging.jsonl").dropna(subset="loss")["loss"].to_list()


@pytest.fixture(scope="module")
def train(tiny_model, messages, tokenizer):
    """train(folder, arguments, …) trains the random model on the few rows."""

    def run(folder, given, rows=messages, **choices):
        return training.train(
            folder,
            arguments=given,
            messages=rows,
            tokenizer=tokenizer,
            adapter_prompt=AdapterPrompt(tiny_model, FORMAT, ["Art", "Law"]),
            **choices,
        )

    return run


@pytest.fixture(scope="module")
def straight(tmp_path_factory, tiny_model, train):
    """A run that nothing disturbed, although the shell asked for two processes."""
    folder = tmp_path_factory.mktemp("straight") / "rank4"
    with pytest.MonkeyPatch.context() as shell:
        for name, value in {"NPROC_PER_NODE": "2", "NNODES": "2", "WORLD_SIZE": "2"}.items():
            shell.setenv(name, value)
        # swift copies the rows there, and the copies must be removed with the training
        shell.setenv("MODELSCOPE_CACHE", str(folder.parent / "home"))
        given = arguments(tiny_model) | {"report_to": "tensorboard"}
        summary = train(folder, given, keep_steps=(1, 6))
    assert not summary["reused"] and summary["peak_gib"] > 0.1
    return folder


def test_a_run_learns_and_leaves_only_its_adapter(straight):
    assert len(losses(straight)) == STEPS and losses(straight)[-1] < losses(straight)[0]
    left = "sft.yaml train.jsonl val.jsonl swift.log logging.jsonl summary.json adapter runs curve"
    assert {path.name for path in straight.iterdir()} == set(left.split())
    assert [path.name for path in straight.parent.iterdir()] == ["rank4"]


def test_an_adapter_says_how_it_wants_to_be_asked(straight, tiny_model):
    own = adapters.read_prompt(straight / "adapter")
    assert own == AdapterPrompt(tiny_model, FORMAT, ["Art", "Law"])
    config = json.loads((straight / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == tiny_model


def test_the_adapters_of_a_learning_curve_are_kept(straight):
    folders = sorted((straight / "curve").iterdir())
    assert [folder.name for folder in folders] == ["step-1", "step-6"]
    weights = [load_file(folder / "adapter_model.safetensors") for folder in folders]
    assert weights[0].keys() == weights[1].keys()
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])
    assert adapters.read_prompt(folders[0]).prompt_format == FORMAT
    files = [folder / "adapter_model.safetensors" for folder in (straight / "adapter", *folders)]
    assert {path.stat().st_mode for path in (straight / "sft.yaml", *files)} == {
        (straight / "sft.yaml").stat().st_mode
    }


def test_only_the_profile_decides_how_many_processes_train(straight):
    """With 64 rows and four a step, one process sees 24 × 4 rows, as the page says."""
    log = (straight / "swift.log").read_text()
    assert "torch.distributed" not in log and "torchrun" not in log
    assert "Total train batch size (w. parallel, distributed & accumulation) = 8" not in log


def test_a_moved_setting_is_reused_and_a_failing_one_leaves_the_old(
    straight, tmp_path, tiny_model, train, monkeypatch
):
    folder = tmp_path / "elsewhere" / "rank4"
    shutil.copytree(straight, folder)
    moved = shutil.copytree(tiny_model, tmp_path / "model")
    given = arguments(str(moved)) | {"report_to": "tensorboard"}
    assert training.fingerprint(given, {}, str(moved), 1) == training.fingerprint(
        arguments(tiny_model) | {"report_to": "tensorboard"}, {}, tiny_model, 1
    )
    assert train(folder, arguments(tiny_model) | {"report_to": "tensorboard"})["reused"]
    before = (folder / "adapter" / "adapter_model.safetensors").read_bytes()

    def fails(*_):
        raise InputError("swift failed")  # for its real message, see test_training.py

    monkeypatch.setattr(training, "run_swift", fails)
    with pytest.raises(InputError, match="swift failed"):
        train(folder, arguments(tiny_model) | {"no_such_argument": 1})
    assert (folder / "adapter" / "adapter_model.safetensors").read_bytes() == before
    assert json.loads((folder / "summary.json").read_text())["best_step"]


def test_what_is_reported_to_tensorboard_stays(straight):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(straight / "runs")).Reload()
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(
        losses(straight), abs=1e-5
    )


def swift_processes(folder):
    """The ids of processes that run in `folder`."""
    pids = []
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] and Path(process.info["cwd"]) == folder:
            pids.append(process.pid)
    return pids


def test_a_killed_run_goes_on_and_ends_with_the_same_weights(
    straight, tmp_path, tiny_model, messages, train
):
    folder = tmp_path / "rank4"
    work = training.unfinished(folder)
    job = {"folder": str(folder), "arguments": arguments(tiny_model), "messages": messages}
    (tmp_path / "job.json").write_text(json.dumps(job | {"model": tiny_model}))
    code = (
        "import json, sys, pathlib; from helpers import adapters, models, templating, training\n"
        "job = json.load(open(sys.argv[1])); tokenizer = models.load_tokenizer(models.PACKAGED)\n"
        "form = templating.PromptFormat(templating.PLAIN, 160, True)\n"
        "own = adapters.AdapterPrompt(job['model'], form, ['Art', 'Law'])\n"
        "training.train(pathlib.Path(job['folder']), arguments=job['arguments'],\n"
        "    messages=job['messages'], tokenizer=tokenizer, adapter_prompt=own)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "job.json")],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not training.last_checkpoint(work / "swift", STEPS):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while swift_processes(work):
        assert time.monotonic() < deadline, "swift went on without the process that had started it"
        time.sleep(0.1)
    assert not folder.exists()
    before = training.spent(work)
    summary = train(folder, job["arguments"])
    assert summary["seconds"] > before + 1 > 1  # the part that was cut off counts, too
    assert "resume_from_checkpoint" in (folder / "swift.log").read_text()
    assert losses(folder) == pytest.approx(losses(straight), abs=1e-6)
    undisturbed = load_file(straight / "adapter" / "adapter_model.safetensors")
    resumed = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert undisturbed.keys() == resumed.keys()
    for name, weight in undisturbed.items():
        torch.testing.assert_close(resumed[name], weight, rtol=0, atol=1e-7)
    assert summary["best_step"] == json.loads((straight / "summary.json").read_text())["best_step"]
    log = training_log.read_log(folder / "logging.jsonl")
    accuracy = log.set_index("step")["eval_seq_acc"].dropna()
    assert summary["best_step"] == accuracy[accuracy == accuracy.max()].index[-1]


def test_two_processes_learn_what_one_does_with_twice_the_accumulation(
    straight, tmp_path, tiny_model, train
):
    folder = tmp_path / "two"
    given = arguments(tiny_model, nproc=2)
    assert given["gradient_accumulation_steps"] == 1
    train(folder, given, nproc=2)
    assert losses(folder) == pytest.approx(losses(straight), rel=1e-3)


def test_a_diverged_run_stops_early_and_is_not_gone_on_from(tmp_path, tiny_model, train):
    with pytest.raises(InputError, match=r"the run diverged: loss (nan|inf).*learning_rate"):
        train(tmp_path / "wild", arguments(tiny_model, learning_rate=1e30, steps=400))
    work = training.unfinished(tmp_path / "wild")
    assert not swift_processes(work) and not (work / training.BEGUN).exists()
