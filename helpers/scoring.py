"""Ask a model for answers, by free generation and by scoring the options, and judge them."""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm
from transformers import DynamicCache, GenerationConfig

from helpers import InputError, budgets
from helpers.models import NO_NUMBERS
from helpers.predictions import keep_predictions
from helpers.templating import Prompt, encode, encode_answer

SPARE_TOKENS = 4
"""How many tokens beyond the longest option may be written: a model may spell an option in other
tokens.
"""
CHUNK = 1024
"""How many tokens of a prompt are read at once, which bounds the memory that a long one needs."""
WORTH_SHARING = 16
"""How many tokens all prompts of a batch must begin with, so that these are read once for all. With
fewer it does not pay: attention then needs a mask for the rest, which costs more than a few tokens.
"""
MODES = ("generate", "score", "normalised", "calibrated")
CODE = sha256(Path(__file__).read_bytes()).hexdigest()
"""A digest of this file as it was loaded. Answers that were kept are asked anew when it changes."""


class Tree(NamedTuple):
    """The options of one row as a tree of token ids.

    Node 0 is the prompt's last token, so that every option's first step starts there.
    """

    tokens: list[int]
    parents: list[int]
    depths: list[int]
    steps: list[list[tuple[int, int]]]
    """For each option its tokens, the end token last, each with the node that it follows."""
    places: dict[tuple[int, ...], int]
    """By each beginning of an option, also the empty one, the node in which it ends."""


def option_tree(tokenizer, last: int, options: list[str]) -> Tree:
    """The tree of a row's options.

    Args:
        tokenizer: a fast tokenizer of transformers.
        last: the prompt's last token id.
        options: of the row, in its order.
    """
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


def most_nodes(tokenizer, menus: list[list[str]]) -> int:
    """Nodes of the largest tree that `option_tree` makes of menus.

    Args:
        tokenizer: of the model.
        menus: options of each row.
    """
    ids = {option: encode(tokenizer, option) for option in set().union(*menus)}
    sizes = [
        len({tuple(ids[option][:k]) for option in menu for k in range(1, len(ids[option]) + 1)})
        for menu in menus
    ]
    return 1 + max(sizes, default=0)


@torch.inference_mode()
def ask_batch(model, tokenizer, prompts: list[list[int]], menus: list[list[str]]) -> list[dict]:
    """Answers to a batch, written and scored: one prefill, then one pass over the trees of options.

    The prompts are padded on the right, where causal attention never looks. Each tree reads the
    keys and values of its own prompt, which its options share.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        tokenizer: its tokenizer.
        prompts: token ids of each prompt.
        menus: options of each prompt.

    Returns:
        For each prompt "generated" (greedy text, see `generate`), "option" (the one that it spells,
        or None), "logprobs" (nats of each option with its end token, in order) and "tokens" (how
        many each option has, end token included).

    Raises:
        InputError: when the model returns NaN or infinity.
    """
    width = max(map(len, prompts)) - 1
    cache = prefill(model, [prompt[:-1] for prompt in prompts], width)
    trees = [option_tree(tokenizer, prompt[-1], options) for prompt, options in zip(prompts, menus)]
    lengths = [len(prompt) - 1 for prompt in prompts]
    logits = read_trees(model, trees, lengths, width, cache)  # batch × nodes × vocabulary
    results = []
    for i, (tree, options) in enumerate(zip(trees, menus)):
        nodes = logits[i, : len(tree.tokens)].float()  # nodes × vocabulary
        total = nodes.logsumexp(-1)
        if not total.isfinite().all():
            raise InputError(NO_NUMBERS)
        steps = torch.tensor([step for path in tree.steps for step in path], device=nodes.device)
        where, what = steps.T  # one entry for each token of each option
        sizes = [len(path) for path in tree.steps]
        parts = (nodes[where, what] - total[where]).split(sizes)
        best = nodes.argmax(-1).tolist()
        follows = {beginning: best[node] for beginning, node in tree.places.items()}
        row_cache = partial(one_row, cache, i, lengths[i])  # a copy, made only if it is needed
        text, option = generate(model, tokenizer, follows, row_cache, prompts[i][-1], options)
        logprobs = [part.sum().item() for part in parts]
        results.append({"generated": text, "option": option, "logprobs": logprobs, "tokens": sizes})
    return results


