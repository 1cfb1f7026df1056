"""Ask a model for answers, by free generation and by scoring the options, and judge them."""

import json
import time
from bisect import bisect_right
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm
from transformers import DynamicCache

from helpers import InputError
from helpers.files import write_json, write_jsonl
from helpers.templating import Prompt, encode_answer

NEW_TOKENS = 16
"""No label of the corpus needs more; the untouched model never stops by itself."""
CHUNK = 1024
"""Tokens of a prompt that are read at once: bounds the memory of a long one."""
MODES = ("generate", "score", "normalised", "calibrated")
CODE = Path(__file__).read_text(encoding="utf-8")
"""This file as it was loaded: answers depend on it, too."""


class Tree(NamedTuple):
    """The options of one row as a tree of token ids; node 0 is the prompt's last token, so every
    option's first step starts there.
    """

    tokens: list[int]
    parents: list[int]
    depths: list[int]
    steps: list[list[tuple[int, int]]]
    """For each option, in order: the node after which each of its tokens comes, and that token; the
    end token is the last.
    """
    places: dict[tuple[int, ...], int]
    """The node that each beginning of an option ends in, the empty one among them."""


def option_tree(tokenizer, last: int, options: list[str]) -> Tree:
    """The tree of `options` behind a prompt that ends in the token `last`."""
    tree = Tree([last], [-1], [0], [], {(): 0})
    for ids in (encode_answer(tokenizer, option) for option in options):
        steps = []
        for k, token in enumerate(ids):
            steps.append((tree.places[tuple(ids[:k])], token))
            if k < len(ids) - 1 and tuple(ids[: k + 1]) not in tree.places:
                tree.places[tuple(ids[: k + 1])] = len(tree.tokens)
                tree.tokens.append(token)
                tree.parents.append(steps[-1][0])
                tree.depths.append(k + 1)
        tree.steps.append(steps)
    return tree


@torch.inference_mode()
def answers(model, tokenizer, prompts: list[list[int]], menus: list[list[str]]) -> list[dict]:
    """Both modes for each prompt (token ids) and its options: one prefill a batch, then one pass
    over the trees of options.

    The prompts are padded on the right, where causal attention never looks; the trees read each its
    own prompt's keys and values and share them between options. Returns for each prompt "generated"
    (greedy text, stopped at the end token or once no option begins with it), "logprobs" (nats, of
    each option with its end token, in order) and "tokens" (of each option, end token included).
    Raises InputError when the model returns NaN.
    """
    width = max(map(len, prompts)) - 1
    cache = prefill(model, [prompt[:-1] for prompt in prompts], width)
    trees = [option_tree(tokenizer, prompt[-1], options) for prompt, options in zip(prompts, menus)]
    lengths = [len(prompt) - 1 for prompt in prompts]
    logits = read_trees(model, trees, lengths, width, cache)
    results = []
    for i, (tree, options) in enumerate(zip(trees, menus)):
        nodes = logits[i, : len(tree.tokens)].float()
        total = nodes.logsumexp(-1)
        if torch.isnan(total).any():
            raise InputError(
                "the model returned NaN; try dtype float32, or train again with a lower learning rate"
            )
        where, what = (
            torch.tensor(
                [step[part] for steps in tree.steps for step in steps], device=nodes.device
            )
            for part in (0, 1)
        )
        parts = (nodes[where, what] - total[where]).split([len(steps) for steps in tree.steps])
        best = nodes.argmax(-1).tolist()
        follows = {beginning: best[node] for beginning, node in tree.places.items()}
        text = generate(
            model,
            tokenizer,
            follows,
            lambda i=i: one_row(cache, i, lengths[i]),
            prompts[i][-1],
            options,
        )
        logprobs = [part.sum().item() for part in parts]
        results.append(
            {
                "generated": text,
                "logprobs": logprobs,
                "tokens": [len(steps) for steps in tree.steps],
            }
        )
    return results


def prefill(model, prompts: list[list[int]], width: int) -> DynamicCache:
    """Keys and values of `prompts`, padded on the right to `width`, read CHUNK tokens at a time; no
    logits are computed.
    """
    # without the config, so that layers with a sliding window keep all: the trees' masks cut the
    # window
    cache = DynamicCache()
    ids = torch.tensor(
        [prompt + [0] * (width - len(prompt)) for prompt in prompts], device=model.device
    )
    for start in range(0, width, CHUNK):
        part = ids[:, start : start + CHUNK]
        position = torch.arange(start, start + part.shape[1], device=model.device)[None]
        model.base_model(part, position_ids=position, past_key_values=cache, use_cache=True)
    return cache


