"""Rows that a pair of stray quotes swallowed, told apart from the lines of an article.

In a file that quotes nothing, a text that begins with a quote opens a quoted field, and a later
text that ends with a quote closes it. A parser takes all rows in between for one sound text of many
lines. We call such a record a suspect. Its lines are rows when they hold what rows of this file
hold, that is known labels, keys or numbers, beside texts as long as those of rows. Where they hold
nothing known, each line must have as many fields as the header, and fields as long as those of
rows.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Collection
from itertools import groupby
from math import isqrt, sqrt
from typing import NamedTuple

from helpers.rows import WORD, clean

ENOUGH, AMPLE = 20, 5_000
"""Numbers of records. From ENOUGH on a suspect is judged at once. Up to AMPLE it is also kept, and
judged again at the end of the file.
"""
MOST = 12
"""The most lines of a suspect that are looked at."""
LIKE = 5
"""The fewest lines of a suspect whose lengths alone may show that they are rows."""
FIRST_OF_THOUSANDS = re.compile("[0-9]{1,3}"), re.compile("[0-9]{3}(?![0-9])")
"""The two parts of a number such as 12,000."""


class Suspect(NamedTuple):
    """A record whose lines would be whole rows by themselves."""

    opening: int
    """The line in which its quoted field begins."""
    own: list[str]
    """The record's fields; see `short`."""
    rows: list[list[str]]
    """Fields of its lines; those that belong to the record itself are blank."""
    prose: list[bool]
    """For each line, whether a space follows one of its separators, as in prose."""
    sizes: list[list[int]]
    """How long each of these fields is; see `size`."""
    whole: list[list[int]]
    """How long all fields of these lines are, including those of the record itself."""
    complete: bool
    """Whether every line that is not blank is such a row."""


