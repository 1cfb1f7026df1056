"""LoRA training by `swift sft`: its arguments, its run, its first row, its log."""

import hashlib
import importlib.util
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
from functools import cache
from pathlib import Path

import pandas as pd
import psutil
import yaml
from tqdm import tqdm

from helpers import InputError, memory
from helpers.adapters import AdapterHead, AdapterPrompt, write_prompt
from helpers.files import read_jsonl, write_json, write_jsonl, write_text
from helpers.models import find_model, model_identity, pick_attention, pick_dtype, trusts
from helpers.parameters import refuse_out_of_range
from helpers.templating import Prompt, PromptFormat, encode, encode_answer, fit_all

PLUGINS = [Path(__file__).with_name(name) for name in ("swift_plugin.py", "cpu_step.py")]
BEGUN = "begun.json"
"""Stands where a training is not finished: the fingerprint of what was begun."""
KEPT = "keep_steps.json"
"""Lists the steps whose adapters are kept for a learning curve (see swift_plugin)."""
WATCHED = "CHINESE_NEWS_BOOK_PARENT"
"""Environment variable: the process without which training shall not go on (see swift_plugin)."""
LAUNCHERS = re.compile(
    r"(NPROC_PER_NODE|NNODES|NODE_RANK|MASTER_(ADDR|PORT)|(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)"
    r"|_PATCH_WORLD_SIZE|LOCAL_SIZE|TORCHELASTIC_.*|ACCELERATE_.*|FSDP_.*|OMPI_.*|PMI_.*|MPI_.*"
    r"|MV2_.*|SWIFT_CONFIG_FILE|RANDOM_DATASET_RESPONSE|DISABLE_MP_DDP|SWIFT_SINGLE_DEVICE_MODE)$"
)
"""Environment variables by which a shell would decide how many processes train, or on what."""
SAID_ELSEWHERE = {
    "model": "model",
    "template": "bos and template",
    "lora_rank": "rank",
    "lora_alpha": "alpha",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "rows_per_step",
    "learning_rate": "learning_rate",
    "max_length": "max_length",
    "eval_steps": "evaluations",
    "save_steps": "evaluations",
    "seed": "seed",
}
"""Arguments of swift, and the parameter that says the same: both at once may contradict."""
OWN = (
    "dataset val_dataset output_dir add_version tuner_type resume_from_checkpoint ENV "
    "external_plugins"
).split()
"""Arguments of swift that this book decides: where everything lies, and that it is a LoRA."""
SWIFT_DEFAULTS = {
    "per_device_train_batch_size": 1,
    "gradient_checkpointing": True,
    "lora_rank": 8,
    "target_modules": "all-linear",
    "torch_dtype": "bfloat16",
    "attn_impl": "sdpa",
}
"""What swift does where an argument was taken away."""
QUANTISERS = {"bnb": "bitsandbytes", "hqq": "hqq", "eetq": "eetq"}
"""The package that each quant_method of swift needs; none of them is among this book's."""