def prefill(model, prompts: list[list[int]], width: int) -> DynamicCache:
    """Keys and values of prompts, read CHUNK tokens at a time; no logits are computed.

    What all of them begin with, such as a template's instruction, is read once.

    Args:
        model: a causal language model.
        prompts: token ids, padded here on the right.
        width: tokens of the longest.
    """
    # Made without the config, so that layers with a sliding window keep all tokens; the masks of
    # the trees cut them.
    cache = DynamicCache()
    padded = [prompt + [0] * (width - len(prompt)) for prompt in prompts]
    ids = torch.tensor(padded, device=model.device)  # batch × width

    def read(rows: torch.Tensor, first: int, end: int) -> None:
        for start in range(first, end, CHUNK):
            stop = min(start + CHUNK, end)
            position = torch.arange(start, stop, device=model.device)[None]
            part = rows[:, start:stop]
            model.base_model(part, position_ids=position, past_key_values=cache, use_cache=True)

    alike = [len(set(tokens)) == 1 for tokens in zip(*prompts)]
    shared = [*alike, False].index(False) if len(prompts) > 1 else 0
    with without_last_mlp(model):
        if shared >= WORTH_SHARING:
            read(ids[:1], 0, shared)
            cache.batch_repeat_interleave(len(prompts))
        else:
            shared = 0
        read(ids, shared, width)
    return cache


@contextmanager
def without_last_mlp(model) -> Iterator[None]:
    """Skip the last layer's MLP while only keys and values are wanted: nothing reads its output.

    Args:
        model: a causal language model. One whose layers have other names stays as it is.
    """
    layers = getattr(model.base_model, "layers", None)
    mlp = getattr(layers[-1], "mlp", None) if layers is not None else None
    if mlp is None or "forward" in vars(mlp):
        yield
        return
    mlp.forward = lambda hidden: hidden
    try:
        yield
    finally:
        del mlp.forward


def read_trees(
    model, trees: list[Tree], lengths: list[int], width: int, cache: DynamicCache
) -> torch.Tensor:
    """Logits after every node of every tree; it leaves the cache as it was.

    Args:
        model: a causal language model.
        trees: one a prompt.
        lengths: tokens of each prompt that are in the cache.
        width: tokens of the cache.

    Returns:
        batch × nodes × vocabulary; behind a tree's own nodes stands padding.
    """
    size, device = max(len(tree.tokens) for tree in trees), model.device
    tokens, depths = (torch.zeros(len(trees), size, dtype=torch.long) for _ in range(2))
    # batch × nodes × nodes: a node sees itself and the nodes above it
    related = torch.eye(size, dtype=torch.bool).repeat(len(trees), 1, 1)
    for i, tree in enumerate(trees):
        tokens[i, : len(tree.tokens)] = torch.tensor(tree.tokens)
        depths[i, : len(tree.tokens)] = torch.tensor(tree.depths)
        for node, parent in enumerate(tree.parents):
            related[i, node] |= related[i, parent] if parent >= 0 else False
    ends = torch.tensor(lengths)[:, None]  # batch × 1
    positions = ends + depths  # batch × nodes
    keys = torch.cat([torch.arange(width).expand(len(trees), -1), positions], dim=1)
    prompt_part = (torch.arange(width) < ends)[:, None].expand(-1, size, -1)
    visible = torch.cat([prompt_part, related], dim=2)  # batch × nodes × (width + nodes)
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    near = visible
    if window is not None:
        near = visible & (positions[:, :, None] - keys[:, None] < window)
    lowest = torch.finfo(model.dtype).min
    masks = [
        torch.zeros(mask.shape, dtype=model.dtype).masked_fill(~mask, lowest)[:, None].to(device)
        for mask in (visible, near)
    ]
    layered = getattr(config, "layer_types", None)
    by_kind = {"full_attention": masks[0], "sliding_attention": masks[1]}
    logits = model(
        tokens.to(device),
        attention_mask=by_kind if layered else masks[0],
        position_ids=positions.to(device),
        past_key_values=cache,
        use_cache=True,
    ).logits
    cache.crop(-size)
    return logits


def one_row(cache: DynamicCache, i: int, length: int) -> DynamicCache:
    """The first `length` keys and values of row `i`, as a cache of their own."""
    row = DynamicCache()
    for layer, content in enumerate(cache.layers):
        # batch × heads × tokens × head size
        row.update(
            content.keys[i : i + 1, :, :length], content.values[i : i + 1, :, :length], layer
        )
    return row


