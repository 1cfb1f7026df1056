import json

import pandas as pd
import pytest
import yaml

from helpers import InputError, models, training
from helpers.templating import encode_answer


@pytest.fixture
def folder(tmp_path, tokenizer, sample):
    rows = [row for row in sample["train"] if len(row["text"]) < 200][:4]
    messages, lengths = training.prepare_rows(tokenizer, "plain", rows, 192, True)
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
    assert not training.look_at_first_row(folder, tokenizer)
    prompt, answer = first(folder, tokenizer)
    show(folder, prompt + answer, answer)
    assert training.look_at_first_row(folder, tokenizer)


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
                training.look_at_first_row(folder, tokenizer)
        else:
            with pytest.raises(InputError):
                training.look_at_first_row(folder, tokenizer)


def test_a_failing_swift_is_one_line_and_leaves_no_summary(tmp_path, tokenizer):
    arguments = {
        "model": str(tmp_path / "nothing"),
        "template": "news",
        "no_such_argument": 1,
        "max_steps": 1,
    }
    with pytest.raises(InputError, match=r"swift failed \(\d+\)") as error:
        training.train(tmp_path / "broken", arguments, {"train": [], "val": []}, tokenizer)
    assert "\n" not in str(error.value)
    assert yaml.safe_load((tmp_path / "broken" / "sft.yaml").read_text()) == arguments
    assert not (tmp_path / "broken" / "summary.json").exists()


def test_arguments_suit_this_machine_and_can_be_overridden():
    arguments = training.sft_arguments(
        models.PACKAGED, True, 16, 32, 0.0, 40, 8, 4, 4e-4, 192, 3, 42, extra={"lora_dropout": 0.1}
    )
    assert (arguments["lora_rank"], arguments["lora_dropout"], arguments["template"]) == (
        16,
        0.1,
        "news-bos",
    )
    assert arguments["torch_dtype"] == models.pick_dtype()
    assert arguments["eval_steps"] * 3 <= arguments["max_steps"]
    assert arguments["per_device_train_batch_size"] * arguments["gradient_accumulation_steps"] == 8
    with pytest.raises(InputError, match="not a multiple"):
        training.sft_arguments(models.PACKAGED, True, 16, 32, 0.0, 40, 8, 3, 4e-4, 192, 3, 42)


def test_a_run_out_of_memory_names_its_levers_with_their_values(tmp_path):
    arguments = training.sft_arguments(
        models.PACKAGED, True, 16, 32, 0.0, 40, 8, 4, 4e-4, 192, 3, 42
    )
    log = tmp_path / "rank16" / "swift.log"
    log.parent.mkdir()
    log.write_text(
        "step 3\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 6.44 GiB.\n"
    )
    message = training.explain(1, log, arguments)
    for lever in (
        "max_length 192 → 96",
        "batch_size 4 → 2",
        "gradient_checkpointing false → true",
        "swift sft sft.yaml",
    ):
        assert lever in message
    killed = training.explain(
        -9, log, arguments | {"per_device_train_batch_size": 1, "gradient_checkpointing": True}
    )
    assert (
        "out of memory" in killed and "batch_size" not in killed and "checkpointing" not in killed
    )


@pytest.mark.parametrize(
    ("metric", "saved", "kept"),
    [
        ("seq_acc", [2, 4, 6, 8], 6),  # as good as step 2, and later
        ("seq_acc", [2, 4, 8], 2),
        ("loss", [2, 4, 6, 8], 4),
        ("eval_loss", [2, 6, 8], 8),
        ("rouge", [2, 4], 4),  # not in the log
    ],
)
def test_the_checkpoint_kept_is_the_best_and_of_equals_the_latest(metric, saved, kept):
    log = pd.DataFrame(
        {
            "step": [1, 2, 4, 6, 8],
            "eval_seq_acc": [None, 0.9, 0.8, 0.9, 0.7],
            "eval_loss": [None, 0.3, 0.1, 0.3, 0.2],
        }
    )
    assert training.best_step(log, metric, saved) == kept
