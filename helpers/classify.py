"""A reader's own articles: each gets an answer, how sure it is, and whether a person should look.

A file is read three times, a block at a time: to count and check it, to ask, to write the table.
What was answered stands in a journal beside the table until the table is whole, so that an
interrupted run goes on where it was.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from helpers import InputError, models, scoring, templating, writers
from helpers.classifier import Classifier
from helpers.examples import snippet
from helpers.files import below_root, digest
from helpers.journal import Journal, open_journal
from helpers.locations import one_file
from helpers.metrics import wilson
from helpers.review import UNLEARNED, refuse_filled, write_review
from helpers.rows import as_yaml, check_columns, own_mapping
from helpers.settings import place_of
from helpers.sources import Article, read_articles

ADDED = ("answer", "probability", "second", "second_probability", "look", "note")
"""The columns that a table gets beside the reader's own."""
BLOCK_ROWS, BLOCK_CHARACTERS = 512, 8_000_000
"""A block ends with the row that reaches either: it bounds memory, and what is sorted by length."""
UNPROMISED = "no threshold is known, so nothing says which answers may go out unread"
"""What is said in place of a number of rows to look at where chapter 05 has learned nothing."""
Numbered = list[tuple[int, Article]]
"""Articles with their places in the file, from 0 on."""


class Report(NamedTuple):
    """What became of a file."""

    out: Path
    """The table."""
    rows: int
    look: int | None
    """Rows that a person should look at; None where nothing was learned that says which."""
    unanswered: int
    """Rows without an answer; their note says why."""
    by_answer: pd.DataFrame
    """Of answered rows with a label, a line an answer: rows, right, low and high (95 % interval);
    the last is all of them. Empty without labels.
    """
    review: Path | None

    def about(self) -> str:
        """The counts on one line, for people."""
        rows = f"{self.rows} row{'s' * (self.rows != 1)}"
        unanswered = f"{self.unanswered} without an answer"
        if self.look is None:
            return f"{rows}, {unanswered}; {UNPROMISED}"
        return f"{rows}, {self.look} to look at, {unanswered}"

    def look_note(self, target: float) -> str:
        """One sentence on how many rows a person should look at.

        Args:
            target: the share of errors that was allowed; see Classifier.
        """
        if self.look is None:
            return f"For this adapter {UNPROMISED}."
        share = f"{100 * target:g} %"
        return f"At a target of {share} a person should look at {self.look} of them."


@dataclass(frozen=True)
class Survey:
    """What a first reading of a file found out."""

    rows: int
    faulty: int
    columns: list[str]
    """The reader's, in the order in which they first appear."""
    digest: str
    """SHA-256 of the file."""
    stamp: tuple
    """See `stamp_of`; it shows later whether the file has changed."""
    menus: tuple[int, int] | None
    """The fewest and the most options of a sound row; None where no row is sound."""


