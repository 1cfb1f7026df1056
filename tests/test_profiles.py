"""Every profile is complete, swift knows its arguments, and its architecture trains for a few steps
with random weights.
"""

import re

import pytest
import torch
from conftest import GPU_PROFILES, sft_arguments
from transformers import AutoModelForCausalLM

from helpers import ROOT, InputError, files, heads, imports, memory, profiles, swift_setup, training
from helpers.adapters import AdapterPrompt
from helpers.models import recorded_config
from helpers.parameters import read_yaml
from helpers.templating import PromptFormat, find_template
from tools.ask import base_prompt

PROFILES = {name: profiles.read_profile(name) for name in profiles.names()}
OWN_CODE = {"baichuan2-7b"}
"""Profiles whose model needs code of its own, which is not here."""


def setting_arguments(profile, setting, model, **changes):
    """Arguments of swift for one setting of a profile, but with this model."""
    given = profile.training_parameters(setting) | changes
    length = given["max_length"]
    head = given.get("task") == "seq_cls"  # chapter 4 gives it its default template, unused
    template = find_template("plain" if head else given["template"])
    prompt_format = PromptFormat(template, length, profile.values["bos"])
    names = "rank alpha dropout steps rows_per_step batch_size learning_rate evaluations seed"
    return swift_setup.sft_arguments(
        model=model,
        prompt_format=prompt_format,
        train_rows=100,
        extra=given["swift_arguments"],
        **{name: given[name] for name in names.split()},
    )


@pytest.mark.parametrize("name", PROFILES)
def test_swift_knows_every_argument_of_every_setting(name, parse, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    for setting in PROFILES[name].settings:
        arguments = setting_arguments(PROFILES[name], setting, str(tmp_path))
        parsed, unknown = parse(arguments)
        assert not unknown
        rank = PROFILES[name].values["settings"][setting]["rank"]
        assert (parsed.lora_rank, parsed.max_length) == (rank, arguments["max_length"])
        assert parsed.padding_side == "left"


def test_swift_knows_every_argument_of_a_head(parse, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    head = heads.head_arguments(["a", "b", "c"])
    arguments = sft_arguments(model=str(tmp_path), extra={"weight_decay": 0.0}, head=head)
    parsed, unknown = parse(arguments)
    assert not unknown and "acc_strategy" not in arguments
    assert (parsed.task_type, parsed.num_labels) == ("seq_cls", 3)
    assert parsed.modules_to_save == ["score"] and parsed.metric_for_best_model == "acc"


def checked(settings, **training_keys):
    """The sample's profile with other settings, after its check."""
    values = profiles.load("sample")
    values["training"] = values["training"] | training_keys
    return profiles.Profile("x", profiles.check("x", values | {"settings": settings}))


WORDS = {"template": "plain", "rank": 8, "alpha": 32}
HEAD = {"task": "seq_cls", "rank": 8, "alpha": 32}


def test_a_setting_may_be_a_classification_head():
    profile = checked({"words": WORDS, "head": HEAD | {"seeds": [1, 2], "max_length": 300}})
    assert profile.settings == ["words", "head", "head-seed2"]
    given = profile.parameters("04-training", "head")
    assert (given["task"], given["max_length"], given["swift_arguments"]) == ("seq_cls", 300, {})
    assert "template" not in given and "task" not in profile.parameters("04-training", "words")
    assert list(profile.bases) == ["base-plain"]
    asked = base_prompt(profile, "base-plain").prompt_format
    assert asked.max_length == profile.values["max_length"] != 300
    with pytest.raises(InputError, match="there are base-plain"):
        base_prompt(profile, "base-editor")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"words": WORDS | {"task": "embedding"}}, "task is .embedding.; it must be one of"),
        ({"words": WORDS, "head": HEAD | {"template": "plain"}}, "take its template away"),
        ({"words": WORDS, "head": HEAD | {"cut": "head+tail"}}, "set it to head"),
        ({"head": HEAD}, "all settings are classification heads"),
        ({"words": {"rank": 8, "alpha": 32}}, "needs template, rank and alpha"),
        ({"words": WORDS, "head": {"task": "seq_cls"}}, "needs rank and alpha"),
    ],
)
def test_a_wrong_task_is_refused_in_one_line(settings, says):
    with pytest.raises(InputError, match=says) as error:
        checked(settings)
    assert "\n" not in str(error.value)


