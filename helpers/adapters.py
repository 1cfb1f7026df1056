"""An adapter's folder: its weights, and the record of how to ask it."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml

from helpers import ROOT, InputError, one_line
from helpers.files import digest, write_json
from helpers.parameters import refuse_out_of_range
from helpers.templating import CUTS, PromptFormat, refuse_placeholders, template_name

PROMPT = "prompt.json"
BASE_CHANGING = ("pissa", "olora", "loftq", "lora-ga", "corda")
"""Beginnings of init_weights' values that subtract the initial correction from the base model. An
adapter's file does not hold that change.
"""
TRUST = "trust:"
"""The prefix of a model's name that allows code from the model's own folder to run."""
HEAD = "head.json"
"""The file that a classification head's adapter has instead of prompt.json."""
WEIGHTS = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class AdapterPrompt:
    """The settings that an adapter was trained with and therefore has to be asked with."""

    model: str
    """The base model, as a profile names it."""
    prompt_format: PromptFormat
    labels: list[str]
    """All labels of the training rows, sorted."""
    strip_header: bool = False
    """Whether recognised headers were removed from the articles that it learned from."""


@dataclass(frozen=True)
class AdapterHead:
    """The settings that a classification head was trained with.

    A head reads the article alone and cannot write text.
    """

    model: str
    """The base model, as a profile names it."""
    labels: list[str]
    """All labels of the training rows, sorted; the head returns one number for each."""
    max_length: int
    """The most tokens that the head reads of an article, `<bos>` included."""
    bos: bool
    """Whether the model expects `<bos>` at the start."""


def refuse_task(task: str, cut: str) -> None:
    """Refuse an unknown task, and a cut that does not suit a classification head.

    Args:
        task: see parameters.CHOICES.
        cut: see PromptFormat; a head can only read the beginning of an article.

    Raises:
        InputError: for an unknown task, or a head with any other cut than "head".
    """
    refuse_out_of_range("task", task)
    if task == "seq_cls" and cut != "head":
        raise InputError(
            f"a classification head (task: seq_cls) reads the beginning of an article; cut is "
            f"{cut!r}, set it to head"
        )


def adapter_digest(folder: str | Path) -> str:
    """SHA-256 of an adapter's weights and configuration.

    Args:
        folder: holds adapter_config.json and adapter_model.safetensors.

    Raises:
        InputError: when one of them is missing.
    """
    paths = [Path(folder) / name for name in WEIGHTS]
    for path in paths:
        if not path.is_file():
            below = Path(folder) / "adapter"
            way = f"it lies in {below}" if below.is_dir() else "train it with notebook 04 first"
            if (Path(folder) / "config.json").is_file():
                way = "this is a whole model, as make export writes one; name its adapter's folder"
            raise InputError(f"no adapter in {folder} ({path.name} is missing); {way}")
    return digest(*paths)


def write_prompt(folder: Path, adapter_prompt: AdapterPrompt | AdapterHead) -> None:
    """Write prompt.json, or head.json for a head, into an adapter's folder.

    Args:
        folder: the adapter's.
        adapter_prompt: how the adapter has to be asked; for a head, an AdapterHead.
    """
    if isinstance(adapter_prompt, AdapterHead):
        write_json(folder / HEAD, asdict(adapter_prompt))
        return
    values = asdict(adapter_prompt.prompt_format)
    values |= {"model": adapter_prompt.model, "labels": adapter_prompt.labels}
    write_json(folder / PROMPT, values | {"strip_header": adapter_prompt.strip_header})


def read_prompt(folder: str | Path) -> AdapterPrompt:
    """How the adapter in a folder has to be asked, read from its prompt.json.

    Args:
        folder: the adapter's.

    Raises:
        InputError: when the folder holds no adapter, no prompt.json, or one that is not sound; when
            it holds a classification head.
    """
    path = Path(folder) / PROMPT
    if is_head(folder):
        raise InputError(
            f"{folder} holds a classification head, which chapter 5 compares and nothing else can "
            "ask: name the adapter of a setting without task: seq_cls"
        )
    if not path.is_file():
        adapter_digest(folder)
        raise InputError(
            f"{path} is missing: an adapter from before it was written. Train it again with "
            "notebook 04, or write the file by hand: "
            '{"model": "gemma-3-270m", "template": "…{text}…{options}…", "max_length": 256, '
            '"bos": true, "cut": "head", "labels": ["体育", "财经"]}'
        )
    kinds = {"template": str, "max_length": int, "bos": bool, "cut": str}
    kinds |= {"model": str, "labels": list, "strip_header": bool}
    values = read_record(path, kinds, {"strip_header": False})
    if values["cut"] not in CUTS:
        raise InputError(f"{path} is not sound: cut is wrong")
    refuse_placeholders(values["template"], f"{path}: template")
    model, labels, strip_header = map(values.pop, ("model", "labels", "strip_header"))
    return AdapterPrompt(model, PromptFormat(**values), labels, strip_header)


