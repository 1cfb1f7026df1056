"""Order of the runs: dataset → prompts → train (once a setting) → lora → evaluate → memory → site → html.

    snakemake --cores all --config profile=sample
"""

import json
import re
import sys
from pathlib import Path

import psutil
import yaml

KNOWN = {
    "title": str, "source": str, "model": str, "bos": bool, "max_length": int, "show_text": bool, "seed": int, "data": dict,
    "candidate_lengths": list, "prompts": dict, "training": dict, "side_by_side": dict, "settings": dict, "memory": dict,
}  # fmt: skip


def read_profile(name: str) -> dict:
    """The profile `name`; a missing, unknown or ill-typed key ends the program with one line."""
    path = Path("profiles") / f"{name}.yml"
    if not path.is_file():
        sys.exit(f"profile {name!r} is unknown; there are: {', '.join(sorted(file.stem for file in path.parent.glob('*.yml')))}")
    try:
        profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        sys.exit(f"{path} is not valid YAML: {' '.join(str(error).split())}")
    if not isinstance(profile, dict):
        sys.exit(f"{path} must map names to values; see profiles/sample.yml")
    beside = profile.setdefault("side_by_side", {"notebooks": 1, "gib": 1})
    for key in sorted(KNOWN.keys() | profile.keys()):
        if key not in KNOWN:
            sys.exit(f"{path}: unknown key {key!r}; known: {', '.join(KNOWN)}")
        if not isinstance(profile.get(key), KNOWN[key]):
            sys.exit(f"{path}: {key} is missing or is no {KNOWN[key].__name__}")
    if beside.keys() != {"notebooks", "gib"} or not all(isinstance(value, int) and value > 0 for value in beside.values()):
        sys.exit(f"{path}: side_by_side needs notebooks and gib, whole numbers above 0")
    for setting, values in profile["settings"].items():
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", setting) or setting.startswith("base-"):
            sys.exit(f"{path}: setting {setting!r} must be lower-case letters, digits, dots and dashes, and not begin with base-")
        if not isinstance(values, dict) or not {"template", "rank", "alpha"} <= values.keys():
            sys.exit(f"{path}: setting {setting!r} needs template, rank and alpha")
        if not isinstance(values.get("seeds", [0]), list) or not values.get("seeds", [0]):
            sys.exit(f"{path}: seeds of setting {setting!r} must be a list of numbers")
    if not profile["settings"]:
        sys.exit(f"{path}: settings is empty; name at least one")
    profile["settings"] = with_seeds(profile["settings"])
    return profile


def with_seeds(settings: dict) -> dict:
    """A setting that lists `seeds` becomes one for each of them: the first keeps its name, the others are called name-seed<n>."""
    expanded = {}
    for name, values in settings.items():
        values = dict(values)
        for place, seed in enumerate(values.pop("seeds", [None])):
            expanded[f"{name}-seed{seed}" if place else name] = values | ({} if seed is None else {"seed": seed})
    return expanded