def test_an_argument_that_swift_does_not_know_is_found(parse):
    assert parse({"model": "x", "no_such_argument": 1})[1] == ["--no_such_argument", "1"]


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Yi-6B", 6.06),
        ("Qwen1.5-1.8B", 1.84),
        ("Qwen3-0.6B-Base", 0.596),
        ("Baichuan2-7B-Base", 7.51),
    ],
)
def test_a_recorded_config_has_as_many_weights_as_its_model(name, billions):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(recorded_config(name))
    assert sum(weight.numel() for weight in model.parameters()) / 1e9 == pytest.approx(
        billions, rel=0.005
    )


@pytest.mark.parametrize("name", GPU_PROFILES)
def test_every_gpu_profile_fits_the_card_it_names(name):
    """The profile's comment names the card; the forecast of a training step must stay below it."""
    profile = PROFILES[name]
    card = 16 if "16 GB" in (ROOT / "profiles" / f"{name}.yml").read_text() else 24
    settings = [profile.training_parameters(setting) for setting in profile.settings]
    assert all(values["swift_arguments"]["gradient_checkpointing"] for values in settings)
    length, rank, batch = (
        max(values[key] for values in settings) for key in ("max_length", "rank", "batch_size")
    )
    choices = {"training": True, "rank": rank, "checkpointing": True}
    parts = memory.forecast(recorded_config(GPU_PROFILES[name]), length, batch, **choices)
    assert 0.5 < parts["total"] < card * 1e9 / 2**30