def classify_file(
    classifier: Classifier,
    file: Path | str,
    out: Path | str | None = None,
    columns: dict | None = None,
    sheet: str | None = None,
    review: Path | str | None = None,
    on_bad_row: str = "look",
    say: Callable[[str], None] = print,
) -> Report:
    """Answer every article of a file and write the table.

    Args:
        classifier: the adapter at work.
        file: one file, .jsonl, .json, .csv, .tsv, .xlsx or .parquet; below the project's root
            unless absolute.
        out: the table, .csv, .xlsx or .jsonl; None for one in the run's answers/, whose name
            depends on the file, the adapter, the target and the method.
        columns: which columns hold text, category and output; see sources.read_source.
        sheet: of a workbook; None for its first.
        review: an .xlsx file for the rows that a person should look at; None for none.
        on_bad_row: "look" gives a row that is not sound an empty answer and a note; "error" stops
            at the first, before anything is asked.
        say: takes a line for the reader.

    Raises:
        InputError: when anything is wrong with these arguments, or the review file has been filled
            in, before the first row is asked; and when the disk is full (answers are kept).
    """
    if on_bad_row not in ("look", "error"):
        raise InputError(f"on_bad_row is {on_bad_row!r}; it must be 'look' or 'error'")
    source = one_file(file)
    out, review = (below_root(p) if p is not None else None for p in (out, review))
    check_outputs(source, out, review)
    if review is not None:
        refuse_filled(review)
    if out is not None:
        refuse_other_table(out)

    def read() -> Iterator[Article]:
        for article in read_articles(source, columns, sheet, classifier.prompt.labels):
            if article.row is not None:
                article.row["text"] = classifier.article(article.row["text"])
            yield article

    survey = look_through(source, read, on_bad_row, columns)
    key = work_key(classifier, survey.digest, columns, sheet)
    if out is None:
        folder = place_of(classifier.adapter)[0] / "answers"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be made ({error.strerror}); say out") from None
        stem = Path(source.name.removesuffix(".gz")).stem
        out = folder / f"{'-'.join([stem, key[:8], *classifier.otherwise])}.csv"
        check_outputs(source, out, review)
    if out.suffix.lower() == ".xlsx":
        refuse_beyond_excel(read, survey)
    names = table_columns(survey.columns, say)
    say(classifier.about(survey.menus))
    about = {"file": str(source), "sheet": sheet, "columns": columns, "adapter": classifier.digest}
    with open_journal(out.parent, key, about, say) as journal:
        answer_missing(classifier, read, journal, survey)
        refuse_changed(source, survey)
        tally = Tally()
        counted = tally.count(unchanged(source, survey, judged(classifier, read, journal)))
        # a hybrid reads every article once more
        rows = tqdm(counted, "writing", survey.rows, unit="row", mininterval=2, delay=5)
        if review is not None:
            with write_review(review, every=not classifier.decision) as reviewed:
                write(out, names, survey.columns, reviewed.watch(rows))
            say(reviewed.about())
        else:
            write(out, names, survey.columns, rows)
        journal.path.unlink()  # the table is complete
    if tally.rows and not tally.offered:
        say("no label in the file is an option of its row, so none is compared with the answers")
    # without a decision no row was held against a threshold, and 0 would read as a promise
    look = tally.look if classifier.decision else None
    return Report(out, survey.rows, look, tally.unanswered, tally.table(), review)


def read_table(path: Path, show_text: bool, columns: dict | None = None) -> pd.DataFrame:
    """A table that was written, to look at: the added columns, and how each article begins.

    Args:
        path: .csv, .xlsx or .jsonl.
        show_text: whether the reader's own columns may be shown.
        columns: which of them holds the articles; see sources.read_source.

    Returns:
        Columns article (where it may be shown) and those of ADDED, without an empty look or note.
    """
    rows = writers.table_rows(path)
    names = list(map(str, next(rows)))
    own, name = names[: -len(ADDED)], (columns or {}).get("text", "text")
    if name not in own:  # apostrophes stand in it before what would run
        own, name = [other.replace("'", "") for other in own], name.replace("'", "")
    place, lines = own.index(name) if show_text else None, []
    for row in rows:
        row += [None] * (len(names) - len(row))
        added = [None if value == "" else value for value in row[-len(ADDED) :]]
        if show_text:
            text = "" if row[place] is None else str(row[place])
            added = [snippet(text, 14), *added]
        lines.append(added)
    columns_shown = ["article", *ADDED] if show_text else list(ADDED)
    table = pd.DataFrame(lines, columns=columns_shown, dtype=object)
    for name in ("probability", "second_probability"):
        table[name] = pd.to_numeric(table[name])
    table["look"] = table["look"].map({True: True, False: False, "True": True, "False": False})
    return table.drop(columns=[name for name in ("look", "note") if table[name].isna().all()])


