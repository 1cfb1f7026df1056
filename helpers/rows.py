"""Rows: what raw values mean. This module alone decides what is a text, a label, an option, a gap
or a fault.

A row is a dict with `id` (ours, "<split>-<number>", unique in a run), `source_id` (what the source
calls it, or None), `text` (str), `category` (list of str, the options offered for this row) and
`output` (str, the label, or None).
"""

import ast
import io
import json
import math
import re
import tokenize
import unicodedata
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from numbers import Integral
from tokenize import TokenError

from helpers import Fault, InputError
from helpers.encodings import decode, misread
from helpers.parameters import read_yaml

LAYOUT = {"text": "text", "category": "category", "output": "output"}
"""Which columns hold text, options and label unless `columns` says otherwise."""
USUAL_NAMES = {
    "text": ("content", "article", "body", "sentence", "正文", "内容", "文本"),
    "category": ("options", "choices", "categories", "选项"),
    "output": ("label", "labels", "answer", "class", "target", "类别", "标签", "分类"),
}
"""What others call these columns: a message proposes them."""
COLUMN_NAMES = {*USUAL_NAMES, *(name for names in USUAL_NAMES.values() for name in names)}
"""All usual names of any of these columns."""
EMPTY = (
    "".join(
        character
        for character in map(chr, range(0x3001))
        if character.isspace() or unicodedata.category(character) == "Cc"
    )
    + "\u00ad\u034f\u115f\u1160\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    + "\u2060\u2066\u2067\u2068\u2069\u2800\u3164\ufeff"
)
"""Characters that show nothing: white space of every width, controls, marks of zero width."""
GAPS = set(
    "nan <na> nat #n/a #value! #ref! #div/0! #name? #null! #num! #calc! #spill! #field! #blocked! "
    "#connect! #busy! #unknown! #nv #wert! #bezug! 1.#ind -1.#ind 1.#qnan -1.#qnan".split()
)
"""What programs write, in lower case, where a value is missing or a formula failed."""
WORDS_FOR_GAPS = {"none", "null", "na", "n/a", "#na", "#n/a n/a", "-nan", r"\n"} | set(
    "(null) [null] <null> <none> (none) undefined "
    "- -- --- – — —— / tbd todo unlabelled unlabeled 待标注 未标注 待分类".split()
)
"""What programs and people also write there, but a class may be called so. Such a word is a label
only where it is among the options of its row.
"""
STRONG, WEAK = "\t\n|｜", ";；、，,"
"""Separators of options in a string. Where a strong one separates, an option may hold weak ones."""
DOUBTFUL = re.compile(r"[\s/／\\]+")
"""Signs that may separate options but may also stand inside a single one, so we do not guess."""
NUMBERINGS = ("12", "ab", "一二")
"""The first two numbers of numbered options, in each way of counting."""
MAPPED = "a column that holds labels is mapped as in `columns: {category: null, output: NAME}`"
"""The remedy where a column of options holds labels instead."""
QUOTES = ('""', "''", "“”", "‘’", "「」", "『』")
BRACKETS = ("()", "[]", "{}", "（）", "［］", "｛｝", "【】", "〔〕")
AROUND = ("「」", "『』", "【】", "〔〕", "《》")
"""What may stand around a label without being a part of it."""
ALIKE = str.maketrans("\u2212〜•‧∙⋅・‘’ʼ“”\u2581", "-~·····'''\"\" ")
"""Signs that are typed in place of one another (for a minus, a tilde, a middle dot, a quote), and
the sign that tokenizers write for a space.
"""
WORD = re.compile(r"[^\W\d_]+")
CHINESE = re.compile("[\u3400-\u9fff]")
CODE = re.compile(r"\\u[0-9a-fA-F]{4}|<U\+[0-9a-fA-F]{4,6}>|&#(?:[0-9]{3,6}|x[0-9a-fA-F]{3,5});")
"""A code in place of a character, as JSON, R and web pages write one."""
VARIANTS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Variation selectors: they only choose between two looks of a character."""


def clean(text: str) -> str:
    """A text without invisible characters at its ends."""
    return text.strip(EMPTY)


def shown(value) -> str:
    """A value as a message quotes it: on one line and short."""
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


@lru_cache(maxsize=4096)
def spelling(label: str) -> str:
    """A form of a label that is the same for all of its spellings.

    It ignores width, case, Unicode composition, invisible characters, Chinese brackets around the
    label and a full stop behind it.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    text = VARIANTS.sub("", text.translate(ALIKE))
    seen = "".join(
        "-" if unicodedata.category(sign) == "Pd" else sign
        for sign in text
        if sign not in EMPTY and unicodedata.category(sign) not in ("Cf", "Zs")
    )
    seen = seen.rstrip(".,:;。、") or seen
    if len(seen) > 2 and seen[0] + seen[-1] in AROUND:
        seen = seen[1:-1]
    return (seen.lstrip("0") or "0") if seen.isdecimal() else seen or label


