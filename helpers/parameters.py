"""What a notebook may be given: names and types are those of its parameters cell, `rank: int = 8  #
LoRA rank r`.
"""

import ast

from helpers import InputError


def refuse_wrong(given: dict, declared: dict[str, str]) -> None:
    """Raise InputError unless `declared`, name to type (`int`, `int or None`), has every name given
    and its value's type.
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
            raise InputError(
                f"this notebook takes {declared[name]} for the parameter {name}, not {value!r}"
            )


def check_parameters() -> None:
    """Called by the cell behind a notebook's parameters: what papermill or a reader put there is
    refused before anything runs.

    papermill itself only warns of a name that it does not know. Its inspection is not used here: to
    load it takes seconds.
    """
    from IPython import get_ipython

    values = get_ipython().user_ns
    declared, given = {}, set()
    for source in values["In"][
        -3:-1
    ]:  # the parameters cell, and the one that papermill injects behind it
        for statement in ast.parse(source).body:
            if isinstance(statement, ast.AnnAssign):
                declared[statement.target.id] = ast.unparse(statement.annotation).strip("'")
            elif source.startswith("# Parameters"):
                given.add(statement.targets[0].id)
    if declared:  # not when this cell alone is run once more
        refuse_wrong({name: values[name] for name in given | declared.keys()}, declared)
