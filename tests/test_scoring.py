import unicodedata
from types import SimpleNamespace

import pytest
import torch
from conftest import small_model

from benchmarks.scoring import lm_eval_scores
from helpers import InputError, budgets, files, models, predictions, scoring, templating
from helpers.templating import PromptFormat


def plain(max_length):
    """The plain template with a limit of tokens."""
    return PromptFormat(templating.PLAIN, max_length, True)


@pytest.fixture(scope="module")
def rows(sample):
    return sorted(sample["test"], key=lambda row: row["id"])[:4]


@pytest.fixture(scope="module")
def small(tokenizer):
    """A model of two random layers with the packaged model's vocabulary.

    One layer sees 64 tokens back, so prompts of a usual length reach beyond its window.
    """
    drawn = small_model(vocab_size=len(tokenizer), sliding_window=64, tie_word_embeddings=False)
    drawn.set_attn_implementation("sdpa")
    return drawn.eval()


def ask(model, tokenizer, prompt, options):
    return scoring.ask_batch(model, tokenizer, [prompt], [options])[0]


def whole_passes(model, tokenizer, prompt, options):
    """Nats of each option from a forward pass of its own, without cache, tree or mask."""
    scores = []
    for ids in (templating.encode_answer(tokenizer, option) for option in options):
        with torch.inference_mode():
            kept = model(torch.tensor([prompt + ids]), logits_to_keep=len(ids) + 1)
        own = kept.logits[0, :-1].log_softmax(-1).gather(1, torch.tensor(ids)[:, None])
        scores.append(own.sum().item())
    return scores


@pytest.mark.parametrize("max_length", [160, 900])
def test_cached_scores_equal_whole_forward_passes(small, tokenizer, sample, max_length):
    """The prompts are somewhat and far longer than the sliding window."""
    row = max(sample["test"], key=lambda row: len(row["text"]))
    prompt = templating.fit(tokenizer, plain(max_length), row).ids
    result = ask(small, tokenizer, prompt, row["category"])
    wanted = whole_passes(small, tokenizer, prompt, row["category"])
    assert result["logprobs"] == pytest.approx(wanted, abs=1e-3)


def test_the_packaged_models_scores_hold_beyond_its_window(base, tokenizer, sample):
    """The window is 512 tokens; only one option is tried, for each takes a whole pass."""
    row = max(sample["test"], key=lambda row: len(row["text"]))
    prompt = templating.fit(tokenizer, plain(600), row).ids
    result = ask(base, tokenizer, prompt, row["category"][:1])
    wanted = whole_passes(base, tokenizer, prompt, row["category"][:1])
    assert result["logprobs"] == pytest.approx(wanted, abs=1e-3)


def test_scores_are_those_of_the_evaluation_harness(base, tokenizer, sample):
    """The packaged model is compared with lm-evaluation-harness, which reads prompt and option
    together, option by option (see benchmarks/scoring.py).
    """
    rows = sorted(sample["test"], key=lambda row: len(row["category"]))[:2]
    prompts = [prompt.ids for prompt in templating.fit_all(tokenizer, plain(96), rows)]
    menus = [row["category"] for row in rows]
    for mine, theirs in zip(
        scoring.ask_batch(base, tokenizer, prompts, menus),
        lm_eval_scores(base, tokenizer, prompts, menus),
    ):
        assert mine["logprobs"] == pytest.approx(theirs, abs=1e-3)


def library_writes(model, prompt, new_tokens):
    """The token ids that the library's own greedy search writes after one prompt."""
    whole = model.generate(torch.tensor([prompt]), max_new_tokens=new_tokens, do_sample=False)
    return whole[0, len(prompt) :].tolist()


def with_what_it_writes(model, tokenizer, prompts, rows):
    """Each row's options, and one of several tokens that begins with what the model would write."""
    return [
        [*row["category"], tokenizer.decode(library_writes(model, prompt, 5)).strip()]
        for prompt, row in zip(prompts, rows)
    ]


