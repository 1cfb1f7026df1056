"""Trained settings: where their adapters lie, and which did best on val."""

import math
from pathlib import Path

from helpers import ROOT, InputError, metrics, one_line
from helpers.adapters import HEAD, PROMPT, WEIGHTS, adapter_digest
from helpers.files import DAMAGE, digest, from_here, from_root, read_json, read_jsonl
from helpers.training_log import read_log

ROWS = "rows.json"
"""The file beside an adapter's folder that holds the digest of its training rows."""


def val_score(folder: Path) -> tuple[float, float]:
    """How well a setting's adapter did on val; a larger score is better.

    Args:
        folder: of a trained setting, with summary.json; logging.jsonl may not have been kept.

    Returns:
        The share of right answers (eval_seq_acc) at the step whose weights were kept, and minus the
        loss there, which decides between equals. What was not measured is minus infinity.

    Raises:
        InputError: when a file of the setting is damaged.
    """
    if not (folder / "logging.jsonl").is_file():
        return -math.inf, -math.inf
    try:
        step = training_summary(folder)["best_step"]
        log = read_log(folder / "logging.jsonl")
        lines = log[(log["step"] == step) & log["eval_loss"].notna()]
        values = lines[["eval_seq_acc", "eval_loss"]].iloc[-1] if len(lines) else None
    except DAMAGE as error:
        raise InputError(
            f"{folder.name}: its training left no sound log ({one_line(error)}); train it again "
            "with notebook 04"
        ) from None
    if values is None:
        return -math.inf, -math.inf
    accuracy, loss = values["eval_seq_acc"], values["eval_loss"]
    return -math.inf if math.isnan(accuracy) else float(accuracy), -float(loss)


def training_summary(folder: Path) -> dict:
    """What a setting's training left: seconds, best_step and more; empty where nothing was kept.

    Args:
        folder: of a trained setting. Where its own summary is gone, as before a chapter is run
            again, the copy in the adapter's folder is read.

    Raises:
        OSError, ValueError: when the file cannot be read.
    """
    for place in (folder, folder / "adapter"):
        if (place / "summary.json").is_file():
            return read_json(place / "summary.json")
    return {}


def rows_looked_at(folder: Path) -> int | None:
    """How many validation rows, from the first on, a training chose its checkpoint by.

    Args:
        folder: of a trained setting; where it keeps no rows of its own, those of its run count.

    Returns:
        Their number; None where neither the setting nor the run has kept them.
    """
    for path in (folder / "val.jsonl", folder.parents[1] / "data" / "val.jsonl"):
        if path.is_file():
            return path.read_bytes().count(b"\n")
    return None


def comparable(shares: list[float], counts: list[int | None]) -> bool:
    """Whether trainings can be ranked by what each of them measured on val.

    They can if all of them looked at val, and at the same number of rows.

    Args:
        shares: of right answers; minus infinity where a training did not look at val.
        counts: how many rows each training looked at; see `rows_looked_at`.
    """
    return len(set(counts)) <= 1 and all(math.isfinite(share) for share in shares)


def kept_shares(folders: list[Path]) -> dict[Path, float] | None:
    """Shares of right answers to the same validation rows, from the answers that chapter 5 kept.

    Args:
        folders: of trained settings of one run.

    Returns:
        The shares by folder; None unless all settings were asked about the same rows, each with its
        adapter as it is now.
    """
    shares, row_ids = {}, set()
    for folder in folders:
        answers_folder = folder.parents[1] / "eval" / folder.name / "val"
        try:
            key = read_json(answers_folder / "key.json")
            lines = read_jsonl(answers_folder / "predictions.jsonl")
            if not lines or key["adapter"] != adapter_digest(folder / "adapter"):
                return None
            row_ids.add(tuple(line["id"] for line in lines))
            shares[folder] = float(metrics.correct(lines, "score").mean())
        except (*DAMAGE, InputError):
            return None
    return shares if len(row_ids) == 1 else None


def best_setting(folders: list[Path]) -> Path:
    """The setting that did best on val; figures on test never have a say.

    Where a training did not look at val, or looked at more or fewer rows than the others, all are
    judged by the answers to val that chapter 5 kept, as chapter 5 does. Where these are missing, a
    printed line says so.

    Args:
        folders: of trained settings of one run; among equals, the first is chosen.
    """
    if len(folders) == 1:
        return folders[0]
    scores = {folder: val_score(folder) for folder in folders}
    counts = [rows_looked_at(folder) for folder in folders]
    if not comparable([share for share, _ in scores.values()], counts):
        if shares := kept_shares(folders):
            return max(folders, key=shares.__getitem__)
        print(
            "not every training looked at as many validation rows, so the best is chosen unevenly: "
            "run chapter 5 on all of them, which asks about the same rows, or name an adapter"
        )
    return max(folders, key=scores.__getitem__)