def visible(text: str) -> str:
    """A text without any invisible characters."""
    composed = VARIANTS.sub("", unicodedata.normalize("NFC", text))
    return "".join(sign for sign in composed if sign not in EMPTY or sign == " ")


def both(one: str, other: str) -> str:
    """Two spellings as a message quotes them: escaped where they would look the same."""
    same = visible(one) == visible(other)
    return " and ".join(map(ascii if same else shown, (one, other)))


def python_value(value):
    """A value as Python's own type: scalars and arrays of numpy, and texts kept as bytes."""
    if isinstance(value, bytes | bytearray | memoryview):
        return decode(bytes(value))
    return value.tolist() if hasattr(value, "tolist") else value


def refuse_surrogates(text: str, name: str) -> str:
    """Return the text; raise Fault when it holds half a character, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Fault(f"the {name} is no valid Unicode (a lone surrogate)") from None
    return text


def label_of(value) -> str | None:
    """The label that a raw value is, if it is one.

    Args:
        value: as a reader gives it. Texts, whole numbers and truth values are labels. A whole
            number may come with a decimal point ("1.0", "1.00"), as programs write it in a column
            with gaps or of decimals.

    Returns:
        The label, without white space around it; None for a gap (None, NaN, nothing visible).

    Raises:
        Fault: for anything else.
    """
    value = python_value(value)
    if value is None or (isinstance(value, float | Decimal) and math.isnan(value)):
        return None
    if isinstance(value, bool | Integral):
        return str(value)
    if isinstance(value, float | Decimal):
        if not math.isfinite(value) or value != int(value) or abs(value) >= 2**53:
            raise Fault("a number that is not whole is no label", f": {value}; write it as text")
        return str(int(value))
    if not isinstance(value, str):
        way = "the label alone" if isinstance(value, list | tuple | dict | set) else "it as text"
        raise Fault(f"a {type(value).__name__} is no label", f": {shown(value)}; write {way}")
    text = clean(refuse_surrogates(value, "label").replace("\0", ""))
    if text.lower() in GAPS:
        raise Fault("a gap written as text is no label", f": {text!r}; leave the field empty")
    whole, point, zero = text.rpartition(".")
    if point and set(zero) == {"0"} and re.fullmatch(r"-?(0|[1-9][0-9]{0,15})", whole):
        return str(int(whole))
    return text or None


def is_gap(value) -> bool:
    """Whether a raw value is a gap; a list may be empty, too."""
    try:
        return value == [] or label_of(value) is None
    except Fault:
        return False


def literal_kind(text: str) -> str | None:
    """The kind of value that a text spells out in JSON or Python, such as "list"; else None."""
    text = text.removeprefix("=")  # some programs write ="01", so that Excel sees no number
    if text[:1] not in tuple("[({\"'"):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(value, str):
            return "text in quotes"
        return type(value).__name__ if isinstance(value, list | tuple | dict | set) else None
    return None


def refuse_doubtful(label: str) -> None:
    """Raise Fault for what is hardly meant as a label: a word for a gap, question marks, codes in
    place of characters, a list, a quoted text.

    Args:
        label: one that its row does not offer as an option.
    """
    if label.lower() in WORDS_FOR_GAPS:
        way = "leave the field empty, or call the class something else"
        raise Fault("a gap written as text is no label", f": {label!r}; {way}")
    if len(label) > 1 and not label.strip("?\ufffd"):
        way = "leave the field empty, or, if they stand for letters, save the file anew as UTF-8"
        raise Fault("question marks are no label", f": {label!r}; {way}")
    if not CODE.sub("", label):
        way = "save the table anew with the characters themselves"
        raise Fault("codes in place of characters are no label", f": {label!r}; {way}")
    if kind := literal_kind(label):
        raise Fault(f"a {kind} is no label", f": {shown(label)}; write the label alone")


def text_of(value) -> str:
    """A raw value as an article; raises Fault unless it is a text with something to read."""
    value = python_value(value)
    if not isinstance(value, str):
        there = f"there is a {type(value).__name__}: {shown(value)}; write it as text"
        kind = "" if value is None else f" ({there})"
        raise Fault("a row needs a non-empty `text`", kind)
    if not clean(value):
        raise Fault("a row needs a non-empty `text`")
    if len(value) < 20 and clean(value).lower() in GAPS | WORDS_FOR_GAPS:
        raise Fault("a row needs a non-empty `text`", f" (there is a gap as text: {value!r})")
    # An encoding without Chinese leaves only these of it. A chat has as many beside its words.
    lost = value.count("\ufffd") + (0 if CHINESE.search(value) else value.count("?"))
    if lost >= 6 and 2 * lost >= len("".join(value.split())):
        way = f": {shown(value[:12])}; save the table anew as UTF-8"
        raise Fault("a text of which only question marks are left", way)
    beginning = refuse_surrogates(value, "text")[:400]
    others, codes = CODE.subn("", beginning)
    if codes >= len(others):
        way = f": {shown(value[:16])}; save the table anew with the characters themselves"
        raise Fault("a text of codes in place of characters", way)
    if found := misread(beginning[-200:]):  # behind a heading
        taken_for, original = found
        detail = f": {shown(value[:12])} was {shown(original[:6])} once; make the file anew from "
        raise Fault(f"a text that was opened as {taken_for} and saved so", detail + "what it was")
    return value


def is_from_run(raw: dict) -> bool:
    """Whether a row comes from a run's data folder: it has our id beside that of its source."""
    own = re.fullmatch(r"(train|val|test)-[0-9]+", str(raw.get("id")))
    return own is not None and set(raw) == {"id", "source_id", *LAYOUT}


