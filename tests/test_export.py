"""The exported folder by itself: the lines in its README give the same answers as this project."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from helpers import (
    InputError,
    adapters,
    decision,
    export,
    files,
    hybrid,
    models,
    scoring,
    settings,
    templating,
)

LABELS = ["Art", "Enviornment", "Sports", "体育"]
FORMAT = templating.PromptFormat(templating.EDITOR, 160, True)


@pytest.fixture(scope="module")
def setting(tmp_path_factory, draw_adapter):
    """A setting of a run, with random weights, and with figures such as chapter 5 records."""
    folder = tmp_path_factory.mktemp("run 一") / "train" / "rank4"
    draw_adapter(folder, FORMAT, LABELS, r=4)
    part = {"temperature": 2.0, "n": 60, "sets": {"level": 0.9, "threshold": 0.1}, "targets": {}}
    decision.write_decision(folder / "adapter", {"model": part, "hybrid": None})
    texts = ["画展 油画", "美术 油画", "球队 进球", "球队 比赛"]
    linear = hybrid.fit_linear(texts, ["Art", "Art", "Sports", "Sports"])
    hybrid.save_linear(linear, folder / "adapter")
    score = {"accuracy": 0.9, "ci95": [0.85, 0.936], "n": 200, "macro_f1": 0.9}
    run = folder.parents[1]
    measured = {"models": {"rank4": {"score": score}}}
    measured["adapters"] = {"rank4": adapters.adapter_digest(folder / "adapter")}
    files.write_json(run / "eval" / "metrics.json", measured)
    files.write_json(run / "data" / "summary.json", {"source": str(run / "private" / "my.xlsx")})
    return folder


@pytest.fixture
def own(tmp_path, setting):
    """The setting's adapter, copied into a run of its own."""
    return shutil.copytree(setting / "adapter", tmp_path / "run" / "train" / "s" / "adapter")


@pytest.fixture(scope="module")
def exported(setting):
    return export.export_model(setting / "adapter")


@pytest.fixture(scope="module")
def articles(sample):
    """The sample's shortest and longest articles, with the end token written into the text."""
    found = (pick((row["text"] for row in sample["test"]), key=len) for pick in (min, max))
    return {
        length: article[:60] + "<eos>" + article[60:]
        for length, article in zip(("short", "long"), found)
    }


