import json
import math
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch
import yaml
from conftest import FORMAT, small_model
from conftest import sft_arguments as arguments
from safetensors.torch import save_file

from helpers import (
    ROOT,
    InputError,
    models,
    settings,
    swift_arguments,
    swift_setup,
    training,
    training_log,
)
from helpers.adapters import AdapterPrompt
from helpers.parameters import defaults_of
from helpers.templating import encode_answer

CHAPTER = defaults_of(ROOT / "notebooks" / "04-training.ipynb")


@pytest.fixture
def folder(tmp_path, tokenizer, sample):
    rows = [row for row in sample["train"] if len(row["text"]) < 200][:4]
    messages, lengths = training.prepare_rows(tokenizer, FORMAT, rows)
    assert max(lengths) <= 192
    training.write_jsonl(tmp_path / "train.jsonl", messages)
    (tmp_path / "sft.yaml").write_text("template: news-bos\n")
    return tmp_path


def show(folder, ids, answer):
    labels = [-100] * (len(ids) - len(answer)) + answer
    (folder / "swift.log").write_text(
        f"noise\n[INFO:swift] [INPUT_IDS] {ids}\n[INFO:swift] [LABELS_IDS] {labels}\n"
    )


def first(folder, tokenizer):
    prompt, label = [
        message["content"]
        for message in json.loads((folder / "train.jsonl").read_text().splitlines()[0])["messages"]
    ]
    return [
        tokenizer.bos_token_id,
        *tokenizer.encode(prompt, add_special_tokens=False),
    ], encode_answer(tokenizer, label)


def test_the_first_row_as_prepared_passes(folder, tokenizer):
    (folder / "swift.log").write_text("nothing yet")
    assert not training_log.look_at_first_row(folder, tokenizer)
    prompt, answer = first(folder, tokenizer)
    show(folder, prompt + answer, answer)
    assert training_log.look_at_first_row(folder, tokenizer)


def test_a_first_row_that_lost_something_stops_the_run(folder, tokenizer):
    prompt, answer = first(folder, tokenizer)
    for ids, supervised in (
        (prompt[1:] + answer, answer),
        (prompt[:-8] + answer, answer),
        (prompt + answer, answer[1:]),
        (prompt, []),
    ):
        show(folder, ids, supervised)
        if supervised:
            with pytest.raises(InputError, match="not what was prepared"):
                training_log.look_at_first_row(folder, tokenizer)
        else:
            with pytest.raises(InputError):
                training_log.look_at_first_row(folder, tokenizer)


def test_a_failing_swift_is_one_line_and_leaves_no_summary(tmp_path, tokenizer):
    """The exception is quoted whole, without the lines with carets above it."""
    given = arguments(extra={"no_such_argument": 1})
    with pytest.raises(InputError, match=r"swift failed \(\d+\)") as error:
        training.train(
            tmp_path / "broken",
            arguments=given,
            messages={"train": [], "val": []},
            tokenizer=tokenizer,
            adapter_prompt=AdapterPrompt(models.PACKAGED, FORMAT, []),
        )
    assert "\n" not in str(error.value) and "^^" not in str(error.value)
    assert "ValueError: remaining_argv: ['--no_such_argument', '1']" in str(error.value)
    work = training.unfinished(tmp_path / "broken")
    assert yaml.safe_load((work / "sft.yaml").read_text())["no_such_argument"] == 1
    assert not (tmp_path / "broken").exists()


@pytest.mark.parametrize(("content", "seconds"), [("12.5\n", 12.5), ("", 0), ("{}", 0), (None, 0)])
def test_a_training_that_was_cut_off_goes_on_counting_its_seconds(tmp_path, content, seconds):
    if content is not None:
        (tmp_path / training.SPENT).write_text(content)
    assert training.spent(tmp_path) == seconds


