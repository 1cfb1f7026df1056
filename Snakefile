"""The order of a profile's runs; helpers/profiles.py says what a profile is.

    snakemake --cores all --config profile=sample
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)
from helpers import InputError, imports, profiles
from helpers.machine import available_bytes

NAME = config.get("profile", "sample")
try:
    PROFILE = profiles.read_profile(NAME)
except InputError as error:
    sys.exit(str(error))
SETTINGS = PROFILE.settings
RUN = PROFILE.run_dir
# On a cluster a notebook gets one core, or what --set-threads says. On one machine it gets all cores, because two notebooks that both
# want all of a few cores slow each other down more than twofold. A profile with a small model may have notebooks run side by side, each
# with its share of the cores, as far as there is memory: each then waits less for its own threads, and while one starts up, another
# computes.
CORES = 1 if workflow.remote_exec else workflow.resource_settings.cores or 1
BESIDE = PROFILE.values["side_by_side"]
FREE_GIB = available_bytes() / 2**30
AT_ONCE = max(1, min(BESIDE["notebooks"], CORES, int(FREE_GIB / BESIDE["gib"])))
SHARE = next(share for share in range(CORES // AT_ONCE, CORES + 1) if CORES // share <= AT_ONCE)
# Rules do not name the path of this interpreter, or a project that was moved would run everything again.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
PYTHON = "python"
# With a single setting, nothing else is left to do once it has been trained. With several, the chapters that wait for no training fill
# the other cores to the end.
LATE_SHARE = CORES if len(SETTINGS) == 1 else SHARE
NOTEBOOKS = [f"{RUN}/notebooks/{name}.ipynb" for name in profiles.notebook_names(SETTINGS)]


def needs(chapter):
    """A notebook and the helpers that it imports: what its run depends on besides its inputs."""
    notebook = f"notebooks/{chapter}.ipynb"
    return [notebook, *imports.imported_helpers(Path(workflow.basedir) / notebook)]


def given(chapter, setting=None):
    return json.dumps(PROFILE.parameters(chapter, setting), ensure_ascii=False)


ASKING = ["tools/ask.py", *imports.helpers_imported_by("tools/ask.py")]
RUN_NOTEBOOK = PYTHON + " -m helpers.notebooks {input[0]:q} {output.notebook:q} --parameters {params.given:q}"


rule all:
    default_target: True
    input:
        f"{RUN}/html/index.html",


rule dataset:
    input:
        needs("01-dataset-exploration"),
        profiles.local_files(PROFILE.values["source"]),
    output:
        notebook=f"{RUN}/notebooks/01-dataset-exploration.ipynb",
        splits=[f"{RUN}/data/{split}.jsonl" for split in ("train", "val", "test")],
        summary=f"{RUN}/data/summary.json",
    params:
        given=given("01-dataset-exploration"),
    threads: SHARE
    shell:
        RUN_NOTEBOOK


rule prompts:
    input:
        needs("02-prompt-design"),
        rules.dataset.output.splits,
        profiles.template_files(PROFILE.parameters("02-prompt-design")),
    output:
        notebook=f"{RUN}/notebooks/02-prompt-design.ipynb",
    params:
        given=given("02-prompt-design"),
    threads: SHARE
    shell:
        RUN_NOTEBOOK


rule lora:
    input:
        needs("03-lora-theory"),
    output:
        notebook=f"{RUN}/notebooks/03-lora-theory.ipynb",
    params:
        given=given("03-lora-theory"),
    threads: SHARE
    shell:
        RUN_NOTEBOOK


rule train:
    input:
        needs("04-training"),
        rules.dataset.output.splits,
        lambda wildcards: profiles.template_files(PROFILE.training_parameters(wildcards.setting)),
    output:
        notebook=f"{RUN}/notebooks/04-training-{{setting}}.ipynb",
        summary=f"{RUN}/train/{{setting}}/summary.json",
    params:
        given=lambda wildcards: given("04-training", wildcards.setting),
    priority: 3  # the longest first, so that short ones fill the gaps that are left
    threads: SHARE
    shell:
        RUN_NOTEBOOK


# The untouched model waits for no training, and each tuned model only for its own, so asking them here uses cores that would be idle.
# Answers are put where chapter 5 looks for them; the marks only say that they are there.
rule ask_base:
    input:
        ASKING,
        rules.dataset.output.splits,
        [file for setting in SETTINGS for file in profiles.template_files(PROFILE.training_parameters(setting))],
    output:
        touch(f"{RUN}/eval/{{base}}/.asked"),
    wildcard_constraints:
        base="base-.*",
    priority: 2
    threads: SHARE
    shell:
        PYTHON + " -m tools.ask {RUN} {wildcards.base}"


rule ask_tuned:
    input:
        ASKING,
        rules.dataset.output.splits,
        rules.train.output.summary,
    output:
        touch(f"{RUN}/eval/{{setting}}/.asked"),
    wildcard_constraints:
        setting="(?!base-).*",
    params:
        val_rows=PROFILE.values["evaluation"].get("val_rows"),
    priority: 2
    threads: LATE_SHARE
    shell:
        PYTHON + " -m tools.ask {RUN} {wildcards.setting}"


rule evaluate:
    input:
        needs("05-evaluation"),
        rules.dataset.output.splits,
        expand(rules.train.output.summary, setting=SETTINGS),
        expand(rules.ask_base.output, base=list(PROFILE.bases)),
        expand(rules.ask_tuned.output, setting=SETTINGS),
    output:
        notebook=f"{RUN}/notebooks/05-evaluation.ipynb",
        metrics=f"{RUN}/eval/metrics.json",
    params:
        given=given("05-evaluation"),
    priority: 3  # another chapter waits for it
    threads: LATE_SHARE
    shell:
        RUN_NOTEBOOK


rule memory:
    input:
        needs("06-out-of-memory"),
        rules.dataset.output.splits,
        sorted(str(path) for folder in ("riddle1", "configs") for path in Path("data", folder).iterdir() if path.is_file()),
    output:
        notebook=f"{RUN}/notebooks/06-out-of-memory.ipynb",
        report=f"{RUN}/memory/report.json",
    params:
        given=given("06-out-of-memory"),
    priority: 1  # the longest of those that fill gaps
    threads: SHARE
    shell:
        RUN_NOTEBOOK


rule lengths:
    input:
        needs("07-max-length"),
        rules.dataset.output.splits,
        sorted(str(path) for path in Path("data", "configs").glob("*.json")),
    output:
        notebook=f"{RUN}/notebooks/07-max-length.ipynb",
        report=f"{RUN}/memory/max-length.json",
    params:
        given=given("07-max-length"),
    threads: SHARE
    shell:
        RUN_NOTEBOOK


rule classify:
    input:
        needs("08-classify-your-articles"),
        rules.dataset.output.splits,
        rules.evaluate.output.metrics,  # evaluating also stores beside each adapter how sure an answer must be
    output:
        notebook=f"{RUN}/notebooks/08-classify-your-articles.ipynb",
    params:
        given=given("08-classify-your-articles"),
    priority: 3
    threads: LATE_SHARE
    shell:
        RUN_NOTEBOOK


rule site:
    input:
        [str(path) for path in sorted(Path("tools").glob("*.py"))],
        "CITATION.cff",
        "data/README.md",
        [str(path) for path in sorted(Path("helpers").glob("*.py"))],
        NOTEBOOKS,
        rules.evaluate.output.metrics,
        [str(path) for path in sorted(Path("book").rglob("*")) if path.is_file() and "__pycache__" not in path.parts],
    output:
        directory(f"{RUN}/site"),
    params:
        settings=SETTINGS,
        title=PROFILE.values["title"],
    shell:
        PYTHON + " -m tools.stage {RUN} {output:q} --title={params.title:q} --settings {params.settings}"


rule html:
    input:
        "_config.yml",
        rules.site.output,
    output:
        f"{RUN}/html/index.html",
    shell:
        PYTHON + " -m tools.publish {input[1]} {input[0]} {RUN}/html"
