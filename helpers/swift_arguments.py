"""Arguments that a setting may pass to swift: none that a parameter or this book decides.

They are checked when a profile is read, before anything runs, and again where the arguments are
made.
"""

import math
import re

from helpers import InputError
from helpers.adapters import BASE_CHANGING

SAID_ELSEWHERE = {
    "model": "model",
    "template": "bos and template",
    "lora_rank": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "max_steps": "steps",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "rows_per_step",
    "learning_rate": "learning_rate",
    "max_length": "max_length",
    "eval_steps": "evaluations",
    "save_steps": "evaluations",
    "seed": "seed",
    "data_seed": "seed",
}
"""Arguments of swift, each with the parameter that decides it; the two might contradict."""
OWN = (
    "dataset val_dataset output_dir add_version tuner_type resume_from_checkpoint ENV "
    "external_plugins"
).split()
"""Arguments of swift that this book decides, such as where files lie and that it is a LoRA."""
DECIDED_BY_TASK = ("task_type", "num_labels", "problem_type")
"""Arguments of swift that follow from the parameter task and the rows."""
GIVEN = (
    "model_type callbacks logging_dir check_model torch_dtype attn_impl target_modules "
    "truncation_strategy per_device_eval_batch_size padding_side gradient_checkpointing "
    "lr_scheduler_type warmup_ratio logging_steps acc_strategy metric_for_best_model "
    "logging_nan_inf_filter lazy_tokenize dataloader_num_workers report_to use_cpu modules_to_save"
).split()
"""Arguments that this book gives swift and that a setting may change, or take away with null."""


def check_swift_arguments(given: dict) -> None:
    """Check what a setting passes to swift, as far as its parameters alone allow.

    Args:
        given: all parameters of chapter 4 by name, swift_arguments among them.

    Raises:
        InputError: see `total_steps` and `refuse_arguments`.
    """
    extra, arguments = dict(given["swift_arguments"]), decided(given)
    by_epochs = extra.get("num_train_epochs") is not None
    steps = total_steps(given["steps"], extra, train_rows=1, rows_per_step=1)
    if not by_epochs:  # else the steps depend on how many rows there are, which nobody knows yet
        arguments |= rhythm(steps, given["evaluations"])
    refuse_arguments(arguments, extra)


def decided(given: dict) -> dict:
    """The arguments of swift that single parameters of chapter 4 decide.

    Args:
        given: rank, alpha, dropout, max_length, learning_rate, rows_per_step, batch_size, nproc and
            seed by name, already checked.
    """
    at_once = given["batch_size"] * given["nproc"]
    return {
        "lora_rank": given["rank"],
        "lora_alpha": given["alpha"],
        "lora_dropout": given["dropout"],
        "max_length": given["max_length"],
        "per_device_train_batch_size": given["batch_size"],
        "gradient_accumulation_steps": given["rows_per_step"] // at_once,
        "learning_rate": given["learning_rate"],
        "seed": given["seed"],
        "data_seed": given["seed"],  # this alone decides swift's order of rows
    }


def rhythm(max_steps: int, evaluations: int) -> dict:
    """The arguments of swift that say how long it trains, and how often it looks at val.

    Args:
        max_steps: see `total_steps`.
        evaluations: the most evaluations, evenly spread; swift adds one at the end.
    """
    every = math.ceil(max_steps / evaluations)
    return {"max_steps": max_steps, "eval_steps": every, "save_steps": every}


def refuse_arguments(arguments: dict, extra: dict) -> None:
    """Refuse further arguments that decide again, be it under a shortened name, what is decided.

    Args:
        arguments: of swift, as the parameters decide them.
        extra: further arguments; a value of None takes one away.

    Raises:
        InputError: for an argument that a parameter or this book decides, if it gets another value
            or is taken away; for a name that swift would complete, or that it spells with
            underscores; for a name or a value that YAML made of a slip; see `refuse_unreadable`.
    """
    known = [*arguments, *SAID_ELSEWHERE, *OWN, "num_train_epochs", "max_epochs"]
    for name, value in extra.items():
        refuse_slip(name, value, [*known, *GIVEN, *DECIDED_BY_TASK])
        whole = str(name).replace("-", "_")
        if name not in known and (meant := [own for own in known if own.startswith(whole)]):
            raise InputError(f"swift would read the argument {name} as {meant[0]}; write it whole")
        if value is None and name in SAID_ELSEWHERE and name != "model":
            raise InputError(
                f"{name}: null takes away what the parameter {SAID_ELSEWHERE[name]} decides, and "
                "the figures would go by the parameter; say it there"
            )
        if value is None and name in arguments and name in (*OWN, "model"):
            raise InputError(f"{name}: null takes from swift what this book needs; take it out")
        if value is None or value == arguments.get(name):
            continue
        if name in DECIDED_BY_TASK:
            raise InputError(f"{name} is what the parameter task decides; say it there")
        if name in SAID_ELSEWHERE and name in arguments:
            raise contradiction(name, value, arguments[name])
        if name in OWN:
            raise InputError(f"{name} is this book's own and cannot be given to swift; take it out")
    refuse_unreadable(extra)