@pytest.fixture
def rank4(tmp_path, monkeypatch):
    """rank4() trains a setting into rank4.folder, but what swift would leave there is made up."""

    def leave(work, arguments, *_):
        checkpoint = work / "swift" / "checkpoint-2"
        checkpoint.mkdir(parents=True)
        save_file({"a": torch.ones(2)}, checkpoint / "adapter_model.safetensors")
        (checkpoint / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        last = {"model_parameter_info": "0.1M Trainable", "global_step": 2}
        lines = [{"loss": 1.0, "global_step/max_steps": "2/40"}, last]
        training.write_jsonl(work / "swift" / "logging.jsonl", lines)
        return 1.0, 0.1

    def train(**given):
        return training.train(
            tmp_path / "rank4",
            arguments=arguments(),
            messages={"train": [], "val": []},
            tokenizer=None,
            adapter_prompt=AdapterPrompt(models.PACKAGED, FORMAT, []),
            **given,
        )

    monkeypatch.setattr(training, "run_swift", leave)
    train.folder = tmp_path / "rank4"
    return train


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("adapter/adapter_model.safetensors", None),
        ("adapter/adapter_model.safetensors", b"\0" * 9),
        ("adapter/adapter_config.json", None),
        ("adapter/adapter_config.json", b"{}"),
        ("adapter/summary.json", b"{}"),
        ("adapter/summary.json", b"\0" * 9),
        ("logging.jsonl", None),
        ("logging.jsonl", b""),
    ],
)
def test_what_lost_a_file_is_trained_again(rank4, name, content):
    assert not rank4()["reused"] and rank4()["reused"]
    (rank4.folder / name).unlink()
    if content is not None:
        (rank4.folder / name).write_bytes(content)
    assert not rank4()["reused"] and rank4()["reused"]


def test_what_it_learned_from_and_how_it_is_asked_come_with_the_adapter(rank4):
    rank4(rows_digest="of some rows")
    assert settings.learned_from(rank4.folder) == "of some rows"
    on_its_way = rank4.folder / "curve" / "step-1"
    shutil.copytree(rank4.folder / "adapter", on_its_way)
    (on_its_way / "prompt.json").write_text("{}")  # as when the model's folder had another name
    (rank4.folder / "rows.json").unlink()
    assert rank4(rows_digest="of some rows")["reused"]
    assert settings.learned_from(rank4.folder) == "of some rows"
    whole = (rank4.folder / "adapter" / "prompt.json").read_text(encoding="utf-8")
    assert (on_its_way / "prompt.json").read_text(encoding="utf-8") == whole


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        ("all-linear", "all-linear"),
        (["all-linear"], "all-linear"),
        (["all-embedding", "q_proj"], "all-linear"),
        ("q_proj", ["q_proj"]),
        (["q_proj", "v_proj"], ["q_proj", "v_proj"]),
    ],
)
def test_the_forecast_reads_swifts_words_for_layers(targets, layers):
    assert swift_setup.adapted_layers(targets) == layers


def test_a_training_that_ended_early_says_so(rank4):
    assert arguments()["max_steps"] == 40 and rank4()["steps"] == 2


@pytest.mark.parametrize("name", ["begun.json", "swift/logging.jsonl"])
@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 9])
def test_what_a_crash_damaged_begins_anew(rank4, name, content):
    work = training.unfinished(rank4.folder)
    training.write_json(work / "begun.json", "key")
    assert training.begun(work, "key") and not training.begun(work, "other")
    training.write_json(work / training.KEPT, [])  # so far it kept no adapters of a curve
    assert training.begun(work, "key") and not training.begun(work, "key", (1, 2))
    training.write_json(work / training.KEPT, [1, 2])
    assert training.begun(work, "key", (1, 2))
    training.write_text(work / "swift" / "checkpoint-2" / "old", [])
    training.write_jsonl(work / "swift" / "logging.jsonl", [{}])
    assert training.begun(work, "key")
    (work / name).write_bytes(content)
    assert not training.begun(work, "key")
    assert not rank4()["reused"] and not list(rank4.folder.rglob("old"))


def test_a_setting_is_trained_by_one_program_at_a_time(rank4):
    with training.locked(rank4.folder):
        with pytest.raises(InputError, match=r"another program is training .*rank4; wait for it"):
            rank4()
    assert not rank4()["reused"]
    assert [path.name for path in rank4.folder.parent.iterdir()] == ["rank4"]


