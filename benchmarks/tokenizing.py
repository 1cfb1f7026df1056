"""Assembling and cutting prompts against the tokenizer: `python -m benchmarks.tokenizing [SOURCE]`.

The floor is a single tokenisation of all the same texts, which are the whole articles with template
and options around them; nothing is cut. It prints the median of seven alternating runs.
"""

import statistics
import sys
import time

from helpers import models, sources, templating


def main(source: str) -> None:
    tokenizer = models.load_tokenizer(models.PACKAGED)
    rows = list(sources.read_source(source).splits["train"])
    texts = [templating.render(templating.EDITOR, row["text"], row["category"]) for row in rows]
    print(f"rows: {len(rows)}")
    for max_length in (256, 2048, 8192):
        ratios = []
        for _ in range(7):
            started = time.perf_counter()
            templating.tokenize(tokenizer, texts)["input_ids"]
            middle = time.perf_counter()
            prompt_format = templating.PromptFormat(templating.EDITOR, max_length, True)
            templating.fit_all(tokenizer, prompt_format, rows)
            ratios.append((middle - started) / (time.perf_counter() - middle))
        share = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"share_of_tokenizer_throughput_{max_length}: {share}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "sample")