@pytest.mark.parametrize("name", [name for name in GPU_PROFILES if name not in OWN_CODE])
def test_its_architecture_trains_for_a_few_steps(name, tmp_path, sample, qwen_tokenizer):
    """Weights are random, widths are smaller, and the tokenizer is Qwen's; the arguments are those
    of the profile's first setting.
    """
    config = recorded_config(GPU_PROFILES[name])
    tokenizer = qwen_tokenizer
    heads = 4 if config.num_key_value_heads < config.num_attention_heads else 2
    shrunk = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": 2,
    }
    for key, value in (shrunk | {"head_dim": 16, "vocab_size": len(tokenizer)}).items():
        setattr(config, key, value)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:2]
    folder = tmp_path / "whatever"  # swift guesses by a folder's name, and this one does not help
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rows = [row for row in sample["train"] if len(row["text"]) < 400][:6]
    prompt_format = PromptFormat(find_template("plain"), 256, False)
    made = {
        split: training.prepare_rows(tokenizer, prompt_format, part)[0]
        for split, part in (("train", rows[:4]), ("val", rows[4:]))
    }
    short = {"steps": 2, "rows_per_step": 2, "batch_size": 1, "evaluations": 1, "max_length": 256}
    arguments = setting_arguments(PROFILES[name], PROFILES[name].settings[0], str(folder), **short)
    summary = training.train(
        tmp_path / "setting",
        arguments=arguments,
        messages=made,
        tokenizer=tokenizer,
        adapter_prompt=AdapterPrompt(str(folder), prompt_format, ["a"]),
    )
    assert arguments["gradient_checkpointing"] and summary["best_step"] == 2
    assert (tmp_path / "setting" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_profile_like_another_says_only_what_differs():
    quick, sample = PROFILES["quick"].values, PROFILES["sample"].values
    assert quick["source"] == sample["source"] and quick["settings"] != sample["settings"]
    assert quick["training"]["learning_rate"] == sample["training"]["learning_rate"]
    assert quick["training"]["steps"] < sample["training"]["steps"]


SETTING = "settings: {{a: {{template: plain, rank: 8, alpha: 32, {}}}}}"


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """odd(lines) reads a profile that is like the sample, except for these lines."""
    (tmp_path / "sample.yml").write_bytes((profiles.PROFILES / "sample.yml").read_bytes())
    monkeypatch.setattr(profiles, "PROFILES", tmp_path)

    def read(lines):
        (tmp_path / "odd.yml").write_bytes(f"like: sample\ntitle: t\n{lines}\n".encode())
        return profiles.read_profile("odd")

    return read


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("seed: 1\nseed: 2", "the key seed stands there twice .* line 4"),
        ("training: {steps: 3}\ntraining: {batch_size: 2}", "training stands there twice"),
        (SETTING.format("rank: 16"), "rank stands there twice"),
        ("max_length: 0256", "max_length is '0256', no int"),  # which YAML 1.1 reads as 174
        ("max_length: 12:30", "max_length is '12:30', no int"),  # and this as 750
        ("max_length: true", "takes int for the parameter max_length, not True"),
        ("max_length: 0", "max_length is 0; it must be 1 or more"),
        ("seed: -1", "seed is -1; it must be 0 or more"),
        ("seed: 4294967295", "it must be 4294967294 or less"),
        ("candidate_lengths: ['256']", "candidate_lengths is .*whole numbers above 0"),
        ("candidate_lengths: [256, true]", "candidate_lengths is"),
        ("memory: {lengths: [0]}", "06-out-of-memory: lengths is"),
        ("prompts: {orders: 0}", "orders is 0; it must be 1 or more"),
        ("source: []", "source is empty"),
        ("source: [1]", "source: "),
        ("data: {source: my.csv}", "data says source, which the profile decides"),
        ("training: {run_dir: x, model: y}", "training says model, run_dir"),
        ("training: {swift_arguments: {packing: true}}", "each argument of swift in a setting"),
        ("training: {rank: 4, template: editor}", "training says rank, template, .*in a setting"),
        (SETTING.format("swift_arguments: {}"), "setting 'a' says swift_arguments, "),
        (SETTING.format("bos: no, run_dir: x, source: y"), "setting 'a' says bos, run_dir, source"),
        (SETTING.format("rows_per_step: 3"), "'a': rows_per_step 3 is no multiple of .*, 4; make"),
        ("data: {columns: {txt: a}}", "01-dataset-exploration: columns maps txt; only text"),
        ("memory: {memory_gib: 0}", "06-out-of-memory: memory_gib is 0; it must be above 0"),
        ("data: {1: 2, colour: red}", "has no parameter 1, colour"),
        ("data: &d {columns: *d}", "Circular reference"),
        ("data: " + 3000 * "[" + 3000 * "]", "nested too deeply"),
        ("training: {steps: 0}", "setting 'rank8': steps is 0"),  # swift would train three epochs
        ("training: {checkpoint_rows: -5}", "checkpoint_rows is -5"),
        ("training: {learning_rate: 0}", "learning_rate is 0; it must be above 0"),
        ("training: {learning_rate: .nan}", "learning_rate is nan"),
        ("training: {learning_rat: 1e-4}", "has no parameter learning_rat; it has"),
        ("training: {dropout: 1}", "dropout is 1; it is a share"),
        ("data: {val_share: 10}", "01-dataset-exploration: val_share is 10; it must be above 0"),
        ("data: {test_share: 0}", "01-dataset-exploration: test_share is 0; it must be above 0"),
        ("data: {on_bad_row: sikp}", "on_bad_row is 'sikp'; it must be one of: error, skip"),
        ("data: {rare_classes: keep}", "must be one of: error, train, drop"),
        ("training: {cut: tail}", "cut is 'tail'; it must be one of: head, head[+]tail"),
        (SETTING.format("template: poem").replace("template: plain, ", ""), "'poem' is unknown"),
        (SETTING.format("num_train_epochs: 2"), "'a': steps 96 and num_train_epochs 2 are both"),
        (SETTING.format("steps: null"), "'a': neither steps nor num_train_epochs says how long"),
        (SETTING.format("max_steps: 4"), "max_steps 4 contradicts 96, which the parameter steps"),
        (SETTING.format("lora_rank: 4"), "'a': lora_rank 4 contradicts 8, which the .* rank"),
        (SETTING.format("eval_steps: 5"), "eval_steps 5 contradicts 32, .* evaluations decides"),
        (SETTING.format("task_type: seq_cls"), "'a': task_type is what the parameter task decides"),
        (SETTING.format("num_labels: 20"), "num_labels is what the parameter task decides"),
        (SETTING.format("dropout: 0,05"), "'05' is no argument of swift; behind a colon"),
        (SETTING.format("learning_rate: 2,5e-4"), "no argument of swift; .* a decimal has a point"),
        (SETTING.format("target_modules: q_proj, v_proj"), "v_proj has no value, .* a list"),
        (SETTING.format("weight_decay:0.1"), "'weight_decay:0.1' is no argument of swift"),
        (SETTING.format("balance:true"), "'balance:true' is no argument"),
        (SETTING.format("1: 2"), "1 is no argument of swift"),
        (SETTING.format("eval_strategy: no"), "eval_strategy: YAML reads no as false"),
        ("candidate_lengths: []", r"candidate_lengths is \[\]; it lists whole numbers"),
        (SETTING.format("max_epochs: 1"), "max_epochs would end the training early"),
        (SETTING.format("output_dir: x"), "output_dir is this book's own"),
        (SETTING.format("lora_r: 4"), "would read the argument lora_r as lora_rank"),
        (SETTING.format("seeds: [42, 43, 42]"), "each once"),
        (SETTING.format("seed: 7, seeds: [42, 43]"), "no seed beside it"),
        (SETTING.format("balance: 1").replace("a:", "a-seed43:"), "list them as seeds"),
        (SETTING.format("balance: yes").replace("a:", "majority:"), "nor be majority"),
        (SETTING.format("balance: yes").replace("a:", "yes:"), "setting True must be"),
        (SETTING.format("balance: yes").replace("a:", f"{'a' * 200}:"), "at most 100"),
    ],
)
def test_what_a_chapter_would_refuse_or_misread_is_refused_at_once(odd, lines, says):
    with pytest.raises(InputError, match=f"^profiles/odd.yml.*{says}") as error:
        odd(lines)
    assert "\n" not in str(error.value)