def test_generation_is_the_librarys_greedy_search(small, tokenizer, rows):
    prompts = [prompt.ids for prompt in templating.fit_all(tokenizer, plain(160), rows)]
    for prompt, options in zip(prompts, with_what_it_writes(small, tokenizer, prompts, rows)):
        mine = ask(small, tokenizer, prompt, options)["generated"]
        assert tokenizer.decode(library_writes(small, prompt, 16)).startswith(mine)
        assert mine.strip().startswith(options[-1])


def test_generation_writes_a_label_to_its_end_outside_of_the_tree(base, tokenizer):
    """The model writes " Thursday" with a space in front. No option's tokens begin so, and it goes
    on token by token.
    """
    prompt = [
        tokenizer.bos_token_id,
        *templating.encode(tokenizer, "Mon: Monday. Tue: Tuesday. Wed: Wednesday. Thu:"),
    ]
    options = ["Thursday. Fri: Friday", "Sunday"]
    text = ask(base, tokenizer, prompt, options)["generated"]
    library = library_writes(base, prompt, 16)
    assert text.strip().startswith("Thursday. Fri") and tokenizer.decode(library).startswith(text)


@pytest.mark.parametrize("template", templating.TEMPLATES)
def test_nothing_depends_on_batch_or_order(small, tokenizer, rows, template):
    """Rows are asked alone or together, in either order, beside longer or shorter ones; the
    editor's instruction is read only once in a batch.
    """
    text = templating.TEMPLATES[template]
    prompts = [
        templating.fit(tokenizer, PromptFormat(text, limit, True), row).ids
        for row, limit in zip(rows, (100, 130, 160, 700))
    ]
    menus = with_what_it_writes(small, tokenizer, prompts, rows)
    alone = [ask(small, tokenizer, prompt, options) for prompt, options in zip(prompts, menus)]
    together = scoring.ask_batch(small, tokenizer, prompts, menus)
    backwards = scoring.ask_batch(small, tokenizer, prompts[::-1], menus[::-1])[::-1]
    for first, second, third in zip(alone, together, backwards):
        assert second["logprobs"] == pytest.approx(first["logprobs"], abs=1e-4)
        assert third["logprobs"] == pytest.approx(first["logprobs"], abs=1e-4)
        assert first["generated"] == second["generated"] == third["generated"]
        assert len(templating.encode(tokenizer, first["generated"])) > 1


def test_what_all_prompts_begin_with_is_read_once(small, monkeypatch):
    """This also holds where a prompt has nothing else, and where the rest takes several chunks."""
    monkeypatch.setattr(scoring, "CHUNK", 24)
    start = list(range(1000, 1000 + scoring.WORTH_SHARING))
    rest = list(range(2000, 2000 + scoring.CHUNK + 5))
    read = []
    hook = small.get_input_embeddings().register_forward_hook(
        lambda module, given, output: read.append(tuple(given[0].shape))
    )
    try:
        cache = scoring.prefill(small, [start, start + rest], len(start + rest))
        short = scoring.prefill(small, [start[1:], start[1:] + rest[:3]], len(start) + 2)
    finally:
        hook.remove()
    assert read[:3] == [(1, len(start)), (2, scoring.CHUNK), (2, 5)]
    assert read[3:] == [(2, len(start) + 2)]  # too few tokens to be worth it
    assert cache.get_seq_length() == len(start + rest)
    assert short.get_seq_length() == len(start) + 2


@pytest.mark.parametrize("make", ["llama", "qwen2", "qwen3"])
def test_other_architectures_are_read_as_exactly(make, tokenizer, rows):
    """Weights are random; the reference is a whole pass without cache, tree or mask."""
    from transformers import AutoConfig, AutoModelForCausalLM

    small = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(make, vocab_size=len(tokenizer), head_dim=8, **small)
    ).eval()
    prompts = [
        templating.fit(tokenizer, plain(limit), row).ids for row, limit in zip(rows, (120, 180))
    ]
    results = scoring.ask_batch(model, tokenizer, prompts, [row["category"] for row in rows[:2]])
    for prompt, row, result in zip(prompts, rows, results):
        wanted = whole_passes(model, tokenizer, prompt, row["category"][:3])
        assert result["logprobs"][:3] == pytest.approx(wanted, abs=1e-3)