def source_id_of(value) -> str | None:
    """The source's own id of a row, as text; None where it has none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value).replace("\0", "").encode(errors="backslashreplace").decode() or None


def is_number(value) -> bool:
    """Whether a raw value is a number or a truth value; NaN does not count."""
    value = python_value(value)
    return isinstance(value, Integral | float | Decimal) and value == value


def options_of(value) -> list[str]:
    """Options out of a list, a JSON or Python list in a string, or a separated string.

    Args:
        value: as a reader gives it. Options in a string are separated by line ends, tabs or |, or
            else by one of ; ； 、 ， and the comma. A separator may follow the last option.

    Raises:
        Fault: when there are no options, when the string can be read in two ways, and for an empty
            or a repeated option.
    """
    value = python_value(value)
    if isinstance(value, str):
        value = split_options(clean(value.replace("\r\n", "\n").replace("\r", "\n")))
    if not isinstance(value, list | tuple) or not value:
        way = f"; {MAPPED}" if is_number(value) else ""
        raise Fault("`category` must be a non-empty list of options", f", not {shown(value)}{way}")
    options = [label_of(option) for option in value]
    if None in options:
        raise Fault(
            "`category` must be a non-empty list of options",
            f"; option {options.index(None) + 1} of {len(options)} is empty",
        )
    if len(set(options)) < len(options):
        raise Fault("`category` repeats an option", f": {shown(options)}")
    spelled: dict[str, str] = {}
    for option in options:
        if (other := spelled.setdefault(spelling(option), option)) != option:
            raise Fault("`category` spells an option in two ways", f": {both(other, option)}")
    return options


def split_options(text: str) -> list | str:
    """The options in a cleaned string, not checked yet; the string itself when it is empty."""
    if not text:
        return text
    if text[0] in "[({":
        return parse_list(text)
    strong = [mark for mark in STRONG if mark in text]
    marks = strong or [mark for mark in WEAK if mark in text]
    if len(marks) > 1:
        names = " and ".join(map(repr, marks))
        raise Fault("options separated in two ways", f" ({names}): {shown(text)}")
    if not marks and (doubtful := DOUBTFUL.search(text)):
        mark = "spaces" if doubtful[0].isspace() else shown(clean(doubtful[0]))
        raise Fault(
            f"options separated by {mark}, or one option that holds {mark}",
            f": {shown(text)}; write a JSON list, or a | between options; {MAPPED}",
        )
    options = text.split(marks[0]) if marks else [text]
    if len(options) > 1 and not clean(options[-1]):
        del options[-1]
    if is_numbered(options):
        raise Fault("numbered options", f": {shown(text)}; write a JSON list without the numbers")
    if any(len(part := clean(option)) > 1 and part[0] + part[-1] in QUOTES for option in options):
        raise Fault("options in quotes without brackets", f": {shown(text)}; write a JSON list")
    torn = any(one.count(left) != one.count(right) for one in options for left, right in BRACKETS)
    if len(options) > 1 and torn:
        raise Fault("options separated within brackets", f": {shown(text)}; write a JSON list")
    return options


def is_numbered(parts: list[str]) -> bool:
    """Whether a split string held numbered options, such as "1、体育 2、财经".

    There the sign behind each number is one that separates options elsewhere.
    """
    first, second = (
        clean(unicodedata.normalize("NFKC", part)).casefold() for part in [*parts, "", ""][:2]
    )
    return not second.isnumeric() and any(
        first == one and re.search(rf"(\s|[^\0-\x7f]){two}$", second) for one, two in NUMBERINGS
    )


def parse_list(text: str) -> list | tuple:
    """A list in a string, as JSON or Python write it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text)
            tokens = tokenize.generate_tokens(io.StringIO(text).readline)
            kinds = [token.type for token in tokens if token.type != tokenize.NL]
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, TokenError):
            raise Fault("the options are no list", f": {shown(text)}") from None
        # Python takes 'a' 'b' for one string; an array of numpy prints two like that.
        if any(a == b == tokenize.STRING for a, b in pairwise(kinds)):
            raise Fault("a list of options without commas", f": {shown(text)}") from None
    if not isinstance(value, list | tuple):
        raise Fault("the options are no list", f": {shown(text)}")
    return value