class Watch:
    """Watches the records of a file for swallowed rows.

    Args:
        delimiter: between fields.
    """

    def __init__(self, delimiter: str):
        self.delimiter = delimiter
        self.width = 0  # of the header
        self.records = 0  # below the header
        self.values: dict[int, set[str]] = defaultdict(set)  # by column
        self.builds: dict[int, set[str]] = defaultdict(set)  # of these values; see `build`
        self.last: dict[int, str] = {}  # the value seen last, by column
        self.runs: Counter = Counter()  # of rows with the same value one after the other, by column
        # Of records that are no suspects:
        self.sizes: dict[int, Counter] = defaultdict(Counter)  # how many of each size, by column
        self.plain = self.unquoted = self.spaced = 0  # all; without quotes; see `is_spaced`
        self.suspects: list[Suspect] = []  # to be judged at the end
        self.suspected = 0  # how many suspects there were
        # where the last record's field opens, what `counts_on` says of it, how many lines it has
        self.counted: tuple[int, dict[int, int], int] = 0, {}, 0

    def add(self, first: int, lines: list[str], fields: list[str]) -> int | None:
        """See a record.

        Args:
            first: the number of its first line.
            lines: of the record.
            fields: of the record.

        Returns:
            The line with the opening quote that swallowed rows; None as long as none is known.
        """
        if not fields:
            return None
        opening, following, _ = self.counted
        for column, number in following.items():  # this row counts on behind the last one's lines
            goes_on = fields[column : column + 1] == [str(number)]
            if goes_on and not self.repeats(column):
                return opening
        self.counted = 0, {}, 0
        self.records += bool(self.width)
        for column, field in enumerate(map(short, fields) if self.width else []):
            known = self.values[column]
            if field:
                self.runs[column] += field != self.last.get(column)
                self.last[column] = field
            if field and field not in known and len(known) < 10_000:
                known.add(field)
                self.builds[column].add(build(field))
        width = self.width or len(fields)
        rows, whole, prose = whole_rows(lines, width, self.delimiter)
        if rows:
            opening = first + opening_line(lines, self.delimiter)
            self.counted = opening, counts_on(rows, fields), len(rows)
            suspect = Suspect(
                opening,
                (list(map(short, fields)) + [""] * width)[:width],
                [list(map(short, row)) for row in rows[:MOST]],
                prose[:MOST],
                [list(map(size, row)) for row in rows[:MOST]],
                [list(map(size, row)) for row in whole[:MOST]],
                len(whole) == sum(map(bool, map(clean, lines))),
            )
            self.suspected += 1
            if self.plain >= ENOUGH and self.are_rows(suspect):
                return opening
            if self.records < AMPLE:
                self.suspects.append(suspect)
        else:
            text = "".join(lines)
            self.plain += 1
            self.unquoted += not (text.startswith('"') or self.delimiter + '"' in text)
            self.spaced += is_spaced(fields)
            if self.width:  # the header is no row
                for column, field in enumerate(fields):
                    self.sizes[column][size(field)] += 1
        self.width = width
        return None

    def end(self) -> int | None:
        """See that the file ends: the line with the opening quote that swallowed rows, or None."""
        opening, following, count = self.counted  # no row followed that could count on
        if count > 2 and not all(map(self.repeats, following)):
            return opening
        return next((one.opening for one in self.suspects if self.are_rows(one)), None)

    def are_rows(self, suspect: Suspect) -> bool:
        """Whether the lines of a suspect are rows, and not those of an article.

        Most writers quote every field, or every field with a comma. Where the file's other rows
        have quotes, lines without any rather belong to an article. And where every fifth record is
        a suspect, the articles of that corpus have such lines, for stray quotes are rare.
        """
        if self.suspected > max(3, 0.2 * self.records):
            return False
        share = (self.unquoted + 1) / (self.plain + 1)
        if share ** (len(suspect.whole) - 1) < 0.1:
            return False
        columns = self.evidence(suspect)
        if self.hold_classes(suspect, columns):
            return self.are_as_long(suspect, least=0.02)
        known = self.repeats_values(columns) or self.repeats_keys(suspect)
        return self.are_as_long(suspect) if known else self.are_like_rows(suspect)

    def repeats(self, column: int, more: Collection[str] = ()) -> bool:
        """Whether values recur in a column, as labels do and keys do not.

        Args:
            column: its place.
            more: values that a suspect's lines would add.
        """
        return len(self.values[column].union(more)) <= 0.7 * (self.records + len(more))

    def evidence(self, suspect: Suspect) -> list[list[str]]:
        """The columns that a suspect's lines would make, each different line once.

        Where the file writes no spaces behind commas, a line that does is prose, and it is blank
        here.
        """
        spaced = 2 * self.spaced > self.plain
        blank = [""] * len(suspect.own)
        rows = [row if spaced or not p else blank for row, p in zip(suspect.rows, suspect.prose)]
        return [list(column) for column in zip(*dict.fromkeys(map(tuple, rows)))]

    def hold_classes(self, suspect: Suspect, columns: list[list[str]]) -> bool:
        """Whether some column of the lines holds known classes.

        These are words that recur in that column, or the same number in every line and in the
        record itself, as where rows are sorted by class.

        Args:
            suspect: a record.
            columns: of its lines; see `evidence`.
        """
        for column, fields in enumerate(columns):
            filled = [field for field in fields if field]
            alike = set(filled) == {suspect.own[column]}
            words = alike or all(WORD.search(field) for field in filled)
            known = filled and words and self.values[column].issuperset(filled)
            if known and self.repeats(column, [row[column] for row in suspect.rows if row[column]]):
                return True
        return False

    def repeats_values(self, columns: list[list[str]]) -> bool:
        """Whether half of the lines hold in some column what rows hold there, such as labels.

        Values that are new but recur among the lines count, too, once one value is known: all rows
        of a class may be among the lines. In a file that is sorted by class they count alone, if
        each has some rows on end. A whole line that recurs counts once, for prose repeats lines,
        too, as in a song. Numbers in order are those of a list.

        Args:
            columns: of these lines; see `evidence`.
        """
        for column, fields in enumerate(columns):
            filled = [field for field in fields if field]
            if is_list(filled):
                continue
            known = [field for field in filled if field in self.values[column]]
            new = Counter(field for field in filled if field not in self.values[column])
            again = [field for field in filled if new[field] > 1]
            runs = len(list(groupby(filled)))
            ordered = self.runs[column] == len(self.values[column]) and runs == len(set(filled))
            told = known or (ordered and len(again) >= 4 * runs)  # a class has some rows on end
            if told and 2 * len(known + again) >= len(fields) and self.repeats(column, filled):
                return True
        return False

    def repeats_keys(self, suspect: Suspect) -> bool:
        """Whether all lines hold a number or key in some column that is built like those of rows.

        A single line must hold a new key, in a column whose keys never recur.
        """
        for column, fields in enumerate(zip(*suspect.rows)):
            filled = [field for field in fields if field]
            keys = {build(field) for field in filled}
            if not filled or "" in keys or not keys <= self.builds[column]:
                continue
            new = self.values[column].isdisjoint(filled) and not self.repeats(column, filled)
            if len(filled) > 1 or (new and build(suspect.own[column]) in keys):
                return True
        return False

    def are_as_long(self, suspect: Suspect, least: float | None = None) -> bool:
        """Whether a suspect's lines are as long as rows, in the column that has the longest fields.

        The lines of a list or table within an article are shorter than articles, and together no
        longer than the longest one.

        The length of a row's field has any rank among the file's other fields with the same chance.
        So the mean of the ranks (0 the shortest, 1 the longest) is about a half. By chance it falls
        more than two standard errors below a half once in fifty times.

        Args:
            suspect: a record. Its own fields count, too, where there is hardly another.
            least: what the mean of the ranks must reach; by default it depends on the number of
                lines.
        """
        columns = range(len(suspect.own))
        column = max(columns, key=lambda c: sum(v * n for v, n in self.sizes[c].items()))
        lengths = [line[column] for line in suspect.sizes if line[column]]
        if len(lengths) < 2:
            lengths = [line[column] for line in suspect.whole if line[column]]
        counts = self.sizes[column]
        if (
            not lengths
            or not counts
            or sum(length**2 for length in lengths) > (max(counts) + 1) ** 2
        ):
            return True

        if least is None:
            deviation = 0.29 / sqrt(len(lengths))  # of the mean of ranks that are drawn evenly
            # Rows of one class may be shorter than most, so a quarter is enough for any number.
            least = max(0.02, min(0.25, 0.5 - 2 * deviation))
        return self.mean_rank(column, lengths) >= least

    def mean_rank(self, column: int, lengths: Collection[int]) -> float:
        """The mean rank of some lengths among those of the file's fields; see `are_as_long`.

        Args:
            column: its place.
            lengths: of fields; see `size`.
        """
        counts = self.sizes[column]
        shorter = sum(n for one in lengths for value, n in counts.items() if value < one)
        alike = sum(counts[one] for one in lengths)
        return (shorter + alike / 2) / max(1, counts.total()) / len(lengths)

    def are_like_rows(self, suspect: Suspect) -> bool:
        """Whether all lines look like rows: the right number of fields, of the usual length.

        In every column, the mean rank of the lengths is within two standard errors of a half.

        Args:
            suspect: a record.
        """
        number = len(suspect.whole)
        if number < LIKE or self.plain < ENOUGH or not suspect.complete or any(suspect.prose):
            return False
        return all(
            abs(self.mean_rank(column, lengths) - 0.5) <= 2 * 0.29 / sqrt(number)
            for column, lengths in enumerate(zip(*suspect.whole))
        )