def test_odd_menus(small, tokenizer, rows):
    """One option, options that begin another one, the same option twice, and an empty article."""
    row = {**rows[0], "text": ""}
    for options in (["Law"], ["Art", "Art History", "Art History of China"], ["Law", "Art", "Law"]):
        prompt = templating.fit(tokenizer, plain(160), {**row, "category": options}).ids
        result = ask(small, tokenizer, prompt, options)
        wanted = whole_passes(small, tokenizer, prompt, options)
        assert result["logprobs"] == pytest.approx(wanted, abs=1e-3)
        # the same option has the same score both times, to the last bit
        assert len(set(result["logprobs"])) == len(set(options))


def test_a_batch_that_does_not_fit_is_halved(monkeypatch, tokenizer):
    sizes = []

    def answers(model, tokenizer, prompts, menus):
        if sum(map(len, prompts)) > 100:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        sizes.append(len(prompts))
        return [{"of": len(prompt)} for prompt in prompts]

    monkeypatch.setattr(scoring, "ask_batch", answers)
    prompts = [[0] * n for n in (50, 20, 20, 30, 10, 40)]
    got = {}
    for batch, results, _ in scoring.ask_in_batches(None, tokenizer, prompts, [[]] * 6, 4096):
        got |= dict(zip(batch, results))
    assert [got[i]["of"] for i in range(6)] == [len(prompt) for prompt in prompts] and max(
        sizes
    ) > 1
    with pytest.raises(InputError, match="a prompt of 500 tokens does not fit"):
        list(scoring.ask_in_batches(None, tokenizer, [[0] * 500], [[]], 4096))


def test_where_memory_is_short_fewer_rows_are_asked_at_once(monkeypatch, small, tokenizer):
    prompts, menus = [[2, 3, 4, 5 + i] * 16 for i in range(5)], [["A", "B"]] * 5
    usual, batches = scoring.ask(small, tokenizer, prompts, menus), []
    ask_batch = scoring.ask_batch

    def counted(model, tokenizer, prompts, menus):
        batches.append(len(prompts))
        return ask_batch(model, tokenizer, prompts, menus)

    monkeypatch.setattr(scoring, "ask_batch", counted)
    monkeypatch.setattr(budgets, "available_gib", lambda: budgets.ASIDE_GIB + 1e-6)
    short = scoring.ask(small, tokenizer, prompts, menus)
    assert batches == [1] * 5
    for one, other in zip(usual, short):
        assert one["logprobs"] == pytest.approx(other["logprobs"], abs=1e-3)
    monkeypatch.setattr(budgets, "available_gib", lambda: 1000.0)
    scoring.ask(small, tokenizer, prompts, menus)
    assert batches[5:] == [5]


