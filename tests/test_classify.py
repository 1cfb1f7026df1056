"""A reader's own file: each row is answered once, the table is whole or absent, faults are said."""

import csv
import errno
import fcntl
import itertools
import json
import os
import random
import resource
import shlex
import signal
import subprocess
import sys
import time
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from openpyxl import load_workbook

from helpers import (
    ROOT,
    InputError,
    classify,
    decision,
    files,
    hybrid,
    models,
    readers,
    scoring,
    settings,
    templating,
    writers,
)
from helpers.classifier import Classifier
from tools import classify as command_line

LABELS = ["Art", "Law", "Sports"]
FORMAT = templating.PromptFormat(templating.PLAIN, 96, True)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, draw_adapter):
    """A run that has one adapter with random weights."""
    run = tmp_path_factory.mktemp("一 run")
    draw_adapter(run / "train" / "drawn", FORMAT, LABELS, r=4)
    return run / "train" / "drawn" / "adapter"


@pytest.fixture
def adapter(trained, tmp_path):
    """The same adapter in a run of the test's own, where the test may write."""
    own = tmp_path / "run" / "train" / "drawn" / "adapter"
    own.mkdir(parents=True)
    for path in trained.iterdir():
        os.link(path, own / path.name)
    return own


@pytest.fixture
def fake(monkeypatch, tokenizer):
    """A model that answers at once, with nats that follow from a prompt's ids. It notes prompts."""

    class Fake:
        def __init__(self):
            self.prompts, self.loads, self.stop_after = [], 0, None

        def load(self, *_, **__):
            self.loads += 1

        def ask(self, model, tokenizer, prompts, menus, at_once=8):
            for start in range(0, len(prompts), at_once):
                places = list(range(start, min(start + at_once, len(prompts))))
                if self.stop_after is not None and len(self.prompts) >= self.stop_after:
                    raise KeyboardInterrupt
                self.prompts += [hash(tuple(prompts[i])) for i in places]
                yield places, [nats(prompts[i], menus[i]) for i in reversed(places)][::-1], 0.0

    def nats(ids, options):
        draws = random.Random(str(ids))
        return {"logprobs": [-5 * draws.random() for _ in options]}

    fake = Fake()
    monkeypatch.setattr(models, "load_model", fake.load)
    monkeypatch.setattr(models, "load_tokenizer", lambda model: tokenizer)
    monkeypatch.setattr(scoring, "ask_in_batches", fake.ask)
    return fake


def articles(count, **more):
    return [{"nr": n, "text": f"第{n}号文章，讲的是球队。", **more} for n in range(count)]


def write(path, rows):
    files.write_jsonl(path, rows)
    return path