def opening_line(lines: list[str], delimiter: str) -> int:
    """The place in `lines` of the line in which a record's last quoted field begins."""
    opening, begins, field, quoted = 0, True, False, False
    for place, line in enumerate(lines):
        for character in line:
            if character == '"' and begins:
                opening, field, quoted = place, True, True
            elif character == '"' and field:
                quoted = not quoted  # a doubled quote closes and opens again
            begins = not quoted and character in delimiter + "\r\n"
            field = field and not begins
    return opening


def whole_rows(
    lines: list[str], width: int, delimiter: str
) -> tuple[list[list[str]], list[list[str]], list[bool]]:
    """The lines of a record that would be whole rows by themselves.

    There are none unless at least half of the lines between the first and the last one would be,
    blank lines aside.

    Args:
        lines: of the record.
        width: number of the file's columns.
        delimiter: between fields.

    Returns:
        Three lists. The first holds the fields of each line, where what belongs to the record
        itself is blank: in the first line all up to the field that opens with a quote, in the last
        line all from the closing quote on (a last line that holds nothing else is left out), and
        whatever begins a number in the thousands. The second holds all fields of these lines,
        without a first line that is no row. The third says of each line in the first list whether
        it is spaced.
    """
    if len(lines) < 2 or width < 2:
        return [], [], []
    filled = [line for line in lines[1:-1] if clean(line)]
    parsed = csv.reader([lines[0], *filled], delimiter=delimiter, quoting=csv.QUOTE_NONE)
    first, *others = parsed
    others = [fields for fields in others if len(fields) == width]
    if 2 * len(others) < len(filled) or (len(first) != width and not others):
        return [], [], []
    whole = [first, *others] if len(first) == width else others
    # In the first line, all fields up to the one with the opening quote are the record's own.
    own = max((place for place, field in enumerate(first) if field.startswith('"')), default=-1)
    first = [""] * (own + 1) + first[own + 1 :] if len(first) == width else [""] * width
    rows, prose = [first, *map(without_thousands, others)], [False, *map(is_spaced, others)]
    [last] = csv.reader([lines[-1]], delimiter=delimiter, quoting=csv.QUOTE_NONE)
    inner = closing_field(last) if len(last) == width else -1
    if inner >= 0:
        whole.append(last)
    if inner > 0:
        rows.append(without_thousands(last)[:inner] + [""] * (width - inner))
        prose.append(is_spaced(last))
    return rows, whole, prose


