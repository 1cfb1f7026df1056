"""Whatever rows hold, they stay the same when read, written to a run's file and read again.

The environment variable HOSTILE_EXAMPLES says how many examples are tried.
"""

import csv
import json
import os
import re
import tempfile
from pathlib import Path

import openpyxl
import pyarrow
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from pyarrow import parquet

from helpers import Fault, InputError, files, sources
from helpers.predictions import keep_predictions
from helpers.rows import clean, label_of, spelling, text_of

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", 100))
often = settings(
    max_examples=EXAMPLES, derandomize=EXAMPLES <= 100, suppress_health_check=list(HealthCheck)
)
seldom = settings(often, max_examples=max(10, EXAMPLES // 10))


def is_label(value):
    try:
        return label_of(value) is not None
    except Fault:
        return False


ODD = st.sampled_from(list("\"',;|\t\r\n\\[]{}<>\0\x1c\x85\u2028\ufeff\u3000\u200b▁体A0=#"))
# Code points without a character are left out: a file with no other sign beyond ASCII is taken for
# GB18030, where the four bytes of one may be two Chinese characters.
SIGNS = st.characters(codec="utf-8", exclude_categories=["Cn"]) | ODD
TEXT = st.text(SIGNS, min_size=1, max_size=30).filter(clean)


def is_article(value):
    """Whether a text can be an article: it is no word for a gap, such as NA."""
    try:
        return bool(text_of(value))
    except Fault:
        return False


def is_writable(value):
    """Whether a cell of a workbook can hold a value."""
    text = str(value)
    return not re.search("[\r\ufffe\uffff]", text) and not ILLEGAL_CHARACTERS_RE.search(text)


@st.composite
def rows(draw, usable=lambda value: True):
    """Rows as a source may hold them: labels may be missing, and ids may repeat."""
    text, article = TEXT.filter(usable), TEXT.filter(usable).filter(is_article)
    label = st.one_of(st.integers(-9, 9), st.booleans(), st.sampled_from([0.0, 1.0, 7.0]), text)
    menu = st.lists(label.filter(is_label), min_size=1, max_size=4, unique_by=label_of)
    own = st.one_of(st.none(), st.integers(0, 3), text.filter(lambda text: "\0" not in text))
    made = []
    for _ in range(draw(st.integers(1, 4))):
        options = draw(menu)
        output = draw(st.sampled_from([*options, None]))
        made.append({"id": draw(own), "text": draw(article), "category": options, "output": output})
    assume(not is_refused(made))
    return made


def is_refused(made):
    """Whether labels are spelled in two ways, or each row offers its label alone."""
    menus = [[label_of(option) for option in row["category"]] for row in made]
    labels = {label_of(row["output"]) for row in made} - {None}
    spelled = [*menus, labels]
    twice = any(len(set(map(spelling, names))) < len(names) for names in spelled)
    return twice or (max(map(len, menus)) == 1 < len({*map(tuple, menus)}))


def expected(made):
    """The rows that reading should give for these."""
    return [
        {
            "id": f"train-{number}",
            "source_id": None if row["id"] is None else str(row["id"]),
            "text": row["text"].replace("\0", ""),
            "category": [label_of(option) for option in row["category"]],
            "output": label_of(row["output"]),
        }
        for number, row in enumerate(made, 1)
    ]


def there_and_back(made, name, write):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path, made)
        read = list(sources.read_source(str(path)).splits["train"])
        assert read == expected(made)
        files.write_jsonl(path.with_name("train.jsonl"), read)
        again = sources.read_rows(path.with_name("train.jsonl"))
        assert again == read
        assert len({row["id"] for row in again}) == len(made)
        asked = []

        def answer(places):
            asked.extend(places)
            yield {place: {"read": again[place]["text"]} for place in places}

        for _ in range(2):  # the second time, answers are read back and nothing is asked
            lines = keep_predictions(path.with_name("eval"), again, [None] * len(again), {}, answer)
            assert [(line["label"], line["options"], line["read"]) for line in lines] == [
                (row["output"], row["category"], row["text"]) for row in again
            ]
        assert asked == list(range(len(made)))


@often
@given(rows(), st.booleans(), st.sampled_from(["\n", "\r\n", "\r"]))
def test_json_lines(made, ascii_only, end):
    def write(path, made):
        text = "".join(json.dumps(row, ensure_ascii=ascii_only) + end for row in made)
        path.write_bytes(text.encode())

    there_and_back(made, "rows.jsonl", write)


@often
@given(rows(), st.sampled_from([None, 1]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_an_array(made, indent, encoding):
    def write(path, made):
        path.write_bytes(json.dumps(made, ensure_ascii=False, indent=indent).encode(encoding))

    there_and_back(made, "rows.json", write)


@often
@given(rows(), st.sampled_from([",", "\t"]), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_a_table(made, delimiter, end, quote_all):
    def write(path, made):
        # Python's writer does not quote "\r" where rows end with "\n", nor the reverse. Such rows
        # would be refused as too short.
        texts = "".join(f"{row['id']}{row['text']}{row['output']}" for row in made)
        bare = "\r" in texts or "\n" in texts
        quoting = csv.QUOTE_ALL if quote_all or bare else csv.QUOTE_MINIMAL
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quoting)
            writer.writerow(made[0])
            writer.writerows(
                [row["id"], row["text"], json.dumps(row["category"]), row["output"]] for row in made
            )

    there_and_back(made, "rows.csv" if delimiter == "," else "rows.tsv", write)


@seldom
@given(rows())
def test_parquet(made):
    def write(path, made):
        texts = [
            row
            | {
                "id": None if row["id"] is None else str(row["id"]),
                "category": [str(option) for option in row["category"]],
                "output": None if row["output"] is None else str(row["output"]),
            }
            for row in made
        ]
        parquet.write_table(pyarrow.Table.from_pylist(texts), path)

    there_and_back(made, "rows.parquet", write)


@seldom
@given(rows(is_writable))
def test_a_workbook(made):
    def write(path, made):
        book = openpyxl.Workbook()
        book.active.append(list(made[0]))
        for number, row in enumerate(made, 2):
            values = [row["id"], row["text"], json.dumps(row["category"]), row["output"]]
            for column, value in enumerate(values, 1):
                cell = book.active.cell(number, column, value)
                if isinstance(value, str):
                    cell.data_type = "s"  # so that "=1" is a text
        book.save(path)

    there_and_back(made, "rows.xlsx", write)


HEADS = [b"", b"text,category,output\n", b'{"text": "', b"[", b"PAR1", b"PK\x03\x04", b"\xff\xfe"]


@often
@given(
    st.sampled_from(["jsonl", "json", "csv", "tsv", "xlsx", "parquet", "csv.gz"]),
    st.sampled_from(HEADS),
    st.binary(max_size=200),
)
def test_any_bytes_end_in_rows_or_in_one_line(form, head, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{form}"
        path.write_bytes(head + content)
        for on_bad_row in ("error", "skip"):
            try:
                sources.read_source(str(path), on_bad_row=on_bad_row)
            except InputError as error:
                assert "\n" not in str(error) and len(str(error)) < 1000
