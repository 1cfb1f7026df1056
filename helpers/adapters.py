"""An adapter's folder: its weights, and how it wants to be asked."""

import json
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from helpers import InputError, one_line
from helpers.files import write_json
from helpers.templating import CUTS, PromptFormat, template_name

PROMPT = "prompt.json"
WEIGHTS = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class AdapterPrompt:
    """What an adapter was trained with, and so what it has to be asked with."""

    model: str
    """The base model, as a profile names it."""
    prompt_format: PromptFormat
    labels: list[str]
    """All labels of the training rows, sorted."""


def adapter_digest(folder: str | Path) -> str:
    """SHA-256 of an adapter's weights and configuration.

    Args:
        folder: holds adapter_config.json and adapter_model.safetensors.

    Raises:
        InputError: when one of them is missing.
    """
    digest = sha256()
    for name in WEIGHTS:
        if not (Path(folder) / name).is_file():
            raise InputError(
                f"no adapter in {folder} ({name} is missing); train it with notebook 04 first"
            )
        digest.update((Path(folder) / name).read_bytes())
    return digest.hexdigest()


def write_prompt(folder: Path, adapter_prompt: AdapterPrompt) -> None:
    """Write prompt.json into an adapter's folder.

    Args:
        folder: the adapter's.
        adapter_prompt: model, prompt format and labels.
    """
    values = asdict(adapter_prompt.prompt_format)
    values |= {"model": adapter_prompt.model, "labels": adapter_prompt.labels}
    write_json(folder / PROMPT, values)


def read_prompt(folder: str | Path) -> AdapterPrompt:
    """How the adapter in a folder wants to be asked.

    Args:
        folder: the adapter's.

    Raises:
        InputError: when the folder has no adapter, no prompt.json, or one that is not sound.
    """
    path = Path(folder) / PROMPT
    if not path.is_file():
        adapter_digest(folder)
        raise InputError(
            f"{path} is missing: an adapter from before it was written. Train it again with "
            "notebook 04, or write the file by hand: "
            '{"model": "gemma-3-270m", "template": "…{text}…{options}…", "max_length": 256, '
            '"bos": true, "cut": "head", "labels": ["…", "…"]}'
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        kinds = {"template": str, "max_length": int, "bos": bool, "cut": str}
        kinds |= {"model": str, "labels": list}
        wrong = [
            name
            for name, kind in kinds.items()
            if type(values.get(name)) is not kind or (kind is not bool and not values[name])
        ]
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} is not sound: {one_line(error)}") from None
    if wrong or values["cut"] not in CUTS or not all(isinstance(v, str) for v in values["labels"]):
        raise InputError(f"{path} is not sound: {', '.join(wrong) or 'cut or labels'} is wrong")
    values = {name: values[name] for name in kinds}
    model, labels = values.pop("model"), values.pop("labels")
    return AdapterPrompt(model, PromptFormat(**values), labels)


def resolve(folder: str | Path, insist: bool = False, **given) -> AdapterPrompt:
    """How an adapter is to be asked when a caller has wishes of his own.

    Args:
        folder: the adapter's.
        insist: whether the caller means what contradicts the adapter.
        **given: any of model, template (its text), max_length, bos, cut; None is no wish.

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
    return AdapterPrompt(model, replace(own.prompt_format, **wishes), own.labels)


def show(name: str, value) -> str:
    """A wish or a value as a message shows it: a template by its name."""
    return template_name(value) if name == "template" else repr(value)
