"""Ask one model of a run ahead of chapter 5: `python -m tools.ask runs/sample base-editor`.

The untouched model does not wait for any training, and two models can be asked side by side. What
is answered lies where chapter 5 looks for it; chapter 5 asks for whatever is missing.
"""

import argparse
from pathlib import Path

from helpers import InputError, adapters, asking, budgets, leave, models, scoring, sources
from helpers.adapters import AdapterPrompt
from helpers.profiles import Profile, read_profile
from helpers.templating import PromptFormat, find_template


def base_prompt(profile: Profile, name: str) -> AdapterPrompt:
    """The prompt by which the untouched model is asked.

    Args:
        profile: of the run.
        name: base-<template>; see Profile.bases.

    Raises:
        InputError: when no setting has that template.
    """
    if name not in profile.bases:
        raise InputError(f"of this profile there are {', '.join(profile.bases)}")
    values = profile.bases[name]
    prompt_format = PromptFormat(
        find_template(values["template"]),
        values["max_length"],
        profile.values["bos"],
        values.get("cut", "head"),
    )
    return AdapterPrompt(profile.values["model"], prompt_format, [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("name", help="base-<template>, or a setting")
    arguments = parser.parse_args()
    run, name = arguments.run, arguments.name
    print(f"▶ asking {name}\n", end="", flush=True)  # in one piece; see helpers.notebooks
    try:
        profile = read_profile(run.name)
        test = sources.read_rows(run / "data" / "test.jsonl")
        if name.startswith("base-"):
            prompt, adapter = base_prompt(profile, name), None
        else:
            adapter = run / "train" / name / "adapter"
            head = adapters.is_head(adapter)
            prompt = adapters.read_head(adapter) if head else adapters.read_prompt(adapter)
        tokenizer, config = models.load_tokenizer(prompt.model), models.load_config(prompt.model)
        length = getattr(prompt, "prompt_format", prompt).max_length  # a head has its own
        nodes = scoring.most_nodes(tokenizer, [row["category"] for row in test])
        budgets.check_chapter(config, 5, length, nodes=nodes)
        asking.answers(run / "eval" / name, tokenizer, prompt, test, adapter)
        if adapter and not head:
            val = sources.read_rows(run / "data" / "val.jsonl")
            val = val[: profile.values["evaluation"].get("val_rows")]  # as chapter 5 does
            asking.answers(run / "eval" / name / "val", tokenizer, prompt, val, adapter, False)
    except InputError as error:
        leave(f"✗ {name}: {error}")


if __name__ == "__main__":
    main()
