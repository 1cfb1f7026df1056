"""Profiles: what a run is made of. They are read, checked and expanded here.

The last functions say which of a reader's files a run depends on, for Snakemake. What it imports
stands in helpers/imports.py.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from helpers import ROOT, InputError
from helpers.adapters import refuse_task
from helpers.files import below_root, from_root
from helpers.lines import form_of
from helpers.locations import local_path
from helpers.parameters import defaults_of, parameters_of, read_yaml, refuse_setting, refuse_wrong
from helpers.readers import READERS
from helpers.rows import check_columns
from helpers.swift_arguments import check_swift_arguments
from helpers.templating import TEMPLATES, find_template, template_name

PROFILES = ROOT / "profiles"
KINDS = {
    "title": str,
    "source": (str, list),
    "model": str,
    "bos": bool,
    "max_length": int,
    "show_text": bool,
    "seed": int,
    "data": dict,
    "candidate_lengths": list,
    "prompts": dict,
    "training": dict,
    "evaluation": dict,
    "side_by_side": dict,
    "settings": dict,
    "memory": dict,
}
"""The keys of a profile and their types."""
DEFAULTS = {"side_by_side": {"notebooks": 1, "gib": 1}, "evaluation": {}, "memory": {}}
"""Keys that may be left out."""
TAKEN = {
    "01-dataset-exploration": ("model bos show_text source seed candidate_lengths", "data"),
    "02-prompt-design": ("model bos show_text max_length seed", "prompts"),
    "03-lora-theory": ("model seed", None),
    "04-training": ("model bos", None),
    "05-evaluation": ("show_text", "evaluation"),
    "06-out-of-memory": ("model", "memory"),
    "07-max-length": ("model bos show_text", None),
    "08-classify-your-articles": ("show_text", None),
}
"""What each notebook takes of a profile: values at its top, in this order, and a section."""
CHAPTERS = tuple(TAKEN)
"""The notebooks, in the order in which they are read and run."""
DECIDED = set(
    "run_dir source model bos show_text setting settings candidate_lengths swift_arguments".split()
)
"""Parameters of notebooks that no section or setting may give: the profile as a whole does."""
OWN = {"template", "rank", "alpha"}
"""Parameters that each setting gives for itself; the section `training` must not."""


@dataclass(frozen=True)
class Profile:
    """A checked profile."""

    name: str
    values: dict
    """By key; see KINDS. A setting that lists seeds has become one for each of them."""

    @property
    def settings(self) -> list[str]:
        """Names of the settings, in the profile's order."""
        return list(self.values["settings"])

    @property
    def run_dir(self) -> str:
        """The run's folder, below the project's root."""
        return f"runs/{self.name}"

    @property
    def bases(self) -> dict[str, dict]:
        """How the untouched model is asked, once for each template that a setting uses.

        It is asked as the first setting with that template is: its name, such as base-plain, leads
        to that setting's parameters. Classification heads have no template.
        """
        first: dict[str, dict] = {}
        for given in map(self.training_parameters, self.settings):
            if given.get("task") != "seq_cls":
                name = f"base-{template_name(find_template(given['template']))}"
                first.setdefault(name, given)
        return first

    def parameters(self, chapter: str, setting: str | None = None) -> dict:
        """What a notebook is given.

        Args:
            chapter: one of CHAPTERS.
            setting: whose training it is, for 04-training.
        """
        names, section = TAKEN[chapter]
        given = {"run_dir": self.run_dir} | {name: self.values[name] for name in names.split()}
        if chapter == "04-training":
            return given | self.training_parameters(setting)
        if chapter == "05-evaluation":
            given |= {"settings": self.settings}
        return given | (self.values[section] if section else {})

    def training_parameters(self, setting: str) -> dict:
        """What notebook 04 is given for one setting, in a fixed order."""
        choices = dict(self.values["settings"][setting])
        # A fixed order, for Snakemake takes another one for a change. What is no parameter is
        # swift's.
        order = parameters_of(ROOT / "notebooks" / "04-training.ipynb")
        training = dict(self.values["training"])
        epochs = training.pop("num_train_epochs", None)
        if epochs is not None and all(choices.get(name) is None for name in ("steps", "max_steps")):
            # unless the setting says how long it trains
            choices = {"num_train_epochs": epochs} | choices
        known = {name: choices.pop(name) for name in order if name in choices}
        common = {"seed": self.values["seed"], "max_length": self.values["max_length"]}
        values = common | training | known
        return {"setting": setting, **values, "swift_arguments": choices}


def notebook_names(settings: Iterable[str]) -> dict[str, tuple[str, str | None]]:
    """The book's executed notebooks: one for each chapter, and of chapter 4 one for each setting.

    Args:
        settings: their names.

    Returns:
        Chapter and setting of each, by name and in their order.
    """
    notebooks = {}
    for chapter in CHAPTERS:
        for setting in settings if chapter == "04-training" else [None]:
            notebooks[f"{chapter}-{setting}" if setting else chapter] = chapter, setting
    return notebooks