def read_trees(
    model, trees: list[Tree], lengths: list[int], width: int, cache: DynamicCache
) -> torch.Tensor:
    """Logits (batch × nodes × vocabulary) after every node of every tree; the cache is as before
    when this returns.

    lengths: tokens of each prompt that are in the cache. width: tokens of the cache.
    """
    size, device = max(len(tree.tokens) for tree in trees), model.device
    tokens, depths = (torch.zeros(len(trees), size, dtype=torch.long) for _ in range(2))
    related = torch.eye(size, dtype=torch.bool).repeat(
        len(trees), 1, 1
    )  # a node sees itself and the nodes above it
    for i, tree in enumerate(trees):
        tokens[i, : len(tree.tokens)], depths[i, : len(tree.tokens)] = (
            torch.tensor(tree.tokens),
            torch.tensor(tree.depths),
        )
        for node, parent in enumerate(tree.parents):
            related[i, node] |= related[i, parent] if parent >= 0 else False
    ends = torch.tensor(lengths)[:, None]
    positions = ends + depths
    keys = torch.cat([torch.arange(width).expand(len(trees), -1), positions], dim=1)
    seen = torch.cat([(torch.arange(width) < ends)[:, None].expand(-1, size, -1), related], dim=2)
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    near = seen if window is None else seen & (positions[:, :, None] - keys[:, None] < window)
    masks = [
        torch.zeros(m.shape, dtype=model.dtype)
        .masked_fill(~m, torch.finfo(model.dtype).min)[:, None]
        .to(device)
        for m in (seen, near)
    ]
    kinds = (
        {"full_attention": masks[0], "sliding_attention": masks[1]}
        if getattr(config, "layer_types", None)
        else masks[0]
    )
    inputs = {
        "attention_mask": kinds,
        "position_ids": positions.to(device),
        "past_key_values": cache,
        "use_cache": True,
    }
    logits = model(tokens.to(device), **inputs).logits
    cache.crop(-size)
    return logits


def one_row(cache: DynamicCache, i: int, length: int) -> DynamicCache:
    """The first `length` keys and values of row `i`, as a cache of their own."""
    row = DynamicCache()
    for layer, content in enumerate(cache.layers):
        row.update(
            content.keys[i : i + 1, :, :length], content.values[i : i + 1, :, :length], layer
        )
    return row


def generate(
    model, tokenizer, follows: dict[tuple, int], cache, last: int, options: list[str]
) -> str:
    """Greedy text behind a prompt; see `answers` for where it stops.

    follows: the next token after the token sequences for which it is known, the empty one among
    them. For others the model is asked: cache() gives the prompt's keys and values but for its last
    token, `last`.
    """
    produced: list[int] = []
    state, fed = None, 0
    while True:
        if tuple(produced) in follows:
            token = follows[tuple(produced)]
        else:
            state = state or cache()
            feed = torch.tensor([[last, *produced][fed:]], device=model.device)
            token = (
                model(feed, past_key_values=state, use_cache=True, logits_to_keep=1)
                .logits[0, -1]
                .argmax()
                .item()
            )
            fed = len(produced) + 1
        if token == tokenizer.eos_token_id:
            break
        produced.append(token)
        text = tokenizer.decode(produced).strip()
        if len(produced) == NEW_TOKENS or not any(option.startswith(text) for option in options):
            break
    return tokenizer.decode(produced)


