"""Which passages of an article decided its answer: each sentence is left out in turn."""

import re
from html import escape
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax

from helpers import InputError
from helpers.classifier import Classifier
from helpers.templating import fit, render

END = re.compile(r"([。！？!?；;\n]+[”’」』）)\]]*|(?<!\d)\.[\"'”’)\]]*(?=\s))\s*")
"""Where a sentence ends; a full stop ends one before white space, unless a number stands before."""
MOST_PASSAGES = 40
"""Each passage costs a pass over the article; where there are more, neighbours are joined."""
SUPPORTS, SPEAKS_AGAINST = (31, 119, 180), (214, 39, 40)
"""Colours in red, green and blue: a blue one for the answer, a red one against it."""
STRONGEST = 3
"""How many passages have their number written after them."""


class Passage(NamedTuple):
    """A piece of an article."""

    text: str
    change: float
    """Nats by which the answer's log-probability among the options falls without the passage."""


class Weighed(NamedTuple):
    """An article, and how much each of its passages speaks for its answer."""

    answer: str
    passages: list[Passage]
    """Joined, they are the text that the model read."""
    read: float
    """Share of the article that the model read, 0 to 1."""
    alone: str | None = None
    """What the language model alone would answer, where that is another option."""


def sentences(text: str, most: int = MOST_PASSAGES) -> list[str]:
    """A text in pieces that end where sentences do; joined, they are the text again.

    Args:
        text: in Chinese or any other language.
        most: the most pieces; where there are more, neighbours are joined.
    """
    ends = [0, *(end.end() for end in END.finditer(text)), len(text)]
    whole: list[str] = []
    for part in (text[start:end] for start, end in pairwise(ends) if start < end):
        if whole and not part.strip():  # white space is no passage of its own
            whole[-1] += part
        else:
            whole.append(part)
    if len(whole) <= most:
        return whole
    groups = np.array_split(np.arange(len(whole)), most)
    return ["".join(whole[i] for i in group) for group in groups]


def weigh_passages(
    classifier: Classifier, text: str, options: list[str] | None = None, answer: str | None = None
) -> Weighed:
    """How much each passage of an article speaks for its answer.

    Only the language model is asked about passages, as the linear part of a hybrid does not read
    sentences. The answer is nevertheless the classifier's.

    Args:
        classifier: the adapter at work.
        text: the article.
        options: what may be answered; None for the adapter's labels.
        answer: the option to explain; None for the one that the classifier answers.

    Raises:
        InputError: for an article without anything to read, or an answer that is no option.
    """
    if not text.strip():
        raise InputError("there is no article to read: paste one first")
    options = list(options or classifier.prompt.labels)
    if answer not in (None, *options):
        raise InputError(f"{answer!r} is not among the options, so nothing can speak for it")
    prompt_format = classifier.prompt.prompt_format
    row = {"id": "article", "text": classifier.article(text), "category": options}
    prompt = fit(classifier.tokenizer, prompt_format, row)
    # Only what the model reads: otherwise a sentence left out would pull in text that was cut away.
    before, after = (render(part, "", options) for part in prompt_format.template.split("{text}"))
    read = prompt.text[len(before) : len(prompt.text) - len(after)]
    parts = sentences(read) or [read]  # long options may leave no room for the article
    texts = [read, *("".join(parts[:i] + parts[i + 1 :]) for i in range(len(parts)))]
    nats = np.array(classifier.ask([row | {"text": one} for one in texts]))  # texts × options
    among = log_softmax(nats, axis=1)
    alone = options[int(among[0].argmax())]
    if answer is None:
        answer = options[int(classifier.probabilities([row], [list(nats[0])])[0].argmax())]
    place = options.index(answer)
    changes = among[0, place] - among[1:, place]
    passages = [Passage(part, float(change)) for part, change in zip(parts, changes)]
    return Weighed(answer, passages, prompt.kept, alone if alone != answer else None)


