import numpy as np
import pytest
import torch

from helpers import InputError, baselines, scoring, templating


@pytest.fixture(scope="module")
def rows(sample):
    return sorted(sample["test"], key=lambda row: row["id"])[:4]


def test_cached_scores_equal_whole_forward_passes(base, tokenizer, rows):
    for row in rows[:2]:
        prompt = templating.fit(tokenizer, templating.PLAIN, row, 160, True).ids
        result = scoring.answer(base, tokenizer, prompt, row["category"])
        for option, score in list(zip(row["category"], result["logprobs"]))[:4]:
            ids = templating.encode_answer(tokenizer, option)
            with torch.inference_mode():
                logits = base(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            assert score == pytest.approx(logits.gather(1, torch.tensor(ids)[:, None]).sum().item(), abs=1e-3)


def test_cached_scores_hold_beyond_the_sliding_window(base, tokenizer, sample):
    row = max(sample["test"], key=lambda row: len(row["text"]))
    prompt = templating.fit(tokenizer, templating.PLAIN, row, 900, True).ids
    result = scoring.answer(base, tokenizer, prompt, row["category"])
    ids = templating.encode_answer(tokenizer, row["category"][0])
    with torch.inference_mode():
        logits = base(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    assert result["logprobs"][0] == pytest.approx(logits.gather(1, torch.tensor(ids)[:, None]).sum().item(), abs=1e-3)


def test_generation_is_the_librarys_greedy_search(base, tokenizer, rows):
    for row in rows:
        prompt = templating.fit(tokenizer, templating.PLAIN, row, 160, True).ids
        mine = scoring.answer(base, tokenizer, prompt, row["category"])["generated"]
        library = base.generate(torch.tensor([prompt]), max_new_tokens=scoring.NEW_TOKENS, do_sample=False)[0, len(prompt) :]
        assert tokenizer.decode(library).startswith(mine)


def test_generation_writes_a_label_to_its_end(base, tokenizer):
    prompt = [tokenizer.bos_token_id, *templating.encode(tokenizer, "Mon: Monday. Tue: Tuesday. Wed: Wednesday. Thu:")]
    with torch.inference_mode():
        out = base(torch.tensor([prompt]), use_cache=True)
    text = scoring.generate(base, tokenizer, {(): out.logits[0, -1].argmax().item()}, out.past_key_values, ["Thursday. Fri: Friday"])
    assert text.strip().startswith("Thursday")


def test_nan_is_refused(tokenizer):
    class Broken:
        device = "cpu"

        def __call__(self, ids, **_):
            return type("Out", (), {"logits": torch.full((1, 1, 300_000), float("nan")), "past_key_values": None})

    with pytest.raises(InputError, match="NaN"):
        scoring.answer(Broken(), tokenizer, [2, 3], ["A", "B"])


def test_an_interrupted_evaluation_goes_on(base, tokenizer, rows, tmp_path):
    prompts = templating.fit_all(tokenizer, templating.PLAIN, rows, 128, True)
    arguments = dict(tokenizer=tokenizer, rows=rows, prompts=prompts, key={"model": "x"})
    whole = scoring.predict(tmp_path / "a", lambda: base, **arguments)
    text = (tmp_path / "a" / "predictions.jsonl").read_text()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "key.json").write_text((tmp_path / "a" / "key.json").read_text())
    (tmp_path / "b" / "predictions.jsonl").write_text("\n".join(text.split("\n")[:2]) + "\n" + text.split("\n")[2][:40])
    resumed = scoring.predict(tmp_path / "b", lambda: base, **arguments)
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in lines] for lines in (whole, resumed)]
    assert timeless[0] == timeless[1]
    assert resumed[:2] == whole[:2]  # kept, not made again: even their times are the same

    def never():
        raise AssertionError("nothing was missing")

    scoring.predict(tmp_path / "b", never, **arguments)
    with pytest.raises(AssertionError, match="nothing was missing"):
        scoring.predict(tmp_path / "b", never, **(arguments | {"key": {"model": "another"}}))


def test_generate_accepts_only_an_exact_option():
    options = ["Art", "Law"]
    judged = [scoring.judge({"generated": text, "logprobs": [-2.0, -1.0]}, options) for text in (" Law\n", "Law.", "law", "")]
    assert [line["generate"]["prediction"] for line in judged] == ["Law", None, None, None]
    assert {line["score"]["prediction"] for line in judged} == {"Law"}


def test_intervals_and_tests_are_the_textbooks():
    nine_of_ten = scoring.accuracy([True] * 9 + [False])
    assert nine_of_ten["ci95"] == pytest.approx([0.596, 0.982], abs=1e-3)
    first, second = np.array([1] * 8 + [0] * 2, bool), np.array([1] * 2 + [0] * 6 + [0] * 2, bool)
    assert scoring.mcnemar_p(first, second) == pytest.approx(2 * 0.5**6)


def test_baselines_respect_the_options():
    train = [
        {"text": "足球 比赛 进球", "output": "Sports"},
        {"text": "法院 判决 诉讼", "output": "Law"},
        {"text": "油画 展览 画家", "output": "Art"},
    ] * 4
    test = [{"text": "足球 进球", "category": ["Law", "Art"]}, {"text": "法院 诉讼", "category": ["Law", "Sports"]}]
    guesses, seconds = baselines.svm_baseline(train, test)
    assert guesses[1] == "Law" and guesses[0] in ("Law", "Art") and seconds > 0
    assert baselines.majority_baseline(train + train[:1], test)[1] == "Sports"
