"""Fetch the files of models and data sets from ModelScope or Hugging Face, and run none of them.

A data set's files are read by this project's own strict readers (helpers.readers), whichever hub
they come from, so that a row is checked in one way only and no script of a repository ever runs.
"""

from pathlib import Path

from helpers import InputError, one_line

HUGGING_FACE = "hf:"
"""The prefix of a data set's id on Hugging Face; ids without it are ModelScope's."""
DATA = [
    f"*.{form}{end}"
    for form in ("jsonl", "json", "csv", "tsv", "xlsx", "parquet")
    for end in ("", ".gz")
]
"""Patterns of a data set's files of rows, which are fetched."""


def fetch_model(model: str) -> str:
    """The folder of a model on ModelScope, fetched into ModelScope's cache on first use.

    Args:
        model: an id such as "01ai/Yi-6B". A download that broke off is continued.

    Raises:
        InputError: when it cannot be fetched.
    """
    from modelscope import snapshot_download

    try:
        return snapshot_download(model)
    except Exception as error:
        raise InputError(
            f"model {model!r} could not be fetched from ModelScope ({one_line(error)}); "
            "check its id and the network"
        ) from None


def fetch_dataset(source: str, revision: str | None = None) -> Path:
    """The folder of a data set's files, fetched into its hub's cache on first use.

    Args:
        source: an id on ModelScope such as "swift/zh_cls_fudan-news", or "hf:owner/name".
        revision: a branch, tag or commit; None for the hub's default.

    Raises:
        InputError: when it cannot be fetched, or holds no file of rows, as where rows are made by a
            script of its repository, which is not run.
    """
    name = source.removeprefix(HUGGING_FACE)
    wanted = {"revision": revision, "allow_patterns": [*DATA, "*.py"]}
    try:
        if source.startswith(HUGGING_FACE):
            from huggingface_hub import snapshot_download

            fetched = snapshot_download(name, repo_type="dataset", **wanted)
        else:
            from modelscope import dataset_snapshot_download

            fetched = dataset_snapshot_download(name, **wanted)
    except Exception as error:
        raise InputError(
            f"source {source!r} is no file or folder here, and could not be fetched "
            f"({one_line(error)}); check its name, the revision and the network"
        ) from None
    folder = Path(fetched)
    if not any(path.is_file() for pattern in DATA for path in folder.rglob(pattern)):
        scripts = sorted(path.name for path in folder.rglob("*.py"))
        why = f"it brings a script ({scripts[0]}), which is not run" if scripts else "none is there"
        raise InputError(
            f"source {source!r} holds no file of rows: {why}; "
            "download the rows yourself and give their folder as source"
        )
    return folder