def table(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def run(file, adapter, out, **options):
    own = {name: options.pop(name) for name in ("method", "target") if name in options}
    lines = []
    report = classify.classify_file(
        Classifier(adapter, **own), file, out, say=lines.append, **options
    )
    return report, "\n".join(lines)


def test_answers_are_those_of_the_scorer(tmp_path, trained, tokenizer, sample):
    rows = [
        {"text": row["text"], "category": row["category"], "nr": n}
        for n, row in enumerate(sample["test"][:3])
    ]
    rows.append({"text": "球队在加时赛中取胜。", "nr": 3})  # this row brings no options
    report, said = run(write(tmp_path / "in.jsonl", rows), trained, tmp_path / "out.csv")
    network = models.load_model(models.PACKAGED, trained, attention="eager")
    whole = [{"category": LABELS, **row, "id": str(row["nr"])} for row in rows]
    prompts = templating.fit_all(tokenizer, FORMAT, whole)
    menus = [row["category"] for row in whole]
    results = scoring.ask(network, tokenizer, [prompt.ids for prompt in prompts], menus)
    answered = table(report.out)
    assert list(answered[0]) == ["text", "category", "nr", *classify.ADDED]
    for line, menu, result in zip(answered, menus, results, strict=True):
        shares = np.exp(result["logprobs"]) / np.exp(result["logprobs"]).sum()
        order = np.argsort(-shares)
        assert line["answer"] == menu[order[0]] and line["second"] == menu[order[1]]
        assert float(line["probability"]) == pytest.approx(shares[order[0]], abs=0.02)
        note = "" if line["answer"] in LABELS else "no label that the adapter learned"
        assert line["look"] == "" and line["note"] == note
    assert (report.rows, report.look, report.unanswered) == (4, None, 0)
    assert "chapter 05 has not learned" in said and not report.by_answer.size


@pytest.mark.parametrize("form", writers.FORMS)
def test_the_readers_columns_stay_in_their_order(tmp_path, adapter, fake, form):
    rows = [
        {
            "look": "l",
            "正文": "球队。",
            "answer": "mine",
            "answer (model)": "x",
            "=1+1": "=cmd|'!A",
        },
        {"正文": "画家。", "more": [1, 2]},
    ]
    file = write(tmp_path / "in.jsonl", rows)
    out = tmp_path / f"out{form}"
    _, said = run(file, adapter, out, columns={"text": "正文"})
    names, lines = readers.column_names(out), [raw for _, raw in readers.read_file(out)]
    own = [name.lstrip("'") for name in names[:6]]
    assert own == ["look", "正文", "answer", "answer (model)", "=1+1", "more"]
    assert names[6:] == ["answer (model2)", "probability", "second", "second_probability",
                         "look (model)", "note"]  # fmt: skip
    assert "'answer' is 'answer (model2)'" in said and "'look' is 'look (model)'" in said
    assert lines[0]["answer"] == "mine" and lines[0]["answer (model2)"] in LABELS
    assert lines[0][names[4]].lstrip("'") == "=cmd|'!A"
    if form == ".csv":
        assert names[4] == "'=1+1" and lines[0][names[4]].startswith("'=")


def test_a_row_that_cannot_be_asked_is_looked_at_and_never_dropped(tmp_path, adapter, fake):
    rows = articles(3) + [
        {"nr": 3, "text": "　"},
        {"nr": 4, "text": "文", "category": ["字" * 300, "b"]},
    ]
    file = write(tmp_path / "in.jsonl", [*rows, {"nr": 5, "text": "文", "category": "a b c"}])
    with file.open("a") as broken:
        broken.write('{"nr": 6, "text": \n')
    report, said = run(file, adapter, tmp_path / "out.csv", review=tmp_path / "review.xlsx")
    lines = table(report.out)
    assert [line["nr"] for line in lines] == ["0", "1", "2", "3", "4", "5", ""]
    assert all(line["answer"] in LABELS and not line["note"] for line in lines[:3])
    for line, says in zip(lines[3:], ["non-empty", "cannot hold", "spaces", "JSON"], strict=True):
        assert line["answer"] == "" and line["look"] == "True" and says in line["note"]
    assert (report.rows, report.look, report.unanswered) == (7, None, 4)
    assert "look stays empty where there is an answer" in said


def test_a_bad_row_may_stop_everything_before_anything_is_asked(tmp_path, adapter, fake):
    file = write(tmp_path / "in.jsonl", [*articles(3), {"text": ""}])
    with pytest.raises(InputError, match=r"in\.jsonl line 4.*non-empty"):
        run(file, adapter, tmp_path / "out.csv", on_bad_row="error")
    assert not fake.loads and [path.name for path in tmp_path.glob("*.csv")] == []


def test_labels_say_how_many_are_right(tmp_path, adapter, fake):
    rows = [
        row | {"output": LABELS[n % 4] if n % 4 < 3 else None} for n, row in enumerate(articles(40))
    ]
    report, _ = run(write(tmp_path / "in.jsonl", rows), adapter, tmp_path / "out.csv")
    lines = [line for line in table(report.out) if line["output"]]
    right = sum(line["answer"] == line["output"] for line in lines)
    last = report.by_answer.iloc[-1]
    assert (last["answer"], last["rows"], last["right"]) == ("all", 30, right)
    assert report.by_answer["rows"][:-1].sum() == 30 and last["low"] < right / 30 < last["high"]
    # a row that cannot be asked has no answer to judge, and the total says so
    rows.append({"text": "", "category": LABELS, "output": LABELS[0]})
    report, _ = run(write(tmp_path / "more.jsonl", rows), adapter, tmp_path / "more.csv")
    last = report.by_answer.iloc[-1]
    assert (last["answer"], last["rows"]) == ("all that have an answer", 30)


def interrupted(fake, file, adapter, out, after):
    fake.stop_after = after
    with pytest.raises(KeyboardInterrupt):
        run(file, adapter, out)
    fake.stop_after = None


def test_an_interrupted_run_goes_on_without_asking_twice(tmp_path, adapter, fake, monkeypatch):
    monkeypatch.setattr(classify, "BLOCK_ROWS", 20)
    file, out = write(tmp_path / "in.jsonl", articles(100)), tmp_path / "out.csv"
    reference, _ = run(file, adapter, tmp_path / "at once.csv")
    for after in (28, 60):
        fake.prompts.clear()
        interrupted(fake, file, adapter, out, after)
        assert not out.exists() and len(list(tmp_path.glob(".answers-*"))) == 1
    asked = [*fake.prompts]
    [journal] = tmp_path.glob(".answers-*")
    with journal.open("ab") as cut_off:
        cut_off.write(b'{"row": 99, "logpr')
    before = len(journal.read_bytes().splitlines()) - 2  # without the header and the broken line
    fake.prompts.clear()
    run(file, adapter, out)
    assert len(fake.prompts) == 100 - before and not set(asked) & set(fake.prompts)
    assert out.read_bytes() == reference.out.read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_a_file_that_was_moved_goes_on_where_it_was(tmp_path, adapter, fake):
    (tmp_path / "old").mkdir()
    file = write(tmp_path / "old" / "in.jsonl", articles(30))
    interrupted(fake, file, adapter, None, 16)
    asked = [*fake.prompts]
    (tmp_path / "old").rename(tmp_path / "new")
    report, said = run(tmp_path / "new" / "in.jsonl", adapter, None)
    assert len(fake.prompts) == 30 and len(set(asked)) == 16
    assert "begun anew" not in said and len(table(report.out)) == 30


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-30] + bytes(30) + b"\n",  # as after a power cut
        lambda content: b"\n" + content,
        lambda content: content + b"7\n",
        lambda content: content + b'{"row": 3}\n',
        lambda content: b"\xff\n" + content,
    ],
)
def test_a_damaged_journal_is_begun_anew(tmp_path, adapter, fake, damage):
    file, out = write(tmp_path / "in.jsonl", articles(30)), tmp_path / "out.csv"
    reference, _ = run(file, adapter, tmp_path / "at once.csv")
    interrupted(fake, file, adapter, out, 10)
    [journal] = tmp_path.glob(".answers-*")
    journal.write_bytes(damage(journal.read_bytes()))
    run(file, adapter, out)
    assert out.read_bytes() == reference.out.read_bytes()