def is_spaced(fields: list[str]) -> bool:
    """Whether a space follows a separator, as it follows a comma in prose."""
    return any(field.startswith(" ") for field in fields[1:])


def without_thousands(fields: list[str]) -> list[str]:
    """Fields of a line, where the 12 that a comma cut off from 12,000 is blank."""
    first, others = FIRST_OF_THOUSANDS
    behind = [*fields[1:], ""]
    return [
        "" if first.fullmatch(field) and others.match(following) else field
        for field, following in zip(fields, behind)
    ]


def short(field: str) -> str:
    """A field, or for a long one its length and hash, which need less memory."""
    return field if len(field) <= 64 else f"{len(field)}:{hash(field)}"


def size(field: str) -> int:
    """How long a field is, in so few steps that they can be counted; only an empty field has 0."""
    return isqrt(len(field))


def closing_field(fields: list[str]) -> int:
    """Which of a line's fields ends with the quote that closes a record's field; -1 without one."""
    quotes = 0
    for place, field in enumerate(fields):
        quotes += field.count('"')
        if quotes % 2 and field.endswith('"'):
            return place
    return -1


def counts_on(lines: list[list[str]], fields: list[str]) -> dict[int, int]:
    """For each column in which a record's lines count up by one, the number that comes next.

    A stray quote that swallowed rows with an index leaves such a column.

    Args:
        lines: their fields; see `whole_rows`.
        fields: of the record; its own number precedes those of the lines or follows them.
    """
    following = {}
    for (column, inner), own in zip(enumerate(zip(*lines)), fields):
        others = [field for field in inner if field]
        numbers = others + [own] if inner[0] else [own] + others
        if others and all(re.fullmatch("[0-9]{1,18}", number) for number in numbers):
            first, end = int(numbers[0]), int(numbers[0]) + len(numbers)
            if list(map(int, numbers)) == list(range(first, end)):
                following[column] = end
    return following


def is_list(fields: list[str]) -> bool:
    """Whether fields are the numbers of a list: 1, 2 and so on, or from 2 on.

    They start at 2 where the first item is in the line of the opening quote.
    """
    from_one = [str(number + 1) for number in range(len(fields))]
    from_two = [str(number + 2) for number in range(len(fields))]
    return (len(fields) > 1 and fields == from_one) or (len(fields) > 2 and fields == from_two)


def build(field: str) -> str:
    """How a number or a key is built, which is alike for those of one column.

    A number needs four digits, and gets 0 for each. A key needs four characters with a digit among
    them, and gets x for each letter and digit. Anything else gives an empty text.
    """
    if len(field) < 4 or not re.fullmatch(r"[0-9A-Za-z_.:/-]*[0-9][0-9A-Za-z_.:/-]*", field):
        return ""
    return re.sub("[0-9]", "0", field) if field.isdigit() else re.sub("[0-9A-Za-z]", "x", field)