def least_sure(rows: Iterable[dict | None], answers: pd.DataFrame) -> dict:
    """The row whose answer is the least sure.

    Args:
        rows: of a file, in order; None for one that is not sound. Those behind it are not read.
        answers: see `read_table`.

    Raises:
        InputError: when no row was answered.
    """
    answered = answers["probability"].dropna()
    if not len(answered):
        raise InputError("no row of this file could be answered; its notes say why")
    return next(islice(rows, int(answered.idxmin()), None))


def check_outputs(source: Path, out: Path | None, review: Path | None) -> None:
    """Refuse a file that cannot be written, and one that would be read and written at once."""
    if review is not None:
        writers.check_target(review, (".xlsx",))
    if out is not None:
        writers.check_target(out)
    pairs = [(source, out, "the file itself"), (source, review, "the file itself")]
    for one, other, what in [*pairs, (out, review, "the table")]:
        if one is None or other is None:
            continue
        same = one.exists() and other.exists() and one.samefile(other)
        if same or one.resolve() == other.resolve():
            raise InputError(f"{other} is {what}, which would be lost; write to another file")


def refuse_other_table(out: Path) -> None:
    """Raise InputError when a table would overwrite rows that are not answers of an earlier call.

    Args:
        out: the table; its ending is one of writers.FORMS.
    """
    if not out.is_file():
        return
    # a reader's own file may have a column called answer, but hardly one called second_probability
    if any(name.startswith("second_probability") for name in writers.column_names(out)):
        return
    if out.suffix.lower() == ".xlsx":
        refuse_filled(out)
        return
    with out.open("rb") as file:
        filled = [line for line in re.split(rb"[\r\n]+", file.read(2**16)) if line.strip()]
    if len(filled) > (out.suffix.lower() == ".csv"):  # whose first line names the columns
        raise InputError(
            f"{out} holds rows, and no table of answers; it would be lost, so write to another file"
        )


def stamp_of(source: Path) -> tuple:
    """Size, time and inode of a file: they change when it is written to or replaced."""
    state = source.stat()
    return state.st_size, state.st_mtime_ns, state.st_ino


def look_through(
    source: Path, read: Callable, on_bad_row: str, columns: dict | None = None
) -> Survey:
    """Read a file for the first time and take down what is in it; see `Survey`."""
    rows, faulty, first, names, sizes = 0, 0, None, {}, set()
    stamp = stamp_of(source)
    with tqdm(desc=f"reading {source.name}", unit="row", mininterval=2, delay=5) as bar:
        for article in read():
            if article.fault is not None:
                faulty += 1
                first = first or article
                if on_bad_row == "error":
                    raise InputError(f"{article.place}: {article.fault}")
            else:
                sizes.add(len(article.row["category"]))
            rows += 1
            names |= dict.fromkeys(article.raw)
            if len(names) > writers.EXCEL_COLUMNS:
                raise InputError(f"{source} has more than {writers.EXCEL_COLUMNS} columns")
            bar.update()
    if not rows:
        raise InputError(f"{source} holds no rows")
    if faulty == rows:
        way = ""
        if "no label" in first.fault:
            mapping = own_mapping(check_columns(columns)) | {"output": None}
            way = f"; to read no labels, set `columns` to {as_yaml(mapping)}"
        raise InputError(
            f"{source}: not one of {rows} rows can be asked, the first is "
            f"{first.place}: {first.fault}{way}"
        )
    menus = (min(sizes), max(sizes)) if sizes else None
    return Survey(rows, faulty, list(names), digest(source), stamp, menus)


