"""A classification head: chapter 4 trains it by swift, the book computes and masks its logits."""

import json

import numpy as np
import pytest
import torch
from conftest import run_cells

from helpers import (
    InputError,
    adapters,
    asking,
    comparison,
    entrants,
    export,
    files,
    heads,
    models,
    scoring,
    settings,
    templating,
    training_log,
)
from helpers.adapters import AdapterHead
from helpers.classifier import Classifier

LABELS = ["Art", "Law", "Sports"]
WORDS = {"Art": "绘画", "Law": "法院", "Sports": "球赛"}


def make_rows(split, count):
    """Rows whose one repeated word tells the class."""
    rows = []
    for i in range(count):
        label = LABELS[i % 3]
        row = {"id": f"{split}-{i}", "source_id": None, "text": WORDS[label] * 6 + str(i)}
        rows.append(row | {"category": LABELS, "output": label})
    return rows


@pytest.fixture(scope="module")
def trained(tmp_path_factory, copy_tokenizer):
    """A run in which chapter 4 taught a head on a tiny random model to tell three words apart."""
    from transformers import AutoConfig, AutoModelForCausalLM

    run = tmp_path_factory.mktemp("heads") / "run"
    config = AutoConfig.from_pretrained(models.find_model(models.PACKAGED))
    shrunk = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    for name, value in (shrunk | {"num_attention_heads": 2, "head_dim": 16}).items():
        setattr(config, name, value)
    config.layer_types = config.layer_types[-2:]
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(run.parent / "model")
    copy_tokenizer(run.parent / "model")
    # the classes have ten, four and ten rows; balancing makes them eight each
    uneven = [row for i, row in enumerate(make_rows("train", 30)) if i % 3 != 1 or i < 12]
    unlearned = {"category": [*LABELS, "New"], "output": "New"}
    for split, rows in (
        ("train", uneven),
        ("val", [*make_rows("val", 3), make_rows("val", 4)[3] | unlearned]),
        ("test", make_rows("test", 7)),
    ):
        files.write_jsonl(run / "data" / f"{split}.jsonl", rows)
    given = {"run_dir": str(run), "model": str(run.parent / "model"), "setting": "head"}
    given |= {"task": "seq_cls", "rank": 4, "alpha": 16, "steps": 20, "rows_per_step": 6}
    given |= {"batch_size": 6, "learning_rate": 2e-2, "max_length": 64, "evaluations": 1}
    given |= {"swift_arguments": {"torch_dtype": "float32"}, "curve": True}
    given |= {"balance": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "pick_dtype", lambda: "float32")
        space = run_cells("04-training", **given)
    return run, space


def test_chapter_four_trains_a_head_and_says_how_it_is_asked(trained):
    run, space = trained
    folder = run / "train" / "head"
    log = training_log.read_log(folder / "logging.jsonl")
    assert log["loss"].dropna().iloc[-1] < 0.5 < log["loss"].dropna().iloc[0]
    assert log["eval_seq_acc"].dropna().iloc[-1] == 1.0  # the row of an unknown label is left out
    assert len(space["rows"]["val"]) == 3
    own = AdapterHead(str(run.parent / "model"), LABELS, 64, True)
    for adapter in (folder / "adapter", folder / "curve" / "step-20"):
        assert adapters.read_head(adapter) == own
        assert not (adapter / adapters.PROMPT).exists()
    fed = files.read_jsonl(folder / "train.jsonl")
    assert (
        fed.count({"messages": [{"role": "user", "content": WORDS["Law"] * 6 + "1"}], "label": 1})
        == 2
    )
    assert [sum(row["label"] == place for row in fed) for place in range(3)] == [8, 8, 8]
    assert "token for token" not in space["figures"]["val_words"]


def test_a_head_without_numbers_is_refused():
    class Broken:
        device = "cpu"
        logits = torch.tensor([[0.0, float("nan"), 1.0]])

        def __call__(self, ids):
            return self

    with pytest.raises(InputError, match="NaN"):
        heads.head_logits(Broken(), [1])