NAME = config.get("profile", "sample")
PROFILE = read_profile(NAME)
SETTINGS = list(PROFILE["settings"])
RUN = f"runs/{NAME}"
# On a cluster a notebook gets one core, or what --set-threads says. On one machine it gets all: two that both want all of a few slow
# each other more than twofold. A profile whose model is small may have notebooks run side by side, each with its share of the cores,
# as far as there is memory: each then waits less for its own threads, and while one starts up, another computes.
CORES = 1 if workflow.remote_exec else workflow.resource_settings.cores or 1
BESIDE = PROFILE["side_by_side"]
AT_ONCE = max(1, min(BESIDE["notebooks"], CORES, int(psutil.virtual_memory().available / 2**30 / BESIDE["gib"])))
SHARE = next(share for share in range(CORES // AT_ONCE, CORES + 1) if CORES // share <= AT_ONCE)
PYTHON = sys.executable

# What a notebook's run depends on, beside its inputs: the helpers it calls.
HELPERS = {
    "01-dataset-exploration": ["parameters", "sources", "data", "models", "templating", "baselines", "plotting"],
    "02-prompt-design": ["parameters", "sources", "data", "models", "templating", "scoring", "metrics", "plotting"],
    "03-lora-theory": ["parameters", "sources", "data", "models", "plotting"],
    "04-training": ["parameters", "sources", "data", "models", "templating", "training", "memory", "plotting", "swift_plugin", "cpu_step"],
    "05-evaluation": ["parameters", "sources", "data", "models", "templating", "baselines", "scoring", "metrics", "training", "memory", "plotting"],
    "06-oom-and-max-length": ["parameters", "sources", "data", "models", "templating", "scoring", "memory", "plotting", "swift_plugin"],
}
NOTEBOOKS = [
    f"{RUN}/notebooks/{name}.ipynb"
    for notebook in HELPERS
    for name in ([f"04-training-{setting}" for setting in SETTINGS] if notebook == "04-training" else [notebook])
]

if NAME == "sample" or PROFILE["source"] == "sample":
    SOURCE_FILES = ["data/sample/train.jsonl", "data/sample/test.jsonl"]
else:
    SOURCE_FILES = []


def needs(notebook):
    return [f"notebooks/{notebook}.ipynb", *(f"helpers/{helper}.py" for helper in ["__init__", *HELPERS[notebook]])]


def given(*names, **more):
    """Parameters of a notebook as JSON: keys of the profile, and more."""
    return json.dumps({"run_dir": RUN} | {name: PROFILE[name] for name in names} | more, ensure_ascii=False)


def training_parameters(wildcards):
    setting = dict(PROFILE["settings"][wildcards.setting])
    known = ["template", "rank", "alpha", "max_length", "seed", "nproc", *PROFILE["training"]]
    named = {name: setting.pop(name) for name in known if name in setting}  # in a fixed order: another one would count as a change
    values = PROFILE["training"] | {"max_length": PROFILE["max_length"]} | named
    return given("model", "bos", "seed", setting=wildcards.setting, swift_arguments=setting, **values)


def training_threads(wildcards):
    """Settings that are left over when they are dealt out side by side have all cores."""
    return SHARE if SETTINGS.index(wildcards.setting) < len(SETTINGS) // AT_ONCE * AT_ONCE else CORES


def evaluated():
    """Template and max_length of each setting: what it was trained with, it is asked with."""
    return {name: [values["template"], values.get("max_length", PROFILE["max_length"])] for name, values in PROFILE["settings"].items()}


RUN_NOTEBOOK = PYTHON + " -m helpers.notebooks {input[0]} {output.notebook} --parameters {params.given:q}"


rule all:
    default_target: True
    input:
        f"{RUN}/html/index.html",


rule dataset:
    input:
        needs("01-dataset-exploration"),
        SOURCE_FILES,
    output:
        notebook=f"{RUN}/notebooks/01-dataset-exploration.ipynb",
        splits=[f"{RUN}/data/{split}.jsonl" for split in ("train", "val", "test")],
        summary=f"{RUN}/data/summary.json",
    params:
        given=given("source", "model", "bos", "show_text", "seed", "candidate_lengths", **PROFILE["data"]),
    threads: CORES
    shell:
        RUN_NOTEBOOK


rule prompts:
    input:
        needs("02-prompt-design"),
        rules.dataset.output.splits,
    output:
        notebook=f"{RUN}/notebooks/02-prompt-design.ipynb",
    params:
        given=given("model", "bos", "max_length", "show_text", "seed", **PROFILE["prompts"]),
    threads: SHARE
    shell:
        RUN_NOTEBOOK


rule train:
    input:
        needs("04-training"),
        rules.dataset.output.splits,
    output:
        notebook=f"{RUN}/notebooks/04-training-{{setting}}.ipynb",
        summary=f"{RUN}/train/{{setting}}/summary.json",
    params:
        given=training_parameters,
    priority: 1  # the longest first
    threads: training_threads
    shell:
        RUN_NOTEBOOK


rule lora:
    input:
        needs("03-lora-theory"),
        expand(rules.train.output.summary, setting=SETTINGS),
    output:
        notebook=f"{RUN}/notebooks/03-lora-theory.ipynb",
    params:
        given=given("model", settings=SETTINGS),
    threads: CORES
    shell:
        RUN_NOTEBOOK


rule evaluate:
    input:
        needs("05-evaluation"),
        rules.dataset.output.splits,
        expand(rules.train.output.summary, setting=SETTINGS),
    output:
        notebook=f"{RUN}/notebooks/05-evaluation.ipynb",
        metrics=f"{RUN}/eval/metrics.json",
    params:
        given=given("model", "bos", "show_text", settings=evaluated()),
    threads: CORES
    shell:
        RUN_NOTEBOOK


rule memory:
    input:
        needs("06-oom-and-max-length"),
        rules.dataset.output.splits,
    output:
        notebook=f"{RUN}/notebooks/06-oom-and-max-length.ipynb",
        report=f"{RUN}/memory/report.json",
    params:
        given=given("model", "bos", "show_text", **PROFILE["memory"]),
    threads: SHARE
    shell:
        RUN_NOTEBOOK


rule site:
    input:
        "tools/stage.py",
        "CITATION.cff",
        [str(path) for path in sorted(Path("helpers").glob("*.py"))],
        NOTEBOOKS,
        rules.evaluate.output.metrics,
        [str(path) for path in sorted(Path("book").rglob("*")) if path.is_file() and "__pycache__" not in path.parts],
    output:
        directory(f"{RUN}/site"),
    params:
        settings=SETTINGS,
        title=PROFILE["title"],
    shell:
        PYTHON + " tools/stage.py {RUN} {output} --title {params.title:q} --settings {params.settings}"


rule html:
    input:
        "_config.yml",
        rules.site.output,
    output:
        f"{RUN}/html/index.html",
    shell:
        PYTHON + " tools/publish.py {input[1]} {input[0]} {RUN}/html"
