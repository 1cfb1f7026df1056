"""What decided an answer: each sentence is left out in turn, and the page escapes the text."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import InputError, hybrid, models, passages, scoring, templating
from helpers.classifier import Classifier

OPTIONS = ["Art", "Law", "Sports"]
TEXT = "球队在加时赛中取胜。画家举办了展览！“法院开庭。”\n观众鼓掌"


@given(st.text("球。！\n” ;a.1", max_size=60), st.integers(1, 8))
def test_sentences_lose_nothing(text, most):
    parts = passages.sentences(text, most)
    assert "".join(parts) == text and len(parts) <= most and all(parts)


def test_sentences_end_where_sentences_do():
    expected = ["球队在加时赛中取胜。", "画家举办了展览！", "“法院开庭。”\n", "观众鼓掌"]
    assert passages.sentences(TEXT) == expected


def test_english_sentences_end_at_full_stops():
    text = 'Prices fell by 3.5 % in May. "We waited." Shops closed! 1. Tea in 2010. Rice.'
    expected = ["Prices fell by 3.5 % in May. ", '"We waited." ', "Shops closed! ",
                "1. Tea in 2010. Rice."]  # fmt: skip
    assert passages.sentences(text) == expected


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, draw_adapter):
    folder = tmp_path_factory.mktemp("run") / "train" / "drawn"
    form = templating.PromptFormat(templating.PLAIN, 64, True)
    draw_adapter(folder, form, OPTIONS, r=4)
    drawn = Classifier(folder / "adapter")
    # in bfloat16 nats are coarse, and one row alone is rounded otherwise than in a batch
    drawn.model = models.load_model(drawn.prompt.model, drawn.adapter, "float32")
    return drawn


def among(classifier, text):
    """Log-probabilities of the options among themselves, by the scorer itself."""
    row = {"id": "x", "text": text, "category": OPTIONS}
    prompt = templating.fit(classifier.tokenizer, classifier.prompt.prompt_format, row)
    [result] = scoring.ask(classifier.model, classifier.tokenizer, [prompt.ids], [OPTIONS])
    nats = np.array(result["logprobs"])
    return nats - np.log(np.exp(nats - nats.max()).sum()) - nats.max()


def test_a_passage_is_worth_what_its_loss_costs(classifier):
    weighed = passages.weigh_passages(classifier, TEXT)
    whole = among(classifier, TEXT)
    answer = int(whole.argmax())
    assert weighed.answer == OPTIONS[answer] and weighed.read == 1.0
    parts = passages.sentences(TEXT)
    assert [passage.text for passage in weighed.passages] == parts
    for place, passage in enumerate(weighed.passages):
        rest = "".join(parts[:place] + parts[place + 1 :])
        change = whole[answer] - among(classifier, rest)[answer]
        assert passage.change == pytest.approx(change, abs=1e-3)
    assert max(abs(passage.change) for passage in weighed.passages) > 0.001


def test_the_answer_that_is_explained_is_the_one_in_the_table(classifier, monkeypatch):
    """Where a hybrid's linear half overrules the model, passages speak for the hybrid's answer."""
    whole = among(classifier, TEXT)
    first = OPTIONS[int(whole.argmax())]
    second = next(name for name in OPTIONS if name != first)
    linear = hybrid.fit_linear([TEXT, "股市下跌。"], [second, first])
    weights = {"logprob": 0.1, "margin": 50.0}
    monkeypatch.setattr(classifier, "method", "hybrid")
    monkeypatch.setattr(classifier, "linear", linear)
    monkeypatch.setattr(classifier, "decision", {"hybrid": {"weights": weights}})
    weighed = passages.weigh_passages(classifier, TEXT, OPTIONS)
    assert weighed.answer == classifier.answer(TEXT, OPTIONS).index[0] == second
    assert weighed.alone == first
    assert f"The model alone would answer <b>{first}</b>" in passages.as_html(weighed)
    place = OPTIONS.index(second)
    rest = "".join(passages.sentences(TEXT)[1:])
    change = whole[place] - among(classifier, rest)[place]
    assert weighed.passages[0].change == pytest.approx(change, abs=1e-3)
    assert passages.weigh_passages(classifier, TEXT, OPTIONS, first)[::3] == (first, None)
    with pytest.raises(InputError, match="'Music' is not among the options"):
        passages.weigh_passages(classifier, TEXT, OPTIONS, "Music")


def test_only_what_the_model_read_is_weighed(classifier):
    long = TEXT * 20
    weighed = passages.weigh_passages(classifier, long)
    read = "".join(passage.text for passage in weighed.passages)
    assert long.startswith(read) and len(read) == round(weighed.read * len(long))
    assert 0 < weighed.read < 0.5 and "% of the article" in passages.as_html(weighed)


def test_options_that_leave_no_room_for_the_article_leave_one_empty_passage(
    classifier, monkeypatch
):
    form, row = classifier.prompt.prompt_format, {"text": "", "category": OPTIONS}
    tokenizer = classifier.tokenizer
    fixed = len(templating.fit(tokenizer, form, row).ids)
    fixed += max(len(templating.encode_answer(tokenizer, option)) for option in OPTIONS)
    tight = replace(classifier.prompt, prompt_format=replace(form, max_length=fixed))
    monkeypatch.setattr(classifier, "prompt", tight)
    weighed = passages.weigh_passages(classifier, TEXT)
    assert weighed.passages == [passages.Passage("", 0.0)] and weighed.read == 0
    assert "The model read 0 % of the article" in passages.as_html(weighed)


def test_an_article_is_shown_and_never_run():
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(1)>&'
    weighed = passages.Weighed(
        "<b>Art</b>", [passages.Passage(evil, 1.5), passages.Passage("反对", -3.0)], 1.0
    )
    html = passages.as_html(weighed)
    assert "<script" not in html and "<img" not in html and "<b>Art" not in html
    assert html.count('<span class="passage"') == 2
    blue, red = re.findall(r"rgba\(([\d., ]+)\)", html)
    assert blue == "31, 119, 180, 0.30" and red == "214, 39, 40, 0.60"
    assert "<sub>+1.50</sub>" in html and 'title="-3.00 nats"' in html


def test_the_strongest_passage_may_speak_against_the_answer():
    """Strength is that of the colours, so the palest passage is never called the strongest."""
    parts = [passages.Passage(text, change) for text, change in zip("abcde", (1, -3, 0.5, 2, 0))]
    weighed = passages.Weighed("Art", parts, 1.0)
    assert passages.strongest_passages(weighed, 1) == [parts[1]]
    strongest = passages.strongest_passages(weighed)
    html = passages.as_html(weighed)
    numbered = set(re.findall(r">(\w)<sub>", html))
    assert numbered == {passage.text for passage in strongest} == {"a", "b", "d"}


def test_nothing_to_read_is_said(classifier):
    with pytest.raises(InputError, match="paste one first"):
        passages.weigh_passages(classifier, " \n")


def test_bars_show_each_options_probability():
    figure = passages.draw_probabilities(
        pd.Series([0.7, 0.2, 0.1], index=["$体育$", "b", "c"]), 0.5
    )
    [axes] = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.2, 0.7]
    assert axes.lines[0].get_xdata()[0] == 0.5 and axes.get_xlabel() == "probability"


def test_the_button_answers(classifier, monkeypatch):
    """With fields as in JupyterLab: what is typed is asked about, a fault is named in a line."""
    import IPython.display
    import ipywidgets

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda *things: shown.extend(things))
    monkeypatch.setattr(ipywidgets.Output, "__enter__", lambda self: self)
    monkeypatch.setattr(ipywidgets.Output, "__exit__", lambda self, *_: None)
    monkeypatch.setattr(ipywidgets.Output, "clear_output", lambda self, wait=False: None)
    passages.explore(classifier, TEXT, OPTIONS)
    fields, button, _ = shown
    article, menu = fields.children
    menu.value = " Law \n\nArt\nLaw"
    button.click()
    figure, html = shown[3:]
    names = {label.get_text() for label in figure.axes[0].get_yticklabels()}
    assert names == {"Law", "Art"} and "passage" in html.data and not button.disabled
    article.value = ""
    button.click()
    assert len(shown) == 5  # nothing more was drawn