def test_a_training_goes_on_from_a_whole_checkpoint_with_steps_left(tmp_path):
    """From a checkpoint of the last step, swift would take one step too many."""
    for step, state in {2: '{"global_step": 2}', 4: "", 6: '{"global_step": 6}'}.items():
        training.write_text(tmp_path / f"checkpoint-{step}" / "trainer_state.json", [state])
    assert training.last_checkpoint(tmp_path, 8) == tmp_path / "checkpoint-6"
    assert training.last_checkpoint(tmp_path, 6) == tmp_path / "checkpoint-2"
    assert training.last_checkpoint(tmp_path, 2) is None


def test_an_exception_is_quoted_whole():
    lines = [
        "Traceback (most recent call last):",
        '  File "a.py", line 1, in <module>',
        "    f(x)",
        "    ^^^^",
        "ValueError: no such model",
        "    and here is why",
        "[ERROR] torch.distributed.elastic: failed",
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
    ]
    assert training_log.last_exception(lines) == "ValueError: no such model and here is why"
    assert training_log.last_exception(["noise", "[rank0]: KeyError: 'x'"]) == "KeyError: 'x'"
    assert training_log.last_exception(["Killed"]) is None


def test_arguments_suit_this_machine_and_can_be_overridden():
    given = arguments(extra={"warmup_ratio": 0.2})
    assert (given["lora_rank"], given["warmup_ratio"]) == (16, 0.2)
    assert given["template"] == "news-bos" and given["torch_dtype"] == models.pick_dtype()
    assert given["eval_steps"] == 14  # so it evaluates after 14, 28 and all 40 steps
    assert arguments(seed=43).items() >= {"seed": 43, "data_seed": 43}.items()
    assert given["per_device_train_batch_size"] * given["gradient_accumulation_steps"] == 8
    with pytest.raises(InputError, match="not a multiple"):
        arguments(batch_size=3)
    with pytest.raises(InputError, match="evaluations is 0"):
        arguments(evaluations=0)


@pytest.mark.parametrize(
    ("steps", "extra", "total"),
    [
        (40, {}, 40),
        (None, {"num_train_epochs": 1}, 13),  # 100 rows, eight a step
        (None, {"num_train_epochs": 2.5}, 33),
        (40, {"num_train_epochs": 1, "max_steps": None}, 13),
        (None, {"max_steps": 6}, 6),
        (40, {"max_steps": 40}, 40),
    ],
)
def test_steps_or_epochs_say_how_long(steps, extra, total):
    given = arguments(steps=steps, extra=extra)
    assert given["max_steps"] == total and math.ceil(total / given["eval_steps"]) <= 3
    assert "num_train_epochs" not in given


@pytest.mark.parametrize(
    ("steps", "extra", "says"),
    [
        (40, {"num_train_epochs": 3}, "steps 40 and num_train_epochs 3 are both given"),
        (None, {}, "neither steps nor num_train_epochs"),
        (40, {"max_steps": None}, "max_steps: null takes steps 40 away"),
        (40, {"max_epochs": 1}, "early; say steps or num_train_epochs"),
    ],
)
def test_both_at_once_or_neither_is_refused(steps, extra, says):
    with pytest.raises(InputError, match=says):
        arguments(steps=steps, extra=extra)