def sft_arguments(
    *,
    model: str,
    prompt_format: PromptFormat,
    rank: int,
    alpha: int,
    dropout: float,
    steps: int | None,
    rows_per_step: int,
    batch_size: int,
    learning_rate: float,
    evaluations: int,
    seed: int,
    train_rows: int,
    nproc: int = 1,
    extra: dict | None = None,
) -> dict:
    """Arguments of `swift sft` for one setting; swift runs in the setting's folder.

    Rows of a batch are padded on the left, so that their answers stand together at the end and
    swift computes no other logits.

    Args:
        model: see models.find_model.
        prompt_format: how rows are rendered and cut.
        rank: of the adapter.
        alpha: the correction is scaled by alpha / rank.
        dropout: share of the adapter's input dropped at random.
        steps: optimizer steps; None where `extra` gives num_train_epochs.
        rows_per_step: rows an optimizer step sees; accumulation makes up for a smaller batch.
        batch_size: rows that go through the model at once in each process.
        learning_rate: peak of the cosine schedule.
        evaluations: how often to look at val, evenly spread, the end included.
        seed: order of the rows, initial adapter.
        train_rows: how many rows there are to learn from.
        nproc: processes on this machine.
        extra: further swift arguments, which win over these; None takes one away.

    Raises:
        InputError: when batch_size × nproc does not divide rows_per_step, when steps and epochs are
            both given or neither is, when a number is out of range; see `refuse_contradictions`.
    """
    import torch

    extra = dict(extra or {})
    given = {"rank": rank, "alpha": alpha, "dropout": dropout, "learning_rate": learning_rate}
    given |= {"rows_per_step": rows_per_step, "batch_size": batch_size, "nproc": nproc}
    for name, value in (given | {"evaluations": evaluations, "seed": seed}).items():
        refuse_out_of_range(name, value)
    if rows_per_step % (batch_size * nproc):
        raise InputError(
            f"rows_per_step {rows_per_step} is not a multiple of batch_size {batch_size} × "
            f"nproc {nproc}"
        )
    max_steps = total_steps(steps, extra, train_rows, rows_per_step)
    every = max(1, max_steps // evaluations)
    arguments = {
        "model": find_model(model),
        "model_type": None if trusts(model) else known_model_type(model),
        "template": "news-bos" if prompt_format.bos else "news",
        "external_plugins": [str(path) for path in PLUGINS],
        "callbacks": ["cpu_step"],
        "dataset": ["train.jsonl"],
        "val_dataset": ["val.jsonl"],
        "output_dir": "swift",
        "logging_dir": "runs",  # what report_to: tensorboard writes outlives swift's own folder
        "add_version": False,
        "check_model": False,
        "torch_dtype": pick_dtype(),
        "attn_impl": pick_attention(prompt_format.max_length),
        "tuner_type": "lora",
        "target_modules": "all-linear",
        "lora_rank": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "max_length": prompt_format.max_length,
        "truncation_strategy": "delete",  # never needed: bodies are cut before
        "per_device_train_batch_size": batch_size,
        "per_device_eval_batch_size": batch_size,
        "gradient_accumulation_steps": rows_per_step // (batch_size * nproc),
        "padding_side": "left",
        "gradient_checkpointing": False,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.1,
        "max_steps": max_steps,
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
        "use_cpu": None if torch.cuda.is_available() else True,
    }
    refuse_contradictions(arguments, extra)
    return {name: value for name, value in (arguments | extra).items() if value is not None}


def refuse_contradictions(arguments: dict, extra: dict) -> None:
    """Refuse further arguments that say anew, or under half a name, what is said already.

    Args:
        arguments: of swift, as the parameters decide them.
        extra: further ones; None takes one away.

    Raises:
        InputError: for an argument that a parameter or this book decides, if its value is another;
            for a name that swift would complete or that it spells with underscores.
    """
    known = [*arguments, *SAID_ELSEWHERE, *OWN, "max_steps", "num_train_epochs"]
    for name, value in extra.items():
        whole = str(name).replace("-", "_")
        if name not in known and (meant := [own for own in known if own.startswith(whole)]):
            raise InputError(f"swift would read the argument {name} as {meant[0]}; write it whole")
        if value is None or value == arguments.get(name):
            continue
        if name in SAID_ELSEWHERE and name in arguments:
            raise InputError(
                f"{name} {value} contradicts {arguments[name]}, which the parameter "
                f"{SAID_ELSEWHERE[name]} decides; say it there"
            )
        if name in OWN:
            raise InputError(f"{name} is this book's own and cannot be given to swift; take it out")


def total_steps(steps: int | None, extra: dict, train_rows: int, rows_per_step: int) -> int:
    """Optimizer steps of a run, out of steps or epochs; epochs and max_steps leave `extra`.

    Args:
        steps: optimizer steps, or None.
        extra: swift's arguments that may hold num_train_epochs, and max_steps in place of steps.
        train_rows: how many rows there are.
        rows_per_step: rows a step sees.

    Raises:
        InputError: when both are given, or neither.
    """
    epochs = extra.pop("num_train_epochs", None)
    steps = extra.pop("max_steps", steps)
    sound = steps is None or (type(steps) is int and steps > 0)
    sound &= epochs is None or (type(epochs) in (int, float) and 0 < epochs < math.inf)
    if not sound:
        raise InputError(
            f"steps is {steps!r} and num_train_epochs {epochs!r}; steps must be a whole number, "
            "epochs a number, and both above 0"
        )
    if epochs is None and steps is None:
        raise InputError("neither steps nor num_train_epochs says how long to train; give one")
    if epochs is None:
        return steps
    if steps is not None:
        raise InputError(
            f"steps {steps} and num_train_epochs {epochs} are both given; "
            "keep one (steps: null in a profile's setting, steps = None in notebook 04)"
        )
    return max(1, math.ceil(epochs * math.ceil(train_rows / rows_per_step)))


def known_model_type(model: str) -> str | None:
    """What swift calls a model's architecture, where its config.json says so by itself.

    swift looks a folder up by its class, which several of its types may share (qwen2, qwen2_gte).
    """
    folder = Path(find_model(model))
    name = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    return name if name in swift_model_types() else None


@cache
def swift_model_types() -> frozenset[str]:
    """The names in swift's list of language models, read without loading swift itself (seconds)."""
    import importlib.metadata

    path = importlib.metadata.distribution("ms-swift").locate_file("swift/model/constant.py")
    spec = importlib.util.spec_from_file_location("swift_constants", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = vars(module.LLMModelType).values()
    return frozenset(value for value in values if isinstance(value, str))


def prepare_rows(
    tokenizer, prompt_format: PromptFormat, rows: list[dict]
) -> tuple[list[dict], list[int]]:
    """Rows in swift's layout, bodies cut to fit, and each row's tokens, answer included.

    Args:
        tokenizer: a fast tokenizer of transformers.
        prompt_format: how rows are rendered and cut.
        rows: with a label each.
    """
    prompts = fit_all(tokenizer, prompt_format, rows)
    lengths = [
        len(prompt.ids) + len(encode_answer(tokenizer, row["output"]))
        for prompt, row in zip(prompts, rows)
    ]
    return [to_messages(prompt, row["output"]) for prompt, row in zip(prompts, rows)], lengths


def to_messages(prompt: Prompt, label: str) -> dict:
    """A training row in swift's layout."""
    return {
        "messages": [
            {"role": "user", "content": prompt.text},
            {"role": "assistant", "content": label},
        ]
    }


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


def expected_memory(
    config, arguments: dict, length: int, free: float, nproc: int = 1
) -> dict[str, float]:
    """Peak of one training step by part, GiB; see memory.forecast.

    Args:
        config: the model's transformers config.
        arguments: of swift.
        length: most tokens of a row.
        free: GiB that this machine has left; without a GPU all processes share it.
        nproc: processes at once.

    Raises:
        InputError: when a step needs more than is free, with what would help.
    """
    values = SWIFT_DEFAULTS | arguments
    batch = values["per_device_train_batch_size"]
    choices = {
        "dtype": values["torch_dtype"],
        "attention": values["attn_impl"],
        "rank": values["lora_rank"],
        "checkpointing": values["gradient_checkpointing"],
    }
    layers = {"targets": values["target_modules"], "bits": values.get("quant_bits")}
    parts = memory.forecast(config, length, batch, training=True, **layers, **choices)
    budget = free / (nproc if values.get("use_cpu") else 1)
    if parts["total"] > budget:
        levers = memory.remedies(config, budget, length, batch, **choices)
        raise InputError(
            f"a step needs about {parts['total']:.1f} GiB and {budget:.1f} are free; "
            f"what would help: {levers}"
        )
    return parts


def refuse_missing_quantiser(arguments: dict) -> None:
    """Raise InputError where swift would quantise by a package that is not installed."""
    package = QUANTISERS.get(arguments.get("quant_method"))
    if package and importlib.util.find_spec(package) is None:
        raise InputError(
            f"quant_method {arguments['quant_method']} needs the package {package}, which is not "
            f"installed: .venv/bin/pip install {package}, "
            "or take quant_method and quant_bits out of the setting"
        )


def fingerprint(arguments: dict, messages: dict[str, list[dict]], model: str, nproc: int) -> str:
    """SHA-256 of everything that decides what is learned, and of nothing that only says where.

    Args:
        arguments: of swift; the paths of the model and the plugins do not count.
        messages: rows by split, in swift's layout.
        model: see models.find_model; its content counts.
        nproc: processes at once.
    """
    values = {name: value for name, value in arguments.items() if name != "external_plugins"}
    values |= {"model": model_identity(model), "nproc": nproc}
    return hashlib.sha256(json.dumps([values, messages], sort_keys=True).encode()).hexdigest()


def unfinished(folder: Path) -> Path:
    """Where a setting trains until it is whole: a hidden folder beside the setting's own."""
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
) -> dict:
    """Train one setting; a finished run of the same arguments and rows is reused.

    A run that was cut off goes on from its last checkpoint. What stands in `folder` from before
    stays until the new adapter is whole.

    Args:
        folder: gets sft.yaml, swift.log, logging.jsonl, train.jsonl, val.jsonl, summary.json and
            adapter/ (one of the checkpoints, see `best_step`, with prompt.json, or a head's
            head.json, and summary.json).
        arguments: of swift; see `sft_arguments`.
        messages: "train" and "val" rows in swift's layout.
        tokenizer: the model's.
        adapter_prompt: the model, and how the adapter will want to be asked.
        force: train even if nothing changed.
        nproc: processes on this machine, each with batch_size rows at once.
        keep_steps: after these steps the adapter is also kept in curve/step-<n>.

    Returns:
        The summary, and "reused".

    Raises:
        InputError: with swift's own words when it fails, and when the loss is no longer a number.
    """
    refuse_missing_quantiser(arguments)
    key = fingerprint(arguments, messages, adapter_prompt.model, nproc)
    work, replaced = unfinished(folder), folder.with_name(f".{folder.name}.replaced")
    if replaced.is_dir() and not folder.is_dir():  # cut off between the two renames below
        replaced.rename(folder)
    # The summary also lies in adapter/: Snakemake removes a rule's outputs before it runs it again.
    finished = folder / "adapter" / "summary.json"
    wanted = [folder / "curve" / f"step-{step}" for step in keep_steps]
    if finished.is_file() and not force and all(path.is_dir() for path in wanted):
        summary = json.loads(finished.read_text())
        if summary["fingerprint"] == key:
            write_prompt(folder / "adapter", adapter_prompt)
            write_json(folder / "summary.json", summary)
            return summary | {"reused": True}
    begun = work / BEGUN
    if force or not begun.is_file() or json.loads(begun.read_text()) != key:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        written = dict(arguments)
        if "external_plugins" in written:  # relative ones, so that a copied project finds them
            plugins = written["external_plugins"]
            written["external_plugins"] = [os.path.relpath(path, work) for path in plugins]
        if keep_steps:
            written["callbacks"] = [*written.get("callbacks", []), "keep_adapters"]
        write_text(
            work / "sft.yaml", [yaml.safe_dump(written, sort_keys=False, allow_unicode=True)]
        )
        for split, rows in messages.items():
            write_jsonl(work / f"{split}.jsonl", rows)
        write_json(work / KEPT, list(keep_steps))
        write_json(begun, key)
    seconds, peak = run_swift(work, arguments, tokenizer, nproc)
    shutil.copy(work / "swift" / "logging.jsonl", work / "logging.jsonl")
    last = read_jsonl(work / "logging.jsonl")[-1]
    saved = [step_of(path) for path in (work / "swift").glob("checkpoint-*")]
    if not saved:
        raise InputError(
            "swift kept no checkpoint, so there is no adapter; take save_strategy and what else "
            "says when it saves out of its arguments"
        )
    metric = arguments.get("metric_for_best_model", "loss")
    best = best_step(read_log(work / "logging.jsonl"), metric, saved)
    trained = re.search(r"([\d.]+)M Trainable", last["model_parameter_info"])
    summary = {
        "fingerprint": key,
        "seconds": seconds,
        "peak_gib": last.get("memory(GiB)", peak),
        "best_step": best,
        "steps": arguments["max_steps"],
        "trainable_millions": float(trained[1]),
        "dtype": arguments.get("torch_dtype", "as saved"),
    }
    checkpoint = work / "swift" / f"checkpoint-{best}"
    for adapter in (checkpoint, *(work / "curve").glob("step-*")):
        finish_adapter(adapter, adapter_prompt)
    write_json(checkpoint / "summary.json", summary)
    write_json(work / "summary.json", summary)
    checkpoint.rename(work / "adapter")
    shutil.rmtree(work / "swift")
    (work / KEPT).unlink()
    begun.unlink()
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    work.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    return summary | {"reused": False}


def finish_adapter(folder: Path, adapter_prompt: AdapterPrompt | AdapterHead) -> None:
    """Leave of a checkpoint what an adapter needs: weights, configuration, how to ask it.

    Args:
        folder: a checkpoint of swift.
        adapter_prompt: goes into prompt.json or head.json; its model's name replaces this machine's
            path.
    """
    # optimizer states, and two files that say where on this machine everything lay
    for leftover in ("*.bin", "*.pt", "*.pth", "README.md", "args.json", "trainer_state.json"):
        for path in folder.glob(leftover):
            path.unlink()
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    write_json(
        folder / "adapter_config.json", config | {"base_model_name_or_path": adapter_prompt.model}
    )
    write_prompt(folder, adapter_prompt)


def run_swift(folder: Path, arguments: dict, tokenizer, nproc: int = 1) -> tuple[float, float]:
    """Run `swift sft sft.yaml` under a progress bar, from its last checkpoint if there is one.

    However this ends, no process is left.

    Args:
        folder: where swift runs; its output goes to swift.log there.
        arguments: of swift.
        tokenizer: the model's.
        nproc: processes at once.

    Returns:
        The seconds it took, and the peak of its processes' resident memory in GiB.
    """
    command = [sys.executable, "-m", "swift.cli.main", "sft", "sft.yaml"]
    if checkpoint := last_checkpoint(folder / "swift"):
        command += ["--resume_from_checkpoint", str(checkpoint.relative_to(folder))]
    started, looked, peak = time.monotonic(), False, 0.0
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
            env=swift_environment(nproc),
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
                    # nothing here is worth going on from
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


def swift_environment(nproc: int) -> dict[str, str]:
    """The environment of swift's process: this one's, without what would decide how it trains.

    Args:
        nproc: processes at once; nothing in a shell says otherwise.
    """
    environment = {
        name: value for name, value in os.environ.items() if not LAUNCHERS.fullmatch(name)
    }
    environment |= {
        "PYTHONPATH": str(PLUGINS[0].parent.parent),
        "TOKENIZERS_PARALLELISM": "false",
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
    """The step after which swift wrote a checkpoint, which its folder is named by."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def best_step(log: pd.DataFrame, metric: str, saved: list[int]) -> int:
    """The step with a checkpoint that did best on val; on a tie we keep the later one.

    On few validation rows ties are frequent, and the learning rate has fallen furthest at the
    latest, so that its weights hang least on the last rows it saw.

    Args:
        log: see `read_log`.
        metric: swift's metric_for_best_model; a loss is best where it is least.
        saved: steps with a checkpoint.
    """
    column = f"eval_{metric.removeprefix('eval_')}"
    values = log.set_index("step").get(column, pd.Series(dtype=float)).dropna()
    values = values[values.index.isin(saved)]
    if values.empty:
        return max(saved)
    best = values.min() if metric.endswith("loss") else values.max()
    return int(values.index[values == best].max())


def last_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint that is whole: swift writes trainer_state.json last."""
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
    """One line on a swift run that failed: its exception, or, out of memory, the levers.

    Args:
        code: swift's exit status.
        log: what it printed.
        arguments: it was given.
    """
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    lines = [line.rstrip() for line in text.split("\n") if line.strip()]
    repeat = f"repeat it with: cd {log.parent.name} && swift sft sft.yaml; see {log.name}"
    no_memory = r"out of memory|[Cc]an(no|')t allocate memory"
    if code in (-9, 137) or re.search(no_memory, "\n".join(lines[-40:])):
        values = SWIFT_DEFAULTS | arguments
        batch, length = values["per_device_train_batch_size"], values.get("max_length")
        levers = [f"max_length {length} → {length // 2}"] if length else []
        levers += [f"batch_size {batch} → {batch // 2}"] if batch > 1 else []
        levers += [] if values["gradient_checkpointing"] else ["gradient_checkpointing: true"]
        strongest = "; ".join(levers)
        return f"swift ran out of memory; levers, the strongest first: {strongest} — {repeat}"
    return f"swift failed ({code}): {last_exception(lines) or ' | '.join(lines[-4:])} — {repeat}"


def last_exception(lines: list[str]) -> str | None:
    """The exception that ended a program, whole and on one line, out of what it printed.

    Args:
        lines: without empty ones. Launchers put "[rank0]: " before a line, and end with an
            exception of their own that says only that a process failed.
    """
    lines = [re.sub(r"^\[rank\d+\]:\s?", "", line) for line in lines]
    begins = re.compile(r"((\w+\.)*\w*(Error|Exception|Exit|Interrupt)|\S+: error)(: |$)")
    launcher = re.compile(r"(\w+\.)*(ChildFailedError|CalledProcessError|SystemExit)\b")
    starts = [
        place for place, line in enumerate(lines) if begins.match(line) and not launcher.match(line)
    ]
    if not starts:
        return None
    rest = []
    for line in lines[starts[-1] :]:
        if rest and (
            line.startswith(("Traceback", "During handling", "[")) or launcher.match(line)
        ):
            break
        rest.append(line.strip())
    return " ".join(rest)[:1500]


def show_progress(log: Path, bar: tqdm) -> float:
    """Move the bar to the last step that swift has logged; its loss, 0 before the first."""
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    for line in reversed(text.split("\n")):
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
    """Compare the token ids that swift printed for its first row with this book's.

    Args:
        folder: where swift runs.
        tokenizer: the model's.

    Returns:
        False while swift has not printed them yet.

    Raises:
        InputError: when no row that was prepared has these ids: `<bos>` lost, an option cut, or an
            answer that is not supervised.
    """
    text = (folder / "swift.log").read_text(encoding="utf-8", errors="replace")
    ids, labels = (
        re.search(rf"\[{name}\] \[([-\d, ]+)\]", text) for name in ("INPUT_IDS", "LABELS_IDS")
    )
    head = "\ntask_type: seq_cls" in (folder / "sft.yaml").read_text(encoding="utf-8")
    if not ids or not (labels or head):
        return False
    ids, labels = (
        [int(number) for number in match[1].split(",")] if match else [] for match in (ids, labels)
    )
    bos = (
        yaml.safe_load((folder / "sft.yaml").read_text(encoding="utf-8"))["template"] == "news-bos"
    )
    start = [tokenizer.bos_token_id] if bos else []
    for row in read_jsonl(folder / "train.jsonl"):
        prompt, *labelled = (message["content"] for message in row["messages"])
        # a classification head has no answer in words: its label is no token
        answer = encode_answer(tokenizer, labelled[0]) if labelled else []
        # the cheap comparison first: thousands of rows may have to be looked through
        if ids[len(ids) - len(answer) :] != answer:
            continue
        if ids == start + encode(tokenizer, prompt) + answer:
            if not labelled or labels == [-100] * (len(ids) - len(answer)) + answer:
                return True
            break
    supervised = [number for number in labels if number != -100]
    raise InputError(
        f"swift's first row is not what was prepared: it starts with ids {ids[:3]} "
        f"and supervises {tokenizer.decode(supervised)!r}"
    )


def read_log(path: Path) -> pd.DataFrame:
    """swift's logging.jsonl as a frame, one line a logged step or evaluation.

    Args:
        path: of logging.jsonl.

    Returns:
        Columns step, loss, eval_loss, eval_seq_acc (share of right answers, a classification
        head's too; empty where a line has none), and whatever else swift logged, such as
        learning_rate.
    """
    entries = [entry for entry in read_jsonl(path) if "loss" in entry or "eval_loss" in entry]
    frame = pd.DataFrame(entries)
    if "eval_acc" in frame:  # what swift calls it where an answer has no tokens
        frame["eval_seq_acc"] = frame["eval_acc"]
    for column in ("loss", "eval_loss", "eval_seq_acc"):
        if column not in frame:
            frame[column] = float("nan")
    frame.insert(0, "step", frame["global_step/max_steps"].str.split("/").str[0].astype(int))
    kind = frame["loss"].isna()  # a step that was repeated after a resumption counts once
    repeated = pd.DataFrame({"step": frame["step"], "kind": kind}).duplicated(keep="last")
    return frame[~repeated].reset_index(drop=True)