def check_columns(columns: dict | None, known: dict | None = None) -> dict[str, str | None]:
    """The complete layout that follows from what a reader maps.

    Args:
        columns: names of columns by text, category and output; None for the usual ones.
        known: what the source is known to map, used where `columns` is None.

    Raises:
        InputError: for a wrong key, or a name that is not a text.
    """
    if columns is not None and not isinstance(columns, dict):
        raise InputError(f"columns is {shown(columns)}; it maps text, category and output to names")
    if unknown := (columns or {}).keys() - LAYOUT.keys():
        names = ", ".join(sorted(map(str, unknown)))
        way = "; a space belongs behind the colon" if ":" in names else ""
        raise InputError(f"columns maps {names}; only text, category and output can be mapped{way}")
    layout = LAYOUT | (known or {} if columns is None else columns)
    if "category" not in (columns or {}) and "category" in (columns or {}).values():
        layout["category"] = None  # a column of labels, or of texts, that is called so
    names = [name for name in layout.values() if name is not None]
    if len(set(map(str, names))) < len(names):
        raise InputError(f"columns maps two of text, category and output to one column: {layout}")
    for key, name in layout.items():
        if not isinstance(name, str) and not (name is None and key != "text"):
            way = ", in quotes" if isinstance(name, int) else ""
            raise InputError(
                f"columns maps {key} to {shown(name)}; it must be a column's name{way}"
            )
        if name in ("None", "none", "Null", "NULL"):
            raise InputError(
                f"columns maps {key} to a column called {name!r}; where none is meant, YAML says "
                "null, and Python None"
            )
    return layout


