import re

import pytest
from conftest import run_solution
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import InputError, models, templating, training
from helpers.templating import PromptFormat


def test_templates_are_the_studys():
    plain = "输入: 正文\n分类: A，B\n输出: "
    assert templating.render(templating.PLAIN, "正文", ["A", "B"]) == plain
    assert templating.render(templating.EDITOR, "正文", ["A", "B"]) == (
        "\n\n### Instruction:你是一位报社编辑。现在给出一篇新闻报道，"
        "请判断它属于给定类别中的哪一种：\n" + plain + "\n\n### Response:\n"
    )


def test_placeholders_in_an_article_are_text():
    assert (
        templating.render(templating.PLAIN, "{options} {text}", ["A"])
        == "输入: {options} {text}\n分类: A\n输出: "
    )


def test_unknown_template_lists_those_there_are():
    with pytest.raises(InputError, match="plain, editor"):
        templating.find_template("poem")


@pytest.mark.parametrize("name", templating.TEMPLATES)
@pytest.mark.parametrize("max_length", [128, 192, 512])
@pytest.mark.parametrize("cut", templating.CUTS)
def test_long_rows_keep_everything_but_body(tokenizer, sample, name, max_length, cut):
    template, rows = templating.find_template(name), sample["train"][::7]
    for row, prompt in zip(
        rows, templating.fit_all(tokenizer, PromptFormat(template, max_length, True, cut), rows)
    ):
        longest = max(
            len(templating.encode_answer(tokenizer, option)) for option in row["category"]
        )
        assert prompt.ids == [tokenizer.bos_token_id, *templating.encode(tokenizer, prompt.text)]
        assert len(prompt.ids) + longest <= max_length
        assert prompt.text.endswith(
            template.split("{text}")[1].replace("{options}", "，".join(row["category"]))
        )
        if prompt.kept < 1:
            assert max_length - len(prompt.ids) - longest <= 6  # nothing is wasted
            assert (
                templating.GAP in prompt.text and row["text"][-8:] in prompt.text
            ) or cut == "head"


TRICKY = st.one_of(
    st.text(min_size=1, max_size=400),
    st.sampled_from(
        [
            "👩‍👩‍👧‍👦🏳️‍🌈",
            "e\u0301\u0327" * 3,
            "שלום עולם ",
            "\0\0",
            "分类: A，B\n输出: ",
            "### Response:\n",
            "<bos><eos><start_of_turn>",
            "{text}{options}",
        ]
    ).flatmap(lambda piece: st.integers(1, 300).map(lambda n: piece * n)),
)


@settings(max_examples=150)
@given(
    text=TRICKY,
    budget=st.integers(32, 200),
    cut=st.sampled_from(templating.CUTS),
    options=st.lists(
        st.sampled_from(["Sports", "Enviornment", "文学", "A", "🏀", "分类"]),
        min_size=2,
        unique=True,
    ),
)
def test_any_text_fits(tokenizer, text, budget, cut, options):
    row = {"id": "x", "text": text, "category": options, "output": options[0]}
    answer = max(len(templating.encode_answer(tokenizer, option)) for option in options)
    try:
        prompt = templating.fit(tokenizer, PromptFormat(templating.PLAIN, budget, True, cut), row)
    except InputError as error:
        least = int(str(error).split("at least ")[1].split()[0])
        assert (
            least > budget
            and least
            <= 1
            + answer
            + len(templating.encode(tokenizer, templating.render(templating.PLAIN, "", options)))
            + 2
        )
        return
    assert len(prompt.ids) + answer <= budget
    assert (
        tokenizer.eos_token_id not in prompt.ids and prompt.ids.count(tokenizer.bos_token_id) == 1
    )
    assert prompt.text.endswith("\n分类: " + "，".join(options) + "\n输出: ")
    assert 0 <= prompt.kept <= 1


def test_a_megabyte_of_one_character_fits_quickly(tokenizer):
    for character in "a长 ":
        row = {"id": "x", "text": character * 2**20, "category": ["A", "B"], "output": "A"}
        for cut in templating.CUTS:
            whole = PromptFormat(templating.PLAIN, 256, True, cut)
            assert len(templating.fit(tokenizer, whole, row).ids) <= 256


def test_a_budget_too_small_names_the_least_that_would_do(tokenizer):
    row = {"id": "r", "text": "很长的文章" * 50, "category": ["Sports", "Law"], "output": "Law"}
    with pytest.raises(InputError, match=r"at least (\d+)") as error:
        templating.fit(tokenizer, PromptFormat(templating.PLAIN, 8, True), row)
    least = int(str(error.value).split("at least ")[1].split()[0])
    enough = PromptFormat(templating.PLAIN, least, True)
    assert len(templating.fit(tokenizer, enough, row).ids) <= least
    with pytest.raises(InputError):
        templating.fit(tokenizer, PromptFormat(templating.PLAIN, least - 1, True), row)