def test_a_journal_that_cannot_be_opened_is_named(tmp_path, adapter, fake):
    file, out = write(tmp_path / "in.jsonl", articles(30)), tmp_path / "out.csv"
    interrupted(fake, file, adapter, out, 10)
    [journal] = tmp_path.glob(".answers-*")
    journal.unlink()
    journal.mkdir()
    (tmp_path / ".answers-0123456789abcdef.jsonl").mkdir()  # another table's is ignored
    with pytest.raises(InputError, match=r"\.answers-.* cannot be opened .*remove it"):
        run(file, adapter, out)


def test_a_review_that_was_filled_in_is_not_written_over(tmp_path, adapter, fake):
    file, review = write(tmp_path / "in.jsonl", articles(3)), tmp_path / "r.xlsx"
    for _ in range(2):
        run(file, adapter, tmp_path / "a.csv", review=review)
    book = load_workbook(review)
    book["review"]["F2"] = "Law"
    book.save(review)
    before = review.read_bytes()
    with pytest.raises(InputError, match="labels or notes of a person"):
        run(file, adapter, tmp_path / "a.csv", review=review)
    assert review.read_bytes() == before


def test_a_file_that_changed_is_begun_anew(tmp_path, adapter, fake):
    file, out = write(tmp_path / "in.jsonl", articles(30)), tmp_path / "out.csv"
    interrupted(fake, file, adapter, out, 16)
    write(file, articles(31))
    fake.prompts.clear()
    report, said = run(file, adapter, out)
    assert "or how it is asked has changed since a run was interrupted" in said
    assert len(fake.prompts) == report.rows == 31 and not list(tmp_path.glob(".*"))


