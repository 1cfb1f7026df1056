"""Watches: faults that no row shows alone, noticed as the rows of a file, split or source go by.

A column of labels that was taken for options is one, and codes beside words as labels are another.
What is wrong with a single row stands in helpers/rows.py.
"""

import re

from helpers import Fault, InputError
from helpers.locations import SPLITS
from helpers.rows import (
    LAYOUT,
    as_yaml,
    clean,
    is_gap,
    no_column,
    own_mapping,
    shown,
    usual_columns,
)

PARTING = re.compile(r"[\t\n|｜;；、，,/#&+\\]")
"""Signs that may join two classes in one label."""
WIDE_PARTING = re.compile(PARTING.pattern + r"|[\s・･·]")
"""The same and spaces and dots, for a label with Chinese characters. In English a class may hold a
space.
"""
ALIKE = "give all files the same columns"
"""The remedy where files of one source call their columns by different names."""
NUMBERS = {"", "id"}
"""What columns that number rows are called; test files of public corpora often have one more."""
SPLIT_NAMES = {name: split for split, names in SPLITS.items() for name in names}
"""Splits by each name that they are given."""


class SingleOptions:
    """Notices a column of options that offers a single option in every row.

    Such a column holds the label, not options.

    Args:
        name: of the file.
        columns: its layout; its column for category is None where rows bring no options.
    """

    def __init__(self, name: str, columns: dict[str, str | None]):
        self.name, self.columns = name, columns
        self.single: set[str] | None = None if columns["category"] is None else set()

    def add(self, options: list[str]) -> None:
        """See the options of a row."""
        if self.single is None or len(options) > 1:
            self.single = None
        else:
            self.single.update(options)

    def refuse_labels(self, names: list[str]) -> None:
        """All rows were seen. Raises InputError when the options are labels.

        Args:
            names: of all columns of the file.
        """
        if self.single and len(self.single) > 1:
            column = self.columns["category"]
            free = [name for name in names if name not in (column, self.columns["text"])]
            other = next(usual_columns("output", free), None)
            ways = [
                f"if {who} the labels, set `columns` to "
                f"{as_yaml(own_mapping(self.columns) | {'category': None, 'output': name})}"
                for who, name in (("it holds", column), (f"{other!r} holds", other))
                if name
            ]
            raise InputError(
                f"{self.name}: column {column!r} offers a single option in every row, so that "
                f"no answer could be wrong; {', '.join(ways)}"
            )


class LabelsElsewhere:
    """Notices a file some of whose rows have their label under another usual name.

    That happens where files were joined.

    Args:
        name: of the file.
        columns: its layout.
    """

    def __init__(self, name: str, columns: dict[str, str | None]):
        self.name, self.columns, self.labelled = name, columns, False
        self.beside: set[str] = set()  # names filled beside a label: these are columns of their own
        self.places: dict[str, str] = {}  # names filled in place of a label, and where that began

    def add(self, where: str, raw: dict, label: str | None) -> None:
        """See a row: its place, the source's columns and its label."""
        column = self.columns["output"]
        self.labelled = self.labelled or label is not None
        others = [name for name in raw if name not in self.columns.values()] if column else []
        for name in usual_columns("output", others):
            if is_gap(raw[name]):
                continue
            if label is not None:
                self.beside.add(name)
            elif column not in raw or name != "answer":  # in a review file, "answer" is a model's
                self.places.setdefault(name, where)

    def refuse_labels(self) -> None:
        """All rows were seen. Raises InputError when some have their label elsewhere."""
        name = next((name for name in self.places if name not in self.beside), None)
        if self.labelled and name is not None:
            raise InputError(
                f"{self.name} {self.places[name]}: the label stands under {name!r} and not under "
                f"{self.columns['output']!r} as in other rows; give all rows the same columns"
            )


