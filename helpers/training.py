"""LoRA training by `swift sft`: write its arguments, run it with live progress, look at its first
row, read its log.
"""

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
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import yaml
from tqdm import tqdm

from helpers import InputError, memory
from helpers.files import write_json, write_jsonl, write_text
from helpers.models import find_model, pick_attention, pick_dtype
from helpers.templating import encode_answer, find_template, fit_all, to_messages

PLUGIN = Path(__file__).with_name("swift_plugin.py")
CPU_STEP = Path(__file__).with_name("cpu_step.py")
BEGUN = "begun.json"
"""Stands in a setting's folder while its training is not finished: the fingerprint of what was
begun.
"""
WATCHED = "CHINESE_NEWS_BOOK_PARENT"
"""Environment variable: the process without which training shall not go on (see swift_plugin)."""


def sft_arguments(
    model: str, bos: bool, rank: int, alpha: int, dropout: float, steps: int, rows_per_step: int, batch_size: int,
    learning_rate: float, max_length: int, evaluations: int, seed: int, nproc: int = 1, extra: dict | None = None,
) -> dict:  # fmt: skip
    """Arguments of `swift sft` for one setting; paths are relative to the setting's folder, where
    swift runs.

    model: see models.find_model. rows_per_step: effective batch size. batch_size: rows that go
    through the model at once in each of nproc processes; accumulation makes up the rest. They are
    padded on the left, so that their answers stand together at the end and swift computes no other
    logits. evaluations: how often to look at val, evenly spread, the end included.
    extra: further swift arguments, which win over these; None takes one away. Raises InputError
    when batch_size × nproc does not divide rows_per_step.
    """
    import torch

    if rows_per_step % (batch_size * nproc):
        raise InputError(
            f"rows_per_step {rows_per_step} is not a multiple of batch_size {batch_size} × nproc {nproc}"
        )
    every = max(1, steps // evaluations)
    arguments = {
        "model": find_model(model),
        "template": "news-bos" if bos else "news",
        "external_plugins": [str(PLUGIN), str(CPU_STEP)],
        "callbacks": ["cpu_step"],
        "dataset": ["train.jsonl"],
        "val_dataset": ["val.jsonl"],
        "output_dir": "swift",
        "logging_dir": "runs",  # what report_to: tensorboard writes outlives swift's own folder
        "add_version": False,
        "check_model": False,
        "torch_dtype": pick_dtype(),
        "attn_impl": pick_attention(max_length),
        "tuner_type": "lora",
        "target_modules": "all-linear",
        "lora_rank": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "max_length": max_length,
        # never needed: bodies are cut before; swift checks once more
        "truncation_strategy": "delete",
        "per_device_train_batch_size": batch_size,
        "per_device_eval_batch_size": batch_size,
        "gradient_accumulation_steps": rows_per_step // (batch_size * nproc),
        "padding_side": "left",
        "gradient_checkpointing": False,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.1,
        "max_steps": steps,
        "eval_steps": every,
        "save_steps": every,
        "logging_steps": 1,
        "acc_strategy": "seq",
        "metric_for_best_model": "seq_acc",  # see best_step
        "logging_nan_inf_filter": False,  # a diverged run shall look like one
        "lazy_tokenize": True,  # swift's own tokenising starts a process for every file
        "dataloader_num_workers": 0,
        "report_to": "none",
        "seed": seed,
    }
    if not torch.cuda.is_available():
        arguments["use_cpu"] = True
    return {name: value for name, value in (arguments | (extra or {})).items() if value is not None}


def prepare_rows(
    tokenizer, template: str, rows: list[dict], max_length: int, bos: bool, cut: str = "head"
) -> tuple[list[dict], list[int]]:
    """Training rows in swift's layout, bodies cut to fit, and each row's length in tokens, answer
    included.
    """
    prompts = fit_all(tokenizer, find_template(template), rows, max_length, bos, cut)
    lengths = [
        len(prompt.ids) + len(encode_answer(tokenizer, row["output"]))
        for prompt, row in zip(prompts, rows)
    ]
    return [to_messages(prompt, row["output"]) for prompt, row in zip(prompts, rows)], lengths


def expected_memory(
    config, arguments: dict, length: int, free: float, nproc: int = 1
) -> dict[str, float]:
    """Peak of one step by part, GiB (see memory.forecast), for rows of at most `length` tokens.

    config: the model's transformers config. free: GiB that this machine has left; without a GPU all
    processes share it. Raises InputError, with what would help, when a step needs more than that.
    """
    batch = arguments["per_device_train_batch_size"]
    choices = {
        "dtype": arguments["torch_dtype"],
        "attention": arguments["attn_impl"],
        "rank": arguments["lora_rank"],
    }
    choices |= {"checkpointing": arguments["gradient_checkpointing"]}
    layers = {"targets": arguments["target_modules"], "bits": arguments.get("quant_bits")}
    parts = memory.forecast(config, length, batch, training=True, **layers, **choices)
    budget = free / (nproc if arguments.get("use_cpu") else 1)
    if parts["total"] > budget:
        levers = memory.remedies(config, budget, length, batch, **choices)
        raise InputError(
            f"a step needs about {parts['total']:.1f} GiB and {budget:.1f} are free; what would help: {levers}"
        )
    return parts


def fingerprint(arguments: dict, messages: dict[str, list[dict]]) -> str:
    """SHA-256 of everything that decides what is learned."""
    return hashlib.sha256(json.dumps([arguments, messages], sort_keys=True).encode()).hexdigest()


def train(
    folder: Path,
    arguments: dict,
    messages: dict[str, list[dict]],
    tokenizer,
    force: bool = False,
    nproc: int = 1,
) -> dict:
    """Train one setting in `folder` and return its summary; a finished run with the same arguments
    and rows is reused, one that was cut off goes on from its last checkpoint.

    messages: "train" and "val" rows in swift's layout. nproc: processes on this machine, each with
    batch_size rows at once. Writes sft.yaml, swift.log, logging.jsonl, adapter/ (one of the
    checkpoints, see best_step) and summary.json. The same summary lies in adapter/, which appears
    whole or not at all: that is what a later run looks for, for Snakemake removes a rule's outputs
    before it runs it again. Raises InputError with swift's last lines when swift fails, and when
    the loss is no longer a number.
    """
    key = fingerprint(arguments | {"nproc": nproc}, messages)
    finished = folder / "adapter" / "summary.json"
    if finished.is_file() and not force:
        summary = json.loads(finished.read_text())
        if summary["fingerprint"] == key:
            write_json(folder / "summary.json", summary)
            return summary | {"reused": True}
    begun = folder / BEGUN
    if force or not begun.is_file() or json.loads(begun.read_text()) != key:
        shutil.rmtree(folder, ignore_errors=True)
        write_text(
            folder / "sft.yaml", [yaml.safe_dump(arguments, sort_keys=False, allow_unicode=True)]
        )
        for split, rows in messages.items():
            write_jsonl(folder / f"{split}.jsonl", rows)
        write_json(begun, key)
    seconds, peak = run_swift(folder, arguments, tokenizer, nproc)
    shutil.copy(folder / "swift" / "logging.jsonl", folder / "logging.jsonl")
    last = json.loads((folder / "logging.jsonl").read_text().splitlines()[-1])
    saved = [step_of(path) for path in (folder / "swift").glob("checkpoint-*")]
    kept = best_step(
        read_log(folder / "logging.jsonl"), arguments.get("metric_for_best_model", "loss"), saved
    )
    checkpoint = folder / "swift" / f"checkpoint-{kept}"
    trained = re.search(r"([\d.]+)M Trainable", last["model_parameter_info"])
    summary = {
        "fingerprint": key,
        "seconds": seconds,
        "peak_gib": last.get("memory(GiB)", peak),
        "best_step": kept,
        "trainable_millions": float(trained[1]),
        "dtype": arguments["torch_dtype"],
    }
    write_json(checkpoint / "summary.json", summary)
    for leftover in ("*.bin", "*.pt", "*.pth", "README.md"):
        for path in checkpoint.glob(leftover):
            path.unlink()
    checkpoint.rename(folder / "adapter")
    shutil.rmtree(folder / "swift")
    begun.unlink()
    write_json(folder / "summary.json", summary)
    return summary | {"reused": False}


def run_swift(folder: Path, arguments: dict, tokenizer, nproc: int = 1) -> tuple[float, float]:
    """Run `swift sft sft.yaml` in `folder` under a progress bar, from its last checkpoint if there
    is one; its output goes to swift.log.

    Returns the seconds it took and the peak of its processes' resident memory in GiB. However this
    ends, no process is left.
    """
    command = [sys.executable, "-m", "swift.cli.main", "sft", "sft.yaml"]
    if checkpoint := last_checkpoint(folder / "swift"):
        command += ["--resume_from_checkpoint", str(checkpoint.relative_to(folder))]
    environment = os.environ | {
        "PYTHONPATH": str(PLUGIN.parent.parent),
        "TOKENIZERS_PARALLELISM": "false",
        WATCHED: str(os.getpid()),
    }
    if nproc > 1:
        environment |= {
            "NPROC_PER_NODE": str(nproc),
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // nproc)),
        }
    started, looked, peak = time.monotonic(), False, 0.0
    log = folder / "swift.log"
    with (
        log.open("wb") as output,
        tqdm(
            total=arguments["max_steps"],
            desc=f"swift sft · {folder.name}",
            unit="step",
            mininterval=2,
        ) as bar,
    ):
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                time.sleep(1)
                looked = looked or look_at_first_row(folder, tokenizer)
                peak = max(peak, resident_gib(process.pid))
                if not math.isfinite(
                    loss := show_progress(folder / "swift" / "logging.jsonl", bar)
                ):
                    (folder / BEGUN).unlink(missing_ok=True)  # nothing here is worth going on from
                    raise InputError(
                        f"the run diverged: loss {loss} near step {bar.n}; lower learning_rate, or train in float32"
                    )
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            while running(
                process.pid
            ):  # the processes that swift itself had started need a moment to go
                time.sleep(0.05)
    if process.returncode:
        raise InputError(explain(process.returncode, log, arguments))
    if not (looked or look_at_first_row(folder, tokenizer)):
        raise InputError(
            f"swift did not show its first row in {log.name}: nothing proves what it was fed"
        )
    return time.monotonic() - started, peak


def running(group: int) -> list[int]:
    """The processes of a process group that still run."""
    found = []
    for process in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def step_of(checkpoint: Path) -> int:
    """The step after which swift wrote a checkpoint, which its folder is named by."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def best_step(log: pd.DataFrame, metric: str, saved: list[int]) -> int:
    """Of the steps with a checkpoint the one that did best on val, and of those that did equally
    well the latest.

    log: see read_log. metric: swift's metric_for_best_model; a loss is best where it is least. On
    few validation rows steps are often equal, and the rate has fallen furthest at the latest, so
    that its weights hang least on the last rows it saw.
    """
    seen = (
        log.set_index("step")
        .get(f"eval_{metric.removeprefix('eval_')}", pd.Series(dtype=float))
        .dropna()
    )
    seen = seen[seen.index.isin(saved)]
    if seen.empty:
        return max(saved)
    return int(seen.index[seen == (seen.min() if metric.endswith("loss") else seen.max())].max())


def last_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint in `folder` that is whole: trainer_state.json is what swift writes
    last.
    """
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        with suppress(OSError, ValueError):
            json.loads((checkpoint / "trainer_state.json").read_text())
            return checkpoint
    return None


def resident_gib(pid: int) -> float:
    """Resident memory of a process and its descendants, GiB."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += one.memory_info().rss
    return total / 2**30


def explain(code: int, log: Path, arguments: dict) -> str:
    """One line on a swift run that failed: its last words, or, when memory ran out, the levers with
    their values.
    """
    lines = [
        line.strip()
        for line in log.read_text(errors="replace").replace("\r", "\n").splitlines()
        if line.strip()
    ]
    repeat = f"repeat it with: cd {log.parent.name} && swift sft sft.yaml; see {log.name}"
    if code in (-9, 137) or re.search(
        r"out of memory|can't allocate memory|Cannot allocate memory", "\n".join(lines[-40:])
    ):
        batch = arguments["per_device_train_batch_size"]
        levers = [f"max_length {arguments['max_length']} → {arguments['max_length'] // 2}"]
        levers += [f"batch_size {batch} → {batch // 2}"] if batch > 1 else []
        levers += (
            ["gradient_checkpointing false → true"]
            if not arguments["gradient_checkpointing"]
            else []
        )
        return (
            f"swift ran out of memory; levers, the strongest first: {'; '.join(levers)} — {repeat}"
        )
    return f"swift failed ({code}): {' | '.join(lines[-4:])} — {repeat}"


def show_progress(log: Path, bar: tqdm) -> float:
    """Move the bar to the last step that swift has logged; its loss, 0 before the first."""
    lines = log.read_text().splitlines() if log.is_file() else []
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # swift is still writing it
        if "loss" in entry:
            loss = float(entry["loss"])
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update(int(entry["global_step/max_steps"].split("/")[0]) - bar.n)
            return loss
    return 0.0


def look_at_first_row(folder: Path, tokenizer) -> bool:
    """Compare the token ids that swift printed for its first row with this book's; False while they
    are not there yet.

    Raises InputError when they differ: `<bos>` lost, an option cut, or an answer that is not
    supervised.
    """
    text = (folder / "swift.log").read_text(errors="replace")
    ids, labels = (
        re.search(rf"\[{name}\] \[([-\d, ]+)\]", text) for name in ("INPUT_IDS", "LABELS_IDS")
    )
    if not (ids and labels):
        return False
    ids, labels = ([int(number) for number in match[1].split(",")] for match in (ids, labels))
    answer = [number for number in labels if number != -100]
    with (folder / "train.jsonl").open(encoding="utf-8") as file:
        rows = [[message["content"] for message in json.loads(line)["messages"]] for line in file]
    frame = [tokenizer.bos_token_id] if "news-bos" in (folder / "sft.yaml").read_text() else []
    seen = tokenizer.decode(ids[len(frame) : len(ids) - len(answer)])
    matches = [
        label
        for prompt, label in rows
        if prompt == seen and encode_answer(tokenizer, label) == answer
    ]
    if ids[: len(frame)] != frame or not matches:
        raise InputError(
            f"swift's first row is not what was prepared: it starts with ids {ids[:3]} and supervises {tokenizer.decode(answer)!r}"
        )
    return True


def read_log(path: Path) -> pd.DataFrame:
    """swift's logging.jsonl as a frame: step, and whichever of loss, seq_acc, eval_loss,
    eval_seq_acc, learning_rate a line has.
    """
    with path.open() as file:
        entries = [json.loads(line) for line in file]
    frame = pd.DataFrame([entry for entry in entries if "loss" in entry or "eval_loss" in entry])
    frame.insert(0, "step", frame["global_step/max_steps"].str.split("/").str[0].astype(int))
    kind = frame["loss"].isna()  # a step that was repeated after a resumption counts once
    return frame[
        ~pd.DataFrame({"step": frame["step"], "kind": kind}).duplicated(keep="last")
    ].reset_index(drop=True)
