"""Who is compared: a run's trained settings and the untouched model, with logs of the trainings."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import InputError, metrics, training_log
from helpers.adapters import (
    HEAD,
    AdapterHead,
    AdapterPrompt,
    adapter_digest,
    is_head,
    read_head,
    read_prompt,
)
from helpers.files import need
from helpers.settings import (
    comparable,
    learned_from,
    rows_looked_at,
    training_rows,
    training_summary,
    whole_settings,
)
from helpers.templating import KEPT, template_name

LOGGED = ("step", "loss", "eval_loss", "eval_seq_acc")


@dataclass(frozen=True)
class Entrant:
    """One model in the comparison, tuned or not."""

    name: str
    prompt: AdapterPrompt | AdapterHead
    """The model, and how it is asked."""
    adapter: Path | None
    """The adapter's folder; None is the untouched model."""


def find_settings(run: Path, names: list[str] | None) -> dict[str, Entrant]:
    """The trained settings of a run that can write, by name; see `find_heads` for the others.

    Args:
        run: the run's folder.
        names: the settings to take, in this order; None takes all that are there, sorted.

    Raises:
        InputError: when nothing is trained, a named setting is missing, one was trained on other
            rows, all of them are heads, or they are of several models.
    """
    if names is None:
        names = [folder.name for folder in whole_settings(run)]
    if not names:
        need(run / "train" / "(a setting)" / "adapter", "04-training")
    settings, rows = {}, training_rows(run)
    for name in map(str, names):  # YAML makes a number of a setting called 8
        adapter = need(run / "train" / name / "adapter", "04-training")
        refuse_other_rows(name, adapter, rows)
        if not is_head(adapter):
            settings[name] = Entrant(name, read_prompt(adapter), adapter)
    if not settings:
        raise InputError(
            "all settings are classification heads; they are held against one that writes, so "
            "train one without task: seq_cls"
        )
    models = {entrant.prompt.model: name for name, entrant in settings.items()}
    if len(models) > 1:
        model_names = ", ".join(f"{name} of {model}" for model, name in models.items())
        raise InputError(
            f"one comparison takes settings of one model, and these differ: {model_names}; "
            "name the ones to compare in settings"
        )
    return settings


def digests(tuned: dict[str, Entrant]) -> dict[str, str]:
    """Digests of the adapters, which tell later whether figures still belong to them.

    Args:
        tuned: the settings; see `find_settings`.
    """
    return {name: adapter_digest(entrant.adapter) for name, entrant in tuned.items()}


def refuse_other_rows(name: str, adapter: Path, rows: str | None) -> None:
    """Raise InputError for a setting that learned from other rows than its run has now.

    Some of the rows that it learned from may be among those that it would be judged by.

    Args:
        name: of the setting.
        adapter: its folder. It passes where it is not known what it learned from.
        rows: digest of the training rows that the run has now; see `training_rows`.
    """
    if learned_from(adapter.parent) not in (None, rows):
        raise InputError(
            f"{name} was trained on other rows than data/train.jsonl holds now; train it again "
            "with notebook 04, or name the settings to compare in settings"
        )


def find_heads(run: Path, names: list[str] | None, model: str | None = None) -> dict[str, Entrant]:
    """The trained classification heads of a run, by name.

    Args:
        run: the run's folder.
        names: of settings, from which the heads are taken; None takes all heads that are there.
        model: of the settings that they are compared with; None takes heads of any model.

    Raises:
        InputError: when a head was trained on other rows, or is of another model.
    """
    if names is None:
        names = [folder.name for folder in whole_settings(run, HEAD)]
    folders = {name: run / "train" / name / "adapter" for name in map(str, names)}
    head_folders = {name: path for name, path in folders.items() if is_head(path)}
    rows = training_rows(run) if head_folders else None
    for name, path in head_folders.items():
        refuse_other_rows(name, path, rows)
    heads = {name: Entrant(name, read_head(path), path) for name, path in head_folders.items()}
    for name, head in heads.items():
        if model not in (None, head.prompt.model):
            raise InputError(
                f"{name} is a head of {head.prompt.model}, and the other settings are of {model}; "
                "name the ones to compare in settings"
            )
    return heads


def untouched(settings: dict[str, Entrant]) -> dict[str, Entrant]:
    """The base model, once for each template, asked like the first setting with that template.

    Args:
        settings: by name; see `find_settings`.
    """
    bases: dict[str, Entrant] = {}
    for entrant in settings.values():
        prompt = AdapterPrompt(entrant.prompt.model, entrant.prompt.prompt_format, [])
        name = base_of(entrant)
        bases.setdefault(name, Entrant(name, prompt, None))
    return bases


