"""Ask a model for answers, by free generation and by scoring the options; judge them; a linear baseline beside them."""

import copy
import json
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from helpers import InputError
from helpers.data import write_json
from helpers.templating import Prompt, encode_answer

NEW_TOKENS = 16
"""No label of the corpus needs more; the untouched model never stops by itself."""


@torch.inference_mode()
def answer(model, tokenizer, prompt: list[int], options: list[str]) -> dict:
    """One prefill of `prompt` (token ids), then both modes from its key/value cache.

    Returns "generated" (greedy text, stopped at the end token or once no option begins with it) and "logprobs" (nats, of
    each option with its end token, in order). Raises InputError when the model returns NaN.
    """
    device = model.device
    out = model(torch.tensor([prompt], device=device), use_cache=True, logits_to_keep=1)
    first = out.logits[0, -1].float().log_softmax(-1)
    if torch.isnan(first).any():
        raise InputError("the model returned NaN; try dtype float32, or train again with a lower learning rate")
    tokens = [encode_answer(tokenizer, option) for option in options]
    scores = first[[ids[0] for ids in tokens]].cpu()
    width = max(map(len, tokens)) - 1
    feed = torch.tensor([ids[:-1] + [tokenizer.eos_token_id] * (width - len(ids) + 1) for ids in tokens], device=device)
    cache = copy.deepcopy(out.past_key_values)
    cache.batch_repeat_interleave(len(options))
    logits = model(feed, past_key_values=cache, use_cache=True).logits
    follows = {(): first.argmax().item()}  # the likeliest token after each beginning of an option: greedy steps that cost nothing
    for i, ids in enumerate(tokens):
        steps = logits[i, : len(ids) - 1].float().log_softmax(-1)
        scores[i] += steps.gather(1, torch.tensor(ids[1:], device=device)[:, None]).sum().cpu()
        follows |= {tuple(ids[: k + 1]): token for k, token in enumerate(steps.argmax(-1).tolist())}
    return {"generated": generate(model, tokenizer, follows, out.past_key_values, options), "logprobs": scores.tolist()}


def generate(model, tokenizer, follows: dict[tuple, int], cache, options: list[str]) -> str:
    """Greedy text given the prompt's cache; see `answer` for where it stops.

    follows: the next token after the token sequences for which it is known, the empty one among them; the model is asked for others.
    """
    produced: list[int] = []
    fed = 0
    while True:
        if tuple(produced) in follows:
            token = follows[tuple(produced)]
        else:
            feed = torch.tensor([produced[fed:]], device=model.device)
            token = model(feed, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0, -1].argmax().item()
            fed = len(produced)
        if token == tokenizer.eos_token_id:
            break
        produced.append(token)
        text = tokenizer.decode(produced).strip()
        if len(produced) == NEW_TOKENS or not any(option.startswith(text) for option in options):
            break
    return tokenizer.decode(produced)


def predict(folder: Path, load, tokenizer, rows: list[dict], prompts: list[Prompt], key: dict) -> list[dict]:
    """Answers for `rows`, one line each in folder/predictions.jsonl; what is there already for the same inputs is kept.

    load: called for the model only when a row is missing. prompts: see templating.fit_all. key: what the answers depend on
    beside prompts and options (the model, its adapter, its precision); when anything of it changes, all are made anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, key_file = folder / "predictions.jsonl", folder / "key.json"
    inputs = [Path(__file__).read_text(encoding="utf-8"), [(row["id"], row["category"], p.ids) for row, p in zip(rows, prompts)]]
    key = key | {"inputs": sha256(json.dumps(inputs).encode()).hexdigest()}
    if not key_file.is_file() or json.loads(key_file.read_text()) != key:
        file.unlink(missing_ok=True)
        write_json(key_file, key)
    done = read_predictions(file) if file.is_file() else []
    if len(done) == len(rows):
        return done
    model, missing = load(), list(zip(rows, prompts))[len(done) :]
    with file.open("a", encoding="utf-8") as output:
        for row, prompt in tqdm(missing, desc=folder.name, unit="row", mininterval=2):
            started = time.perf_counter()
            result = answer(model, tokenizer, prompt.ids, row["category"])
            line = {"id": row["id"], "label": row["output"], "options": row["category"], "tokens": len(prompt.ids)}
            line |= judge(result, row["category"]) | {"seconds": round(time.perf_counter() - started, 4)}
            output.write(json.dumps(line, ensure_ascii=False) + "\n")
            output.flush()
    return read_predictions(file)


def judge(result: dict, options: list[str]) -> dict:
    """The prediction of each mode: `generate` is None unless the trimmed text is exactly one of the options."""
    text = result["generated"].strip()
    return {
        "generate": {"prediction": text if text in options else None, "text": text},
        "score": {"prediction": options[int(np.argmax(result["logprobs"]))], "logprobs": result["logprobs"]},
    }


def read_predictions(file: Path) -> list[dict]:
    """The whole lines of a predictions file; a last line that was cut off by an interruption is removed from it."""
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def accuracy(correct) -> dict:
    """Share of true values with its 95 % Wilson interval: {"accuracy", "ci95": [low, high], "n"}."""
    from statsmodels.stats.proportion import proportion_confint

    correct = np.asarray(correct, dtype=bool)
    low, high = proportion_confint(int(correct.sum()), len(correct), method="wilson")
    return {"accuracy": float(correct.mean()), "ci95": [float(low), float(high)], "n": len(correct)}


def correct(predictions: list[dict], mode: str) -> np.ndarray:
    """Which rows `mode` ("generate" or "score") got right."""
    return np.array([line[mode]["prediction"] == line["label"] for line in predictions])


def mcnemar_p(first, second) -> float:
    """Exact two-sided McNemar p for two settings judged on the same rows (arrays of right/wrong)."""
    from statsmodels.stats.contingency_tables import mcnemar

    first, second = np.asarray(first, bool), np.asarray(second, bool)
    table = [[int((a & b).sum()) for b in (second, ~second)] for a in (first, ~first)]
    return float(mcnemar(table, exact=True).pvalue)
