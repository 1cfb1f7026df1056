"""LoRA training by `swift sft`: its rows, its run, what it leaves behind."""

import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import psutil
import yaml
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

from helpers import InputError
from helpers.adapters import WEIGHTS, AdapterHead, AdapterPrompt, write_prompt
from helpers.files import (
    DAMAGE,
    give_usual_mode,
    read_json,
    read_jsonl,
    replace_folder,
    set_aside,
    write_json,
    write_jsonl,
    write_text,
)
from helpers.journal import lock
from helpers.models import model_identity
from helpers.settings import ROWS
from helpers.swift_setup import KEPT, PLUGINS, WATCHED, refuse_missing_package
from helpers.templating import PromptFormat, encode_answer, fit_all, refuse_markers
from helpers.training_log import best_step, explain, look_at_first_row, read_log, show_progress

BEGUN = "begun.json"
"""A file in the folder of an unfinished training; holds the fingerprint of what was begun."""
SPENT = "spent.json"
"""A file that says how many seconds an unfinished training has taken so far."""
LAUNCHERS = re.compile(
    r"(NPROC_PER_NODE|NNODES|NODE_RANK|MASTER_(ADDR|PORT)|(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)"
    r"|_PATCH_WORLD_SIZE|LOCAL_SIZE|PET_.*|TORCHELASTIC_.*|ACCELERATE_.*|FSDP_.*|OMPI_.*|PMI_.*|MPI_.*"
    r"|MV2_.*|SWIFT_CONFIG_FILE|RANDOM_DATASET_RESPONSE|DISABLE_MP_DDP|SWIFT_SINGLE_DEVICE_MODE)$"
)
"""Environment variables by which a shell would decide how many processes train, or on what."""


def prepare_rows(
    tokenizer, prompt_format: PromptFormat, rows: list[dict]
) -> tuple[list[dict], list[int]]:
    """Rows in swift's layout, bodies cut to fit, and how many tokens each has, answer included.

    Args:
        tokenizer: a fast tokenizer of transformers.
        prompt_format: how rows are rendered and cut.
        rows: with a label each.

    Raises:
        InputError: for a label that ends with the model's end token, and for a template with a
            special token in it; see also templating.fit_all.
    """
    refuse_markers(tokenizer, prompt_format.template)
    end = tokenizer.eos_token
    for label in dict.fromkeys(row["output"] for row in rows):
        if end and label.endswith(end):
            raise InputError(
                f"the label {label!r} ends with {end!r}, which swift takes for the end of an "
                "answer, so that none would be learned; call that class something else"
            )
    prompts = fit_all(tokenizer, prompt_format, rows)
    lengths = [
        len(prompt.ids) + len(encode_answer(tokenizer, row["output"]))
        for prompt, row in zip(prompts, rows)
    ]
    messages = [
        [{"role": "user", "content": prompt.text}, {"role": "assistant", "content": row["output"]}]
        for prompt, row in zip(prompts, rows)
    ]
    return [{"messages": turns} for turns in messages], lengths


def supervised_table(tokenizer, ids: list[int], supervised: int) -> pd.DataFrame:
    """The last tokens of a row, one a line: id, text, and whether the loss counts it.

    Args:
        tokenizer: the model's.
        ids: the tokens.
        supervised: how many of the last ones count in the loss.
    """
    text = [repr(tokenizer.decode([token])) for token in ids]
    counts = ["no"] * (len(ids) - supervised) + ["yes"] * supervised
    return pd.DataFrame({"id": ids, "text": text, "supervised": counts})


def fingerprint(arguments: dict, messages: dict[str, list[dict]], model: str, nproc: int) -> str:
    """SHA-256 of everything that decides what is learned, but not of where files lie.

    Args:
        arguments: of swift, without the paths of the model and the plugins.
        messages: rows by split, in swift's layout.
        model: see models.find_model; its content counts, not its path.
        nproc: processes at once.
    """
    values = {name: value for name, value in arguments.items() if name != "external_plugins"}
    values |= {"model": model_identity(model), "nproc": nproc}
    return hashlib.sha256(json.dumps([values, messages], sort_keys=True).encode()).hexdigest()


def unfinished(folder: Path) -> Path:
    """The hidden folder beside a setting's own in which it trains until its adapter is whole."""
    return folder.with_name(f".{folder.name}.unfinished")


