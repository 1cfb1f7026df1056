"""Rows that a pair of stray quotes swallowed, told from the lines of an article.

Where nothing is quoted, a text that begins with a quote opens a field, and a later text that ends
with one closes it. For a parser the rows between are one sound text of many lines. They are told by
what they hold: the labels, keys or numbers of rows, in texts as long as those of rows. Where there
are none, each line must have as many fields as the header, as long as those of rows.
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
"""Records from which on it is known what a file's rows look like: for a first and a last look."""
MOST = 12
"""Lines of a record that are looked at."""
LIKE = 5
"""Lines of a record from which on their lengths alone tell whether they are rows."""
FIRST_OF_THOUSANDS = re.compile("[0-9]{1,3}"), re.compile("[0-9]{3}(?![0-9])")
"""The two parts of a number such as 12,000."""


class Suspect(NamedTuple):
    """A record whose lines would be whole rows by themselves."""

    opening: int
    """The line in which its field begins."""
    own: list[str]
    """The record's fields; see `short`."""
    rows: list[list[str]]
    """Fields of its lines; what belongs to the record itself is blank."""
    prose: list[bool]
    """Of each line whether a space stands behind one of its separators."""
    sizes: list[list[int]]
    """How long each of these fields is; see `size`."""
    whole: list[list[int]]
    """How long all fields of these lines are, the record's own among them."""
    complete: bool
    """Whether every line with something in it is such a row."""


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
        self.last: dict[int, str] = {}  # value that was seen, by column
        self.runs: Counter = Counter()  # of rows with one value on end, by column
        # of records without suspicion:
        self.sizes: dict[int, Counter] = defaultdict(Counter)  # by column, how many of each
        self.plain = self.unquoted = self.spaced = 0  # all, without quotes, with " " behind a comma
        self.suspects: list[Suspect] = []  # to be looked at again
        self.suspected = 0  # how many there were
        self.counted: tuple[int, dict[int, int], int] = 0, {}, 0

    def add(self, first: int, lines: list[str], fields: list[str]) -> int | None:
        """See a record.

        Args:
            first: its first line's number.
            lines: of the record.
            fields: of the record.

        Returns:
            The line in which a quote opens that swallowed rows; None where it is not known yet.
        """
        if not fields:
            return None
        opening, following, _ = self.counted
        for column, number in following.items():  # the next row goes on behind those lines
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
            if self.width:  # the header's words are no rows
                for column, field in enumerate(fields):
                    self.sizes[column][size(field)] += 1
        self.width = width
        return None

    def end(self) -> int | None:
        """All records were seen; the line in which a quote opens that swallowed rows, or None."""
        opening, following, count = self.counted  # of the last record, which no row follows
        if count > 2 and not all(map(self.repeats, following)):
            return opening
        return next((one.opening for one in self.suspects if self.are_rows(one)), None)

    def are_rows(self, suspect: Suspect) -> bool:
        """Whether lines within a field are rows, and none of an article.

        Where the file's other rows have quotes around some field, as most writers put them around
        all or around what holds a comma, lines without any are rather those of an article. And
        where every fifth record has such lines, articles of that corpus do; stray quotes are rare.
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
        """Whether values come again in a column, as labels do and keys do not.

        Args:
            column: its place.
            more: values of lines within a field.
        """
        return len(self.values[column].union(more)) <= 0.7 * (self.records + len(more))

    def evidence(self, suspect: Suspect) -> list[list[str]]:
        """Columns of a suspect's lines; those of prose, with a space behind a comma where the
        file has none, are blank.
        """
        spaced = 2 * self.spaced > self.plain
        blank = [""] * len(suspect.own)
        rows = [row if spaced or not p else blank for row, p in zip(suspect.rows, suspect.prose)]
        return [list(column) for column in zip(*dict.fromkeys(map(tuple, rows)))]

    def hold_classes(self, suspect: Suspect, columns: list[list[str]]) -> bool:
        """Whether all lines hold in some column words that come again there, or all the record's
        own number: where rows lie in the order of their classes.

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
        """Whether lines within a field hold in some column what rows hold there, as with labels.
        Some of them may repeat what is new: all rows of a class may be among them, or these alone
        where the file lies in the order of its classes.

        A line of prose may come twice, as in a song. Numbers in their order are those of a list.

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
        """Whether lines within a field all hold in some column a number or a key that is built as
        those are which rows hold there. A single line must hold a new one beside keys that never
        come again.
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
        """Whether lines within a field are as long as rows are in the column of the longest
        fields: those of a list or a table within an article are shorter than articles, and
        together no longer than the longest.

        Of rows, each length is as likely to be anywhere among those of the file's other fields. So
        the mean of their ranks (0 the shortest, 1 the longest) is about a half, and by chance falls
        below half less two standard errors once in fifty times.

        Args:
            suspect: a record; its own fields count where there is hardly another.
            least: what the mean of ranks must reach; by default by the number of lines.
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
            # Rows of one class may be shorter than most: however many, a quarter will do.
            least = max(0.02, min(0.25, 0.5 - 2 * deviation))
        return self.mean_rank(column, lengths) >= least

    def mean_rank(self, column: int, lengths: Collection[int]) -> float:
        """The mean of lengths' ranks among those of the file's fields; see `are_as_long`.

        Args:
            column: its place.
            lengths: of fields; see `size`.
        """
        counts = self.sizes[column]
        shorter = sum(n for one in lengths for value, n in counts.items() if value < one)
        alike = sum(counts[one] for one in lengths)
        return (shorter + alike / 2) / max(1, counts.total()) / len(lengths)

    def are_like_rows(self, suspect: Suspect) -> bool:
        """Whether all lines of a record are rows by the number of their fields, and as long as
        rows are in every column: neither longer nor shorter, by two standard errors.

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
    """In which of a record's lines its last quoted field begins; a place in `lines`."""
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
    """The lines of a record that would be whole rows by themselves, where most of those with
    something in them but the last would; else none.

    Args:
        lines: of the record.
        width: number of the file's columns.
        delimiter: between fields.

    Returns:
        Fields of the lines twice. In the first list what belongs to the record itself is blank: of
        the first line what stands up to the opening quote, of the last what stands from the closing
        one on (a last line without more is left out), and whatever begins a number in the
        thousands. In the second list nothing is, and the first line is left out if it is no row.
        And of each line in the first list, whether it is spaced.
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
    # In the first line, what stands before the opening quote and behind it is the record's own.
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
    """Whether a space stands behind a separator, as behind a comma in prose."""
    return any(field.startswith(" ") for field in fields[1:])


def without_thousands(fields: list[str]) -> list[str]:
    """Fields of a line; one that a comma within a number such as 12,000 cut off is blank."""
    first, others = FIRST_OF_THOUSANDS
    behind = [*fields[1:], ""]
    return [
        "" if first.fullmatch(field) and others.match(following) else field
        for field, following in zip(fields, behind)
    ]


def short(field: str) -> str:
    """A field, or what stands for a long one."""
    return field if len(field) <= 64 else f"{len(field)}:{hash(field)}"


def size(field: str) -> int:
    """How long a field is, in steps of which a long file has few; 0 for an empty one alone."""
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
    """The number to come in each column in which the lines of a record count one up: rows of an
    index, swallowed by a stray quote.

    Args:
        lines: their fields; see `whole_rows`.
        fields: of the record, whose own stand in the first of these lines or in the last.
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
    """Whether fields are the numbers of a list: 1, 2 and so on, or from 2 on where the first item
    stands in the line of the opening quote.
    """
    from_one = [str(number + 1) for number in range(len(fields))]
    from_two = [str(number + 2) for number in range(len(fields))]
    return (len(fields) > 1 and fields == from_one) or (len(fields) > 2 and fields == from_two)


def build(field: str) -> str:
    """How a number of four digits or more, or a key with a digit in it, is built: its letters and
    digits alike, its marks as they are. Empty for anything else.
    """
    if len(field) < 4 or not re.fullmatch(r"[0-9A-Za-z_.:/-]*[0-9][0-9A-Za-z_.:/-]*", field):
        return ""
    return re.sub("[0-9]", "0", field) if field.isdigit() else re.sub("[0-9A-Za-z]", "x", field)