def strongest_passages(weighed: Weighed, count: int = STRONGEST) -> list[Passage]:
    """The passages that count most, for the answer or against it, the strongest first.

    Args:
        weighed: see `weigh_passages`.
        count: how many to return.
    """
    return sorted(weighed.passages, key=lambda passage: -abs(passage.change))[:count]


def as_html(weighed: Weighed) -> str:
    """The article as HTML with coloured passages; whatever it holds is shown and never run.

    Args:
        weighed: see `weigh_passages`.
    """
    strongest = max((abs(p.change) for p in weighed.passages), default=0.0) or 1.0
    numbered = {id(passage) for passage in strongest_passages(weighed)}
    spans = []
    for passage in weighed.passages:
        red, green, blue = SUPPORTS if passage.change >= 0 else SPEAKS_AGAINST
        strength = 0.6 * abs(passage.change) / strongest
        number = f"{passage.change:+.2f}"
        words = passage.text.rstrip()  # a number goes before a line break
        sign = f"<sub>{number}</sub>" if id(passage) in numbered else ""
        spans.append(
            f'<span class="passage" title="{number} nats" '
            f'style="background: rgba({red}, {green}, {blue}, {strength:.2f})">'
            f"{escape(words)}{sign}{escape(passage.text[len(words) :])}</span>"
        )
    share = f"{100 * weighed.read:.0f} % of the article"
    rest = "" if weighed.read > 0.995 else f" The model read {share}."
    if weighed.alone:
        rest = f" The model alone would answer <b>{escape(weighed.alone)}</b>.{rest}"
    return (
        f"<p>The answer: <b>{escape(weighed.answer)}</b>. Blue passages speak for it, red "
        "ones against it; a number says how many nats the answer loses without the "
        f"passage.{rest}</p>"
        f'<div class="passages" style="white-space: pre-wrap">{"".join(spans)}</div>'
    )


def draw_probabilities(probabilities, threshold: float | None = None):
    """A bar for the probability of each of the ten likeliest options, the likeliest on top.

    Args:
        probabilities: a Series by option, the likeliest first; see Classifier.answer.
        threshold: the probability from which an answer goes out, drawn as a line; None draws none.

    Returns:
        A matplotlib Figure.
    """
    from matplotlib.figure import Figure

    shown = probabilities[:10][::-1]
    figure = Figure(figsize=(6.5, 0.6 + 0.28 * len(shown)), layout="constrained")
    axes = figure.subplots()
    axes.barh([str(name) for name in shown.index], shown.to_numpy())
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability")
    if threshold is not None:
        axes.axvline(threshold, linestyle="--", color="0.4", label="answered from here on")
        axes.legend(loc="lower right")
    return figure


def explore(classifier: Classifier, text: str, options: list[str]) -> None:
    """Show fields for an article and its options in JupyterLab, and a button that classifies.

    Args:
        classifier: the adapter at work.
        text: the article to begin with.
        options: the options to begin with.
    """
    from IPython.display import HTML, display
    from ipywidgets import Button, HBox, Layout, Output, Textarea

    article = Textarea(text, layout=Layout(width="65%", height="14em"))
    menu = Textarea("\n".join(options), layout=Layout(width="30%", height="14em"))
    button, output = Button(description="Classify", button_style="primary"), Output()

    def answer(_) -> None:
        button.disabled = True
        output.clear_output(wait=True)
        try:
            with output:
                lines = map(str.strip, menu.value.splitlines())
                choices = list(dict.fromkeys(filter(None, lines))) or None
                try:
                    probabilities = classifier.answer(article.value, choices)
                    said = probabilities.index[0]
                    weighed = weigh_passages(classifier, article.value, choices, said)
                except InputError as error:
                    print(error)
                    return
                display(draw_probabilities(probabilities, classifier.threshold))
                display(HTML(as_html(weighed)))
        finally:
            button.disabled = False

    button.on_click(answer)
    display(HBox([article, menu]), button, output)