def test_a_file_that_changes_meanwhile_gives_no_table(tmp_path, adapter, fake, monkeypatch):
    file = write(tmp_path / "in.jsonl", articles(10))
    asking = fake.ask

    def ask_and_change(*arguments):
        yield from asking(*arguments)
        write(file, articles(9))

    monkeypatch.setattr(scoring, "ask_in_batches", ask_and_change)
    with pytest.raises(InputError, match="changed while it was being answered"):
        run(file, adapter, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("rows", [9, 10, 30])
def test_a_file_that_changes_while_answers_are_written_gives_no_table(
    tmp_path, adapter, fake, monkeypatch, rows
):
    file, judged = write(tmp_path / "in.jsonl", articles(10)), classify.judged

    def change_and_judge(*arguments):
        write(file, articles(rows)[::-1])
        yield from judged(*arguments)

    monkeypatch.setattr(classify, "judged", change_and_judge)
    with pytest.raises(InputError, match="changed while it was being answered"):
        run(file, adapter, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists() and list(tmp_path.glob(".answers-*"))


def test_one_file_is_not_answered_by_two_processes(tmp_path, adapter, fake):
    file, out = write(tmp_path / "in.jsonl", articles(30)), tmp_path / "out.csv"
    interrupted(fake, file, adapter, out, 16)
    [journal] = tmp_path.glob(".answers-*")
    with journal.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is answering"):
            run(file, adapter, out)


def test_a_file_system_without_locks_stops_nothing(tmp_path, adapter, fake, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    run(write(tmp_path / "in.jsonl", articles(3)), adapter, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").is_file()


def test_outputs_that_would_lose_something_are_refused(tmp_path, adapter, fake):
    file = write(tmp_path / "in.jsonl", articles(2))
    (tmp_path / "link.jsonl").symlink_to(file)
    (tmp_path / "hard.jsonl").hardlink_to(file)
    for out, says in [
        (file, "is the file itself"),
        (tmp_path / "link.jsonl", "is the file itself"),
        (tmp_path / "hard.jsonl", "is the file itself"),
        (tmp_path / "out.pdf", "unknown ending"),
        (tmp_path / "none" / "out.csv", "no such folder"),
        (tmp_path, "is a folder; give a file's name"),
        (tmp_path / f"{'a' * 250}.csv", "cannot be written .*name another file"),
    ]:
        with pytest.raises(InputError, match=says):
            run(file, adapter, out)
    with pytest.raises(InputError, match="is the table"):
        run(file, adapter, tmp_path / "a.xlsx", review=tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="unknown ending"):
        run(file, adapter, tmp_path / "a.xlsx", review=tmp_path / "review.csv")
    assert not fake.loads and file.read_text().count("\n") == 2


def test_what_is_a_source_and_no_file_is_refused_with_the_way_to_a_file(tmp_path, adapter, fake):
    shards = tmp_path / "shards" / "data"
    shards.mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name in (".hidden.csv", "readme.md", "b.parquet", "a.parquet"):
        (shards / name).touch()
    for name, says in [
        ("sample", "give one, such as data/sample/test.jsonl"),
        (shards.parent, f"give one, such as {shards}/a.parquet"),
        (tmp_path / "empty", "give one, with rows: .jsonl, "),
        ("swift/no-such", "fetched first, .* print\\(hubs.fetch_dataset\\('swift/no-such'\\)\\)"),
        ("hf:owner/name", "fetched first, .*hubs.fetch_dataset\\('hf:owner/name'\\)"),
        ("data/none.csv", "none.csv: no such file$"),
        ("none", "none: no such file$"),
    ]:
        with pytest.raises(InputError, match=says):
            run(name, adapter, tmp_path / "out.csv")


def test_what_excel_cannot_hold_is_refused_before_anything_is_asked(
    tmp_path, adapter, fake, monkeypatch
):
    file = write(tmp_path / "in.jsonl", [*articles(4), {"text": "长" * 40_000}])
    with pytest.raises(InputError, match=r"line 5: 'text' has more than the 32767 .*\.csv"):
        run(file, adapter, tmp_path / "out.xlsx")
    monkeypatch.setattr(writers, "EXCEL_ROWS", 5)
    with pytest.raises(InputError, match=r"5 rows are more than a sheet"):
        run(file, adapter, tmp_path / "out.xlsx")
    assert not fake.loads
    assert run(file, adapter, tmp_path / "out.csv")[0].rows == 5


def learned(threshold, hybrid=None):
    part = decision.learn([np.array([0.9, 0.1])] * 4, [0, 0, 0, 0])
    part["targets"]["0.1"] |= {"threshold": threshold, "bound": 0.04, "rows_needed": 59}
    both = hybrid and part | {"weights": hybrid}
    return {"model": part | {"temperature": 2.0}, "hybrid": both}


def test_look_is_set_below_the_threshold_that_was_learned(tmp_path, adapter, fake):
    file = write(tmp_path / "in.jsonl", articles(40))
    plain, _ = run(file, adapter, tmp_path / "plain.csv")
    decision.write_decision(adapter, learned(0.5))
    report, said = run(file, adapter, tmp_path / "out.csv")
    lines = table(report.out)
    for line, before in zip(lines, table(plain.out), strict=True):
        assert line["look"] == str(float(line["probability"]) < 0.5)
        assert line["answer"] == before["answer"] and line["probability"] < before["probability"]
    assert 0 < report.look < 40 and "below a probability of 0.500" in said and "10 %" in said
    strict, said = run(file, adapter, tmp_path / "strict.csv", target=0.01)
    assert strict.look == 40 and "val is too small" in said and "299 rows would do" in said
    with pytest.raises(InputError, match=r"0\.01, 0\.02, 0\.05, 0\.1"):
        run(file, adapter, tmp_path / "out.csv", target=0.03)


def test_an_answer_that_was_never_learned_is_looked_at(tmp_path, adapter, fake):
    """A promise holds for the adapter's labels, so rows with other options go to a person."""
    decision.write_decision(adapter, learned(0.0))
    rows = [{"text": "球队赢了", "category": menu} for menu in (LABELS, ["火星", "木星"])]
    report, _ = run(write(tmp_path / "a.jsonl", rows), adapter, tmp_path / "out.csv")
    known, other = table(tmp_path / "out.csv")
    assert (known["look"], known["note"]) == ("False", "")
    assert other["look"] == "True" and "no label that the adapter learned" in other["note"]
    assert report.look == 1


def test_an_adapter_that_saw_no_headers_is_shown_none(tmp_path, adapter, fake):
    header, body = "【 文献号 】1-1\n【 正 文 】", "球队赢了，法院没有。"
    asked = []
    for strip_header in (False, True):
        values = json.loads((adapter / "prompt.json").read_text(encoding="utf-8"))
        (adapter / "prompt.json").unlink()
        files.write_json(adapter / "prompt.json", values | {"strip_header": strip_header})
        for text in (header + body, body):
            out = tmp_path / f"out{len(asked)}.csv"
            run(write(tmp_path / "a.jsonl", [{"text": text}]), adapter, out)
            asked.append(fake.prompts[-1])
            assert table(out)[0]["text"] == text  # the reader's own column stays as it is
    assert asked[0] != asked[1] == asked[2] == asked[3]


def test_where_nothing_was_learned_no_number_of_rows_to_look_at_is_given(tmp_path, adapter, fake):
    """0 would read as a promise that no answer needs a look."""
    file = write(tmp_path / "in.jsonl", articles(3))
    report, _ = run(file, adapter, tmp_path / "out.csv")
    for said in (report.look_note(0.1), report.about()):
        assert "no threshold is known" in said
        assert "0 of them" not in said and "0 to look at" not in said
    decision.write_decision(adapter, learned(0.001))
    report, _ = run(file, adapter, tmp_path / "out.csv")
    assert report.look_note(0.1) == "At a target of 10 % a person should look at 0 of them."
    assert report.about() == "3 rows, 0 to look at, 0 without an answer"
    decision.write_decision(adapter, learned(None))
    report, _ = run(file, adapter, tmp_path / "out.csv")
    assert "3 of them" in report.look_note(0.1)


def test_menus_wider_than_those_of_val_are_named(tmp_path, adapter, fake):
    """The promise was learned on rows with two options; a file without options offers all three."""
    all_labels = write(tmp_path / "all.jsonl", articles(3))
    two = write(tmp_path / "two.jsonl", articles(3, category=LABELS[:2]))
    both = write(tmp_path / "both.jsonl", articles(2) + articles(1, category=LABELS[:2]))
    decision.write_decision(adapter, learned(0.5))
    wider = "learned on rows of 2 options, and these have"
    assert f"{wider} 3, so more" in run(all_labels, adapter, tmp_path / "all.csv")[1]
    assert f"{wider} 2 to 3, so more" in run(both, adapter, tmp_path / "both.csv")[1]
    assert wider not in run(two, adapter, tmp_path / "two.csv")[1]
    before = learned(0.5)  # a file from before menus were recorded
    del before["model"]["menus"]
    decision.write_decision(adapter, before)
    assert wider not in run(all_labels, adapter, tmp_path / "all.csv")[1]


def test_a_promise_learned_on_rows_unlike_the_test_rows_says_so(tmp_path, adapter, fake):
    file = write(tmp_path / "in.jsonl", articles(3))
    doubted = learned(0.5)
    doubted["model"]["targets"]["0.1"] |= {"share": 0.88, "on_test": 0.62}
    decision.write_decision(adapter, doubted)
    said = run(file, adapter, tmp_path / "out.csv")[1]
    assert "88 % of val rows reach it and 62 % of test rows" in said
    decision.write_decision(adapter, learned(0.5))
    assert "of test rows" not in run(file, adapter, tmp_path / "plain.csv")[1]


def test_the_hybrid_weighs_both_where_it_was_learned(tmp_path, adapter, fake):
    rows = [row | {"text": word * 20} for row, word in zip(articles(3), "画法球", strict=True)]
    file = write(tmp_path / "in.jsonl", rows)
    with pytest.raises(InputError, match="has no hybrid"):
        run(file, adapter, tmp_path / "out.csv", method="hybrid")
    hybrid.save_linear(hybrid.fit_linear([r["text"] for r in rows] * 2, LABELS * 2), adapter)
    decision.write_decision(adapter, learned(0.5, {"logprob": 0.0, "margin": 9.0}))
    report, _ = run(file, adapter, tmp_path / "out.csv")
    assert [line["answer"] for line in table(report.out)] == LABELS
    alone, _ = run(file, adapter, tmp_path / "alone.csv", method="model")
    assert [line["answer"] for line in table(alone.out)] != LABELS


@pytest.mark.parametrize("form", [".csv", ".xlsx"])
def test_the_numbers_that_pandas_gave_the_rows_come_back(tmp_path, adapter, fake, form):
    frame = pd.DataFrame(articles(3)).set_index(pd.Index([7, 3, 5]))
    save = frame.to_csv if form == ".csv" else frame.to_excel
    save(tmp_path / f"in{form}")
    report, _ = run(tmp_path / f"in{form}", adapter, tmp_path / f"out{form}")
    read = pd.read_csv if form == ".csv" else pd.read_excel
    answered = read(report.out, index_col=0)
    assert list(answered.index) == [7, 3, 5] and list(answered["nr"]) == [0, 1, 2]
    assert (report.rows, report.unanswered) == (3, 0)


def test_no_two_files_or_adapters_share_a_table(tmp_path, adapter, fake):
    for folder, count in (("a", 2), ("b", 3)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "part.jsonl", articles(count))
    first, _ = run(tmp_path / "a" / "part.jsonl", adapter, None)
    second, _ = run(tmp_path / "b" / "part.jsonl", adapter, None)
    config = adapter / "adapter_config.json"
    changed = config.read_bytes() + b"\n"
    config.unlink()
    config.write_bytes(changed)
    third, _ = run(tmp_path / "a" / "part.jsonl", adapter, None)
    outs = [report.out for report in (first, second, third)]
    assert len(set(outs)) == 3 and {out.parent for out in outs} == {tmp_path / "run" / "answers"}
    assert [len(table(out)) for out in outs] == [2, 3, 2]


def test_no_two_targets_or_methods_share_a_table(tmp_path, adapter, fake):
    file = write(tmp_path / "in.jsonl", articles(3))
    hybrid.save_linear(hybrid.fit_linear(["画", "法", "球"] * 2, LABELS * 2), adapter)
    decision.write_decision(adapter, learned(0.5, {"logprob": 0.0, "margin": 9.0}))
    ways = [{}, {"target": 0.01}, {"method": "model"}, {"method": "model", "target": 0.01}]
    outs = [run(file, adapter, None, **way)[0].out for way in ways]
    ends = [out.name.removeprefix(outs[0].stem) for out in outs]
    assert ends == [".csv", "-0.01.csv", "-model.csv", "-0.01-model.csv"]
    for way in ({"target": 0.1}, {"method": "hybrid"}):  # these are taken by default
        assert run(file, adapter, None, **way)[0].out == outs[0]


def test_adapters_that_cannot_be_asked(tmp_path, adapter):
    (adapter / "prompt.json").unlink()
    with pytest.raises(InputError, match="write the file by hand"):
        Classifier(adapter)
    with pytest.raises(InputError, match="no such folder"):
        Classifier(tmp_path / "none")
    with pytest.raises(InputError, match="no adapter in"):
        Classifier(tmp_path)
    with pytest.raises(InputError, match=r"it lies in .*/drawn/adapter"):
        Classifier(adapter.parent)


def setting(run, name, accuracy, loss, best=4, when=0):
    folder = run / "train" / name
    lines = [
        {"global_step/max_steps": f"{step}/8", "eval_loss": loss, "eval_seq_acc": share}
        for step, share in ((2, 0.99), (best, accuracy))
    ]
    files.write_jsonl(
        folder / "logging.jsonl",
        [{k: v for k, v in line.items() if v is not None} for line in lines],
    )
    files.write_json(folder / "summary.json", {"best_step": best})
    files.write_json(folder / "adapter" / "prompt.json", {})
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"")
    os.utime(folder / "adapter" / "adapter_model.safetensors", (when, when))
    return folder


def test_the_best_adapter_is_chosen_on_val_in_the_newest_run(tmp_path):
    with pytest.raises(InputError, match="no run in runs/ has a trained adapter"):
        settings.best_adapter(tmp_path / "runs")
    old = tmp_path / "runs" / "old"
    setting(old, "perfect", 1.0, 0.1, when=50)
    new = tmp_path / "runs" / "new"
    setting(new, "a", 0.8, 0.3, when=60)
    setting(new, "b", 0.9, 0.5, when=100)
    best = setting(new, "c", 0.9, 0.4, when=70)
    setting(new, "d", None, 0.1, when=80)
    setting(new, ".e.unfinished", 1.0, 0.1, when=90)
    assert settings.best_adapter(tmp_path / "runs") == best / "adapter"
    assert settings.val_score(best) == (0.9, -0.4)
    (best / "summary.json").rename(best / "adapter" / "summary.json")  # as before a rerun
    assert settings.val_score(best) == (0.9, -0.4)
    (best / "adapter" / "summary.json").rename(best / "summary.json")
    (best / "summary.json").write_text("{")
    with pytest.raises(InputError, match="c: its training left no sound log"):
        settings.best_adapter(tmp_path / "runs")


def test_labels_that_no_row_is_offered_are_not_compared(tmp_path, adapter, fake):
    rows = [row | {"output": str(n % 2)} for n, row in enumerate(articles(6))]
    file = write(tmp_path / "in.jsonl", rows)
    report, said = run(file, adapter, tmp_path / "out.csv")
    assert report.by_answer.empty and "no label in the file is an option of its row" in said


@pytest.mark.parametrize(
    ("output", "answer", "way"),
    [(1.5, "", True), ("??", "", True), ("甲", "ignore", True), (None, "", False)],
)
def test_a_file_of_which_no_row_can_be_asked_is_refused(
    tmp_path, adapter, fake, output, answer, way
):
    row = {"text": "第一篇" if way else " ", "output": output, "answer": answer}
    file = write(tmp_path / "in.jsonl", [row] * 3)
    with pytest.raises(InputError, match="not one of 3 rows can be asked") as error:
        run(file, adapter, tmp_path / "out.csv")
    assert ("{output: null}" in str(error.value)) == way and not (tmp_path / "out.csv").exists()
    assert "on_bad_row" not in str(error.value)  # here its values are others
    if way:
        assert run(file, adapter, tmp_path / "out.csv", columns={"output": None})[0].unanswered == 0


def test_a_profile_says_whose_adapter_is_meant(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    best = setting(tmp_path / "runs" / "old", "a", 1.0, 0.1, when=50)
    setting(tmp_path / "runs" / "new", "a", 1.0, 0.1, when=60)
    assert settings.adapter_of(None, "old") == best / "adapter"
    assert settings.adapter_of(str(best), None) == best
    with pytest.raises(InputError, match="name an adapter or a profile, not both"):
        settings.adapter_of(str(best), "old")
    with pytest.raises(
        InputError, match="no run of profile 'none' has trained; there are: new, old"
    ):
        settings.adapter_of(None, "none")


def test_memory_does_not_grow_with_the_file(tmp_path, adapter, fake, monkeypatch):
    monkeypatch.setattr(classify, "BLOCK_CHARACTERS", 100_000)
    peaks = []
    for count in (100, 100, 250):  # the first warms up
        rows = ({"text": f"第{n}号。" + "长" * 10_000, "nr": n} for n in range(count))
        file = write(tmp_path / f"{count}.jsonl", rows)
        tracemalloc.start()
        try:
            report, _ = run(file, adapter, tmp_path / "out.csv", review=tmp_path / "r.xlsx")
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert report.rows == count
    # two bytes a character: 150 more articles would take 3 MB
    assert peaks[2] - peaks[1] < 1e6


@pytest.mark.parametrize("form", [".csv", ".xlsx", ".jsonl"])
def test_a_table_is_looked_at_without_holding_its_articles(tmp_path, form):
    path, peaks = tmp_path / f"a{form}", []
    for count in (50, 50, 250):  # the first warms up
        row = ["长" * 10_000, "Art", 0.9, "Law", 0.1, True, None]
        writers.write_table(path, ["text", *classify.ADDED], [row] * count)
        tracemalloc.start()
        try:
            assert len(classify.read_table(path, show_text=True)) == count
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[2] - peaks[1] < 1e6  # two bytes a character: 200 articles would take 4 MB


def command(*arguments):
    return [sys.executable, str(ROOT / "tools" / "classify.py"), *map(str, arguments)]


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("FILE=a$b.csv", ["--file=a$b.csv"]),  # make would take $b for a variable
        ("FILE=it's -x.csv", ["--file=it's -x.csv"]),
        ("OUT=", []),
        ("PROFILE=mine", ["--profile=mine"]),
        ('COLUMNS={text: "正文"}', ['--columns={text: "正文"}']),
    ],
)
def test_make_hands_over_what_was_typed(said, given):
    make = ["make", "--dry-run", "--old-file=.venv/.ready", "classify", said]
    environment = {name: v for name, v in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(make, cwd=ROOT, env=environment, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if "tools.classify" in line)
    assert shlex.split(line)[3:] == given


@pytest.mark.parametrize("said", ["TAGRET=0.1", "REVEIW=a.xlsx", "profile=mine"])
def test_make_refuses_a_misspelled_word(said):
    environment = {name: v for name, v in os.environ.items() if not name.startswith("MAKE")}
    make = ["make", "--dry-run", "help", "TARGET=0.1", "OMP_NUM_THREADS=1"]
    assert subprocess.run(make, cwd=ROOT, env=environment, capture_output=True).returncode == 0
    done = subprocess.run([*make, said], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"unknown: {said.split('=')[0]}; known are PROFILE PYTHON FILE" in done.stderr


def test_killed_and_called_again_from_another_folder(tmp_path, trained, fake, monkeypatch):
    """The command line runs with the real model, in a folder with a space in its name.

    The run that continues needs no model, because the question is which rows it asks.
    """
    folder = tmp_path / "另一 folder"
    folder.mkdir()
    write(folder / "my file.jsonl", [{"text": f"第{n}号文章。" * 30} for n in range(90)])
    line = command("--file", "my file.jsonl", "--adapter", trained, "--out", "answers.csv")
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(line, cwd=folder, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 240
        journals, lines = [], 0
        while lines < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
            journals = list(folder.glob(".answers-*"))
            lines = len(journals[0].read_bytes().splitlines()) if journals else 0
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert journals and not (folder / "answers.csv").exists(), (tmp_path / "log").read_text()
    content = journals[0].read_bytes()
    done = {json.loads(part)["row"] for part in content.split(b"\n")[1:-1]}
    assert 0 < len(done) < 90
    asked = []
    original = classify.ask_rows

    def spy(classifier, rows):
        asked.extend(number for number, _ in rows)
        return original(classifier, rows)

    monkeypatch.setattr(classify, "ask_rows", spy)
    run(folder / "my file.jsonl", trained, folder / "answers.csv")
    assert sorted(asked) == sorted(set(range(90)) - done)
    assert len(table(folder / "answers.csv")) == 90


@contextmanager
def no_file_beyond(size):
    """Let writes beyond a size fail as on a full disk: a part is written, the rest is refused."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("capsys")  # else the limit would apply to the file that pytest prints to
def test_a_full_disk_keeps_what_was_answered(tmp_path, adapter, fake, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "in.jsonl", articles(90))
    line = ["--file", file.name, "--adapter", str(adapter), "--out", "out.csv"]
    with no_file_beyond(4096), pytest.raises(SystemExit) as ended:
        command_line.main(line)
    assert ended.value.code.startswith("✗ answers could not be written")
    assert "kept" in ended.value.code and not (tmp_path / "out.csv").exists()
    [journal] = tmp_path.glob(".answers-*")
    _, *kept, rest = journal.read_bytes().split(b"\n")
    assert [json.loads(row)["row"] for row in kept] == list(range(len(kept)))
    assert 8 < len(kept) < 90 and rest == b""  # several batches, each of them whole
    first = fake.prompts[: len(kept)]
    fake.prompts.clear()
    command_line.main(line)
    assert len(fake.prompts) == 90 - len(kept) and not set(first) & set(fake.prompts)
    assert len(table(tmp_path / "out.csv")) == 90


def test_wrong_command_lines_end_in_one_line(tmp_path, trained, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "b.csv").write_text("content\na\n")
    for arguments, says in [
        (["--file", "a.jsonl", "--adapter", trained, "--out", "~nobody/a.csv"], "no such folder"),
        (["--file", "a.jsonl", "--adapter", trained, "--out", "~$a.txt"], "unknown ending"),
        (["--file", "none.jsonl", "--adapter", trained], "none.jsonl: no such file"),
        (["--file", "~$my.xlsx", "--adapter", trained], "~$my.xlsx: no such file"),
        (
            ["--file", ".", "--adapter", trained],
            "is a folder, and one file is read at a time; give ",
        ),
        (
            ["--file", "b.csv", "--adapter", trained],
            "`COLUMNS='{text: content}'` for make classify",
        ),
        (["--file", "x", "--columns", "content"], "maps nothing"),
        (["--file", "x", "--columns", "{text: a, text: b}"], "the key text stands there twice"),
        (["--file", "x", "--target", "0.03", "--adapter", trained], "chapter 05 learns"),
        (["--file", "x", "--target", "2%"], "'2%' is no share; 2 % is 0.02"),
        (["--file", "x" * 300, "--adapter", trained], "File name too long"),
    ]:
        with pytest.raises(SystemExit) as ended:
            command_line.main([str(argument) for argument in arguments])
        said = ended.value.code if isinstance(ended.value.code, str) else capsys.readouterr().err
        assert ended.value.code and says in said.strip().splitlines()[-1], said
    done = subprocess.run(command(*arguments), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == f"{said}\n"
    gbk = os.fsdecode("新闻.csv".encode("gb18030"))  # a name as archives from Windows leave it
    odd = command("--file", gbk, "--adapter", trained)
    utf8 = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(odd, cwd=tmp_path, capture_output=True, env=utf8)
    assert done.returncode == 1 and done.stderr.endswith(b": no such file\n")


@pytest.mark.parametrize("form", [".csv", ".xlsx", ".jsonl"])
def test_a_table_to_look_at_is_short_and_shows_text_only_where_it_may(tmp_path, form):
    path = tmp_path / f"answers{form}"
    # the reader's own column "answer" is hidden like all columns of the reader
    names = ["nr", "text", "answer", "answer (model)", *classify.ADDED[1:]]
    row = [7, "文" * 100, "own", "体育", 0.91, "Law", 0.05, True, None]
    writers.write_table(path, names, [row, row])
    hidden = classify.read_table(path, show_text=False)
    assert list(hidden.columns) == ["answer", "probability", "second", "second_probability", "look"]
    assert hidden["answer"][0] == "体育" and hidden["probability"][0] == 0.91
    shown = classify.read_table(path, show_text=True)
    assert list(shown.columns) == ["article", *hidden.columns]
    assert shown["article"][0] == "文" * 14 + "…"


def test_the_least_sure_row_is_one_that_was_answered():
    answers = pd.DataFrame({"probability": [0.9, None, 0.4]})
    rows = (None if n == 1 else {"id": n} for n in itertools.count())  # endless
    assert classify.least_sure(rows, answers) == {"id": 2}
    with pytest.raises(InputError, match="no row of this file could be answered"):
        classify.least_sure([None], pd.DataFrame({"probability": [None]}))


@pytest.mark.parametrize("form", ["csv", "xlsx", "jsonl"])
def test_an_answer_may_be_called_none(tmp_path, form):
    path = tmp_path / f"a.{form}"
    writers.write_table(
        path, ["text", *classify.ADDED], [["甲", "None", 0.5, "N/A", 0.4, True, None]]
    )
    table = classify.read_table(path, show_text=False)
    assert (table["answer"][0], table["second"][0]) == ("None", "N/A")


@pytest.mark.parametrize("form", ["csv", "xlsx", "jsonl"])
def test_a_table_to_look_at_has_gaps_numbers_for_labels_and_short_articles(tmp_path, form):
    path = tmp_path / f"a.{form}"
    options = ["01", "02", "一个很长的类别名称", "另一个很长的类别名称"]
    rows = [
        ["球队\n取胜。", 2**70, options, "01", 0.9, "02", 0.1, False, None],
        [None, 1, options, None, None, None, None, True, "empty"],
    ]
    writers.write_table(path, ["=title", "nr", "category", *classify.ADDED], rows)
    table = classify.read_table(path, True, {"text": "=title"})
    assert list(table["article"]) == ["球队 取胜。", ""]
    assert (table["answer"][0], table["second"][0]) == ("01", "02")
    assert table["probability"][0] == 0.9 and list(table["look"]) == [False, True]
    assert table[["answer", "probability"]].loc[1].isna().all() and table["note"][1] == "empty"


@pytest.mark.parametrize("form", [".csv", ".jsonl", ".xlsx"])
def test_a_table_of_answers_is_written_anew_and_no_other(tmp_path, form):
    out = tmp_path / f"out{form}"
    classify.refuse_other_table(out)
    out.touch()
    classify.refuse_other_table(out)
    names = ["text", "output", "answer", "probability", "second", "second_probability (model)"]
    writers.write_table(out, names, [["a", "A", "B", 0.5, "A", 0.4]])
    classify.refuse_other_table(out)
    writers.write_table(out, ["text", "output"], [["a", "A"]])  # labels that somebody assigned
    with pytest.raises(InputError, match=r"would be lost.* write to another file"):
        classify.refuse_other_table(out)
    if form == ".xlsx":
        writers.write_table(out, names, [["a", "A", "B", 0.5, "A", 0.4]])
        book = load_workbook(out)
        book.create_sheet("复核")["A1"] = "a person's"
        book.save(out)
        with pytest.raises(InputError, match="would be lost"):
            classify.refuse_other_table(out)
        out.write_text("text,output\n甲,A\n", encoding="utf-8")  # rows under a wrong ending
        with pytest.raises(InputError, match="may be lost"):
            classify.refuse_other_table(out)
    else:
        if form == ".csv":
            out.write_bytes(b"text,output\ra,A\rb,B\r")  # line ends of old Macs
            with pytest.raises(InputError, match="holds rows"):
                classify.refuse_other_table(out)
        out.write_bytes(b"\xff\xfe\n\xff\n")
        with pytest.raises(InputError, match="holds rows, and no table of answers"):
            classify.refuse_other_table(out)