def generate(
    model,
    tokenizer,
    follows: dict[tuple, int],
    cache: Callable[[], DynamicCache],
    last: int,
    options: list[str],
) -> tuple[str, str | None]:
    """Greedy text behind a prompt, and the option that it spells.

    Writing ends with the end token, as soon as no option begins with what is written, or a few
    tokens beyond the longest option. Token ids decide first, for decoded text may mislead: a
    tokenizer may spell a label in bytes, so that its beginning is half a character, or decode it to
    another text than it was given.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        follows: the next token by the tokens written so far, where it is known already.
        cache: gives the keys and values of the prompt without its last token.
        last: the prompt's last token.
        options: what may be written.
    """
    spelled = {tuple(encode(tokenizer, option)): option for option in options}
    # also options as the model would write them, for a tokenizer may normalise what it encodes
    texts = {tokenizer.decode(ids).strip(): option for ids, option in spelled.items()}
    texts |= {option: option for option in options}
    limit = max(map(len, spelled)) + SPARE_TOKENS
    written: list[int] = []
    state, fed = None, 0
    while True:
        if tuple(written) in follows:
            token = follows[tuple(written)]
        else:
            state = state or cache()
            feed = torch.tensor([[last, *written][fed:]], device=model.device)
            output = model(feed, past_key_values=state, use_cache=True, logits_to_keep=1)
            token = output.logits[0, -1].argmax().item()
            fed = len(written) + 1
        if token == tokenizer.eos_token_id:
            break
        written.append(token)
        if len(written) == limit:
            break
        if tuple(written) not in follows:
            # the last character may still lack bytes; the decoder shows it as U+FFFD
            text = tokenizer.decode(written).rstrip("\ufffd").strip()
            if not any(option.startswith(text) for option in texts):
                break
    text = tokenizer.decode(written)
    return text, spelled.get(tuple(written)) or texts.get(text.strip())


def write_on(model, tokenizer, prompts: list[list[int]], new_tokens: int = 40) -> list[str]:
    """What the model writes behind prompts, greedily, even if it is no answer.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompts: token ids of each prompt.
        new_tokens: most tokens to write; the end token ends it sooner.
    """
    width, end = max(map(len, prompts)), tokenizer.eos_token_id
    greedy = GenerationConfig(
        max_new_tokens=new_tokens, do_sample=False, eos_token_id=end, pad_token_id=end
    )
    texts, size = [], max(1, budgets.tokens_at_once(model, width) // width)
    starts = range(0, len(prompts), size)
    bar = tqdm(total=len(starts) * new_tokens, desc="writing", unit="token", mininterval=2, delay=5)

    def count(ids, _, **choices):  # called after each token: which rows are to end here? none
        bar.update()
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    for start in starts:
        batch = prompts[start : start + size]
        # padded on the left: what is written follows each prompt's last token
        ids = [[end] * (width - len(prompt)) + prompt for prompt in batch]
        seen = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in batch]
        ids, seen = (torch.tensor(part, device=model.device) for part in (ids, seen))
        written = model.generate(
            ids, attention_mask=seen, generation_config=greedy, stopping_criteria=[count]
        )[:, width:]
        for line in written.tolist():
            texts.append(tokenizer.decode(line[: line.index(end)] if end in line else line))
    bar.close()
    return texts


def ask_in_batches(
    model,
    tokenizer,
    prompts: list[list[int]],
    menus: list[list[str]],
    tokens_at_once: int | None = None,
) -> Iterator[tuple[list[int], list[dict], float]]:
    """`ask_batch` over prompts of like length; a batch too large for memory is halved.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompts: token ids of each prompt.
        menus: options of each prompt.
        tokens_at_once: most tokens in a batch; by default what fits (see budgets.tokens_at_once).

    Yields:
        The places of a batch among the prompts, its results, and its seconds.

    Raises:
        InputError: when a single prompt does not fit in memory.
    """
    # by length, and among rows of one length by the number of options, so that little is padded
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), len(menus[i])))
    if tokens_at_once is None and prompts:
        nodes = most_nodes(tokenizer, menus)
        tokens_at_once = budgets.tokens_at_once(model, len(prompts[order[-1]]), nodes)
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
            results = ask_batch(
                model, tokenizer, [prompts[i] for i in batch], [menus[i] for i in batch]
            )
        except RuntimeError as error:  # a GPU raises OutOfMemoryError, a CPU no class of its own
            if "memory" not in str(error):
                raise
            if size == 1:
                raise InputError(
                    f"a prompt of {len(prompts[batch[0]])} tokens does not fit in memory; "
                    f"lower max_length, or offer fewer options than {len(menus[batch[0]])}"
                ) from None
            tokens_at_once = size * len(prompts[batch[-1]]) // 2
            continue
        yield batch, results, time.perf_counter() - started
        order = order[size:]