def base_of(entrant: Entrant) -> str:
    """The name of the untouched model under a setting's template."""
    return f"base-{template_name(entrant.prompt.prompt_format.template)}"


def entrant_table(entrants: dict[str, Entrant]) -> pd.DataFrame:
    """A table of who is asked, and how, with one line each."""
    lines = {}
    for name, entrant in entrants.items():
        prompt_format = entrant.prompt.prompt_format
        lines[name] = {
            "adapter": "trained" if entrant.adapter else "none",
            "template": template_name(prompt_format.template),
            "max_length, tokens": prompt_format.max_length,
            "read of a long article": KEPT[prompt_format.cut],
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def read_log(entrant: Entrant) -> pd.DataFrame:
    """The log of a setting's training; empty where it was not kept.

    Args:
        entrant: a trained setting.

    Returns:
        Columns step, loss, eval_loss, eval_seq_acc, and whatever else was logged.
    """
    path = entrant.adapter.parent / "logging.jsonl"
    if path.is_file() and path.stat().st_size:
        return training_log.read_log(path)
    return pd.DataFrame({column: pd.Series(dtype=float) for column in LOGGED})


def read_summary(entrant: Entrant) -> dict:
    """The summary that a setting's training left; see `settings.training_summary`."""
    return training_summary(entrant.adapter.parent)


def rows_judged(settings: dict[str, Entrant], val: list[dict]) -> dict[str, int]:
    """How many validation rows, from the first on, each training chose its checkpoint by.

    Args:
        settings: by name.
        val: all validation rows of the run; their number is taken where no file tells it.
    """
    counts = {name: rows_looked_at(own.adapter.parent) for name, own in settings.items()}
    return {name: len(val) if count is None else count for name, count in counts.items()}


def choose_best(
    logs: dict[str, pd.DataFrame],
    summaries: dict[str, dict],
    val_answers: dict[str, list[dict]],
    counts: dict[str, int],
) -> tuple[str, pd.DataFrame]:
    """The setting that is best on the validation rows; test rows have no say.

    It is the one whose kept checkpoint had the highest accuracy during training; between equals,
    the lower loss decides. Where a log holds no evaluation, or the trainings looked at different
    numbers of rows (4 of 4 says less than 96 of 100), all settings are judged instead by their
    answers by `score` to the same validation rows. Chapter 8 chooses in the same way; see
    settings.best_setting.

    Args:
        logs: each setting's log; see `read_log`.
        summaries: each setting's summary; see `read_summary`.
        val_answers: each setting's answers to the validation rows.
        counts: how many rows each training looked at; see `rows_judged`.

    Returns:
        Its name, and the table that it was chosen by: a line for each setting, with the columns
        "right on val" (share) and "loss on val" (nats).
    """
    chosen = {}
    for name, log in logs.items():
        evaluated = log.dropna(subset=["eval_loss", "eval_seq_acc"]).set_index("step")
        step = summaries[name].get("best_step")
        if step in evaluated.index:
            at_best = evaluated.loc[step]
            chosen[name] = (float(at_best["eval_seq_acc"]), float(at_best["eval_loss"]))
    shares = [chosen.get(name, (-np.inf,))[0] for name in logs]
    if not comparable(shares, [counts[name] for name in logs]):
        chosen = {
            name: (float(metrics.correct(lines, "score").mean()), np.nan)
            for name, lines in val_answers.items()
        }
    table = pd.DataFrame.from_dict(chosen, orient="index", columns=["right on val", "loss on val"])
    # the first by name wins among equals, as in chapter 8, which knows no other order
    ranked = table.sort_index().sort_values(
        ["right on val", "loss on val"], ascending=[False, True], kind="stable"
    )
    return str(ranked.index[0]), table


def minutes(summary: dict) -> float:
    """How many minutes a setting's training took; NaN where this was not kept."""
    return summary.get("seconds", np.nan) / 60


def minutes_words(summary: dict) -> str:
    """`minutes` for a sentence, such as "5.3 minutes"."""
    took = minutes(summary)
    return "an unknown time" if np.isnan(took) else f"{took:.1f} minutes"


def costs(trainings: dict[str, dict]) -> dict[str, dict]:
    """Seconds and peak memory (GiB) of each setting's training, where they were kept.

    Args:
        trainings: each setting's summary; see `read_summary`.
    """
    return {
        name: {"train_seconds": own["seconds"], "peak_gib": own.get("peak_gib")}
        for name, own in trainings.items()
        if "seconds" in own
    }