def train(
    folder: Path,
    *,
    arguments: dict,
    messages: dict[str, list[dict]],
    tokenizer,
    adapter_prompt: AdapterPrompt | AdapterHead,
    force: bool = False,
    nproc: int = 1,
    keep_steps: tuple[int, ...] = (),
    rows_digest: str | None = None,
) -> dict:
    """Train one setting; a finished run of the same arguments and rows is reused.

    A run that was cut off goes on from its last checkpoint. An earlier training's files stay in
    `folder` until the new adapter is whole.

    Args:
        folder: gets sft.yaml, swift.log, logging.jsonl, train.jsonl, val.jsonl, summary.json and
            adapter/. This is the checkpoint that training_log.best_step chose, with summary.json
            and prompt.json, or for a head with head.json.
        arguments: of swift; see `sft_arguments`.
        messages: "train" and "val" rows in swift's layout.
        tokenizer: the model's.
        adapter_prompt: the model, and how the adapter will want to be asked.
        force: train even if nothing changed.
        nproc: processes on this machine, each with batch_size rows at once.
        keep_steps: after these steps the adapter is also kept in curve/step-<n>.
        rows_digest: of the run's training rows. It is kept beside the adapter, so that only
            settings that learned from the same rows are compared.

    Returns:
        The summary, and "reused".

    Raises:
        InputError: with swift's own words when it fails, when the loss is no longer a number, and
            while another program trains the same setting.
    """
    refuse_missing_package(arguments)
    key = fingerprint(arguments, messages, adapter_prompt.model, nproc)
    work, replaced = unfinished(folder), set_aside(folder)
    with locked(folder):
        if replaced.is_dir() and not folder.is_dir():  # cut off between two renames
            replaced.rename(folder)
        if not force and (summary := finished(folder, key, keep_steps)):
            refresh(folder, summary, adapter_prompt, rows_digest)
            return summary | {"reused": True}
        if force or not begun(work, key, keep_steps):
            shutil.rmtree(work, ignore_errors=True)
        write_inputs(work, key, arguments, messages, keep_steps)
        seconds, peak = run_swift(work, arguments, tokenizer, nproc)
        shutil.copy(work / "swift" / "logging.jsonl", work / "logging.jsonl")
        summary = {"fingerprint": key} | summarise(work, arguments, seconds, peak)
        keep_best(work, summary, adapter_prompt)
        if rows_digest:  # before the adapter is in its place, so that neither is without the other
            write_json(work / ROWS, {"train": rows_digest})
        replace_folder(work, folder)
        return summary | {"reused": False}


def refresh(
    folder: Path,
    summary: dict,
    adapter_prompt: AdapterPrompt | AdapterHead,
    rows_digest: str | None,
) -> None:
    """Write anew what stands beside the adapters of a finished training and may be out of date.

    Args:
        folder: of the setting.
        summary: of the training.
        adapter_prompt: how the adapters want to be asked; the model may lie elsewhere now.
        rows_digest: see `train`.
    """
    for adapter in (folder / "adapter", *(folder / "curve").glob("step-*")):
        write_prompt(adapter, adapter_prompt)
    if rows_digest:
        write_json(folder / ROWS, {"train": rows_digest})
    write_json(folder / "summary.json", summary)


def write_inputs(
    work: Path,
    key: str,
    arguments: dict,
    messages: dict[str, list[dict]],
    keep_steps: tuple[int, ...],
) -> None:
    """Write what swift reads, and what says which training was begun.

    Args:
        work: see `unfinished`.
        key: the training's fingerprint.
        arguments: of swift.
        messages: rows by split, in swift's layout.
        keep_steps: see `train`.
    """
    work.mkdir(parents=True, exist_ok=True)
    written = dict(arguments)
    if "external_plugins" in written:  # as relative paths, so that a copied project finds them
        plugins = written["external_plugins"]
        written["external_plugins"] = [os.path.relpath(path, work) for path in plugins]
    if keep_steps:
        written["callbacks"] = [*written.get("callbacks", []), "keep_adapters"]
    write_text(work / "sft.yaml", [yaml.safe_dump(written, sort_keys=False, allow_unicode=True)])
    for split, rows in messages.items():
        write_jsonl(work / f"{split}.jsonl", rows)
    write_json(work / KEPT, list(keep_steps))
    write_json(work / BEGUN, key)


