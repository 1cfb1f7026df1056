"""Locations: where a source keeps the rows of each split, in files, in shards or on a hub."""

import re
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from helpers import ROOT, InputError, one_line
from helpers.files import below_root, from_root
from helpers.hubs import HUGGING_FACE, fetch_dataset
from helpers.lines import form_of
from helpers.readers import CONVERSIONS, READERS, Rows, read_file

SAMPLE = ROOT / "data" / "sample"
SPLITS = {"train": ("train",), "val": ("val", "valid", "validation", "dev"), "test": ("test",)}
"""The splits, and the names that files and hubs give them."""
SHARD = r"[-_](\d+)[-_]of[-_](\d+)(-[0-9a-f]+)?"
"""What hubs add to a split's name, as in train-00000-of-00002-0123456789abcdef.parquet."""
NAMES = {split: rf"({'|'.join(names)})({SHARD})?" for split, names in SPLITS.items()}
"""How the name of a split's file reads, up to its ending."""
WORD = r"(?<![a-z])({})(sets?|data|[sab])?(?![a-z])|({})(集|数据|数据集)?"
LIKE_SPLITS = {
    "val": re.compile(
        WORD.format("val|valid|validate|validation|dev|eval|evaluation", "验证|开发")
    ),
    "test": re.compile(WORD.format("test|testing|holdout|eval|evaluation", "测试|评测")),
}
"""Parts of a file's name that make a person take the file for that split."""
TRAIN = re.compile("train(ing)?(sets?|data)?|训练(集|数据|数据集)?")
MORE = set(
    "part extra more new v aug augmented copy of old rest all full small clean final".split()
)
MORE |= set("add additional fold shard split a b c d 副本 的副本 新 补充 增强 备份 全部".split())
"""Words that stand beside one of `TRAIN` in the name of a file with more training rows, or with a
copy of them.
"""
UNREAD = (
    *("", ".txt", ".xls", ".xlsm", ".et", ".ods", ".ndjson", ".jsonlines", ".feather", ".pkl"),
    *(".arrow", ".zip", ".zst", ".bz2", ".xz", ".7z", ".rar", ".tar", ".tgz", ".bak"),
)
"""Endings of files that may hold rows but are not read."""
ABOUT = ("dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json")
"""Files in which the library `datasets` describes the rows that lie beside them."""


class Part(NamedTuple):
    """Rows of one split in one file."""

    name: str
    """The name that messages give it."""
    read: Callable[[], Rows]
    columns: dict[str, str | None]
    source: str
    """The source that it belongs to."""


def local_path(source: str) -> Path:
    """The path of a source, if it lies on this machine."""
    return SAMPLE if source == "sample" else below_root(source)


def find_splits(source: str) -> dict[str, list[Path]] | None:
    """The files of each split of a local source; None for a hub's id.

    Args:
        source: see `sources.read_source`.

    Raises:
        InputError: when there is no such file, or when a folder holds a split twice, in part, or
            in a file that would not be read.
    """
    path = local_path(source)
    if path.is_dir():
        return folder_splits(path)
    if path.is_file():
        return {"train": [path]}
    if is_hub_id(source):
        return None
    way = ""
    if source.startswith("["):
        way = "; on papermill's command line a list is -y 'source: [a, b]'"
    if re.match("https?://", source):
        way = "; download the file first"
        if page := re.search(
            r"(hugging|hf-|modelscope)[^/]*/(?:datasets/)?([\w.-]+/[\w.-]+)", source
        ):
            own = "" if page[1] == "modelscope" else HUGGING_FACE
            way = f"; this data set is {own}{page[2]}"
    raise InputError(
        f"source {source!r}: no such file or folder, and not a hub id; "
        f"give 'sample', a file, a folder or owner/name{way}"
    )


def is_hub_id(source: str) -> bool:
    """Whether a name that belongs to no file here may be the id of a data set on a hub."""
    name = source.removeprefix("hf:")
    ending = name.lower().endswith((*READERS, ".gz", ".xls", ".txt"))
    return bool(re.fullmatch(r"[\w][\w.-]*/[\w.-]+", name)) and not ending