def no_column(
    key: str,
    columns: dict[str, str | None],
    names: list[str],
    alone: bool = False,
    nested: Sequence[str] = (),
) -> Fault:
    """The fault that names a missing column and says how to map it.

    Args:
        key: text, category or output.
        columns: the layout in use.
        names: of the columns that are there.
        alone: whether no other column is needed, as when articles are classified.
        nested: those of them that hold objects; see `columns_of_objects`.
    """
    names = list(filter(None, names))
    flat = [name for name in names if name not in nested]
    there = ", ".join(map(shown, flat[:8])) + (" …" if len(flat) > 8 else "")
    # A file without a column of options is a usual one; a mapping that misses its column is not.
    # Where articles are classified, their labels may be missing, too.
    unmapped = key == "category" == columns[key] or (alone and key == "output")
    usual = next(usual_columns(key, flat), None if unmapped else "NAME")
    mapping = own_mapping(columns) | {key: usual}
    further = set() if alone else LAYOUT.keys() - mapping.keys()
    for other in further:  # what is missing as well, if it can be told
        guess = next(usual_columns(other, flat), None)
        if columns[other] == other not in names and (guess or other == "category"):
            mapping[other] = guess
    # a table of answers is no table of labels: to learn from it teaches a model what it says;
    # a tool for labelling has what is accepted in one column, and in the other that it was
    if mapping.get("output") == "answer" and {"probability", "accept"} & set(names):
        mapping["output"] = "NAME"
    labels = ""
    if mapping.get("output") == "NAME" and columns["category"] == "category" in names:
        way = own_mapping(columns) | {"category": None, "output": "category"}
        labels = f"; if 'category' holds one label a row, it is `columns: {as_yaml(way)}`"
    mapping = {one: mapping[one] for one in LAYOUT if one in mapping}
    nulls = {"category": "null offers every row all labels"}
    nulls["output"] = "output is null where there are no labels"
    means = "; ".join(nulls[one] for one, name in mapping.items() if name is None)
    means = f" ({means})" if means else ""
    yaml = as_yaml(mapping)
    reason = f"no column {columns[key]!r} for {key}"
    objects = no_parts(key, columns, flat, nested)
    if objects and not flat:
        return Fault(reason, objects)
    return Fault(
        reason,
        f"{objects}; there are {there or 'none'}: map them with `columns`, as in "
        f"`columns: {yaml}`{means} below `data:` in a profile, "
        f"`columns = {mapping}` in a parameters cell, "
        f"`-y 'columns: {yaml}'` for papermill, `COLUMNS='{yaml}'` for make classify"
        + labels
        + (no_names(names) if mapping[key] == "NAME" else ""),
    )


def no_parts(
    key: str, columns: dict[str, str | None], flat: list[str], nested: Sequence[str]
) -> str:
    """What a message adds where a missing column may be a part of an object; "" elsewhere.

    Args:
        key: text, category or output.
        columns: the layout in use.
        flat: the columns that hold no objects.
        nested: those that do.
    """
    wanted = "output" if key == "category" else key  # a row may do without options of its own
    found = columns[wanted] in flat or any(usual_columns(wanted, flat))
    if not nested or (found and not any(usual_columns(key, nested))):
        return ""
    return (
        f"; {', '.join(map(shown, nested[:4]))} {'holds' if len(nested) == 1 else 'hold'} objects, "
        "whose parts cannot be mapped: write text, options and label as columns of their own"
    )


def usual_columns(key: str, names: list[str]) -> Iterator[str]:
    """The columns that have a usual name for text, options or labels, the most usual first.

    Args:
        key: text, category or output.
        names: of columns.
    """
    by_spelling = {spelling(name): name for name in reversed(names) if len(name) <= 20}
    return (by_spelling[name] for name in (key, *USUAL_NAMES[key]) if name in by_spelling)