def answer_all(
    model, tokenizer, prompts: list[list[int]], menus: list[list[str]], tokens_at_once: int = 4096
):
    """`answers` in batches of prompts of like length; yields the places of a batch, its results and
    its seconds.

    tokens_at_once: most tokens in a batch. A batch that does not fit in memory is halved, and so
    are those after it. Raises InputError when a single prompt does not fit.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    while order:
        size = max(
            1,
            bisect_right(
                range(1, len(order) + 1),
                tokens_at_once,
                key=lambda n: n * len(prompts[order[n - 1]]),
            ),
        )
        batch, started = order[:size], time.perf_counter()
        try:
            results = answers(
                model, tokenizer, [prompts[i] for i in batch], [menus[i] for i in batch]
            )
        except (
            RuntimeError
        ) as error:  # torch's OutOfMemoryError is one; on a CPU there is no class of its own
            if "memory" not in str(error):
                raise
            if size == 1:
                raise InputError(
                    f"a prompt of {len(prompts[batch[0]])} tokens does not fit in memory; lower max_length"
                ) from None
            tokens_at_once = size * len(prompts[batch[-1]]) // 2
            continue
        yield batch, results, time.perf_counter() - started
        order = order[size:]


def answer_each(model, tokenizer, prompts: list[list[int]], menus: list[list[str]]) -> list[dict]:
    """`answers` for all prompts, in their order; see `answer_all` for the batches."""
    found = {}
    for batch, results, _ in answer_all(model, tokenizer, prompts, menus):
        found |= dict(zip(batch, results))
    return [found[i] for i in range(len(prompts))]


def predict(
    folder: Path,
    load,
    tokenizer,
    rows: list[dict],
    prompts: list[Prompt],
    free: list[Prompt],
    key: dict,
) -> list[dict]:
    """Answers for `rows` in their order, one line each in folder/predictions.jsonl; what is there
    already for the same inputs is kept.

    load: called for the model only when a row is missing. prompts: see templating.fit_all. free:
    the prompts with a content-free article, for calibration. key: what the answers depend on beside
    prompts and options (the model, its adapter, its precision); when anything of it changes, all
    are made anew. A line: id, label, options, tokens (of the prompt), seconds, and what `judge`
    returns. Raises InputError when the disk is full; what was written is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, key_file = folder / "predictions.jsonl", folder / "key.json"
    asked = [
        (row["id"], row["category"], prompt.ids, prior.ids)
        for row, prompt, prior in zip(rows, prompts, free)
    ]
    key = key | {"inputs": sha256(json.dumps([CODE, asked]).encode()).hexdigest()}
    if not key_file.is_file() or json.loads(key_file.read_text()) != key:
        file.unlink(missing_ok=True)
        write_json(key_file, key)
    done = {line["id"]: line for line in read_predictions(file)} if file.is_file() else {}
    missing = [i for i, row in enumerate(rows) if row["id"] not in done]
    if missing:
        model, priors = load(), {}
        try:
            with (
                file.open("a", encoding="utf-8") as output,
                tqdm(total=len(missing), desc=folder.name, unit="row", mininterval=2) as bar,
            ):
                menus = [rows[i]["category"] for i in missing]
                for batch, results, seconds in answer_all(
                    model, tokenizer, [prompts[i].ids for i in missing], menus
                ):
                    places = [missing[i] for i in batch]
                    calibrate(
                        model,
                        tokenizer,
                        priors,
                        [(free[i].ids, rows[i]["category"]) for i in places],
                    )
                    for i, result in zip(places, results):
                        row = rows[i]
                        line = {
                            "id": row["id"],
                            "label": row["output"],
                            "options": row["category"],
                            "tokens": len(prompts[i].ids),
                        }
                        line |= judge(result, row["category"], priors[tuple(free[i].ids)]) | {
                            "seconds": round(seconds / len(batch), 4)
                        }
                        done[row["id"]] = line
                        output.write(json.dumps(line, ensure_ascii=False) + "\n")
                    output.flush()
                    bar.update(len(batch))
        except OSError as error:
            raise InputError(
                f"{file.name} of {folder.name} could not be written ({error.strerror}); what was answered is kept"
            ) from None
    lines = [done[row["id"]] for row in rows]
    write_jsonl(file, lines)
    return lines


def calibrate(model, tokenizer, priors: dict, asked: list[tuple[list[int], list[str]]]) -> None:
    """Add to `priors` the log-probabilities of the options behind each content-free prompt that is
    not there yet.
    """
    fresh = {tuple(ids): options for ids, options in asked if tuple(ids) not in priors}
    results = answer_each(model, tokenizer, [list(ids) for ids in fresh], list(fresh.values()))
    priors |= {ids: result["logprobs"] for ids, result in zip(fresh, results)}


def judge(result: dict, options: list[str], prior: list[float]) -> dict:
    """The prediction of each mode, and what it was decided by.

    generate: None unless the trimmed text is exactly one of the options. score: the largest
    log-probability. normalised: the largest per token, end token included. calibrated: the largest
    after subtracting `prior`, the log-probabilities behind a content-free article (Zhao et al.
    2021).
    """
    text, scores = result["generated"].strip(), np.array(result["logprobs"])
    by = {"score": scores, "normalised": scores / result["tokens"], "calibrated": scores - prior}
    judged = {
        mode: {"prediction": options[int(np.argmax(values))], "logprobs": values.tolist()}
        for mode, values in by.items()
    }
    return {"generate": {"prediction": text if text in options else None, "text": text}} | judged


def read_predictions(file: Path) -> list[dict]:
    """The whole lines of a predictions file; a last line that was cut off by an interruption is
    removed from it.
    """
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]