class SplitColumn:
    """Notices a column that says of each row which split it belongs to.

    Args:
        name: of the file.
        columns: its layout.
    """

    def __init__(self, name: str, columns: dict[str, str | None]):
        self.name, self.columns = name, columns
        self.candidates: dict[str, set[str]] | None = None  # the splits that each has named so far

    def add(self, raw: dict) -> None:
        """See a row's columns."""
        if self.candidates is None:
            self.candidates = {name: set() for name in raw if name not in self.columns.values()}
        for name in list(self.candidates):
            value = raw.get(name)
            split = SPLIT_NAMES.get(value.strip().lower()) if isinstance(value, str) else None
            if split:
                self.candidates[name].add(split)
            else:
                del self.candidates[name]

    def refuse_splits(self) -> None:
        """All rows were seen. Raises InputError when a column names more than one split."""
        for name, splits in (self.candidates or {}).items():
            if len(splits) > 1:
                files = ", ".join(f"{split}.csv" for split in SPLITS if split in splits)
                raise InputError(
                    f"{self.name}: column {name!r} says which split each row belongs to; "
                    f"write each into a file of its own ({files}) in one folder, or take the "
                    "column out"
                )


class FileWatch:
    """Notices what the rows of one file show together.

    Args:
        name: of the file.
        columns: its layout.
    """

    def __init__(self, name: str, columns: dict[str, str | None]):
        self.name, self.columns = name, columns
        self.own: list[str] = []  # the columns of its first row
        self.labels: set[str] = set()  # of its sound rows
        self.has_labels = columns["output"] is None  # or its column is there
        self.single_options = SingleOptions(name, columns)
        self.labels_elsewhere = LabelsElsewhere(name, columns)
        self.split_column = SplitColumn(name, columns)

    def add_columns(self, raw: dict) -> None:
        """See the columns of a row that may not be sound."""
        self.own = self.own or list(raw)
        self.has_labels = self.has_labels or self.columns["output"] in raw
        self.split_column.add(raw)

    def add(self, row: dict) -> None:
        """See a sound row."""
        self.single_options.add(row["category"])
        if row["output"]:
            self.labels.add(row["output"])

    def refuse_columns(self) -> None:
        """All rows were seen. Raises InputError when a column is not what it was taken for."""
        self.single_options.refuse_labels(self.own)
        self.labels_elsewhere.refuse_labels()
        self.split_column.refuse_splits()


class SplitWatch:
    """Notices what the files of one split show together.

    Args:
        split: its name; "" for a first look at all splits.
        columns: of all files of the source that were read to their end; added to.
    """

    def __init__(self, split: str, columns: set[str]):
        self.split, self.columns = split, columns
        self.first: FileWatch | None = None
        self.own: list[str] = []  # the columns of the first file that has rows
        self.has_labels = False
        self.coded: dict[bool, str] = {}  # the first file of codes (True) and of words (False)

    def refuse_lost_column(self, raw: dict, columns: dict[str, str | None]) -> None:
        """Raise Fault for a row without a text or options, when other files have their column.

        Args:
            raw: the row.
            columns: its file's layout.
        """
        for name in (columns["text"], columns["category"]):
            if name in self.columns and name not in raw:
                raise Fault(f"no column {name!r}, which other files have", f"; {ALIKE}")

    def refuse_codes_beside_words(self, file: FileWatch) -> None:
        """Raise InputError when one file has codes as labels, and another words.

        Args:
            file: read to its end; its rows are offered all labels.
        """
        codes = is_coded(file.labels)
        if len(file.labels) > 1 and (codes or not any(map(str.isdecimal, file.labels))):
            self.coded.setdefault(codes, file.name)
        if len(self.coded) > 1:
            raise InputError(
                f"{self.coded[True]} has codes as labels (0, 1, …) and {self.coded[False]} words; "
                "write them alike in all files"
            )

    def add(self, file: FileWatch) -> None:
        """See a file that was read to its end. Raises InputError when its labels stand elsewhere.

        Args:
            file: the next of the split.
        """
        column, has_labels = file.columns["output"], file.has_labels
        named = [name for name in usual_columns("output", file.own) if name != column]
        if self.has_labels and named and not has_labels:
            raise InputError(
                f"{file.name}: the label stands under {named[0]!r} and not under {column!r} "
                f"as in other files; {ALIKE}"
            )
        new = [n for n in file.own if n not in self.columns and n.lower() not in NUMBERS]
        if self.columns and new and not has_labels and column in self.columns:
            raise InputError(
                f"{file.name} has no column {column!r} for output, and {shown(new[0])}, which "
                f"other files have not; {ALIKE}, and where labels are missing an empty {column!r}"
            )
        self.columns.update(file.own)
        mapped = column != LAYOUT["output"]
        if file.own and not has_labels and (named or (mapped and self.split == "train")):
            raise InputError(f"{file.name}: {no_column('output', file.columns, file.own)}")
        self.first, self.own = self.first or file, self.own or file.own
        self.has_labels = self.has_labels or has_labels

    def refuse_unlabelled(self) -> None:
        """All files were seen. Raises InputError when none of those to learn from has labels."""
        if self.own and not self.has_labels and self.split in ("", "train"):
            lacking = no_column("output", self.first.columns, self.own)
            raise InputError(f"{self.first.name}: {lacking}")


