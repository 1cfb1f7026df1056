"""What `swift sft` says while it trains: its log, its first row, its last exception."""

import json
import re
import shlex
import sys
from pathlib import Path

import pandas as pd
import yaml
from tqdm import tqdm

from helpers import ROOT, InputError
from helpers.files import from_root, read_jsonl
from helpers.swift_setup import SWIFT_DEFAULTS
from helpers.templating import encode, encode_answer


def best_step(log: pd.DataFrame, metric: str, saved: list[int]) -> int:
    """The step with a checkpoint that did best on val; on a tie we keep the later one.

    With few validation rows, ties are frequent. The learning rate has fallen furthest at the latest
    of the steps, so that its weights depend least on the last rows that were seen.

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


def explain(code: int, log: Path, arguments: dict) -> str:
    """One line on a swift run that failed: its exception or, if memory ran out, what would help.

    Args:
        code: swift's exit status.
        log: the file that holds what swift printed.
        arguments: those that swift was given.
    """
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    lines = [line.rstrip() for line in text.split("\n") if line.strip()]
    swift = Path(sys.executable).with_name("swift")
    swift = f'"$OLDPWD"/{from_root(swift)}' if swift.is_relative_to(ROOT) else str(swift)
    folder = shlex.quote(from_root(log.parent))
    repeat = f"repeat it with: cd {folder} && {swift} sft sft.yaml; see {log.name}"
    no_memory = r"out of memory|[Cc]an(no|')t allocate memory"
    if code in (-9, 137) or re.search(no_memory, "\n".join(lines[-40:])):
        values = SWIFT_DEFAULTS | arguments
        batch, length = values["per_device_train_batch_size"], values.get("max_length")
        levers = [f"max_length {length} → {length // 2}"] if length else []
        fewer = next((n for n in range(batch // 2, 0, -1) if batch % n == 0), None)
        levers += [f"batch_size {batch} → {fewer}"] if fewer else []
        levers += [] if values["gradient_checkpointing"] else ["gradient_checkpointing: true"]
        strongest = "; ".join(levers)
        return f"swift ran out of memory; levers, the strongest first: {strongest} — {repeat}"
    return f"swift failed ({code}): {last_exception(lines) or ' | '.join(lines[-4:])} — {repeat}"


def last_exception(lines: list[str]) -> str | None:
    """The exception that ended a program, whole and on one line, taken from what it printed.

    Args:
        lines: what it printed, without empty lines. Launchers put "[rank0]: " before a line, and
            end with an exception of their own that says only that a process failed.
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
    """Move the bar to the last step that swift has logged; return its loss, or 0 without a step."""
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
        InputError: when no prepared row has these ids, as when `<bos>` is lost or an option is cut,
            or when the answer is not supervised.
    """
    text = (folder / "swift.log").read_text(encoding="utf-8", errors="replace")
    ids, labels = (
        re.search(rf"\[{name}\] \[([-\d, ]+)\]", text) for name in ("INPUT_IDS", "LABELS_IDS")
    )
    arguments = yaml.safe_load((folder / "sft.yaml").read_text(encoding="utf-8"))
    head = arguments.get("task_type") == "seq_cls"
    if not ids or not (labels or head):
        return False
    ids, labels = (
        [int(number) for number in match[1].split(",")] if match else [] for match in (ids, labels)
    )
    start = [tokenizer.bos_token_id] if arguments["template"] == "news-bos" else []
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
    """swift's logging.jsonl as a frame, with a line for each logged step or evaluation.

    Args:
        path: of logging.jsonl.

    Returns:
        Columns step, loss, eval_loss, eval_seq_acc (share of right answers, also of a
        classification head; empty where a line has none), and whatever else swift logged, such as
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
    is_evaluation = frame["loss"].isna()
    # a step that was repeated after a resumption counts once
    repeated = pd.DataFrame({"step": frame["step"], "kind": is_evaluation}).duplicated(keep="last")
    return frame[~repeated].reset_index(drop=True)