@pytest.fixture(scope="module")
def by_readme(exported, articles):
    """Nats by option, as the lines of the exported README print them for each article.

    The lines run where this project cannot be imported.
    """
    [code] = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.S)
    program = (
        "import functools, json, sys; sys.modules['helpers'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "for kind in (AutoModelForCausalLM, AutoTokenizer):\n"
        "    kind.from_pretrained = functools.cache(kind.from_pretrained)  # once for all\n"
        "code, articles = json.load(sys.stdin)\n"
        "for article in articles:\n"
        "    open('article.txt', 'w', encoding='utf-8').write(article)\n"
        "    exec(compile(code, 'README.md', 'exec'), {})\n"
        "    print('next')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        input=json.dumps([code, [*articles.values()]]),
        cwd=exported, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    (exported / "article.txt").unlink()
    assert done.returncode == 0, done.stderr
    printed = [text.strip().splitlines() for text in done.stdout.split("next\n")[:-1]]
    return {
        length: {option: float(nats) for nats, option in (line.split(" ", 1) for line in lines)}
        for length, lines in zip(articles, printed, strict=True)
    }


@pytest.fixture(scope="module")
def network(setting):
    """The weights merged in bfloat16, as in daily use, but computing in float32."""
    merged = models.load_model(models.PACKAGED, setting / "adapter", dtype="bfloat16")
    network = models.load_model(models.PACKAGED, dtype="float32")
    network.load_state_dict({name: w.float() for name, w in merged.state_dict().items()})
    return network


@pytest.fixture(scope="module")
def exact(setting):
    return models.load_model(models.PACKAGED, setting / "adapter", dtype="float32")


@pytest.mark.parametrize("length", ["short", "long"])
def test_the_readmes_lines_give_the_scorers_numbers(
    by_readme, articles, network, exact, tokenizer, length
):
    theirs, row = by_readme[length], {"id": "x", "text": articles[length], "category": LABELS}
    prompt = templating.fit(tokenizer, FORMAT, row)
    assert (prompt.kept < 1) == (length == "long")
    [ours] = scoring.ask(network, tokenizer, [prompt.ids], [LABELS])
    assert list(theirs) == LABELS
    assert list(theirs.values()) == pytest.approx(ours["logprobs"], abs=1e-3)
    [unrounded] = scoring.ask(exact, tokenizer, [prompt.ids], [LABELS])
    best = max(zip(unrounded["logprobs"], LABELS, strict=True))[1]
    assert max(theirs, key=theirs.get) == best


def test_the_folder_holds_what_others_need(exported, setting):
    names = {path.name for path in exported.iterdir()}
    assert {
        "model.safetensors", "config.json", "generation_config.json", "tokenizer.json",
        "prompt.json", "decision.json", "linear.npz", "linear.json", "README.md",
        "GEMMA_TERMS.html", "NOTICE.md",
    } <= names  # fmt: skip
    assert not [name for name in names if "adapter" in name]
    assert exported == setting.parents[1] / "export" / "rank4"
    modes = {(exported / name).stat().st_mode for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1
    with safe_open(exported / "model.safetensors", "pt") as weights:
        kinds = {str(weights.get_tensor(name).dtype) for name in weights.keys()}
    assert kinds == {"torch.bfloat16"}
    for name in ("prompt.json", "decision.json", "linear.npz", "linear.json"):
        assert (exported / name).read_bytes() == (setting / "adapter" / name).read_bytes()
    texts = [
        p for p in exported.iterdir() if p.suffix in (".json", ".md") and p.name != "tokenizer.json"
    ]
    private = (str(setting.parents[2]), str(models.cache_dir()))
    assert not [p for p in texts if any(path in p.read_text(encoding="utf-8") for path in private)]


def test_the_card_says_figures_data_and_terms(exported):
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert "| score | 90.0 | 85.0 – 93.6 | 200 |" in card
    assert "license: gemma" in card and "https://ai.google.dev/gemma/terms" in card
    assert "`my.xlsx`" in card and "divided by 2.000" in card and "Art，Enviornment" in card


def test_a_card_without_figures_says_so(tmp_path, setting, draw_adapter):
    prompt = adapters.read_prompt(setting / "adapter")
    card = export.model_card(tmp_path, "rank4", setting / "adapter", prompt)
    assert "Not measured" in card and "kept no summary" in card


def test_a_card_does_not_say_where_a_base_lies_on_this_machine(tmp_path, setting):
    prompt = dataclasses.replace(adapters.read_prompt(setting / "adapter"), model="/home/me/yi-6b")
    card = export.model_card(tmp_path, "rank4", setting / "adapter", prompt)
    assert "base_model: yi-6b\n" in card and "/home/me" not in card


def test_its_prompt_does_not_say_either(tmp_path, setting, monkeypatch):
    base = models.packaged_model()
    prompt = dataclasses.replace(adapters.read_prompt(setting / "adapter"), model=str(base))
    monkeypatch.setattr(export, "save_model", lambda *_: None)
    monkeypatch.setattr(models, "load_model", lambda *_, **__: torch.nn.Identity())
    export.write_model(tmp_path / "news", setting / "adapter", prompt)
    values = json.loads((tmp_path / "news" / "prompt.json").read_text(encoding="utf-8"))
    assert values["model"] == base.name and values["labels"] == LABELS


def test_a_card_of_another_kind_of_adapter_says_its_kind(tmp_path, setting):
    own = shutil.copytree(setting / "adapter", tmp_path / "adapter")
    prompt = adapters.read_prompt(own)
    assert "An adapter (LoRA of rank 4, alpha 8)" in export.model_card(tmp_path, "s", own, prompt)
    (own / "decision.json").unlink()
    files.write_json(own / "adapter_config.json", {"peft_type": "IA3"})
    assert "An adapter (IA3), merged" in export.model_card(tmp_path, "s", own, prompt)


def test_a_card_has_no_figures_of_an_earlier_training(tmp_path, setting):
    own, run = setting / "adapter", tmp_path / "run"
    shutil.copytree(setting.parents[1] / "eval", run / "eval")
    prompt = adapters.read_prompt(own)

    assert "| score | 90.0 |" in export.model_card(run, "rank4", own, prompt)
    retrained = shutil.copytree(own, tmp_path / "adapter")
    (retrained / "decision.json").unlink()
    with (retrained / "adapter_config.json").open("a") as file:
        file.write(" ")
    # as left by a chapter 5 that was stopped after it had asked the setting anew
    key = {"adapter": adapters.adapter_digest(retrained)}
    files.write_json(run / "eval" / "rank4" / "key.json", key)
    earlier = export.model_card(run, "rank4", retrained, prompt)
    assert "before it was trained anew" in earlier and "90.0" not in earlier


def cut_by_readme(folder, tokenizer, cut, article, options=LABELS):
    """Run the README's lines until they have cut an article; return the names that they define.

    The model is left out, and the tokenizer is given.
    """
    code = (export.HEAD + export.CUT[cut]).split("prompt = start")[0]
    code = code.replace("dtype=torch.float32", "")
    code, gone = re.subn(r"^(model|tokenizer) = .*$", "", code, flags=re.M)
    assert gone == 2
    code = re.sub(r"^options = .*$", f"options = {options!r}", code, flags=re.M)
    (folder / "article.txt").write_text(article, encoding="utf-8")
    names = {"tokenizer": tokenizer}
    try:
        exec(code.replace('folder = "."', f"folder = {str(folder)!r}"), names)
    finally:
        (folder / "article.txt").unlink()
    return names


def test_lines_for_articles_that_lose_their_middle(exported, tokenizer, sample):
    """Only the cut differs; what the lines keep fits, and it is a beginning and an end."""
    article = max((row["text"] for row in sample["test"]), key=len)
    names = cut_by_readme(exported, tokenizer, "head+tail", article)
    size = len(names["start"] + names["prompt"]["input_ids"]) + max(map(len, names["answers"]))
    assert FORMAT.max_length - 12 < size <= FORMAT.max_length
    head, tail = names["text"].split("……")
    assert article.startswith(head) and article.endswith(tail) and abs(len(head) - len(tail)) <= 1


@pytest.mark.parametrize("cut", export.CUT)
def test_lines_say_where_options_leave_an_article_no_room(exported, tokenizer, cut):
    with pytest.raises(SystemExit, match="offer fewer"):
        cut_by_readme(exported, tokenizer, cut, "球队取胜。" * 3, [f"类别{n}" for n in range(90)])


def test_what_would_be_another_model_is_refused(tmp_path, own):
    (own.parent / "sft.yaml").write_text("quant_bits: 4\n")
    with pytest.raises(InputError, match="quantised to 4 bits"):
        export.export_model(own)
    (own.parent / "sft.yaml").write_text("quant_bits: null\n")
    values = json.loads((own / "prompt.json").read_text())
    files.write_json(own / "prompt.json", values | {"model": "trust:some/model"})
    with pytest.raises(InputError, match="asks to run code"):
        export.export_model(own)
    trusted = {"model": "trust:baichuan-inc/Baichuan2-7B-Base"}  # a profile would trust it
    files.write_json(own / "prompt.json", values | trusted)
    with pytest.raises(InputError, match="code of its own"):
        export.export_model(own)
    with pytest.raises(InputError, match="no adapter in"):
        export.export_model(tmp_path)
    assert not (tmp_path / "run" / "export").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train/s/sft.yaml", "a: ["),
        ("train/s/adapter/adapter_config.json", "{}"),
        ("eval/metrics.json", '{"models": {"s": {"score": {"accuracy": 0.5}}}}'),
        ("data/summary.json", "null"),
    ],
)
def test_a_damaged_file_of_the_run_is_named_before_anything_is_merged(
    tmp_path, own, monkeypatch, name, content
):
    (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "run" / name).write_text(content)
    monkeypatch.setattr(export, "write_model", lambda *_: pytest.fail("merged"))
    with pytest.raises(InputError, match=f"{name} is not sound"):
        export.export_model(own)


def test_a_file_in_the_folders_place_is_kept(tmp_path, own):
    (tmp_path / "run" / "export").mkdir()
    (tmp_path / "run" / "export" / "s").write_text("mine")
    with pytest.raises(InputError, match="move it away"):
        export.export_model(own)
    assert (tmp_path / "run" / "export" / "s").read_text() == "mine"


def test_it_appears_whole_or_not_at_all(tmp_path, own, monkeypatch):
    old = tmp_path / "run" / "export" / "s"
    old.mkdir(parents=True)
    (old / "old").write_text("")

    def fails_with(failure):
        def half(folder, *_):
            folder.mkdir()
            (folder / "model.safetensors").write_bytes(b"half")
            raise failure

        return half

    full = OSError(28, "No space left")
    for failure, raised in [(full, InputError), (KeyboardInterrupt(), KeyboardInterrupt)]:
        monkeypatch.setattr(export, "write_model", fails_with(failure))
        with pytest.raises(raised):
            export.export_model(own)
        assert [path.name for path in old.parent.iterdir()] == ["s"] and (old / "old").exists()
    monkeypatch.setattr(export, "write_model", lambda folder, *_: folder.mkdir())
    assert [path.name for path in export.export_model(own).iterdir()] == ["README.md"]
    assert [path.name for path in old.parent.iterdir()] == ["s"]


def test_an_adapter_outside_a_run_has_a_place_too(tmp_path):
    assert settings.place_of(tmp_path / "mine") == (tmp_path, "mine")


def test_a_run_that_keeps_its_texts_to_itself_names_no_data(tmp_path):
    files.write_json(tmp_path / "data" / "summary.json", {"source": "not shown"})
    [said] = export.data_lines(tmp_path)
    assert "does not name its data" in said and "not shown" not in said