def test_a_profile_like_none_that_there_is_names_itself(odd, tmp_path):
    for other in ("nope", "sample.yml", "'sample '", "[sample]"):
        (tmp_path / "odd.yml").write_text(f"like: {other}\ntitle: t\n")
        with pytest.raises(InputError, match=r"^profiles/odd\.yml: like is .*, no profile"):
            profiles.read_profile("odd")


def test_what_people_write_in_a_profile_is_read_as_they_mean_it(odd):
    assert odd("bos: yes").values["bos"] is True
    values = odd("training: {learning_rate: 1e-4}\n" + SETTING.format("weight_decay: 1E-2"))
    given = values.training_parameters("a")
    assert (given["learning_rate"], given["swift_arguments"]) == (1e-4, {"weight_decay": 0.01})
    merged = "settings: {a: &a {template: plain, rank: 8, alpha: 32}, b: {<<: *a, rank: 16}}"
    assert odd(merged).training_parameters("b")["rank"] == 16
    by_epochs = odd(SETTING.format("steps: null, num_train_epochs: 2, lora_rank: 8"))
    swift = by_epochs.training_parameters("a")["swift_arguments"]
    assert swift == {"num_train_epochs": 2, "lora_rank": 8}  # saying the same twice is no fault
    for_all = "training: {steps: null, num_train_epochs: 2}\n"
    for own, steps, swift in (
        ("seed: 1", None, {"num_train_epochs": 2}),
        ("num_train_epochs: 3", None, {"num_train_epochs": 3}),
        ("steps: 7", 7, {}),
    ):
        given = odd(for_all + SETTING.format(own)).training_parameters("a")
        assert (given["steps"], given["swift_arguments"]) == (steps, swift)
    dated = odd(SETTING.format("run_name: 2024-01-01")).training_parameters("a")
    assert dated["swift_arguments"] == {"run_name": "2024-01-01"}


@pytest.mark.parametrize("name", ["../x", "a b", "it's", ""])
def test_a_profile_whose_name_is_no_folders_is_refused(name):
    with pytest.raises(InputError, match="a name has letters, digits"):
        profiles.read_profile(name)