def names() -> list[str]:
    """Names of all profiles, sorted."""
    return sorted(path.stem for path in PROFILES.glob("*.yml"))


def read_profile(name: str) -> Profile:
    """A profile, checked.

    A profile may begin with `like: other`: what it does not say itself is then the other's. Keys
    that map names to values (data, training, …) are merged; settings are taken whole.

    Args:
        name: of a file in profiles/.

    Raises:
        InputError: for a file that is missing or no YAML; for a key that is missing, unknown or of
            a wrong type; and for whatever a notebook would refuse, before the first one runs.
    """
    profile = Profile(name, check(name, load(name)))
    try:
        refuse_braces(local_files(profile.values["source"]))
    except (InputError, TypeError) as error:
        raise InputError(f"profiles/{name}.yml: source: {error}") from None
    defaults = defaults_of(ROOT / "notebooks" / "04-training.ipynb")
    declared = {
        chapter: parameters_of(ROOT / "notebooks" / f"{chapter}.ipynb") for chapter in CHAPTERS
    }
    for chapter, setting in notebook_names(profile.settings).values():
        try:
            given = profile.parameters(chapter, setting)
            json.dumps(given)
            refuse_wrong(given, declared[chapter])
            check_columns(given.get("columns"))
            if setting:
                check_swift_arguments(defaults | given)
            refuse_braces(template_files(given))
        except (InputError, TypeError, ValueError, RecursionError) as error:
            whose = f"setting {setting!r}: " if setting else f"{chapter}: "
            raise InputError(f"profiles/{name}.yml: {whose}{error}") from None
    return profile


