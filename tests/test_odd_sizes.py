"""Chapter 5 on odd sizes: its own cells run, and only the answers of models are made up.

What holds for 210 and 400 rows must hold for 1, 2, 7 and 28, for a single class in test, for
answers that are all right or all wrong, for rows with one option, for a handful of validation rows,
and for a training that never looked at them.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import run_cells

from helpers import adapters, asking, files, models, scoring, templating
from helpers.adapters import AdapterHead, AdapterPrompt
from helpers.templating import PromptFormat

LABELS = ["体育", "财经", "农业"]
WORDS = {"体育": "球队比赛进球", "财经": "股市银行利率", "农业": "小麦播种收成"}
FORMAT = PromptFormat(templating.PLAIN, 128, True)
CASES = {
    "1 test row": {"test": 1},
    "2 test rows": {"test": 2},
    "7 test rows": {"test": 7},
    "28 test rows": {"test": 28},
    "one class in test": {"test": 7, "classes": 1},
    "every answer right": {"test": 7, "answers": "right"},
    "every answer wrong": {"test": 7, "answers": "wrong"},
    "28 wrong": {"test": 28, "answers": "wrong"},
    "one option a row": {"test": 7, "options": 1},
    "1 val row": {"test": 7, "val": 1},
    "2 val rows, all right": {"test": 2, "val": 2, "answers": "right"},
    "val never looked at": {"test": 7, "looked": False},
    "val cut short": {"test": 7, "val": 6, "val_rows": 2},
    "a head beside it": {"test": 7, "head": True},
    "a head and 1 test row": {"test": 1, "head": True, "val": 1},
    "every baseline": {"test": 7, "ladder": True},
}


def make_rows(split, count, classes=3, options=3):
    """Rows of a few words that tell the class."""
    rows = []
    for i in range(count):
        label = LABELS[i % classes]
        others = [name for name in LABELS if name != label][: options - 1]
        text = WORDS[label] * 3 + f"第{i}号"
        row = {"id": f"{split}-{i}", "source_id": None, "text": text}
        rows.append(row | {"category": [*others, label][-options:], "output": label})
    return rows


@pytest.fixture(scope="module")
def small(tmp_path_factory, tokenizer, copy_tokenizer):
    """A folder with a tiny random model, the model itself, and a random adapter for it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    folder = tmp_path_factory.mktemp("small")
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **shape)).eval()
    network.save_pretrained(folder / "model")
    copy_tokenizer(folder / "model")
    copy = AutoModelForCausalLM.from_pretrained(folder / "model")
    lora = get_peft_model(copy, LoraConfig(r=2, target_modules=r"model\..*_proj"))
    for name, weight in lora.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    lora.save_pretrained(folder / "adapter")
    headed = AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=3)
    choices = LoraConfig(r=2, target_modules=r"model\..*_proj", modules_to_save=["score"])
    get_peft_model(headed, choices).save_pretrained(folder / "head")
    return folder, network


def make_run(run, small, case):
    """Make a run folder with splits and one setting, as chapters 1 and 4 leave them."""
    folder, _ = small
    options = case.get("options", 3)
    for split, count in (("train", 12), ("val", case.get("val", 6))):
        files.write_jsonl(run / "data" / f"{split}.jsonl", make_rows(split, count, 3, options))
    test = make_rows("test", case["test"], case.get("classes", 3), options)
    files.write_jsonl(run / "data" / "test.jsonl", test)
    files.write_json(run / "data" / "summary.json", {"source": "sample"})
    setting = run / "train" / "rank2"
    (setting / "adapter").mkdir(parents=True)
    for name in adapters.WEIGHTS:
        (setting / "adapter" / name).write_bytes((folder / "adapter" / name).read_bytes())
    own = AdapterPrompt(str(folder / "model"), FORMAT, sorted(LABELS))
    adapters.write_prompt(setting / "adapter", own)
    summary = {"seconds": 6.0, "best_step": 2, "steps": 2, "dtype": "float32"}
    files.write_json(setting / "summary.json", summary)
    (setting / "val.jsonl").write_text("{}\n" * case.get("val", 6))
    lines = [
        {"loss": 2.0 - i, "global_step/max_steps": f"{i + 1}/2", "epoch": (i + 1) / 2}
        for i in range(2)
    ]
    if case.get("looked", True):
        seen = {"eval_loss": 0.5, "eval_seq_acc": 0.5, "global_step/max_steps": "2/2", "epoch": 1.0}
        lines.append(seen)
    files.write_jsonl(setting / "logging.jsonl", lines)
    if case.get("head"):
        shutil.copytree(folder / "head", run / "train" / "head" / "adapter")
        own = AdapterHead(str(folder / "model"), sorted(LABELS), 64, True)
        adapters.write_prompt(run / "train" / "head" / "adapter", own)
        files.write_json(run / "train" / "head" / "summary.json", {"seconds": 5.0})