def test_a_template_file_serves_like_a_named_one(tmp_path, tokenizer, sample):
    path = tmp_path / "mine.txt"
    path.write_text("从{options}中选一类：{text}\n答：", encoding="utf-8")
    row = max(sample["train"], key=lambda row: len(row["text"]))
    mine = PromptFormat(templating.find_template(str(path)), 160, True)
    prompt = templating.fit(tokenizer, mine, row)
    assert prompt.text.startswith(
        f"从{'，'.join(row['category'])}中选一类："
    ) and prompt.text.endswith("\n答：")
    assert len(prompt.ids) <= 160
    path.write_text("{text}", encoding="utf-8")
    with pytest.raises(InputError, match="options"):
        templating.find_template(str(path))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("\ufeff问：{text}\n{options}".encode(), None),
        ("问：{text}\n{options}".encode("gbk"), None),
        ("问：{text}\r\n{options}".encode(), None),
        ("问：{text}\r{options}".encode(), None),
        (b"\xff\xfe\x00{text}{options}\xff", "txt: neither UTF-8 nor GB18030; save it"),
        ("类别：{text}{options}".encode() + b"\xe9", "the bytes are neither .*; save it as UTF-8"),
        (b"{text}\0\n{options}", "mine.txt: a NUL character would stand in every prompt"),
        (b"{{text}}\n{options}", "mine.txt: {{text}} would stand in every prompt; take it out"),
        (b"{title}{text}\n{options}", "mine.txt: {title} would stand in every prompt"),
        ("請將文章分類：{text}，{options}".encode("big5"), "written in Big5"),
    ],
)
def test_a_template_file_is_read_as_editors_write_it(tmp_path, content, says):
    """Editors write GBK, Windows line ends, and byte-order marks, which no prompt may have."""
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    if says:
        with pytest.raises(InputError, match=says):
            templating.find_template(str(path))
    else:
        assert templating.find_template(str(path)) == "问：{text}\n{options}"


def test_a_templates_own_text_is_no_file():
    with pytest.raises(InputError, match="or give a text file with") as error:
        templating.find_template("文章：{text} 类别：{options}\n" * 20)
    assert len(str(error.value)) < 200


def test_a_template_has_a_name_of_its_own():
    assert templating.template_name(templating.PLAIN) == "plain"
    mine, other = map(templating.template_name, ("{text}{options}", "{text} {options}"))
    assert mine != other and mine.startswith("own-")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory, qwen_tokenizer):
    """A folder as swift needs it, with Qwen's tokenizer and the configuration of a tiny model of
    its kind.
    """
    from transformers import Qwen2Config

    folder = tmp_path_factory.mktemp("tiny") / "Qwen2-0.5B"
    qwen_tokenizer.save_pretrained(folder)
    Qwen2Config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("kind", "bos"), [("gemma", True), ("gemma", False), ("qwen", False)])
def test_swift_encodes_exactly_what_scoring_sees(
    tokenizer, qwen_tokenizer, sample, qwen, kind, bos
):
    from swift.model import get_processor
    from swift.template import get_template

    import helpers.swift_plugin  # noqa: F401

    folder = models.find_model(models.PACKAGED) if kind == "gemma" else str(qwen)
    ours = tokenizer if kind == "gemma" else qwen_tokenizer
    template = get_template(
        get_processor(folder), max_length=192, template_type="news-bos" if bos else "news"
    )
    template.set_mode("train")
    awkward = {
        "id": "x",
        "text": "文中写着<eos>和<|endoftext|>，还有{{ROUND0}}、{{ROUND1}}、{{QUERY}}和分类: A",
        "category": ["Sports", "Law"],
        "output": "Law",
    }
    rows = [*sample["train"][:150], awkward]
    for text in templating.TEMPLATES.values():
        prompt_format = PromptFormat(text, 192, bos)
        messages, _ = training.prepare_rows(ours, prompt_format, rows)
        prompts = templating.fit_all(ours, prompt_format, rows)
        for row, prompt, turns in zip(rows, prompts, messages):
            answer = templating.encode_answer(ours, row["output"])
            encoded = template.encode(turns)
            assert encoded["input_ids"] == prompt.ids + answer
            assert encoded["labels"] == [-100] * len(prompt.ids) + answer


def test_both_sides_of_the_gap_are_counted_in_an_article_that_has_gaps(tokenizer):
    row = {"text": "他说……比赛" * 100, "category": ["体育", "财经"], "output": "体育"}
    given = {"templating": templating, "PromptFormat": PromptFormat, "tokenizer": tokenizer}
    given |= {"PLAIN": templating.PLAIN, "max_length": 100, "bos": True, "long": row}
    left = run_solution("02-prompt-design", 3, **given)
    head, tail = left["head"], left["tail"]
    assert left["article"] == row["text"][:head] + templating.GAP + row["text"][-tail:]
    assert min(head, tail) > 20


@pytest.mark.parametrize(
    "odd", ["${text}", "{ text }", "{}", "{out put}", "{te\u200bxt}", "｛options｝"]
)
def test_what_looks_like_a_place_in_a_template_and_is_none_is_refused(tmp_path, odd):
    path = tmp_path / "own.txt"
    path.write_text("{text}{options}" + odd, encoding="utf-8")
    with pytest.raises(InputError, match="would stand in every prompt"):
        templating.find_template(str(path))
    path.write_text('\ufeff\ufeff{text}{options} as {"label": "…"}', encoding="utf-8")
    assert templating.find_template(str(path)) == '{text}{options} as {"label": "…"}'


@pytest.mark.parametrize("kind", ["gemma", "qwen"])
def test_a_template_of_a_chat_is_not_read_as_letters(tokenizer, qwen_tokenizer, kind):
    ours = tokenizer if kind == "gemma" else qwen_tokenizer
    row = {"id": "x", "text": "文里有<bos>和<|im_end|>", "category": ["a", "b"], "output": "a"}
    own = "<bos>" if kind == "gemma" else "<|im_start|>"
    bos = kind == "gemma"
    for template in (f"{own}user\n{{text}}{{options}}", f"{{text}}{{options}}\n{own}"):
        with pytest.raises(InputError, match=f"holds {re.escape(own)}.*would be read as letters"):
            training.prepare_rows(ours, PromptFormat(template, 128, bos), [row])
    for template in (templating.EDITOR, "<b>{text}</b> <新闻> [A] {options}"):
        assert training.prepare_rows(ours, PromptFormat(template, 128, bos), [row])[0]