def one_file(name: Path | str) -> Path:
    """The path of a reader's own file of articles.

    Args:
        name: below the project's root unless absolute.

    Raises:
        InputError: when it is not a file; the message says how to get to one.
    """
    path, source = below_root(name), str(name)
    if path.is_file():
        return path
    folder = local_path(source)
    if folder.is_dir():
        inside = [file for file in listed(folder) if form_of(file) in READERS]
        way = f"such as {from_root(inside[0])}" if inside else f"with rows: {', '.join(READERS)}"
        raise InputError(f"{name} is a folder, and one file is read at a time; give one, {way}")
    way = ""
    if is_hub_id(source):
        fetch = f"from helpers import hubs; print(hubs.fetch_dataset('{source}'))"
        way = (
            "; a data set on a hub is fetched first, and one of its files given: "
            f'.venv/bin/python -c "{fetch}" says its folder'
        )
    raise InputError(f"{name}: no such file{way}")


def listed(folder: Path) -> list[Path]:
    """The contents of a folder and of its `data` folder, in order, without what systems keep there
    or `datasets` writes about them.

    Raises:
        InputError: when the folder cannot be read.
    """
    try:
        return [
            file
            for place in (folder, folder / "data")
            if place.is_dir()
            for file in sorted(place.iterdir())
            # not hidden files, nor locks of open ones
            if not file.name.startswith((".", "~$")) and file.name not in ABOUT
        ]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {one_line(error)}") from None


def folder_splits(folder: Path) -> dict[str, list[Path]]:
    """The files of each split in a folder and in its `data` folder; shards in their order."""
    there = listed(folder)
    files = [file for file in there if file.is_file()]
    forms = "|".join(re.escape(form) for form in READERS)
    splits = {}
    for split, name in NAMES.items():
        pattern = rf"{name}({forms})(\.gz)?"
        matches = [(file, re.fullmatch(pattern, file.name.lower())) for file in files]
        matches = [(file, match) for file, match in matches if match]
        unsharded = [file for file, match in matches if not match[2]]
        kinds = {(file.parent, match[1], match[4], match[6]) for file, match in matches}
        if len(unsharded) > 1 or len(kinds) > 1:
            twice = " and ".join(str(file.relative_to(folder)) for file, _ in matches[:4])
            raise InputError(
                f"{folder} holds {twice}; keep one file for {split}, or one set of shards"
            )
        if matches and not unsharded:
            matches.sort(key=lambda pair: int(pair[1][3]))
            refuse_missing_shards(folder, split, [match for _, match in matches])
        if matches:
            splits[split] = [file for file, _ in matches]
    refuse_unread(folder, there, splits)
    return splits


def refuse_missing_shards(folder: Path, split: str, shards: list[re.Match]) -> None:
    """Raise InputError when a shard of a split is missing, or is one too many.

    Args:
        folder: where they lie.
        split: whose shards they are.
        shards: what `folder_splits` made out of their names, in their order.
    """
    numbers, said = [int(shard[3]) for shard in shards], shards[0][4]
    count = int(said)
    first = 1 if count in numbers and 0 not in numbers else 0  # hubs count from 0
    if missing := sorted(set(range(first, count + first)) - set(numbers)):
        there = f"{len(numbers)} of {count} are there"
        if not {0, count} & set(numbers):  # whether from 0 or from 1 cannot be told
            there = f"or {count:0{len(said)}}-of-{said}; {there}"
        raise InputError(
            f"{folder}: shard {missing[0]:0{len(said)}}-of-{said} of {split} is missing; {there}"
        )
    if len(numbers) > count:
        raise InputError(f"{folder} holds a shard of {split} twice, or one beyond the last")


def refuse_unread(folder: Path, there: list[Path], splits: dict[str, list[Path]]) -> None:
    """Raise InputError when a file would be left unread that seems to hold a split's rows.

    That is a file with more training rows, or one that seems to be the val or test split.

    Args:
        folder: that is read.
        there: its contents; see `listed`.
        splits: the files that are read.
    """
    if "train" not in splits:
        return
    for file in there:
        read = file in splits["train"] or form_of(file) not in READERS
        if not read and holds_more_training(file.name.lower().partition(".")[0]):
            raise InputError(
                f"{folder}: {str(file.relative_to(folder))!r} is not read beside "
                f"{splits['train'][0].name}; give a list of files as the source, or move it "
                "elsewhere"
            )
    for split, names in LIKE_SPLITS.items():
        if split in splits:
            continue
        for file in there:
            name, form = file.name.lower(), form_of(file)
            whole = names.fullmatch(name.partition(".")[0]) and (file.is_dir() or form in UNREAD)
            if names.search(name) and (whole or form in READERS):
                name = str(file.relative_to(folder))
                raise InputError(
                    f"{folder}: {name!r} is not read, and {split} would be cut from the training "
                    f"rows; if it is that split, make it a file such as {split}.csv "
                    f"({', '.join(READERS)}), else move it elsewhere"
                )