def work_key(classifier: Classifier, digest: str, columns: dict | None, sheet: str | None) -> str:
    """A digest of all that answers depend on: the file and how it is read, the adapter and how it
    is asked.
    """
    prompt = asdict(classifier.prompt) | {"model": models.model_identity(classifier.prompt.model)}
    precision = [models.pick_dtype(), models.pick_attention(prompt["prompt_format"]["max_length"])]
    parts = [digest, columns, sheet, classifier.digest, prompt, precision, scoring.CODE]
    parts += [BLOCK_ROWS, BLOCK_CHARACTERS]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def refuse_beyond_excel(read: Callable, survey: Survey) -> None:
    """Raise InputError when a workbook cannot hold the table."""
    way = "write a .csv or .jsonl file instead"
    if survey.rows + 1 > writers.EXCEL_ROWS:
        raise InputError(f"{survey.rows} rows are more than a sheet of Excel holds; {way}")
    for article in read():
        for name, value in article.raw.items():
            if writers.excel_length(value) > writers.EXCEL_TEXT:
                raise InputError(
                    f"{article.place}: {name!r} has more than the {writers.EXCEL_TEXT} characters "
                    f"that a cell of Excel holds; {way}"
                )


def table_columns(own: list[str], say: Callable) -> dict[str, str]:
    """What the added columns are called beside the reader's own.

    Args:
        own: the reader's columns.
        say: takes a line for the reader.

    Returns:
        By each name in ADDED the column's name, with " (model)" behind it if the reader uses it.
    """
    names = {}
    for name in ADDED:
        free = (f"{name} (model{number})" for number in ("", *range(2, len(own) + 3)))
        names[name] = name if name not in own else next(n for n in free if n not in own)
    renamed = [f"{name!r} is {new!r}" for name, new in names.items() if name != new]
    if renamed:
        say(f"the file has columns of these names, so the model's {', '.join(renamed)}")
    return names


def blocks(read: Callable) -> Iterator[Numbered]:
    """The articles of a file with their numbers, in blocks that are the same each time."""
    block, characters = [], 0
    for number, article in enumerate(read()):
        block.append((number, article))
        characters += sum(len(v) if isinstance(v, str) else 8 for v in article.raw.values())
        if len(block) == BLOCK_ROWS or characters >= BLOCK_CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block


def answer_missing(
    classifier: Classifier, read: Callable, journal: Journal, survey: Survey
) -> None:
    """Ask about every sound row that the journal does not hold yet."""
    todo = survey.rows - survey.faulty
    done = len(journal.numbers)
    if done >= todo:
        return
    classifier.model  # noqa: B018 - loaded before the bar begins to count
    with tqdm(total=todo, initial=done, desc="answering", unit="row", mininterval=2) as bar:
        for block in blocks(read):
            missing = [
                (number, article.row)
                for number, article in block
                if article.row is not None and number not in journal.numbers
            ]
            if not missing:
                continue
            for lines in ask_rows(classifier, missing):
                journal.write(lines)
                bar.update(len(lines))


def ask_rows(classifier: Classifier, rows: list[tuple[int, dict]]) -> Iterator[list[dict]]:
    """Journal lines for numbered rows: nats of the options, or why a row cannot be asked."""
    tokenizer, prompt_format = classifier.tokenizer, classifier.prompt.prompt_format
    fit_all = templating.fit_all
    fit_all(tokenizer, prompt_format, [])  # what is wrong with the format is no row's fault
    try:
        prompts = fit_all(tokenizer, prompt_format, [row for _, row in rows])
    except InputError:  # some rows do not fit, so we try them one by one
        fitting, prompts, notes = [], [], []
        for number, row in rows:
            try:
                prompts += fit_all(tokenizer, prompt_format, [row])
                fitting.append((number, row))
            except InputError as error:
                notes.append({"row": number, "note": str(error)})
        rows = fitting
        yield notes
    ids = [prompt.ids for prompt in prompts]
    menus = [row["category"] for _, row in rows]
    model = classifier.model
    for places, results, _ in scoring.ask_in_batches(model, tokenizer, ids, menus):
        yield [
            {"row": rows[place][0], "logprobs": result["logprobs"]}
            for place, result in zip(places, results)
        ]


class Judged(NamedTuple):
    """One row of a reader's file, answered."""

    article: Article
    answer: str | None
    probability: float | None
    second: str | None
    second_probability: float | None
    look: bool | None
    """None where no threshold was learned."""
    note: str | None

    def values(self) -> list:
        """In the order of ADDED, probabilities to four digits."""
        return [round(value, 4) if isinstance(value, float) else value for value in self[1:]]


