"""Scoring options against three others, side by side: `python -m benchmarks.scoring [ROWS]`.

The first is lm-evaluation-harness, on the same model, rows and threads: log-probabilities of every
option are compared in float32, and rows per second in the machine's own dtype. The second is the
loop of the study, which takes one row at a time and writes 128 new tokens. The third is the floor,
one forward pass over the same tokens and nothing else. Figures are medians of three runs in turns.
"""

import statistics
import sys
import time

import torch

from helpers import memory, models, scoring, sources, templating

STUDY_ROWS = 2


def lm_eval_scores(network, tokenizer, prompts, menus):
    """Log-probabilities by the harness's own wrapper, asked for as a multiple_choice task does."""
    from lm_eval.models.huggingface import HFLM

    wrapper = HFLM(pretrained=network, tokenizer=tokenizer, batch_size=8)
    requests, shape = [], []
    for prompt, options in zip(prompts, menus):
        for option in options:
            requests.append((("", ""), list(prompt), templating.encode_answer(tokenizer, option)))
        shape.append(len(options))
    scores = iter(score for score, _ in wrapper._loglikelihood_tokens(requests, disable_tqdm=True))
    return [[next(scores) for _ in range(count)] for count in shape]


def ours(network, tokenizer, prompts, menus):
    return [result["logprobs"] for result in scoring.ask(network, tokenizer, prompts, menus)]


@torch.inference_mode()
def study_loop(network, prompts):
    for prompt in prompts:
        network.generate(
            torch.tensor([prompt]), max_new_tokens=128, min_new_tokens=128, do_sample=False
        )


@torch.inference_mode()
def one_forward(network, prompts):
    for prompt in prompts:
        network(torch.tensor([prompt]), use_cache=False, logits_to_keep=1)


def timed(action) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def main(count: int) -> None:
    tokenizer = models.load_tokenizer(models.PACKAGED)
    rows = list(sources.read_source("sample").splits["test"])[:count]
    prompt_format = templating.PromptFormat(templating.PLAIN, 256, True)
    prompts = [prompt.ids for prompt in templating.fit_all(tokenizer, prompt_format, rows)]
    menus = [row["category"] for row in rows]
    print(f"rows: {count}\nmean_prompt_tokens: {sum(map(len, prompts)) / count:.0f}")
    print(f"threads: {torch.get_num_threads()}")
    network = models.load_model(models.PACKAGED, attention=models.pick_attention(256))
    print(f"dtype: {str(network.dtype).removeprefix('torch.')}")
    contestants = {
        "ours": lambda: ours(network, tokenizer, prompts, menus),
        "forward": lambda: one_forward(network, prompts),
        "lm_eval": lambda: lm_eval_scores(network, tokenizer, prompts[:8], menus[:8]),
        "study": lambda: study_loop(network, prompts[:STUDY_ROWS]),
    }
    share = {"ours": count, "forward": count, "lm_eval": min(8, count), "study": STUDY_ROWS}
    seconds = {name: [] for name in contestants}
    for _ in range(3):
        for name, action in contestants.items():
            seconds[name].append(timed(action) / share[name])
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in middle.items():
        low, high = min(seconds[name]), max(seconds[name])
        print(f"seconds_a_row_{name}: {value:.3f} ({low:.3f} to {high:.3f})")
    print(f"time_over_one_forward: {middle['ours'] / middle['forward']:.2f}")
    print(f"rows_per_s_vs_study_loop: {middle['study'] / middle['ours']:.1f}")
    print(f"rows_per_s_vs_lm_eval: {middle['lm_eval'] / middle['ours']:.1f}")
    exact = models.load_model(models.PACKAGED, dtype="float32")
    theirs, mine = (
        lm_eval_scores(exact, tokenizer, prompts[:4], menus[:4]),
        ours(exact, tokenizer, prompts[:4], menus[:4]),
    )
    gap = max(abs(a - b) for row, other in zip(theirs, mine) for a, b in zip(row, other))
    print(f"max_logprob_difference: {gap:.1e}")
    # The scorer's own code runs on tensors without contents, which shows what it would allocate.
    length, tree = 20_000, scoring.option_tree(tokenizer, prompts[0][-1], menus[0])

    def long_row(shapes):
        return scoring.read_trees(
            shapes, [tree], [length], length, scoring.prefill(shapes, [[0] * length], length)
        )

    dtype = str(network.dtype).removeprefix("torch.")
    needed = memory.on_shapes(network.config, long_row, dtype, models.pick_attention(length))
    floor = memory.weights_gib(network) + memory.cache_gib(network.config, length, dtype=dtype)
    print(f"peak_over_weights_and_cache_at_20000_tokens: {needed / floor:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 32)