def test_the_largest_menu_decides_how_many_rows_are_asked_at_once(monkeypatch, tokenizer):
    menus = [["体育", "体育新闻"], [f"class {i}" for i in range(80)], []]
    sizes = [len(scoring.option_tree(tokenizer, 0, menu).tokens) for menu in menus]
    assert scoring.most_nodes(tokenizer, menus) == max(sizes) > budgets.TREE_NODES
    assert [scoring.most_nodes(tokenizer, [menu]) for menu in menus] == sizes
    assert scoring.most_nodes(tokenizer, []) == 1
    free = budgets.ASIDE_GIB + 1
    monkeypatch.setattr(budgets, "available_gib", lambda: free)
    config = models.load_config(models.PACKAGED)
    network = SimpleNamespace(config=config, dtype=torch.bfloat16)
    few, many = (budgets.tokens_at_once(network, 256, nodes) for nodes in (64, 316))
    assert many < few == budgets.TOKENS_AT_ONCE
    asked = []
    monkeypatch.setattr(
        budgets, "tokens_at_once", lambda model, length, nodes: asked.append(nodes) or 4096
    )
    monkeypatch.setattr(scoring, "ask_batch", lambda model, tokenizer, prompts, menus: prompts)
    list(scoring.ask_in_batches(network, tokenizer, [[1] * 9] * 3, menus))
    assert asked == [max(sizes)]


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_nan_is_refused(small, tokenizer, monkeypatch, number):
    broken = torch.zeros(1, 8, 300_000)
    broken[0, 0, 0] = float(number)
    monkeypatch.setattr(scoring, "read_trees", lambda *_: broken)
    with pytest.raises(InputError, match="NaN"):
        ask(small, tokenizer, [2, 3, 4], ["A", "B"])


def test_a_full_disk_is_one_line(small, tokenizer, rows, tmp_path):
    prompts = templating.fit_all(tokenizer, plain(128), rows)
    arguments = (tmp_path, lambda: small, tokenizer, rows[:1], prompts[:1], prompts[:1], {})
    scoring.predict(*arguments)
    (tmp_path / "predictions.jsonl").unlink()
    (tmp_path / "predictions.jsonl").symlink_to("/dev/full")
    with pytest.raises(InputError, match="could not be written") as error:
        scoring.predict(*arguments)
    assert "\n" not in str(error.value)
    (tmp_path / "file").write_text("in the folder's place")
    with pytest.raises(InputError, match="could not be written"):
        scoring.predict(tmp_path / "file", *arguments[1:])
    (tmp_path / "other" / "key.json").mkdir(parents=True)
    with pytest.raises(InputError, match=r"key.json of other could not be written"):
        scoring.predict(tmp_path / "other", *arguments[1:])


def test_an_interrupted_evaluation_goes_on(small, tokenizer, rows, tmp_path):
    prompts = templating.fit_all(tokenizer, plain(128), rows)
    arguments = dict(
        tokenizer=tokenizer, rows=rows, prompts=prompts, free=prompts, key={"model": "x"}
    )
    whole = scoring.predict(tmp_path / "a", lambda: small, **arguments)
    text = (tmp_path / "a" / "predictions.jsonl").read_text()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "key.json").write_text((tmp_path / "a" / "key.json").read_text())
    (tmp_path / "b" / "predictions.jsonl").write_text(
        "\n".join(text.split("\n")[:2]) + "\n" + text.split("\n")[2][:40]
    )
    resumed = scoring.predict(tmp_path / "b", lambda: small, **arguments)
    for line, other in zip(whole, resumed):
        for mode in scoring.MODES:
            assert line[mode]["prediction"] == other[mode]["prediction"]
        assert other["score"]["logprobs"] == pytest.approx(line["score"]["logprobs"], abs=1e-4)
    assert [line["id"] for line in resumed] == [row["id"] for row in rows]
    assert resumed[:2] == whole[:2]  # kept and not made again, for even their times are the same

    def never():
        raise AssertionError("nothing was missing")

    scoring.predict(tmp_path / "b", never, **arguments)
    for change in ({"key": {"model": "another"}}, {"free": None}, {"free": prompts[::-1]}):
        with pytest.raises(AssertionError, match="nothing was missing"):
            scoring.predict(tmp_path / "b", never, **(arguments | change))


def test_rows_that_are_not_calibrated_are_asked_once(small, tokenizer, rows, tmp_path):
    prompts = templating.fit_all(tokenizer, plain(128), rows)
    both = [
        scoring.predict(tmp_path / name, lambda: small, tokenizer, rows, prompts, free, {})
        for name, free in (("calibrated", prompts), ("not", None))
    ]
    for line, other in zip(*both):
        assert line.keys() - other.keys() == {"calibrated"}
        assert other["score"]["logprobs"] == pytest.approx(line["score"]["logprobs"], abs=1e-4)
        assert other["generate"] == line["generate"]