def stub_answers(kind):
    """Predictions in the form of scoring.predict, right or wrong as a case wants them."""

    def answers(folder, tokenizer, prompt, rows, adapter=None, calibrate=True):
        if isinstance(prompt, AdapterHead):
            return asking.head_answers(folder, tokenizer, prompt, rows, adapter)
        rng = np.random.default_rng(len(rows))
        lines = []
        for row in rows:
            nats = rng.normal(size=len(row["category"])) - 2
            place = row["category"].index(row["output"])
            nats[place] += {"right": 9.0, "wrong": -9.0}.get(kind, 1.0)
            option = row["category"][int(nats.argmax())]
            result = {"generated": option, "option": option, "logprobs": list(nats)}
            result["tokens"] = [2] * len(nats)
            line = {"id": row["id"], "source_id": None, "label": row["output"], "seconds": 0.1}
            line |= {"options": row["category"], "tokens": 50}
            prior = [-1.0] * len(nats) if calibrate else None
            lines.append(line | scoring.mode_predictions(result, row["category"], prior))
        return lines

    return answers


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_chapter_five_runs_through(name, small, tokenizer, encoder_folder, tmp_path, monkeypatch):
    case = CASES[name]
    make_run(tmp_path / "run", small, case)
    monkeypatch.setattr(models, "load_model", lambda *given, **choices: small[1])
    monkeypatch.setattr(models, "load_tokenizer", lambda model: tokenizer)
    monkeypatch.setattr(asking, "answers", stub_answers(case.get("answers")))
    given = {"run_dir": str(tmp_path / "run"), "probe_rows": 2, "val_rows": case.get("val_rows")}
    if case.get("ladder"):
        given |= {"ladder": True, "encoder": str(encoder_folder)}
    left = run_cells("05-evaluation", **given)
    results = json.loads((tmp_path / "run" / "eval" / "metrics.json").read_text(encoding="utf-8"))
    share = results["models"]["rank2"]["score"]
    assert share["n"] == case["test"]
    assert share["ci95"][0] <= share["accuracy"] <= share["ci95"][1]
    assert left["val_counts"] == {"rank2": case.get("val", 6)}  # what the training looked at
    assert set(left["learning"]["rank2"]["n"]) <= {case.get("val", 6)}
    asked_for = ["frozen_logistic", "encoder"] if case.get("ladder") else []
    assert set(results["baselines"]) == {"majority", "tfidf_svm", *asked_for}
    assert all(results["baselines"][name]["seconds"] > 0 for name in asked_for)
    assert list(results["heads"]) == (["head"] if case.get("head") else [])
    if case.get("head"):
        own, pairs = results["heads"]["head"], [(p["a"], p["b"]) for p in results["mcnemar"]]
        assert own["n"] == case["test"] and own["against"]["name"] == "rank2"
        assert ("head", "rank2") in pairs and ("head", "tfidf_svm") in pairs
        assert results["cost"]["head"]["train_seconds"] == 5.0
        answered = files.read_jsonl(tmp_path / "run" / "eval" / "head" / "predictions.jsonl")
        assert len(answered) == case["test"]
    if "answers" in case:
        wrong_is_impossible = case.get("options") == 1
        right = case["answers"] == "right" or wrong_is_impossible
        assert share["accuracy"] == float(right)