def summarise(work: Path, arguments: dict, seconds: float, peak: float) -> dict:
    """The summary of a training that ran to its end, but for its fingerprint.

    Args:
        work: see `unfinished`; with swift's log and its checkpoints.
        arguments: of swift.
        seconds: that it took.
        peak: of resident memory, in GiB, for a log that says nothing of memory.

    Raises:
        InputError: when swift kept no checkpoint.
    """
    last = read_jsonl(work / "logging.jsonl")[-1]
    saved = [step_of(path) for path in (work / "swift").glob("checkpoint-*")]
    if not saved:
        raise InputError(
            "swift kept no checkpoint, so there is no adapter; take save_strategy and what "
            "else says when it saves out of its arguments"
        )
    metric = arguments.get("metric_for_best_model", "loss")
    best = best_step(read_log(work / "logging.jsonl"), metric, saved)
    trained = re.search(r"([\d.]+)M Trainable", last["model_parameter_info"])
    return {
        "seconds": seconds,
        "peak_gib": last.get("memory(GiB)", peak),
        "best_step": best,
        "steps": last["global_step"],  # fewer than asked for where it ended early
        "trainable_millions": float(trained[1]),
        "dtype": arguments.get("torch_dtype", "as saved"),
    }


def keep_best(work: Path, summary: dict, adapter_prompt: AdapterPrompt | AdapterHead) -> None:
    """Make the best checkpoint the adapter, and delete what only the training itself needed.

    Args:
        work: see `unfinished`.
        summary: names the best step; it is kept in the folder and in the adapter's own.
        adapter_prompt: how the adapter, and those of a learning curve, will want to be asked.
    """
    checkpoint = work / "swift" / f"checkpoint-{summary['best_step']}"
    for adapter in (checkpoint, *(work / "curve").glob("step-*")):
        finish_adapter(adapter, adapter_prompt)
    write_json(checkpoint / "summary.json", summary)
    write_json(work / "summary.json", summary)
    checkpoint.rename(work / "adapter")
    shutil.rmtree(work / "swift")
    for file in (KEPT, BEGUN, SPENT):
        (work / file).unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a setting while it trains.

    Args:
        folder: of the setting.

    Raises:
        InputError: when another program has locked it.
    """
    path = folder.with_name(f".{folder.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if not lock(file):
            raise InputError(f"another program is training {folder}; wait for it")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def finished(folder: Path, key: str, keep_steps: tuple[int, ...]) -> dict | None:
    """The summary of a finished training; None where one of its files is missing or damaged.

    Args:
        folder: of the setting.
        key: its fingerprint. The summary of a training with another one does not count.
        keep_steps: see `train`.
    """
    adapters = [folder / "adapter", *(folder / "curve" / f"step-{step}" for step in keep_steps)]
    try:
        # Not the one in `folder`: Snakemake removes a rule's outputs before it runs the rule again.
        summary = read_json(folder / "adapter" / "summary.json")
        read_log(folder / "logging.jsonl")
        sound = summary["fingerprint"] == key
        for config, weights in ([adapter / name for name in WEIGHTS] for adapter in adapters):
            sound &= "peft_type" in read_json(config)
            with safe_open(weights, "pt"):
                pass
    except (*DAMAGE, SafetensorError):
        return None
    return summary if sound else None


def begun(work: Path, key: str, keep_steps: tuple[int, ...] = ()) -> bool:
    """Whether a training was begun and can go on; it cannot if a crash damaged its files.

    Args:
        work: see `unfinished`.
        key: the training's fingerprint.
        keep_steps: steps whose adapters are to be kept; it must have been told so when it began.
    """
    log = work / "swift" / "logging.jsonl"
    try:
        same = read_json(work / BEGUN) == key
        if keep_steps:
            same &= set(keep_steps) <= set(read_json(work / KEPT))
        return same and (not log.exists() or bool(read_jsonl(log)))
    except DAMAGE:
        return False


def finish_adapter(folder: Path, adapter_prompt: AdapterPrompt | AdapterHead) -> None:
    """Turn a checkpoint into an adapter's folder: weights, configuration, and how to ask it.

    Args:
        folder: a checkpoint of swift.
        adapter_prompt: goes into prompt.json or head.json. The name of its model replaces the path
            that the model has on this machine.
    """
    # optimizer states, and two files that say where on this machine everything lay
    for leftover in ("*.bin", "*.pt", "*.pth", "README.md", "args.json", "trainer_state.json"):
        for path in folder.glob(leftover):
            path.unlink()
    config = read_json(folder / "adapter_config.json")
    write_json(
        folder / "adapter_config.json", config | {"base_model_name_or_path": adapter_prompt.model}
    )
    write_prompt(folder, adapter_prompt)
    give_usual_mode(folder)


def run_swift(folder: Path, arguments: dict, tokenizer, nproc: int = 1) -> tuple[float, float]:
    """Run `swift sft sft.yaml` under a progress bar, from its last checkpoint if there is one.

    However this ends, it leaves no process behind.

    Args:
        folder: where swift runs; its output goes to swift.log there.
        arguments: of swift.
        tokenizer: the model's.
        nproc: processes at once.

    Returns:
        The seconds that it took, with those before it was cut off, and the peak of its processes'
        resident memory in GiB.
    """
    command = [sys.executable, "-m", "swift.cli.main", "sft", "sft.yaml"]
    if checkpoint := last_checkpoint(folder / "swift", arguments["max_steps"]):
        command += ["--resume_from_checkpoint", str(checkpoint.relative_to(folder))]
    started, looked, peak = time.monotonic() - spent(folder), False, 0.0
    log, title = folder / "swift.log", folder.name.removeprefix(".").removesuffix(".unfinished")
    with (
        log.open("wb") as output,
        tqdm(
            total=arguments["max_steps"], desc=f"swift sft · {title}", unit="step", mininterval=2
        ) as bar,
    ):
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=swift_environment(nproc) | {"MODELSCOPE_CACHE": str(folder / "swift" / "cache")},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                time.sleep(1)
                write_json(folder / SPENT, time.monotonic() - started)
                looked = looked or look_at_first_row(folder, tokenizer)
                peak = max(peak, resident_gib(process.pid))
                if not math.isfinite(
                    loss := show_progress(folder / "swift" / "logging.jsonl", bar)
                ):
                    # without BEGUN, the next training does not go on from here
                    (folder / BEGUN).unlink(missing_ok=True)
                    raise InputError(
                        f"the run diverged: loss {loss} near step {bar.n}; "
                        "lower learning_rate, or train in float32"
                    )
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            while running(process.pid):  # what swift itself had started needs a moment to go
                time.sleep(0.05)
    if process.returncode:
        raise InputError(explain(process.returncode, log, arguments))
    if not (looked or look_at_first_row(folder, tokenizer)):
        raise InputError(
            f"swift did not show its first row in {log.name}: nothing proves what it was fed"
        )
    return time.monotonic() - started, peak


def spent(work: Path) -> float:
    """The seconds that a training took before it was cut off; 0 where that is not known.

    Args:
        work: see `unfinished`.
    """
    with suppress(*DAMAGE):
        return float(read_json(work / SPENT))
    return 0.0


def swift_environment(nproc: int) -> dict[str, str]:
    """The environment of swift's process: this one's, without what would decide how it trains.

    Args:
        nproc: processes at once; variables of the shell that say otherwise are left out.
    """
    environment = {
        name: value for name, value in os.environ.items() if not LAUNCHERS.fullmatch(name)
    }
    environment |= {
        "PYTHONPATH": str(PLUGINS[0].parent.parent),
        "TOKENIZERS_PARALLELISM": "false",
        "LOG_LEVEL": "INFO",  # else swift may not show its first row
        WATCHED: str(os.getpid()),
    }
    if nproc > 1:
        threads = max(1, (os.cpu_count() or 1) // nproc)
        environment |= {"NPROC_PER_NODE": str(nproc), "OMP_NUM_THREADS": str(threads)}
    return environment


def running(group: int) -> list[int]:
    """The processes of a process group that still run."""
    pids = []
    for process in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError):
            alive = process.info["status"] != psutil.STATUS_ZOMBIE
            if alive and os.getpgid(process.pid) == group:
                pids.append(process.pid)
    return pids


def step_of(checkpoint: Path) -> int:
    """The step after which swift wrote a checkpoint, read from its folder's name."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def last_checkpoint(folder: Path, steps: int) -> Path | None:
    """The latest checkpoint that is whole and has steps left to train.

    It is whole when it has trainer_state.json, which swift writes last.

    Args:
        folder: of swift.
        steps: of the whole training. From a checkpoint at its end, swift would train one step too
            many.
    """
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        with suppress(*DAMAGE):
            state = read_json(checkpoint / "trainer_state.json")
            if state["global_step"] < steps:
                return checkpoint
    return None


def resident_gib(pid: int) -> float:
    """Resident memory of a process, and what its descendants hold for themselves, in GiB."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        total += process.memory_info().rss
        for child in process.children(recursive=True):
            with suppress(psutil.Error):  # a forked child shares its parent's pages
                total += child.memory_full_info().uss
    return total / 2**30