def ask(model, tokenizer, prompts: list[list[int]], menus: list[list[str]]) -> list[dict]:
    """`ask_batch` for any number of prompts, in their order; see `ask_in_batches`."""
    results: dict[int, dict] = {}
    with tqdm(total=len(prompts), desc="asking", unit="row", mininterval=2, delay=5) as bar:
        for places, batch, _ in ask_in_batches(model, tokenizer, prompts, menus):
            results |= dict(zip(places, batch))
            bar.update(len(batch))
    return [results[i] for i in range(len(prompts))]


def predict(
    folder: Path,
    load: Callable,
    tokenizer,
    rows: list[dict],
    prompts: list[Prompt],
    free: list[Prompt] | None,
    key: dict,
) -> list[dict]:
    """Answers for rows in their order; those made before from the same inputs are read back.

    Args:
        folder: gets predictions.jsonl, a line a row, and key.json.
        load: gives the model; called only when a row is missing.
        tokenizer: its tokenizer.
        rows: with ids of their own.
        prompts: of the rows; see templating.fit_all.
        free: the rows' prompts with a content-free article, for calibration; None leaves
            "calibrated" out.
        key: what answers depend on beside prompts and options (the model, its adapter, its
            precision). When any of it changes, all rows are asked anew.

    Returns:
        For each row id, source_id, label, options, tokens (of the prompt), seconds, and what
        `mode_predictions` returns.

    Raises:
        InputError: when two rows share an id; when the disk is full (what was written is kept).
    """
    inputs = [
        [prompt.ids, without_content.ids if without_content else None]
        for prompt, without_content in zip(prompts, free or [None] * len(prompts))
    ]

    def ask_missing(missing: list[int]) -> Iterator[dict[int, dict]]:
        model, priors = load(), {}
        ids, menus = [prompts[i].ids for i in missing], [rows[i]["category"] for i in missing]
        for batch, results, seconds in ask_in_batches(model, tokenizer, ids, menus):
            places, answers = [missing[i] for i in batch], {}
            if free:
                pairs = [(free[i].ids, rows[i]["category"]) for i in places]
                add_priors(model, tokenizer, priors, pairs)
            for i, result in zip(places, results):
                prior = priors[prior_key(free[i].ids, rows[i]["category"])] if free else None
                judged = mode_predictions(result, rows[i]["category"], prior)
                share = {"seconds": round(seconds / len(batch), 4)}
                answers[i] = {"tokens": len(prompts[i].ids)} | judged | share
            yield answers

    return keep_predictions(folder, rows, inputs, key | {"code": CODE}, ask_missing)


def prior_key(ids: list[int], options: list[str]) -> tuple:
    """What answers to a content-free prompt depend on: its tokens and the row's options."""
    return tuple(ids), tuple(options)


def add_priors(
    model, tokenizer, priors: dict[tuple, list[float]], pairs: list[tuple[list[int], list[str]]]
) -> None:
    """Add the log-probabilities of options behind content-free prompts, where they are missing.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        priors: nats of each option by `prior_key`; added to.
        pairs: token ids of a content-free prompt, and options.
    """
    fresh = {prior_key(ids, options): (ids, options) for ids, options in pairs}
    fresh = {key: pair for key, pair in fresh.items() if key not in priors}
    prompts, menus = ([pair[side] for pair in fresh.values()] for side in (0, 1))
    results = ask(model, tokenizer, prompts, menus)
    priors |= {key: result["logprobs"] for key, result in zip(fresh, results)}


def mode_predictions(result: dict, options: list[str], prior: list[float] | None) -> dict:
    """The prediction of each mode, and what it was decided by.

    Args:
        result: of one row, from `ask_batch`.
        options: of the row, in its order.
        prior: nats of the options behind a content-free article; None leaves "calibrated" out.

    Returns:
        generate: the option that was written, None where it was none. score: the largest
        log-probability. normalised: the largest per token, end token included. calibrated: the
        largest once `prior` is subtracted (Zhao et al. 2021).
    """
    scores = np.array(result["logprobs"])
    by = {"score": scores, "normalised": scores / result["tokens"]}
    if prior is not None:
        by["calibrated"] = scores - prior
    judged = {
        mode: {"prediction": options[int(np.argmax(values))], "logprobs": values.tolist()}
        for mode, values in by.items()
    }
    return {"generate": {"prediction": result["option"], "text": result["generated"]}} | judged
