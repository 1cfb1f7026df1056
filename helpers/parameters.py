"""What a notebook may be given: names and types stand in its parameters cell.

A line there reads `rank: int = 8  # LoRA rank r`.
"""

import ast

from helpers import InputError


def refuse_wrong(given: dict, declared: dict[str, str]) -> None:
    """Check what a notebook is given against what it declares.

    Args:
        given: values by name.
        declared: types by name, such as "int" or "int or None".

    Raises:
        InputError: for a name that is not declared, or a value of another type.
    """
    if unknown := sorted(given.keys() - declared.keys()):
        raise InputError(
            f"this notebook has no parameter {', '.join(unknown)}; it has: {', '.join(declared)}"
        )
    for name, value in given.items():
        kind = "None" if value is None else type(value).__name__
        allowed = declared[name].split(" or ")
        if declared[name] == "None":  # so papermill calls a type that is not declared
            continue
        if kind not in allowed and not (kind == "int" and "float" in allowed):
            way = ""
            if kind == "str" and {"dict", "list"} & set(allowed):
                example = "{text: content}" if "dict" in allowed else "[a, b]"
                way = f"; on papermill's command line it is -y '{name}: {example}'"
            elif kind == "str" and "str" not in allowed:
                way = f"; on papermill's command line it is -y '{name}: …' without quotes inside"
            raise InputError(
                f"this notebook takes {declared[name]} for the parameter {name}, not {value!r}{way}"
            )


def check_parameters() -> None:
    """Refuse wrong parameters before anything runs: the cell behind them calls this.

    papermill itself only warns of a name that it does not know. Its inspection is not used here: to
    load it takes seconds.
    """
    from IPython import get_ipython

    values = get_ipython().user_ns
    declared, given = {}, set()
    # the parameters cell, and the one that papermill injects behind it
    for source in values["In"][-3:-1]:
        for statement in ast.parse(source).body:
            if isinstance(statement, ast.AnnAssign):
                declared[statement.target.id] = ast.unparse(statement.annotation).strip("'")
            elif source.startswith("# Parameters"):
                given.add(statement.targets[0].id)
    if declared:  # not when this cell alone is run once more
        refuse_wrong({name: values[name] for name in given | declared.keys()}, declared)
