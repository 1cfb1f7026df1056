"""The parameters that a notebook takes: its parameters cell declares their names and types.

A line of that cell reads `rank: int = 8  # LoRA rank r`.
"""

import ast
import math
import re
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import yaml

from helpers import ROOT, InputError
from helpers.files import read_json

LEAST = {"seed": 0, "dropout": 0} | dict.fromkeys(
    "rank alpha steps rows_per_step batch_size max_length evaluations checkpoint_rows nproc "
    "train_limit val_limit test_limit probe_rows val_rows orders".split(),
    1,
)
"""The smallest number allowed, by parameter."""
MOST = {"seed": 2**32 - 2}  # an exercise also draws with the next higher seed
LENGTHS = ("lengths", "candidate_lengths")
"""Parameters that are lists of whole numbers of tokens."""
EXAMPLES = {"swift_arguments": "{weight_decay: 0.1}", "learning_rate": "0.0001"} | dict.fromkeys(
    LENGTHS, "[128, 256]"
)
"""Values that messages show for a parameter, where its type alone suggests none that would do."""
CHOICES = {
    "on_bad_row": ("error", "skip"),
    "rare_classes": ("error", "train", "drop"),
    "cut": ("head", "head+tail"),
    "task": ("causal_lm", "seq_cls"),
}
"""The values allowed, by parameter. Tasks have the names that swift gives them: `causal_lm` answers
in words, `seq_cls` by a classification head.
"""
HELD_OUT = ("val_share", "test_share")
"""Parameters that are shares of the rows not learned from, each at most a half."""
SETTING = re.compile(r"(?!base-|(majority|encoder|rows)$)[a-z0-9][a-z0-9.-]{0,99}(?<!-varied)")
"""The names allowed for a setting; they leave out those of chapter 5's own entrants and folders."""


class PlainLoader(yaml.SafeLoader):
    """YAML as people read it: 1e-4 is a number, 0256 and 12:30 are not, and no key may repeat."""

    yaml_implicit_resolvers: ClassVar = {
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag.rpartition(":")[2] not in ("int", "float", "timestamp")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor):
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen:
                raise yaml.composer.ComposerError(
                    None, None, f"the key {key.value} stands there twice", key.start_mark
                )
            seen |= {key.value} if isinstance(key.value, str) else set()
        return node


PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789")
)
PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"([-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def read_yaml(text: str):
    """The value of a text in YAML or JSON.

    Args:
        text: of a profile, or of an argument on a command line.

    Raises:
        ValueError: when the text is not YAML or repeats a key; the message is one line.
    """
    try:
        return yaml.load(text, PlainLoader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def declared_types(code: str) -> dict[str, str]:
    """The types of parameters by name, from the code of a parameters cell."""
    lines = (line for line in ast.parse(code).body if isinstance(line, ast.AnnAssign))
    return {line.target.id: ast.unparse(line.annotation).strip("'") for line in lines}


def parameters_of(notebook: Path) -> dict[str, str]:
    """The types of parameters by name, as a notebook declares them.

    Args:
        notebook: an .ipynb file.
    """
    return declared_types(parameters_cell(notebook))


def defaults_of(notebook: Path) -> dict:
    """The default values of a notebook's parameters, by name.

    Args:
        notebook: an .ipynb file.
    """
    lines = ast.parse(parameters_cell(notebook)).body
    return {line.target.id: ast.literal_eval(line.value) for line in lines}


def parameters_cell(notebook: Path) -> str:
    """The code of the cell that papermill takes a notebook's parameters from."""
    cells = read_json(notebook)["cells"]
    tagged = (c for c in cells if "parameters" in c["metadata"].get("tags", []))
    return "".join(next(tagged)["source"])


def refuse_wrong(given: dict, declared: dict[str, str]) -> None:
    """Check the parameters that a notebook is given against those that it declares.

    Args:
        given: values by name.
        declared: types by name, such as "int" or "int or None".

    Raises:
        InputError: for a name that is not declared, a value of another type or out of range, and
            a step that cannot be divided into equal batches.
    """
    if unknown := sorted(map(str, given.keys() - declared.keys())):
        raise InputError(
            f"this notebook has no parameter {', '.join(unknown)}; it has: {', '.join(declared)}"
        )
    for name, value in given.items():
        if declared[name] != "None":  # papermill's word for a type that is not declared
            refuse_type(name, value, declared[name])
            refuse_out_of_range(name, value)
    at_once = given.get("batch_size", 1) * given.get("nproc", 1)
    if given.get("rows_per_step", 0) % at_once:
        raise InputError(
            f"rows_per_step {given['rows_per_step']} is no multiple of batch_size × nproc, "
            f"{at_once}; make it one, or batch_size smaller"
        )


def refuse_type(name: str, value, declared: str) -> None:
    """Raise InputError for a value of another type than its parameter declares.

    Args:
        name: of a parameter.
        value: that it is given.
        declared: such as "int or None".
    """
    kind = "None" if value is None else type(value).__name__
    allowed = declared.split(" or ")
    if kind not in allowed and not (kind == "int" and "float" in allowed):
        raise InputError(
            f"this notebook takes {declared} for the parameter {name}, not {value!r}"
            f"{remedy(name, value, allowed)}"
        )


def remedy(name: str, value, allowed: list[str]) -> str:
    """The end of a message: how to give a parameter, for a value whose type is not allowed.

    Args:
        name: of the parameter.
        value: that it was given.
        allowed: types.
    """
    if isinstance(value, int | float) and "str" in allowed:
        return f"; as text it is -r {name} {value} for papermill, and in quotes elsewhere"
    if not isinstance(value, str) or "str" in allowed:
        return ""
    if "dict" in allowed or "list" in allowed:
        usual = "{text: content}" if "dict" in allowed else "[a, b]"
        way = f"-y '{name}: {EXAMPLES.get(name, usual)}'"
    elif "float" in allowed:
        way = f"-p {name} {EXAMPLES.get(name, share_of(value))}"
    else:
        way = f"-y '{name}: …' without quotes inside"
    return f"; on papermill's command line it is {way}"


def share_of(text: str) -> str:
    """The share that a text such as "20%" means; 0.1 where that is none of at most a half."""
    percent = re.fullmatch(r"([0-9]+\.?[0-9]*) ?[%％]", text)
    share = float(percent[1]) / 100 if percent else 0.1
    return f"{share if 0 < share <= 0.5 else 0.1:g}"


def refuse_out_of_range(name: str, value) -> None:
    """Raise InputError for a value that its parameter does not allow.

    That may be a number that is not finite or is out of range, a value that is none of the
    parameter's choices, or a bad name of a setting or of a run's folder.

    Args:
        name: of a parameter.
        value: one of the declared type.
    """
    if name == "setting":
        refuse_setting(value)
    if name == "run_dir":
        refuse_file(value)
    if name in CHOICES and value not in CHOICES[name]:
        raise InputError(f"{name} is {value!r}; it must be one of: {', '.join(CHOICES[name])}")
    if name in LENGTHS and not (value and all(type(item) is int and item > 0 for item in value)):
        raise InputError(f"{name} is {value}; it lists whole numbers above 0, as in [128, 256]")
    if not isinstance(value, int | float):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name} is {value}; it must be a number")
    if value < LEAST.get(name, value):
        raise InputError(f"{name} is {value}; it must be {LEAST[name]} or more")
    if value > MOST.get(name, value):
        raise InputError(f"{name} is {value}; it must be {MOST[name]} or less")
    if name == "dropout" and value >= 1:
        raise InputError(f"{name} is {value}; it is a share, and must be below 1")
    if name in HELD_OUT and not 0 < value <= 0.5:
        raise InputError(f"{name} is {value}; it must be above 0 and at most 0.5")
    if name in ("learning_rate", "memory_gib") and value <= 0:
        raise InputError(f"{name} is {value}; it must be above 0")


def refuse_file(folder: str) -> None:
    """Raise InputError if a run's folder, below the project's root, cannot be a folder."""
    path = ROOT / folder
    try:
        if any(place.is_file() for place in (path, *path.parents)):
            raise InputError(f"run_dir {folder!r} is a file, or below one; name a folder")
        with suppress(FileNotFoundError):
            path.stat()  # since Python 3.13, is_file does not report a name that is too long
    except OSError as error:
        raise InputError(
            f"run_dir {folder[:60]!r} … is no folder's name: {error.strerror}"
        ) from None


def refuse_setting(name: str) -> None:
    """Raise InputError if a setting's name is taken by something else, or cannot name a folder."""
    if not isinstance(name, str):
        raise InputError(f"setting {name!r} must be a text; write its name in quotes")
    if not SETTING.fullmatch(name):
        raise InputError(
            f"setting {name!r} must be at most 100 lower-case letters, digits, dots and dashes, "
            "and neither begin with base- nor end with -varied, nor be majority, encoder or rows"
        )


def without_seed(name: str) -> str:
    """The setting that a training belongs to: rank8 and rank8-seed7 are one, with two seeds."""
    return name.split("-seed")[0]


def check_parameters() -> None:
    """Refuse wrong parameters before anything runs; the cell after the parameters calls this.

    papermill itself only warns of a name that it does not know. Its inspection is not used here,
    because loading it takes seconds.
    """
    from IPython import get_ipython

    values = get_ipython().user_ns
    declared, given = {}, set()
    # the parameters cell, and the one that papermill injects after it
    for source in values["In"][-3:-1]:
        declared |= declared_types(source)
        if source.startswith("# Parameters"):
            given |= {line.targets[0].id for line in ast.parse(source).body}
    if declared:  # empty when this cell alone is run once more
        refuse_wrong({name: values[name] for name in given | declared.keys()}, declared)
