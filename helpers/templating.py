"""Prompts: one definition for training and for scoring. Only the article's body is ever cut."""

import re
from bisect import bisect_left
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from helpers import Fault, InputError
from helpers.encodings import decode
from helpers.files import below_root
from helpers.parameters import CHOICES, refuse_out_of_range
from helpers.rows import shown

PLAIN = "输入: {text}\n分类: {options}\n输出: "
EDITOR = (
    "\n\n### Instruction:你是一位报社编辑。现在给出一篇新闻报道，请判断它属于给定类别中的哪一种：\n"
    + PLAIN
    + "\n\n### Response:\n"
)
TEMPLATES = {"plain": PLAIN, "editor": EDITOR}
"""Templates by name. `{text}` stands for the article's body, `{options}` for the row's options,
joined by a full-width comma.
"""
CUTS = CHOICES["cut"]
"""What is kept of a body that is too long: its beginning, or its beginning and its end."""
KEPT = dict(zip(CUTS, ("its beginning", "beginning and end")))
"""What each cut keeps, in words."""
GAP = "……"
"""The sign between beginning and end where the middle was cut out."""


@dataclass(frozen=True)
class PromptFormat:
    """How rows become prompts: one record for training, scoring and daily work."""

    template: str
    """The template's text, with {text} and {options} in it."""
    max_length: int
    """The most tokens of a prompt and its answer together."""
    bos: bool
    """Whether the model expects `<bos>` at the start."""
    cut: str = "head"
    """What is kept of a body that is too long; see CUTS."""


class Prompt(NamedTuple):
    """A prompt ready for the model."""

    text: str
    """As the model reads it, without `<bos>`."""
    ids: list[int]
    """Its token ids, `<bos>` included where the model expects one."""
    kept: float
    """Share of the body's characters that is left, 0 to 1."""