def refuse_slip(name, value, known: list[str]) -> None:
    """Refuse what YAML makes of a decimal comma, a list without brackets and a missing space.

    Args:
        name: of an argument, as YAML read it.
        value: likewise.
        known: names of arguments that may be taken away with null.

    Raises:
        InputError: with the likely slips.
    """
    slips = "behind a colon belongs a space, around a list [ ], and a decimal has a point"
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][\w-]*", name):
        raise InputError(f"{name!r} is no argument of swift; {slips}")
    if value is None and name not in known:
        raise InputError(
            f"{name} has no value, and this book gives swift none to take away; {slips}"
        )
    if value is False and name.endswith("_strategy"):
        raise InputError(f"{name}: YAML reads no as false; write 'no' in quotes")


def refuse_unreadable(extra: dict) -> None:
    """Refuse arguments with which the adapter, loaded onto its base, would not be what was trained.

    Args:
        extra: further arguments of swift.

    Raises:
        InputError: for an adapter to start from, new tokens, corrections of the embedding or of the
            output matrix, and an initial correction that is subtracted from the base model.
    """
    for name in ("adapters", "new_special_tokens"):
        if extra.get(name):
            raise InputError(
                f"{name}: a setting of this book is one new adapter on the model as it is; take "
                f"{name} out"
            )
    start = str(extra.get("init_weights", "")).lower()
    if start.startswith(BASE_CHANGING):
        raise InputError(
            f"init_weights {start} takes a part out of the base model, which the adapter's file "
            "does not keep; leave it true, or say gaussian"
        )
    named = extra.get("target_modules") or []
    for target in [*([named] if isinstance(named, str) else named), extra.get("target_regex")]:
        if "embed" in str(target) or "lm_head" in str(target):
            raise InputError(
                f"{target} as a target: this book's forecasts and pictures count no correction of "
                "the embedding or the output matrix; name linear layers in blocks, or all-linear"
            )


def contradiction(name: str, value, decided) -> InputError:
    """The error for an argument of swift whose value is not the one that a parameter decides.

    Args:
        name: a key of SAID_ELSEWHERE.
        value: the value given to the argument.
        decided: the value that the parameter gives it.
    """
    return InputError(
        f"{name} {value} contradicts {decided}, which the parameter {SAID_ELSEWHERE[name]} "
        "decides; say it there"
    )


def total_steps(steps: int | None, extra: dict, train_rows: int, rows_per_step: int) -> int:
    """Optimizer steps of a run, from steps or epochs; takes epochs and max_steps out of `extra`.

    Args:
        steps: optimizer steps, or None.
        extra: arguments of swift, which may hold num_train_epochs, and max_steps in place of steps.
        train_rows: how many training rows there are.
        rows_per_step: how many rows each step sees.

    Raises:
        InputError: when steps and epochs are both given, or neither, or one of them is not above 0;
            for two different numbers of steps, and for max_epochs.
    """
    if extra.get("max_epochs") is not None:  # it would end a training before its last step
        raise InputError("max_epochs would end the training early; say steps or num_train_epochs")
    epochs = extra.pop("num_train_epochs", None)
    said, steps = steps, extra.pop("max_steps", steps)
    if None not in (said, steps) and steps != said:
        raise contradiction("max_steps", steps, said)
    sound = steps is None or (type(steps) is int and steps > 0)
    sound &= epochs is None or (type(epochs) in (int, float) and 0 < epochs < math.inf)
    if not sound:
        raise InputError(
            f"steps is {steps!r} and num_train_epochs {epochs!r}; steps must be a whole number, "
            "epochs a number, and both above 0"
        )
    if epochs is None and steps is None:
        if said is not None:
            raise InputError(
                f"max_steps: null takes steps {said} away, and no num_train_epochs says how long "
                "to train; take max_steps out, or give num_train_epochs"
            )
        raise InputError("neither steps nor num_train_epochs says how long to train; give one")
    if epochs is None:
        return steps
    if steps is not None:
        raise InputError(
            f"steps {steps} and num_train_epochs {epochs} are both given; "
            "keep one (steps: null in a profile, steps = None in notebook 04)"
        )
    return max(1, math.ceil(epochs * math.ceil(train_rows / rows_per_step)))