def refuse_joined_labels(name: str, labels: set[str]) -> None:
    """Raise InputError for a label that joins several classes, each of which is a label, too.

    Args:
        name: of the source's first file.
        labels: all that occur.
    """
    for label in sorted(labels):
        parting = PARTING if label.isascii() else WIDE_PARTING
        single = [clean(name) for name in parting.split(label)]
        if len(single) > 1 and labels.issuperset(single):
            raise InputError(
                f"{name}: the label {label!r} may be one class or several, for "
                f"{', '.join(map(repr, single))} are classes; give a row one label, or call "
                "that class something else"
            )


def refuse_truths_beside_numbers(name: str, labels: set[str]) -> None:
    """Raise InputError where some rows have truth values as labels, and others 0 or 1.

    Programs write both for the same answer, and one class would become two.

    Args:
        name: of the source's first file.
        labels: all that occur.
    """
    truths = sorted(label for label in labels if label.lower() in ("true", "false"))
    numbers = sorted(labels & {"0", "1"})
    if truths and numbers:
        raise InputError(
            f"{name}: labels are truth values ({truths[0]!r}) in some rows and numbers "
            f"({numbers[0]!r}) in others; write them alike"
        )


def is_coded(labels: set[str]) -> bool:
    """Whether labels are the numbers from 0 or 1 on, as programs count classes."""
    numbers = {int(label) for label in labels if re.fullmatch("[0-9]{1,9}", label)}
    least = min(numbers, default=2)
    return least < 2 and numbers == set(range(least, least + len(labels)))


def refuse_minus_ones(source: str | list[str], labels: dict[str, set[str]]) -> None:
    """Raise InputError when all labels of a split are -1, and no training row has that label.

    Data sets on hubs hide the labels of a split in this way.

    Args:
        source: as messages name it.
        labels: that occur, by split.
    """
    for split in labels.keys() - {"train"}:
        if labels[split] == {"-1"} and "-1" not in labels["train"]:
            raise InputError(
                f"source {shown(source)}: every label of {split} is -1, which no training row has; "
                "it says that labels are missing, so leave these fields empty"
            )


def refuse_strange_labels(source: str | list[str], labels: dict[str, set[str]]) -> None:
    """Raise InputError when a split shares no label with the training rows.

    One file then has numbers and the other names, or the split is of another corpus.

    Args:
        source: as messages name it; its rows are offered all labels.
        labels: that occur, by split.
    """
    for split in labels.keys() - {"train"}:
        if labels[split] and labels[split].isdisjoint(labels["train"]):
            ours, theirs = (shown(sorted(labels[one])) for one in (split, "train"))
            empty = ", or leave these fields empty if labels are missing"
            way = empty if len(labels[split]) == 1 else ""
            raise InputError(
                f"source {shown(source)}: {split} has the labels {ours}, of which train has none "
                f"({theirs}); write them alike{way}"
            )


def refuse_codes_counted_otherwise(source: str | list[str], labels: dict[str, set[str]]) -> None:
    """Raise InputError when one split counts classes from 0 and another from 1.

    Args:
        source: as messages name it.
        labels: that occur, by split.
    """
    train = labels["train"]
    for split, others in labels.items():
        from_zero = {"0" in train, "0" in others} == {True, False}
        if from_zero and train - others and others - train and is_coded(train) and is_coded(others):
            raise InputError(
                f"source {shown(source)}: train counts classes from {min(train, key=int)} to "
                f"{max(train, key=int)} and {split} from {min(others, key=int)} to "
                f"{max(others, key=int)}; count alike in all files"
            )