def find_template(name: str) -> str:
    """The text of a template.

    Args:
        name: a key of TEMPLATES, or a text file, relative to the project's root.

    Raises:
        InputError: when there is no such template, its file is not text or holds other
            placeholders, or there is not exactly one {text} and one {options}.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    try:
        path = below_root(name)
        content = path.read_bytes() if path.is_file() else None
    except (InputError, OSError):  # such as for a template's text in place of a file's name
        content = None
    if content is None:
        raise InputError(
            f"template {shown(name)} is unknown; there are: {', '.join(TEMPLATES)}, "
            "or give a text file with {text} and {options}"
        )
    try:
        template = decode(content).replace("\ufeff", "")  # else the BOM would stand in every prompt
    except Fault as fault:
        raise InputError(f"template file {name}: {fault.reason}; save it as UTF-8") from None
    template = template.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in template:
        raise InputError(
            f"template file {name}: a NUL character would stand in every prompt; take it out"
        )
    for gap in re.findall(r"\$\{\w*\}|\{\{\w+\}\}|[{｛][^{}｛｝\n:\"']{0,20}[}｝]", template):
        if gap not in ("{text}", "{options}"):
            raise InputError(
                f"template file {name}: {gap} would stand in every prompt; take it out, or write "
                "{text} or {options}"
            )
    refuse_placeholders(template, f"template file {name}")
    return template


def refuse_placeholders(template: str, what: str) -> None:
    """Raise InputError unless a template has a place for the article and one for its options.

    Args:
        template: its text.
        what: what the message calls it.
    """
    if sorted(re.findall(r"\{(text|options)\}", template)) != ["options", "text"]:
        raise InputError(f"{what} must hold {{text}} once and {{options}} once")


def refuse_markers(tokenizer, template: str) -> None:
    """Raise InputError for a template that holds a special token of the model, such as <|im_end|>.

    It would be read as letters, as in an article, and not as the token that a person means.

    Args:
        tokenizer: the model's.
        template: its text.
    """
    for marker in dict.fromkeys(re.findall(r"<[^<>\s]{1,40}>|\[[A-Z]{2,10}\]", template)):
        known = tokenizer.added_tokens_decoder.get(tokenizer.convert_tokens_to_ids(marker))
        if known is not None and known.special and known.content == marker:
            way = "take it out"
            if marker == tokenizer.bos_token:
                way = "take it out, and say bos: true where the model wants it in front"
            raise InputError(
                f"the template holds {marker}, which is a token of its own for this model and "
                f"would be read as letters; {way}"
            )


def template_name(template: str) -> str:
    """The name of a template: its key in TEMPLATES, or else "own-" and a digest of its text.

    Args:
        template: the template's text.
    """
    names = {text: name for name, text in TEMPLATES.items()}
    return names.get(template) or f"own-{sha256(template.encode()).hexdigest()[:6]}"


def render(template: str, text: str, options: list[str]) -> str:
    """The template with body and options filled in; neither is searched for placeholders.

    Args:
        template: the template's text.
        text: the article's body.
        options: joined by a full-width comma.
    """
    filled = {"{text}": text, "{options}": "，".join(options)}
    return "".join(filled.get(part, part) for part in re.split(r"(\{text\}|\{options\})", template))


def tokenize(tokenizer, texts: list[str]):
    """A batch of encodings in which no special token is recognised: <eos> in an article is text.

    Args:
        tokenizer: a fast tokenizer of transformers.
        texts: to be encoded; no special token is added before or after them.
    """
    return tokenizer(
        texts, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False
    )


def encode(tokenizer, text: str) -> list[int]:
    """Token ids of one text; see `tokenize`."""
    return tokenize(tokenizer, [text])["input_ids"][0]


def encode_answer(tokenizer, option: str) -> list[int]:
    """Token ids of an answer: the option, then the end token."""
    return [*encode(tokenizer, option), tokenizer.eos_token_id]


def fit(tokenizer, prompt_format: PromptFormat, row: dict) -> Prompt:
    """The prompt of one row; see `fit_all`."""
    return fit_all(tokenizer, prompt_format, [row])[0]


def start_ids(tokenizer, bos: bool) -> list[int]:
    """The ids that every prompt begins with.

    Args:
        tokenizer: the model's.
        bos: whether the model expects `<bos>`.

    Raises:
        InputError: when the model expects one and the tokenizer has none.
    """
    if bos and tokenizer.bos_token_id is None:
        raise InputError("the profile asks for <bos>, but the tokenizer has none; set bos: false")
    return [tokenizer.bos_token_id] if bos else []


def fit_all(tokenizer, prompt_format: PromptFormat, rows: list[dict]) -> list[Prompt]:
    """The prompts of rows, each body cut so that prompt and any answer stay within the budget.

    Room for the longest of a row's options is reserved for the answer, so that the prompt does not
    depend on the label. Every prompt is tokenised as a whole, for tokens may merge across its
    seams.

    Args:
        tokenizer: a fast tokenizer of transformers.
        prompt_format: template, budget, `<bos>` and what is cut.
        rows: with "text" and "category".

    Raises:
        InputError: when the budget cannot hold the fixed parts of a row (the message names the
            least that would do); when there is no such cut; when the tokenizer lacks `<bos>`.
    """
    template, max_length = prompt_format.template, prompt_format.max_length
    cut, bos = prompt_format.cut, prompt_format.bos
    refuse_out_of_range("cut", cut)
    start, answers = start_ids(tokenizer, bos), answer_lengths(tokenizer, rows)
    before = [len(render(template.split("{text}")[0], "", row["category"])) for row in rows]
    # Characters of a body to look at: enough for Chinese, doubled where tokens are longer.
    reach = [2 * max_length] * len(rows)
    spans = [span(len(row["text"]), reach[i], cut) for i, row in enumerate(rows)]
    prompts: list[Prompt | None] = [None] * len(rows)
    pending, exact = list(range(len(rows))), set()
    while pending:
        texts = [
            render(template, body(rows[i]["text"], spans[i]), rows[i]["category"]) for i in pending
        ]
        encodings, again = tokenize(tokenizer, texts), []
        for place, i in enumerate(pending):
            ids, size, (head, tail) = encodings["input_ids"][place], len(rows[i]["text"]), spans[i]
            over = len(start) + len(ids) + answers[i] - max_length
            if over > 0:
                if (head, tail) == (0, size):
                    named = f" of {rows[i]['id']}" if rows[i].get("id") else ""
                    raise InputError(
                        f"max_length {max_length} cannot hold prompt, options and answer{named}; "
                        f"at least {max_length + over} would, and the article needs room, too"
                    )
                spans[i] = shorter(encodings[place], before[i], size, spans[i], over, cut)
                exact.add(i)
                again.append(i)
            elif head < tail and i not in exact:
                reach[i] *= 2
                spans[i] = span(size, reach[i], cut)
                again.append(i)
            else:
                ids[:0] = start  # in place: a copy would cost a tenth of the tokenizer's time
                prompts[i] = Prompt(texts[place], ids, 1 - (tail - head) / size if size else 1.0)
        pending = again
    return prompts


def answer_lengths(tokenizer, rows: list[dict]) -> list[int]:
    """For each row, the number of tokens of its longest option, end token included."""
    options = dict.fromkeys(option for row in rows for option in row["category"])
    known = {option: len(encode_answer(tokenizer, option)) for option in options}
    return [max(known[option] for option in row["category"]) for row in rows]


def span(size: int, reach: int, cut: str) -> tuple[int, int]:
    """Which characters of a body are kept: text[:head] and text[tail:].

    Args:
        size: characters of the body.
        reach: how many characters may be kept.
        cut: see CUTS.

    Returns:
        (head, tail); (size, size) is all of it.
    """
    if size <= reach:
        return size, size
    return (reach, size) if cut == "head" else (reach - reach // 2, size - reach // 2)


def body(text: str, kept: tuple[int, int]) -> str:
    """What is left of a text, given the characters that are kept; see `span`."""
    head, tail = kept
    if head == tail:
        return text
    return text[:head] + (GAP + text[tail:] if tail < len(text) else "")


def shorter(
    encoding, before: int, size: int, kept: tuple[int, int], over: int, cut: str
) -> tuple[int, int]:
    """A span that is shorter by about `over` tokens, and by at least one character.

    Args:
        encoding: of the prompt, as the tokenizers library gives it.
        before: characters of the prompt before the body.
        size: characters of the whole body.
        kept: the span that is too long; see `span`.
        over: tokens to lose.
        cut: see CUTS.
    """
    tokens = range(len(encoding))

    def start(token: int) -> int:  # called when needed: a list of all starts takes long to build
        return encoding.token_to_chars(token)[0]

    def tokens_from(character: int) -> int:
        return bisect_left(tokens, character, key=start)

    head, tail = kept
    # the tokens that begin inside text[:head]
    first_token, end_token = tokens_from(before), tokens_from(before + head)
    count = end_token - first_token
    if head == tail and cut == "head+tail":  # nothing was cut yet: the middle goes
        left = max(0, count - over - 4)
        first, last = left - left // 2, left // 2
        new_tail = start(end_token - last) - before if last else size
        return min(start(first_token + first) - before, size - 1) if count else 0, new_tail
    # the tokens that begin inside text[tail:]
    tail_from = before + head + len(GAP)
    first_behind = tokens_from(tail_from)
    behind = tokens_from(tail_from + size - tail) - first_behind if tail < size else 0
    from_tail = min(over // 2 if head else over, behind) if cut == "head+tail" else 0
    from_head = over - from_tail
    new_head = 0 if from_head >= count else min(start(end_token - from_head) - before, head - 1)
    new_tail = tail
    if from_tail == behind and from_tail:
        new_tail = size
    elif from_tail:
        new_tail = tail + max(1, start(first_behind + from_tail) - tail_from)
    return (max(new_head, 0), new_tail) if (new_head, new_tail) != kept else (0, size)