def training_rows(run: Path) -> str | None:
    """Digest of the training rows that a run has now; None where there are none."""
    train = run / "data" / "train.jsonl"
    return digest(train) if train.is_file() else None


def learned_from(folder: Path) -> str | None:
    """Digest of the rows that a setting learned from; None where it is not known.

    Args:
        folder: of a trained setting.
    """
    try:
        return read_json(folder / ROWS)["train"]
    except DAMAGE:
        return None


def whole_settings(run: Path, kind: str = PROMPT) -> list[Path]:
    """The folders of a run's settings whose adapter is whole, in order of their names.

    What a killed training left is not among them.

    Args:
        run: the run's folder.
        kind: PROMPT for settings that write, HEAD for classification heads.
    """
    folders = [path.parent.parent for path in sorted(run.glob(f"train/*/adapter/{kind}"))]
    return [folder for folder in folders if not folder.name.startswith(".")]


def trained_settings(run: Path) -> list[Path]:
    """The folders of a run's settings that can be chosen from, in order of their names.

    Classification heads are left out, for they can neither be exported nor used to classify. So are
    settings that learned from other rows than the run holds now, unless all did. Printed lines name
    them.
    """
    if heads := [folder.name for folder in whole_settings(run, HEAD)]:
        print(f"left out, as classification heads are chapter 5's alone: {', '.join(heads)}")
    folders, rows = whole_settings(run), training_rows(run)
    others = [folder for folder in folders if rows and learned_from(folder) not in (None, rows)]
    if others:
        names = ", ".join(folder.name for folder in others)
        fault = f"learned from other rows than {from_root(run)}/data/train.jsonl holds now: {names}"
        if len(others) == len(folders):
            print(f"all settings {fault}")
        else:
            print(f"left out, as they {fault}; to use one, name its adapter")
            folders = [folder for folder in folders if folder not in others]
    return folders


def best_of_run(run: Path) -> Path:
    """The adapter that did best on val in one run.

    Args:
        run: its folder.

    Raises:
        InputError: when no setting of it is trained.
    """
    if not (folders := trained_settings(run)):
        raise InputError(
            f"no adapter in {from_root(run)}/train: notebooks/04-training.ipynb makes one; "
            "or name an adapter's folder"
        )
    return best_setting(folders) / "adapter"


def best_adapter(runs: Path = ROOT / "runs") -> Path:
    """The adapter that did best on val in the newest run that has one.

    Args:
        runs: the folder that holds a folder for each run.

    Raises:
        InputError: when no run has an adapter.
    """
    trained = {run: whole_settings(run) for run in sorted(runs.glob("*")) if run.is_dir()}
    trained = {run: folders for run, folders in trained.items() if folders}
    if not trained:
        raise InputError(
            f"no run in {runs.name}/ has a trained adapter; train one with notebook 04 or "
            "`make book`, or name an adapter's folder"
        )
    newest = max(trained, key=lambda run: max(age(setting) for setting in trained[run]))
    return best_of_run(newest)


def adapter_of(given: str | None, profile: str | None) -> Path:
    """The adapter that a command line means.

    Args:
        given: an adapter's folder, below the current folder unless absolute.
        profile: the name of the run whose best adapter on val is meant.

    Raises:
        InputError: when both are given, or there is no such run or no adapter to choose from.
    """
    if given and profile:
        raise InputError("an adapter belongs to one run: name an adapter or a profile, not both")
    if given:
        return Path(from_here(given))
    if not profile:
        return best_adapter()
    runs = sorted(path.name for path in (ROOT / "runs").glob("[!.]*/") if (path / "train").is_dir())
    if profile not in runs:
        there = ", ".join(runs) or "none"
        raise InputError(f"no run of profile {profile!r} has trained; there are: {there}")
    return best_of_run(ROOT / "runs" / profile)


def age(setting: Path) -> float:
    """When a setting's weights were written, in seconds since 1970."""
    weights = setting / "adapter" / WEIGHTS[1]
    return weights.stat().st_mtime if weights.is_file() else 0.0


def place_of(adapter: Path) -> tuple[Path, str]:
    """The run and the setting that an adapter belongs to.

    Args:
        adapter: its folder; in a run it is train/<setting>/adapter.

    Returns:
        The run's folder and the setting's name; for an adapter that lies elsewhere, the folder
        above it and the name of its own folder.
    """
    adapter = adapter.resolve()
    if adapter.name == "adapter" and adapter.parent.parent.name == "train":
        return adapter.parents[2], adapter.parent.name
    return adapter.parent, adapter.name