def is_head(folder: str | Path) -> bool:
    """Whether an adapter's folder holds a classification head."""
    return (Path(folder) / HEAD).is_file()


def read_head(folder: str | Path) -> AdapterHead:
    """How the classification head in a folder has to be asked, read from its head.json.

    Args:
        folder: the adapter's.

    Raises:
        InputError: when head.json is missing or not sound.
    """
    path = Path(folder) / HEAD
    kinds = {"model": str, "labels": list, "max_length": int, "bos": bool}
    return AdapterHead(**read_record(path, kinds))


def read_record(path: Path, kinds: dict[str, type], defaults: dict | None = None) -> dict:
    """The values that prompt.json or head.json holds, after a check.

    Args:
        path: the file.
        kinds: the type of each value, by name.
        defaults: values, by name, that older files do not hold yet.

    Raises:
        InputError: when the file is missing or damaged, a value is empty or of another type,
            max_length is below 1, labels are not distinct names, or the model asks to run code that
            no profile trusts.
    """
    try:
        values = (defaults or {}) | json.loads(path.read_text(encoding="utf-8-sig"))
        wrong = [
            name
            for name, kind in kinds.items()
            if type(values.get(name)) is not kind or (kind is not bool and not values[name])
        ]
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not sound: {one_line(error)}") from None
    if not wrong and values["max_length"] < 1:
        wrong = ["max_length"]
    if not wrong:
        labels = values["labels"]
        named = all(isinstance(label, str) and label.strip() for label in labels)
        if not named or len(set(labels)) < len(labels):
            wrong = ["labels"]
    if wrong:
        raise InputError(f"{path} is not sound: {', '.join(wrong)} is wrong")
    refuse_code_of_its_own(path, values["model"])
    return {name: values[name] for name in kinds}


def refuse_code_of_its_own(path: Path, model: str) -> None:
    """Refuse a model whose own code an adapter asks to run, unless a profile here asks for it, too.

    Args:
        path: the adapter's file that names the model.
        model: the base model as named there.

    Raises:
        InputError: when no profile does. An adapter may come from anywhere, so that only the reader
            can say whose code to trust.
    """
    if not model.startswith(TRUST):
        return
    for profile in sorted((ROOT / "profiles").glob("*.yml")):
        try:
            values = yaml.safe_load(profile.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(values, dict) and values.get("model") == model:
            return
    raise InputError(
        f"{path} asks to run code that {model.removeprefix(TRUST)} brings; read that code, and if "
        f"you trust it, say `model: {model}` in a profile of profiles/"
    )


def resolve(folder: str | Path, insist: bool = False, **given) -> AdapterPrompt:
    """How to ask an adapter when the caller has wishes of their own.

    Args:
        folder: the adapter's.
        insist: whether wishes that contradict the adapter are meant.
        **given: any of model, template (its text), max_length, bos, cut; None means no wish.

    Raises:
        InputError: when a wish contradicts the adapter and the caller does not insist.
    """
    own = read_prompt(folder)
    values = asdict(own.prompt_format) | {"model": own.model}
    wishes = {name: value for name, value in given.items() if value is not None}
    contradicted = [name for name, value in wishes.items() if values[name] != value]
    if contradicted and not insist:
        said = ", ".join(
            f"{name} {show(name, wishes[name])} where it learned {show(name, values[name])}"
            for name in contradicted
        )
        raise InputError(f"the adapter in {folder} is asked with {said}; set insist to mean it")
    model = wishes.pop("model", own.model)
    return replace(own, model=model, prompt_format=replace(own.prompt_format, **wishes))


def show(name: str, value) -> str:
    """A wish or a value as a message shows it: a template by its name."""
    return template_name(value) if name == "template" else repr(value)