def refuse_changed(source: Path, survey: Survey) -> None:
    """Raise InputError for a file that is no longer what was surveyed: its rows may be others."""
    if stamp_of(source) != survey.stamp:
        raise InputError(f"{source} changed while it was being answered; run this again")


def unchanged(source: Path, survey: Survey, rows: Iterator[Judged]) -> Iterator[Judged]:
    """The rows as they are, of a file that nobody changes while they are written."""
    yield from islice(rows, survey.rows)
    refuse_changed(source, survey)


def judged(classifier: Classifier, read: Callable, journal: Journal) -> Iterator[Judged]:
    """Every row of a file with its answer, in order."""
    lines = journal.read()
    for block in blocks(read):
        waiting = {number for number, article in block if article.row is not None}
        answers: dict[int, dict] = {}
        while waiting - answers.keys():  # a block's lines stand together, in any order
            line = next(lines, None)
            if line is None:  # the file has grown, which `unchanged` says
                return
            answers[line["row"]] = line
        scored = [(number, a) for number, a in block if "logprobs" in answers.get(number, {})]
        probabilities = classifier.probabilities(
            [article.row for _, article in scored],
            [answers[number]["logprobs"] for number, _ in scored],
        )
        by_number = {number: values for (number, _), values in zip(scored, probabilities)}
        for number, article in block:
            if number in by_number:
                yield judged_article(classifier, article, by_number[number])
            else:
                note = article.fault or answers[number]["note"]
                yield Judged(article, None, None, None, None, True, note)


def judged_article(classifier: Classifier, article: Article, probabilities: np.ndarray) -> Judged:
    """The answer to a row that follows from the probabilities of its options."""
    options = article.row["category"]
    order = np.argsort(-probabilities, kind="stable")
    best, probability = options[order[0]], float(probabilities[order[0]])
    second, beside = None, None
    if len(options) > 1:
        second, beside = options[order[1]], float(probabilities[order[1]])
    note = None if best in classifier.prompt.labels else UNLEARNED
    look = None
    if classifier.decision:  # its promises hold only for labels that the adapter learned
        sure = classifier.threshold is not None and probability >= classifier.threshold
        look = not sure or note is not None
    return Judged(article, best, probability, second, beside, look, note)


class Tally:
    """Counts answered rows on their way into the table."""

    def __init__(self):
        self.look = self.unanswered = self.offered = 0
        self.rows: Counter = Counter()
        self.right: Counter = Counter()

    def count(self, rows: Iterator[Judged]) -> Iterator[Judged]:
        """Pass the rows on as they are, and count them."""
        for row in rows:
            self.look += bool(row.look)
            self.unanswered += row.answer is None
            label = None if row.answer is None else row.article.row["output"]
            if label is not None:
                self.rows[row.answer] += 1
                self.right[row.answer] += row.answer == label
                self.offered += label in row.article.row["category"]
            yield row

    def table(self) -> pd.DataFrame:
        """See Report.by_answer; empty where no label is an option, for no answer can be right."""
        names = sorted(self.rows) if self.offered else []
        lines = [(name, self.rows[name], self.right[name]) for name in names]
        if lines:
            every = "all that have an answer" if self.unanswered else "all"
            lines.append((every, self.rows.total(), self.right.total()))
        table = [(name, n, right, *wilson(right, n)) for name, n, right in lines]
        return pd.DataFrame(table, columns=["answer", "rows", "right", "low", "high"])


def write(out: Path, names: dict[str, str], own: list[str], rows: Iterator[Judged]) -> None:
    """Write the table: the reader's columns, then the added ones."""
    values = ([*(row.article.raw.get(name) for name in own), *row.values()] for row in rows)
    writers.write_table(out, [*own, *names.values()], values)