@pytest.mark.parametrize(
    ("steps", "extra"),
    [
        (0, {}),  # swift would train three epochs
        (-1, {}),
        (None, {"max_steps": -1}),
        (None, {"max_steps": "6"}),
        (None, {"num_train_epochs": 0}),
        (None, {"num_train_epochs": "3"}),
        (None, {"num_train_epochs": float("inf")}),
    ],
)
def test_a_length_that_is_none_is_refused(steps, extra):
    with pytest.raises(InputError, match="steps must be a whole number"):
        arguments(steps=steps, extra=extra)


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"per_device_train_batch_size": 1}, "contradicts 4, which the parameter batch_size"),
        ({"gradient_accumulation_steps": 1}, "which the parameter rows_per_step"),
        ({"lora_rank": 4}, "lora_rank 4 contradicts 16, which the parameter rank"),
        ({"max_steps": 6}, "max_steps 6 contradicts 40, which the parameter steps"),
        ({"lora_dropout": 0.2}, "the parameter dropout"),
        ({"max_length": 99}, "the parameter max_length"),
        ({"eval_steps": 7}, "the parameter evaluations"),
        ({"data_seed": 7}, "data_seed 7 contradicts 42, which the parameter seed"),
        ({"lora_r": 4}, "would read the argument lora_r as lora_rank"),  # argparse completes it
        ({"lora-rank": 4}, "would read the argument lora-rank as lora_rank"),
        ({"resume_from": "x"}, "as resume_from_checkpoint"),
        ({"max-epochs": 1}, "as max_epochs"),
        ({"output_dir": "x"}, "output_dir is this book's own"),
        ({"tuner_type": "full"}, "tuner_type is this book's own"),
        ({"ENV": {"NPROC_PER_NODE": 2}}, "ENV is this book's own"),
        ({"output_dir": None}, "output_dir: null takes from swift what this book needs"),
        ({"model": None}, "model: null takes"),
    ],
)
def test_what_is_said_already_is_not_said_anew(extra, says):
    with pytest.raises(InputError, match=says):
        arguments(extra=extra)


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"adapters": ["runs/x/adapter"]}, "adapters: a setting of this book is one new adapter"),
        ({"new_special_tokens": ["<a>"]}, "take new_special_tokens out"),
        ({"init_weights": "pissa_niter_4"}, "init_weights pissa_niter_4 takes a part out of"),
        ({"init_weights": "OLoRA"}, "init_weights olora takes a part out of"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens as a target: this book"),
        ({"target_modules": "all-embedding"}, "all-embedding as a target"),
        ({"target_regex": ".*(q_proj|lm_head)"}, "count no correction of the embedding"),
    ],
)
def test_an_adapter_that_could_not_be_read_back_is_not_trained(extra, says):
    with pytest.raises(InputError, match=re.escape(says)):
        arguments(extra=extra)
    with pytest.raises(InputError, match=re.escape(says)):
        swift_arguments.check_swift_arguments(CHAPTER | {"swift_arguments": extra})


def test_target_regex_stands_in_place_of_target_modules():
    given = arguments(extra={"target_regex": ".*q_proj", "init_weights": "gaussian"})
    assert given["target_regex"] == ".*q_proj" and "target_modules" not in given


@pytest.mark.parametrize("name", ["batch_size", "rows_per_step", "nproc", "rank"])
def test_a_number_out_of_range_is_refused(name):
    with pytest.raises(InputError, match=f"{name} is 0; it must be 1 or more"):
        arguments(**{name: 0})


def test_what_may_be_taken_away_is_what_is_given():
    head = {"task_type": "seq_cls", "num_labels": 2, "problem_type": "x", "modules_to_save": []}
    known = {*swift_arguments.GIVEN, *swift_arguments.SAID_ELSEWHERE, *swift_arguments.OWN}
    assert set(arguments(head=head)) <= known | {*swift_arguments.DECIDED_BY_TASK}
    with pytest.raises(InputError, match="num_labels is what the parameter task decides"):
        arguments(head=head, extra={"num_labels": 3})


def test_the_same_said_twice_is_no_contradiction():
    assert arguments(extra={"lora_rank": 16, "save_total_limit": 1})["save_total_limit"] == 1


def test_any_other_argument_can_be_taken_away(tmp_path):
    """None leaves an argument to swift's own default, and what reads arguments must do without it.

    Places of files, the kind of adapter and what parameters say cannot be taken away.
    """
    whole = arguments()
    config = small_model().config
    (tmp_path / "swift.log").write_text("CUDA out of memory\n")
    for name in whole.keys() & swift_arguments.SAID_ELSEWHERE.keys() - {"max_steps", "model"}:
        with pytest.raises(InputError, match=f"{name}: null takes away what the parameter"):
            arguments(extra={name: None})
    for name in whole.keys() - {*swift_arguments.SAID_ELSEWHERE, *swift_arguments.OWN}:
        given = arguments(extra={name: None})
        assert name not in given
        if name in swift_setup.SWIFT_DEFAULTS:
            assert swift_setup.expected_memory(config, given, 64, 1000.0)["total"] > 0
        assert "levers" in training_log.explain(1, tmp_path / "swift.log", given)


