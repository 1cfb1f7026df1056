"""What chapter 2 asks an untouched model: other orders of options, places, and surprise."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import InputError, probing, templating
from helpers.templating import PLAIN, PromptFormat

FORMATS = {"plain": PromptFormat(PLAIN, 128, True), "other": PromptFormat(PLAIN, 96, True)}


def rows_of(count, menu=("a", "b", "c", "d")):
    return [
        {"id": f"val-{i}", "text": "文章", "category": list(menu), "output": menu[i % len(menu)]}
        for i in range(count)
    ]


@pytest.fixture
def model_that(monkeypatch):
    """model_that(prefer) installs a model whose scores of options are prefer(row, place)."""

    def install(prefer):
        def option_logprobs(model, tokenizer, prompt_format, rows):
            return [[prefer(row, k) for k in range(len(row["category"]))] for row in rows]

        monkeypatch.setattr(probing, "option_logprobs", option_logprobs)

    return install


def test_orders_are_reproducible_and_keep_the_options():
    row = rows_of(1)[0]
    assert probing.in_order(row, 0, seed=1) is row
    orders = [probing.in_order(row, k, seed=1)["category"] for k in range(1, 6)]
    assert orders == [probing.in_order(row, k, seed=1)["category"] for k in range(1, 6)]
    assert all(sorted(order) == sorted(row["category"]) for order in orders)
    assert len(set(map(tuple, orders))) > 1 and row["category"] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("menu", ["ab", "abc", "abcdefgh"])
def test_another_order_is_never_the_rows_own(menu):
    for row in rows_of(40, menu):
        for other in (probing.shuffled(row), *(probing.in_order(row, k, seed=1) for k in (1, 2))):
            assert other["category"] != row["category"] == list(menu)
            assert sorted(other["category"]) == sorted(menu)
    assert probing.shuffled(row) == probing.shuffled(row)
    assert probing.shuffled(rows_of(1, "a")[0])["category"] == ["a"]


def test_rows_of_one_option_do_not_make_a_model_steady(model_that):
    model_that(lambda row, k: -float(k))  # the first option, whatever it is
    mixed = [row | {"id": f"single-{row['id']}"} for row in rows_of(6, "a")] + rows_of(4, "ab")
    answers = probing.ask_in_orders(None, None, FORMATS, mixed, 2, seed=1)
    assert probing.steadiness(answers) == {"plain": 0.0, "other": 0.0}
    words = probing.steady_words(answers)
    assert "about 4 validation rows that have more than one option. Of these," in words
    once = probing.ask_in_orders(None, None, FORMATS, rows_of(1), 1, seed=1)
    said = probing.steady_words(once)
    assert "about one validation row that has" in said and said.endswith("nothing to compare.")
    assert "0 % under plain and 0 % under other" in words
    assert words.endswith("another answer.")
    answers = probing.ask_in_orders(None, None, FORMATS, rows_of(2, "a"), 2, seed=1)
    assert np.isnan(list(probing.steadiness(answers).values())).all()
    assert probing.order_table(answers)["same in all, %"].isna().all()
    assert probing.steady_words(answers).endswith("so there was no other order.")


def test_a_model_that_reads_the_article_gives_one_answer_in_all_orders(model_that):
    model_that(lambda row, k: float(row["category"][k] == row["output"]))
    answers = probing.ask_in_orders(None, None, FORMATS, rows_of(8), 4, seed=1)
    assert len(answers) == 2 * 4 * 8 and answers["right"].all()
    assert probing.steadiness(answers) == {"plain": 100.0, "other": 100.0}
    words = probing.steady_words(answers)
    assert words.endswith("100 % under other get the same answer in all orders.")
    assert (probing.order_table(answers)["95 % interval"] == "68 – 100").all()


def test_a_model_that_takes_the_first_option_answers_to_the_menu(model_that):
    model_that(lambda row, k: -float(k))
    answers = probing.ask_in_orders(None, None, FORMATS, rows_of(12), 3, seed=1)
    assert probing.place_table(answers).to_numpy().tolist() == [[0.0, 1.0, 0.0]] * 2
    assert probing.steadiness(answers)["plain"] < 50
    table = probing.order_table(answers)
    assert table.loc[("plain", "as given"), "right, %"] == 25.0
    assert list(table.index.get_level_values(1)[:3]) == ["as given", "shuffled 1", "shuffled 2"]


def test_one_option_a_row_has_no_place(model_that):
    model_that(lambda row, k: 0.0)
    answers = probing.ask_in_orders(None, None, FORMATS, rows_of(2, menu=("字",)), 2, seed=1)
    assert answers["place"].isna().all() and answers["right"].all()
    table = probing.place_table(answers)
    assert list(table.index) == ["plain", "other"] and table.isna().all().all()
    mixed = rows_of(2, menu=("字",)) + rows_of(1)
    answers = probing.ask_in_orders(None, None, FORMATS, mixed, 1, seed=1)
    assert probing.place_table(answers).loc["plain"].tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(("count", "orders"), [(0, 3), (3, 0)])
def test_nothing_to_ask_is_said_in_one_line(count, orders):
    with pytest.raises(InputError, match="probe one row at least"):
        probing.ask_in_orders(None, None, FORMATS, rows_of(count), orders, seed=1)


def test_surprise_is_what_a_plain_forward_pass_gives(base, tokenizer):
    rows = [
        {"id": "1", "text": "球队昨天赢了。", "category": ["体育", "Law"], "output": "体育"},
        {"id": "2", "text": "法院宣判。", "category": ["Law", "体育"], "output": "Law"},
    ]
    prompt_format = FORMATS["plain"]
    for row, nats in zip(rows, probing.surprise(base, tokenizer, prompt_format, rows)):
        prompt = templating.fit(tokenizer, prompt_format, row).ids
        answer = templating.encode_answer(tokenizer, row["output"])
        with torch.inference_mode():
            logits = base(torch.tensor([prompt + answer])).logits[0]  # tokens × vocabulary
        logprobs = logits.float().log_softmax(-1)[len(prompt) - 1 : -1]  # of each next token
        each = [logprobs[k, token].item() for k, token in enumerate(answer)]
        assert nats == pytest.approx(-np.mean(each), abs=1e-3)


@pytest.mark.parametrize("gaps", [[2.0], [1.5, 1.5, 1.5], [1.0, 2.0], [1.0, 2.0, 4.0, 2.5]])
def test_an_interval_holds_its_mean_however_few_the_rows(gaps):
    result = probing.mean_gap(gaps, np.zeros(len(gaps)), seed=1)
    assert result["mean"] == pytest.approx(np.mean(gaps))
    assert result["low"] <= result["mean"] <= result["high"]
    json.dumps(result, allow_nan=False)
    assert (result["low"] == result["high"]) == (len(set(gaps)) == 1)


def test_short_articles_are_whole_and_long_ones_keep_a_share(tokenizer):
    rows = rows_of(2)
    rows[1]["text"] = "这是一篇很长的文章。" * 200
    kept = probing.space_left(tokenizer, FORMATS["plain"], rows)
    assert kept["whole_rows"] == 50.0 and 50.0 < kept["mean_kept"] < 60.0


def test_every_token_is_shown_with_its_id(tokenizer):
    ids = templating.encode(tokenizer, "输出: ")
    table = probing.token_table(tokenizer, ids)
    assert table.loc["id"].tolist() == ids
    assert table.loc["piece"].tolist()[-1] == "'▁'"  # the lone space of chapter 2
    assert isinstance(table, pd.DataFrame) and table.shape == (2, len(ids))


def test_pieces_of_a_tokenizer_over_bytes_can_be_read(qwen_tokenizer):
    ids = templating.encode(qwen_tokenizer, "昨天")
    pieces = probing.token_table(qwen_tokenizer, ids)
    assert "".join(piece.strip("'") for piece in pieces.loc["piece"]) == "昨天"