def load(name: str, above: tuple[str, ...] = ()) -> dict:
    """The values of a profile, completed with those of the profile that it is `like`.

    Args:
        name: of a file in profiles/.
        above: the profiles that led here by their `like`.
    """
    if not re.fullmatch(r"\w[\w.-]*", str(name)):
        raise InputError(
            f"profile {name!r}: a name has letters, digits, dots and dashes only, for it is a "
            f"folder of runs/, too; there are: {', '.join(names())}"
        )
    path = PROFILES / f"{name}.yml"
    if not path.is_file():
        other = path.with_suffix(".yaml")
        way = f"; rename {other.name} to {path.name}" if other.is_file() else ""
        raise InputError(f"profile {name!r} is unknown; there are: {', '.join(names())}{way}")
    if name in above:
        raise InputError(f"profiles/{name}.yml is like itself, by way of {', '.join(above)}")
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"profiles/{name}.yml is not UTF-8; save it as UTF-8") from None
    except ValueError as error:
        raise InputError(f"profiles/{name}.yml is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"profiles/{name}.yml must map names to values; see profiles/sample.yml")
    other = values.pop("like", None)
    if other is None:
        return values
    if str(other) not in names():
        raise InputError(
            f"profiles/{name}.yml: like is {other!r}, no profile; there are: {', '.join(names())}"
        )
    below = load(str(other), (*above, name))
    for key, value in values.items():
        merged = isinstance(value, dict) and isinstance(below.get(key), dict) and key != "settings"
        below[key] = below[key] | value if merged else value
    return below


def check(name: str, values: dict) -> dict:
    """The values of a profile, with defaults for what it leaves out and a setting for each seed.

    Raises:
        InputError: naming the fault.
    """
    values = DEFAULTS | values
    try:
        refuse_keys(values)
        refuse_decided(values)
        if not values["source"]:
            raise InputError("source is empty; name one")
        refuse_side_by_side(values["side_by_side"])
        refuse_settings(values["settings"], values["training"])
    except InputError as error:
        raise InputError(f"profiles/{name}.yml: {error}") from None
    return values | {"settings": with_seeds(values["settings"])}


def refuse_keys(values: dict) -> None:
    """Raise InputError for a key of a profile that is unknown, missing or of a wrong type."""
    for key in sorted(KINDS.keys() | values.keys(), key=str):
        if key not in KINDS:
            raise InputError(f"unknown key {key!r}; known: {', '.join(KINDS)}")
        if not isinstance(values.get(key), KINDS[key]):
            kinds = KINDS[key] if isinstance(KINDS[key], tuple) else (KINDS[key],)
            wanted = " or ".join(kind.__name__ for kind in kinds)
            said = f"is {values[key]!r}, no {wanted}" if key in values else "is missing"
            raise InputError(f"{key} {said}")


def refuse_decided(values: dict) -> None:
    """Raise InputError when a section or a setting says what stands elsewhere in a profile.

    Args:
        values: of the profile, each of its type.
    """
    sections = {key: values[key] for key in ("data", "prompts", "training", "evaluation", "memory")}
    sections |= {f"setting {setting!r}": said for setting, said in values["settings"].items()}
    for section, said in sections.items():
        decided = DECIDED | (OWN if section == "training" else set())
        if isinstance(said, dict) and (wrong := decided & {str(key) for key in said}):
            raise InputError(
                f"{section} says {', '.join(sorted(wrong))}, which the profile decides; "
                "source, model, bos, show_text and candidate_lengths stand at its top, "
                "template, rank, alpha and each argument of swift in a setting itself"
            )


def refuse_side_by_side(values: dict) -> None:
    """Raise InputError unless the section `side_by_side` says how many notebooks may run at once.

    Args:
        values: of the section.
    """
    whole = all(type(value) is int and value > 0 for value in values.values())
    if values.keys() != {"notebooks", "gib"} or not whole:
        raise InputError("side_by_side needs notebooks and gib, whole numbers above 0")


def refuse_settings(settings: dict, training: dict) -> None:
    """Raise InputError for a wrong setting, and when there is none that answers in words.

    Args:
        settings: what each says, by name.
        training: the section that holds for all of them.
    """
    if not settings:
        raise InputError("settings is empty; name at least one")
    for setting, choices in settings.items():
        refuse_name(setting)
        refuse_choices(setting, choices, training)
        refuse_seeds(setting, choices)
    tasks = {(training | choices).get("task") for choices in settings.values()}
    if tasks == {"seq_cls"}:
        raise InputError(
            "all settings are classification heads; chapter 5 holds them against one that "
            "writes, so name one without task: seq_cls"
        )


def refuse_name(setting: str) -> None:
    """Raise InputError for a setting's name that is taken or cannot name a folder."""
    refuse_setting(setting)
    if "-seed" in setting:
        raise InputError(
            f"setting {setting!r}: -seed is what a list of seeds adds to a name, and "
            "chapter 5 takes such settings for one; list them as seeds: [42, 43]"
        )


def refuse_choices(setting: str, choices: dict, training: dict) -> None:
    """Raise InputError for a setting that lacks what its task needs, or says what that forbids.

    Args:
        setting: its name.
        choices: what it says, of any type.
        training: the section that holds for all settings.
    """
    given = training | (choices if isinstance(choices, dict) else {})
    head = given.get("task") == "seq_cls"
    needed = OWN - {"template"} if head else OWN
    if not isinstance(choices, dict) or not needed <= choices.keys():
        said = "rank and alpha" if head else "template, rank and alpha"
        raise InputError(f"setting {setting!r} needs {said}")
    try:
        refuse_task(given.get("task", "causal_lm"), given.get("cut", "head"))
    except InputError as error:
        raise InputError(f"setting {setting!r}: {error}") from None
    if head and "template" in choices:
        raise InputError(
            f"setting {setting!r} is a classification head, which reads the article "
            "alone; take its template away"
        )


def refuse_seeds(setting: str, choices: dict) -> None:
    """Raise InputError for a setting whose seeds are not a list of different numbers.

    Args:
        setting: its name.
        choices: what it says.
    """
    seeds = choices.get("seeds", [0])
    whole = isinstance(seeds, list) and all(type(seed) is int for seed in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds) or {"seed", "seeds"} <= {*choices}:
        raise InputError(
            f"seeds of setting {setting!r} must be a list of numbers, each once, and "
            "no seed beside it"
        )


def with_seeds(settings: dict) -> dict:
    """All settings, where one that lists `seeds` has become one for each seed.

    The one with the first seed keeps the name, the others are called name-seed<n>.
    """
    expanded = {}
    for name, values in settings.items():
        values = dict(values)
        for place, seed in enumerate(values.pop("seeds", [None])):
            own = values | ({} if seed is None else {"seed": seed})
            expanded[f"{name}-seed{seed}" if place else name] = own
    return expanded


def local_files(source: str | list[str]) -> list[str]:
    """The files of a profile's source that lie on this machine; none for a hub's id."""
    files = []
    for one in [source] if isinstance(source, str) else source:
        if not isinstance(one, str):
            raise InputError(f"{one!r} is no text; a list of sources holds names of files or hubs")
        path = local_path(one)
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file())
            files += [file for file in inside if form_of(file) in READERS]
        elif path.is_file():
            files.append(path)
    return list(map(from_root, files))


def refuse_braces(files: list[str]) -> None:
    """Raise InputError for a file's path that Snakemake would read as a pattern."""
    for file in files:
        if part := next((part for part in Path(file).parts if set("{}") & set(part)), None):
            raise InputError(f"{file}: a name with {{ or }} cannot be followed; rename {part}")


def template_files(given: dict) -> list[str]:
    """The file that a notebook's parameters name as their template; none for a packaged one.

    Args:
        given: see Profile.parameters.

    Raises:
        InputError: for a template that is missing or not sound.
    """
    template = given.get("template", next(iter(TEMPLATES)))
    find_template(template)
    return [] if template in TEMPLATES else [from_root(below_root(template))]