def test_a_template_file_is_something_that_runs_depend_on(odd, tmp_path):
    (tmp_path / "mine.txt").write_text("{text}{options}")
    given = odd(SETTING.format("").replace("plain", str(tmp_path / "mine.txt")))
    assert profiles.template_files(given.training_parameters("a")) == [str(tmp_path / "mine.txt")]
    assert profiles.template_files({"template": "plain"}) == []


def test_what_a_source_is_made_of_is_something_that_runs_depend_on(odd, tmp_path, monkeypatch):
    """Files below the home and names in capitals count; Snakemake takes braces for a pattern."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "TRAIN.CSV").write_text("text,output\n")
    assert profiles.local_files("~/own") == [str(tmp_path / "own" / "TRAIN.CSV")]
    assert profiles.local_files("~/own/TRAIN.CSV") == profiles.local_files("~/own")
    assert profiles.local_files("owner/name") == []
    (tmp_path / "mine.txt").write_text("{text}{options}")
    given = odd(SETTING.format("").replace("plain", "~/mine.txt")).training_parameters("a")
    assert profiles.template_files(given) == [str(tmp_path / "mine.txt")]
    (tmp_path / "own" / "a{2024}.csv").write_text("text,output\n")
    (tmp_path / "t{x}.txt").write_text("{text}{options}")
    with pytest.raises(InputError, match=r"a name with { or }.*; rename a\{2024\}.csv$"):
        odd("source: ~/own")
    with pytest.raises(InputError, match=r"t\{x\}.txt: a name with { or }"):
        odd(SETTING.format("").replace("plain", "'~/t{x}.txt'"))
    (tmp_path / "own").rename(tmp_path / "{own}")
    with pytest.raises(InputError, match=r"TRAIN.CSV: a name with { or }.*rename {own}$"):
        odd("source: '~/{own}/TRAIN.CSV'")


def test_a_project_that_moves_depends_on_the_same_files(odd, tmp_path, monkeypatch):
    """Snakemake runs in the project's root, and other paths would make it run everything again."""
    assert profiles.local_files("sample")[0] == "data/sample/test.jsonl"
    (tmp_path / "mine.txt").write_text("{text}{options}")
    monkeypatch.setattr(files, "ROOT", tmp_path)
    given = odd(SETTING.format("").replace("plain", "mine.txt")).training_parameters("a")
    assert profiles.template_files(given) == ["mine.txt"]


def test_a_setting_says_parameters_of_its_training_that_the_profile_does_not(odd, monkeypatch):
    few = profiles.load("sample") | {"training": {"steps": 5}}
    own = WORDS | {"curve": True, "weight_decay": 0.1, "learning_rate": 0.1}
    monkeypatch.setattr(profiles, "load", lambda name: few | {"settings": {"a": own}})
    given = odd("").training_parameters("a")
    assert list(given.items())[-3:-1] == [("learning_rate", 0.1), ("curve", True)]
    assert given["swift_arguments"] == {"weight_decay": 0.1}


def test_a_profile_in_another_encoding_says_how_to_save_it(odd, tmp_path):
    (tmp_path / "gbk.yml").write_bytes("like: sample  # 中文".encode("gbk"))
    with pytest.raises(InputError, match=r"gbk.yml is not UTF-8; save it"):
        profiles.read_profile("gbk")


def test_the_helpers_of_a_notebook_are_read_from_its_imports():
    files = imports.imported_helpers(ROOT / "notebooks" / "04-training.ipynb")
    assert {"helpers/training.py", "helpers/templating.py", "helpers/cpu_step.py"} <= set(files)
    assert "helpers/scoring.py" not in files


def test_the_settings_that_a_page_shows_are_sound():
    page = (ROOT / "book" / "your-data.md").read_text(encoding="utf-8")
    blocks = map(read_yaml, re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    shown = [block["settings"] for block in blocks if "settings" in block]
    assert len(shown) == 1 and len(shown[0]) > 5
    assert "thrice-seed43" in checked(shown[0]).settings