def holds_more_training(stem: str) -> bool:
    """Whether a file's name says nothing but that it holds training rows, or a copy of them.

    Examples are "train (2)", "train_b" and "训练集 - 副本".

    Args:
        stem: the name in lower case, without endings.
    """
    words = re.findall(r"[a-z]+|[\u4e00-\u9fff]+", stem)
    others = [word for word in words if not TRAIN.fullmatch(word)]
    return len(others) < len(words) and MORE.issuperset(others)


def other_place(folder: Path) -> str:
    """What a message proposes in place of a folder in which no training rows were found.

    That is a folder below it that holds some, because hubs keep each configuration of a data set in
    a folder of its own, or else the files that are there.
    """
    for below in sorted(path for path in folder.glob("*") if path.is_dir()):
        if any(form_of(file) in READERS for file in below.glob("train*")):
            return f"give the folder {from_root(below)} as source"
    places = [folder, *filter(Path.is_dir, listed(folder))]  # as in train/0000.parquet
    there = dict.fromkeys(file for place in places for file in listed(place))
    rows = [file for file in there if form_of(file) in READERS]
    files = [from_root(file) for file in rows]
    if len(files) > 1 and any(map(resembled, rows)):
        names = ", ".join(f"{split}{form_of(rows[0])}" for split in SPLITS)
        return f"call the file of each split by its name alone ({names})"
    if len(files) > 1:
        more = ", …" if len(files) > 3 else ""
        return f"give its files as a list, `source: [{', '.join(files[:3])}{more}]`"
    if files:
        return f"give the file {files[0]} as source"
    deeper = (text for level in ("*/*/*.txt", "*/*/*/*.txt") for text in folder.glob(level))
    other = next((file for file in chain(there, deeper) if form_of(file) in CONVERSIONS), None)
    way = f" ({other.name}: {CONVERSIONS[form_of(other)]})" if other else ""
    return f"none of these is read{way}"


def called(file: Path) -> str | None:
    """The split whose name a file has, as test.csv has, or train-00000-of-00002.parquet."""
    stem = file.name.lower().partition(".")[0]
    return next((split for split, name in NAMES.items() if re.fullmatch(name, stem)), None)


def resembled(file: Path) -> str | None:
    """The split, val or test, whose name a file's name only resembles, as news.test.csv does."""
    alike = (split for split, names in LIKE_SPLITS.items() if names.search(file.name.lower()))
    return None if called(file) else next(alike, None)


def split_by_name(file: Path) -> str:
    """The split that a file's name says, or else its folder's name; train where neither says one.

    Args:
        file: one of several that are read as one source.

    Raises:
        InputError: when the name only resembles that of val or test, so that rows of that split
            would be trained on.
    """
    if split := called(file):
        return split
    if split := resembled(file):
        raise InputError(
            f"{file.name} beside other files: its name says {split}, and its rows would be "
            f"trained on; if it is that split, call it {split}{form_of(file)}, else something else"
        )
    folder = file.parent.name.lower()  # hubs keep files such as test/0000.parquet
    return next((split for split, names in SPLITS.items() if folder in names), "train")


def source_parts(
    source: str,
    columns: dict[str, str | None],
    revision: str | None,
    sheet: str | None,
    alone: bool,
) -> dict[str, list[Part]]:
    """The parts of one source by split; see `sources.read_source`.

    Args:
        source: a file, a folder or a hub's id.
        columns: the layout of its columns.
        revision: of a hub's data set.
        sheet: of an .xlsx file.
        alone: whether no other source is read with it, so that it must hold training rows.

    Raises:
        InputError: for a folder without rows; the message says what it holds instead.
    """
    files = find_splits(source)
    folder = local_path(source)
    if not alone and folder.is_file():
        files = {split_by_name(folder): [folder]}
    if files is None:
        folder = fetch_dataset(source, revision)
        files = folder_splits(folder)
    if "train" not in files and (alone or not files):
        names = sorted(str(file.relative_to(folder)) for file in folder.glob("*"))
        there = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
        raise InputError(
            f"source {source!r} has no training rows; a folder needs a file called train "
            f"({', '.join(READERS)}), in it or in its data/; it holds {there or 'nothing'}: "
            f"{other_place(folder)}"
        )
    return {
        split: [
            Part(
                str(path),
                partial(read_file, path, sheet if form_of(path) == ".xlsx" else None),
                columns,
                source,
            )
            for path in paths
        ]
        for split, paths in files.items()
    }