def test_a_trained_head_answers_and_its_answers_are_kept(trained, tokenizer, tmp_path):
    run, _ = trained
    adapter = run / "train" / "head" / "adapter"
    head, rows = adapters.read_head(adapter), make_rows("test", 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "pick_dtype", lambda: "float32")
        lines = asking.answers(tmp_path / "head", tokenizer, head, rows, adapter)
        assert comparison.predictions(lines) == [row["output"] for row in rows]
        file = tmp_path / "head" / "predictions.jsonl"
        cut_off = file.read_bytes()[:-20]  # as an interruption would leave it
        file.write_bytes(cut_off)
        again = asking.answers(tmp_path / "head", tokenizer, head, rows, adapter)
        assert comparison.predictions(again) == comparison.predictions(lines)
        patch.setattr(heads, "load_head", None)  # fails if anything is asked anew
        assert asking.answers(tmp_path / "head", tokenizer, head, rows, adapter) == again
    line = files.read_jsonl(file)[0]
    assert line.keys() == set("id source_id label options inputs tokens score seconds".split())
    assert np.exp(line["score"]["logprobs"]).sum() == pytest.approx(1)


def test_who_needs_words_refuses_a_head_in_one_line(trained, capsys):
    run, _ = trained
    adapter = run / "train" / "head" / "adapter"
    for ask in (export.export_model, Classifier):
        with pytest.raises(InputError, match="holds a classification head, which chapter 5"):
            ask(adapter)
    with pytest.raises(InputError, match="no adapter in"):
        settings.best_of_run(run)
    assert "chapter 5's alone: head" in capsys.readouterr().out
    with pytest.raises(InputError, match="all settings are classification heads"):
        entrants.find_settings(run, ["head"])


def test_only_a_rows_own_options_can_win():
    logits = np.array([3.0, 2.0, 1.0])
    nats = heads.option_logprobs(logits, LABELS, ["Sports", "New", "Law"])
    assert nats[0] == pytest.approx(-np.log(1 + np.e))
    assert nats[2] == pytest.approx(-np.log(1 + np.e) + 1)
    assert nats[1] == heads.UNLEARNED_NATS and np.isfinite(nats[1])
    assert heads.option_logprobs(logits, LABELS, ["New"]) == [heads.UNLEARNED_NATS]


def test_an_article_is_cut_to_the_budget(tokenizer):
    for text in ("新闻" * 500, "a" * 5000, "短", "<eos>" * 200, "🀄" * 300):
        head = AdapterHead("any", LABELS, 64, True)
        piece = heads.cut_article(tokenizer, text, 64, True)
        assert text.startswith(piece)
        assert len(heads.article_ids(tokenizer, head, text)) <= 64
        assert piece == text or len(templating.encode(tokenizer, text[: len(piece) + 9])) > 63


def test_a_label_never_learned_is_refused(tokenizer):
    row = {"text": "x", "category": ["New"], "output": "New"}
    with pytest.raises(InputError, match="never learned: New"):
        heads.prepare_rows(tokenizer, AdapterHead("any", LABELS, 64, True), [row])
    with pytest.raises(InputError, match="no validation row has a label"):
        heads.learnable([row], LABELS)


def test_an_unsound_head_is_refused(tmp_path):
    (tmp_path / "head.json").write_text(json.dumps({"model": "x", "labels": [], "bos": True}))
    with pytest.raises(InputError, match="max_length is wrong"):
        adapters.read_head(tmp_path)


def test_the_table_of_heads_holds_them_against_the_best():
    """The head is right on 3 of 4 rows, the best setting on 2, one of which the head misses."""

    def line(answer, label="Art"):
        nats = [0.0 if option == answer else -3.0 for option in LABELS]
        own = {"score": {"prediction": answer, "logprobs": nats}, "seconds": 0.1}
        return {"label": label, "options": LABELS} | own

    lines = [line("Art"), line("Art"), line("Art"), line("Law")]
    best_lines = [line("Art"), line("Law"), line("Sports"), line("Art")]
    own = comparison.head_summary(lines, "rank8", best_lines)
    assert (own["accuracy"], own["n"]) == (0.75, 4)
    assert own["macro_f1"] == pytest.approx(6 / 7)
    assert (own["against"]["gained"], own["against"]["lost"]) == (2, 1)
    assert own["against"]["p"] == 1.0
    table = comparison.head_table({"head": own})
    assert table.loc["head", "right, %"] == "75.0" and table.loc["head", "against"] == "rank8"
    assert scoring.MODES[0] not in lines[0]  # a head does not write