def test_the_shell_says_nothing_about_processes(monkeypatch):
    for name in ("NPROC_PER_NODE", "NNODES", "RANK", "LOCAL_RANK", "MASTER_PORT", "ACCELERATE_X"):
        monkeypatch.setenv(name, "2")
    environment = training.swift_environment(1)
    assert not {"NPROC_PER_NODE", "NNODES", "RANK", "LOCAL_RANK", "MASTER_PORT", "ACCELERATE_X"} & (
        environment.keys()
    )
    assert training.swift_environment(3)["NPROC_PER_NODE"] == "3"
    monkeypatch.setenv("LOG_LEVEL", "ERROR")  # else swift would not show its first row
    assert training.swift_environment(1)["LOG_LEVEL"] == "INFO"
    # accelerate counts processes by the first; the second is a default of torchrun's options
    for name in ("MV2_COMM_WORLD_SIZE", "PET_NNODES"):
        monkeypatch.setenv(name, "2")
        assert name not in training.swift_environment(1)


def test_a_run_out_of_memory_names_its_levers_with_their_values(tmp_path):
    given = arguments()
    log = tmp_path / "rank16" / "swift.log"
    log.parent.mkdir()
    log.write_text("step 3\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 6 GiB.\n")
    message = training_log.explain(1, log, given)
    levers = ("max_length 192 → 96", "batch_size 4 → 2", "gradient_checkpointing: true")
    assert all(lever in message for lever in (*levers, "swift sft sft.yaml"))
    assert f"repeat it with: cd {log.parent} && " in message  # from wherever the reader is
    # the new batch size divides rows_per_step, too
    odd = training_log.explain(-9, log, given | {"per_device_train_batch_size": 9})
    assert "batch_size 9 → 3" in odd
    killed = training_log.explain(
        -9, log, given | {"per_device_train_batch_size": 1, "gradient_checkpointing": True}
    )
    assert "out of memory" in killed
    assert "batch_size" not in killed and "checkpointing" not in killed


@pytest.mark.parametrize(
    ("metric", "saved", "kept"),
    [
        ("seq_acc", [2, 4, 6, 8], 6),  # as good as step 2, but later
        ("seq_acc", [2, 4, 8], 2),
        ("loss", [2, 4, 6, 8], 4),
        ("eval_loss", [2, 6, 8], 8),
        ("rouge", [2, 4], 4),  # not in the log, so the last one
    ],
)
def test_on_a_tie_the_later_checkpoint_is_kept(metric, saved, kept):
    log = pd.DataFrame(
        {
            "step": [1, 2, 4, 6, 8],
            "eval_seq_acc": [None, 0.9, 0.8, 0.9, 0.7],
            "eval_loss": [None, 0.3, 0.1, 0.3, 0.2],
        }
    )
    assert training_log.best_step(log, metric, saved) == kept


def test_the_table_of_a_rows_end_says_which_tokens_count(tokenizer):
    ids = tokenizer("分类: 体育", add_special_tokens=False)["input_ids"]
    table = training.supervised_table(tokenizer, ids, 1)
    assert list(table["id"]) == ids
    assert list(table["supervised"]) == ["no"] * (len(ids) - 1) + ["yes"]
    assert "体育" in table["text"].iloc[-1]


def test_pages_that_a_forked_child_shares_count_once():
    code = (
        "import os, sys\n"
        "held = bytearray(os.urandom(1 << 20)) * 300\n"
        "os.fork()\n"
        "os.write(1, b'there\\n')\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert [process.stdout.readline() for _ in range(2)] == [b"there\n"] * 2
        assert 300 / 1024 < training.resident_gib(process.pid) < 400 / 1024
        process.stdin.close()


def test_a_label_that_ends_like_an_answer_is_refused(tokenizer):
    row = {"id": "x", "text": "文", "category": ["Law", "Law<eos>"], "output": "Law<eos>"}
    with pytest.raises(InputError, match="ends with '<eos>', which swift takes for the end"):
        training.prepare_rows(tokenizer, FORMAT, [row])
    messages, _ = training.prepare_rows(tokenizer, FORMAT, [row | {"output": "Law"}])
    assert messages[0]["messages"][1]["content"] == "Law"