@pytest.mark.parametrize(
    ("text", "option"), [(" Law\n", "Law"), ("Law.", None), ("law", None), ("", None)]
)
def test_generate_accepts_only_an_exact_option(tokenizer, text, option):
    """Which option was written is decided by ids, then by the trimmed text."""
    written = templating.encode(tokenizer, text) + [tokenizer.eos_token_id]
    follows = {tuple(written[:k]): token for k, token in enumerate(written)}
    options = ["Art", "Law"]
    generated, spelled = scoring.generate(None, tokenizer, follows, None, 0, options)
    assert spelled == option
    result = {"generated": generated, "option": spelled, "logprobs": [-2.0, -1.0], "tokens": [2, 2]}
    line = scoring.mode_predictions(result, options, [-1.0, -1.0])
    assert line["generate"]["prediction"] == option and line["score"]["prediction"] == "Law"


def written_by(tokenizer, option, options):
    """The option that `generate` finds when a model writes `option` and ends."""
    ids = templating.encode_answer(tokenizer, option)
    follows = {tuple(ids[:k]): token for k, token in enumerate(ids)}
    return scoring.generate(None, tokenizer, follows, None, 0, options)[1]


@pytest.mark.parametrize(
    "option",
    [
        "𪚥𪚥龘",  # spelled in bytes, so that its beginning decodes to half a character
        "中国特色社会主义市场经济条件下的农业现代化与乡村振兴战略研究综述及其展望",  # 25 tokens
        "A\u2028B",
    ],
)
def test_any_option_that_is_written_is_right(tokenizer, option):
    assert written_by(tokenizer, option, ["Art", option]) == option


def test_a_tokenizer_that_normalises_is_judged_by_ids(tokenizer):
    """NFKC makes two letters of ﬁ: the decoded text differs from the option, the ids agree."""

    class Normalising:
        eos_token_id = tokenizer.eos_token_id

        def __call__(self, texts, **choices):
            return tokenizer([unicodedata.normalize("NFKC", text) for text in texts], **choices)

        def decode(self, ids):
            return tokenizer.decode(ids)

    assert written_by(Normalising(), "ﬁnance", ["Art", "ﬁnance"]) == "ﬁnance"


def test_priors_are_kept_for_prompt_and_options(small, tokenizer):
    """The same content-free prompt has other priors with other options."""
    prompt, priors = [tokenizer.bos_token_id, 107, 108], {}
    pairs = [(prompt, ["Art", "Law"]), (prompt, ["Law", "Art", "Sports"])]
    scoring.add_priors(small, tokenizer, priors, pairs)
    assert len(priors) == 2
    two, three = (priors[scoring.prior_key(*pair)] for pair in pairs)
    assert two == pytest.approx([three[1], three[0]], abs=1e-3) and len(three) == 3


def test_rows_that_share_an_id_are_refused(small, tokenizer, rows, tmp_path):
    prompts = templating.fit_all(tokenizer, plain(128), rows[:2])
    twice = [row | {"id": "same"} for row in rows[:2]]
    with pytest.raises(InputError, match="same id"):
        scoring.predict(tmp_path, lambda: small, tokenizer, twice, prompts, prompts, {})


def test_line_separators_inside_a_label_do_not_split_predictions(tmp_path):
    file = tmp_path / "predictions.jsonl"
    lines = [{"id": str(i), "label": "a\u2028b\x85c"} for i in range(3)]
    files.write_jsonl(file, lines)
    with file.open("ab") as cut_off:
        cut_off.write(b'{"id": "3", "la')
    assert predictions.read_predictions(file) == lines
    assert file.read_bytes().endswith(b"}\n")