def no_names(names: list[str]) -> str:
    """What a message adds where a table's first line does not look like names of columns.

    Args:
        names: what the first line holds.
    """
    if is_prose(names):
        way = ", and if it is a title or a note, delete it" if len(names) == 1 else ""
        return (
            "; if that is an article already, write the names of the columns in a line above it"
            + way
        )
    if len(names) == 1:
        return (
            "; if that is a title, delete what stands above the names of the columns (of a "
            "workbook, `sheet` names another sheet)"
        )
    return ""


def is_prose(names: list[str]) -> bool:
    """Whether the names of a table's columns are in fact sentences."""
    return any(len(name) > 40 or set("。！？") & set(name) for name in names)


def own_mapping(columns: dict[str, str | None]) -> dict[str, str | None]:
    """The part of a layout that differs from the usual one.

    Args:
        columns: the layout.
    """
    return {key: name for key, name in columns.items() if name != LAYOUT[key]}


def as_yaml(mapping: dict[str, str | None]) -> str:
    """A mapping of columns in YAML, as a reader can paste it.

    Args:
        mapping: names of columns, or None, by text, category and output.
    """
    plain = {None: "null"} | {
        name: name
        if re.fullmatch(r"\w+", name) and read_yaml(name) == name
        else json.dumps(name, ensure_ascii=False)
        for name in filter(None, mapping.values())
    }
    return "{" + ", ".join(f"{key}: {plain[name]}" for key, name in mapping.items()) + "}"


def check_row(raw: dict, columns: dict, options: list[str] | None, number: str) -> dict:
    """A raw row in the project's layout, which the top of this module describes.

    Args:
        raw: the source's columns.
        columns: names of columns by text, category and output.
        options: what every row is offered; None to read them from the row.
        number: the row's `id`.

    Raises:
        Fault: when the row is not sound.
    """
    for key, column in columns.items():
        needed = key == "text" or (key == "category" and options is None)
        if needed and column not in raw:
            raise no_column(key, columns, list(raw), nested=columns_of_objects(raw))
    text = text_of(raw[columns["text"]])
    if options is None:
        options = options_of(raw[columns["category"]])
    label = python_value(raw.get(columns["output"]))
    if isinstance(label, list) and len(label) < 2:  # tools for labelling wrap a label in a list
        label = label[0] if label else None
    label = label_of(label)
    if label and label not in options:
        refuse_doubtful(label)
    # Prodigy exports a label that it proposed even where a person said no to it
    asked = columns["output"] != "answer" and "probability" not in raw  # no answer of a model
    if label and asked and raw.get("answer") in ("reject", "ignore"):
        said = f" ('answer' is {raw['answer']!r})"
        raise Fault("a label that nobody accepted is no label", said)
    return {
        "id": number,
        "source_id": source_id_of(raw.get("source_id" if is_from_run(raw) else "id")),
        "text": text.replace("\0", ""),
        "category": options,
        "output": label,
    }


def columns_of_objects(raw: dict) -> list[str]:
    """The columns of a row that hold an object with columns of its own, or a list of such."""
    firsts = {
        name: value[0] if isinstance(value, list) and value else value
        for name, value in raw.items()
    }
    return [name for name, first in firsts.items() if isinstance(first, dict) and first]


def refuse_other_labels(row: dict) -> dict:
    """Return the row; raise Fault when its label is not among its options."""
    if option := other_spelling(row):
        raise Fault(
            "the label is spelled otherwise than its option", f": {both(row['output'], option)}"
        )
    if row["output"] is not None and row["output"] not in row["category"]:
        detail = f": {shown(row['output'])} and {shown(row['category'])}"
        if len(row["category"]) == 1:
            detail += "; if that is no list of options, map `category` to null in `columns`"
        raise Fault("the label is not among its options", detail)
    return row


def other_spelling(row: dict) -> str | None:
    """The option that the label of a row is another spelling of; None where there is none."""
    if row["output"] is None or row["output"] in row["category"]:
        return None
    key = spelling(row["output"])
    return next((option for option in row["category"] if spelling(option) == key), None)