def test_what_a_crash_damaged_is_asked_again(tmp_path):
    asked = []

    def predict(places):
        asked.append(places)
        yield {place: {"answer": place} for place in places}

    rows = [{"id": str(i), "output": "a", "category": ["a"]} for i in range(3)]
    arguments = (tmp_path, rows, [[1, 2]] * 3, {"key": 1}, predict)
    lines = predictions.keep_predictions(*arguments)
    file = tmp_path / "predictions.jsonl"
    first, _, third = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + b"\0" * 9 + b'\n{"x": 1}\n' + third)
    assert predictions.keep_predictions(*arguments) == lines
    (tmp_path / "key.json").write_bytes(b"")
    assert predictions.keep_predictions(*arguments) == lines
    assert asked == [[0, 1, 2], [1], [0, 1, 2]]


def test_only_rows_that_are_new_or_asked_otherwise_are_asked(tmp_path):
    """Of more rows only the new ones are asked, and those whose label or prompt changed."""
    asked = []

    def predict(places):
        asked.append(places)
        yield {place: {"answer": len(asked)} for place in places}

    def answers(labels, prompts):
        rows = [{"id": str(i), "output": o, "category": ["a", "b"]} for i, o in enumerate(labels)]
        lines = predictions.keep_predictions(tmp_path, rows, prompts, {"key": 1}, predict)
        assert [line["label"] for line in lines] == list(labels)
        return [line["answer"] for line in lines]

    assert answers("ab", [[1], [2]]) == [1, 1]
    assert answers("abab", [[1], [2], [3], [4]]) == [1, 1, 2, 2]
    assert answers("abab", [[1], [2], [3], [5]]) == [1, 1, 2, 3]
    assert answers("bbab", [[1], [2], [3], [5]]) == [4, 1, 2, 3]
    assert answers("bb", [[1], [2]]) == [4, 1]
    assert asked == [[0, 1], [2, 3], [3], [0]]

    def interrupted(places):
        raise KeyboardInterrupt

    rows = [{"id": str(i), "output": "a", "category": ["a", "b"]} for i in range(2)]
    with pytest.raises(KeyboardInterrupt):
        predictions.keep_predictions(tmp_path, rows, [[1], [9]], {"key": 1}, interrupted)
    assert predictions.read_predictions(tmp_path / "predictions.jsonl") == []  # no stale answer


def test_what_a_model_writes_on_is_the_librarys_greedy_search(small, tokenizer, rows):
    """The library gets one prompt at a time, the scorer all at once, of different lengths."""
    prompts = [
        templating.fit(tokenizer, plain(limit), row).ids for limit, row in zip((128, 90, 160), rows)
    ]
    alone = [library_writes(small, prompt, 12) for prompt in prompts]
    assert scoring.write_on(small, tokenizer, prompts, 12) == tokenizer.batch_decode(alone)


def test_what_is_written_ends_before_the_end_token(small, tokenizer, rows):
    """This holds beside a row that goes on, and whatever generation settings the model brings."""
    prompts = [templating.fit(tokenizer, plain(90), row).ids for row in rows[:2]]
    ids = [library_writes(small, prompt, 6) for prompt in prompts]
    third = next(token for token in ids[0] if token not in ids[1])
    ends_there = SimpleNamespace(eos_token_id=third, decode=tokenizer.decode)
    first, second = scoring.write_on(small, ends_there, prompts, 6)
    assert first == tokenizer.decode(ids[0][: ids[0].index(third)])
    assert second == tokenizer.decode(ids[1])


def test_the_modes_divide_and_subtract_as_they_say():
    line = scoring.mode_predictions(
        {"generated": "", "option": None, "logprobs": [-3.0, -4.0, -5.0], "tokens": [1, 2, 2]},
        ["A", "B C", "D E"],
        [-1.0, -3.0, -1.0],
    )
    assert [line[mode]["prediction"] for mode in ("score", "normalised", "calibrated")] == [
        "A",
        "B C",
        "B C",
    ]
    assert line["normalised"]["logprobs"] == [-3.0, -2.0, -2.5] and line["calibrated"][
        "logprobs"
    ] == [-2.0, -1.0, -4.0]
