"""Memory and time of exploring a large corpus: `python -m benchmarks.exploring [ROWS]`.

There are 100,000 rows by default, over 1 GB. It writes a corpus of that size to a scratch folder
and runs on it what notebook 01 runs. It prints seconds and the peak of the process's own memory,
that is, of its anonymous pages. The memory-mapped rows are reported apart, because the kernel can
drop them at any time.
"""

import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from helpers import corpus, duplicates, files, models, sources, splits


def write_corpus(path: Path, rows: int) -> None:
    """Write `rows` articles of about 4,300 characters, shuffled pieces of the packaged sample."""
    rng = random.Random(0)
    sample = sources.read_source("sample").splits["train"]
    pieces = [text[i : i + 120] for text in sample["text"] for i in range(0, len(text) - 120, 120)]
    menus = list(zip(sample["category"], sample["output"]))

    def article(i: int) -> dict:
        category, output = rng.choice(menus)
        return {
            "text": f"{i}" + "".join(rng.choices(pieces, k=36)),
            "category": category,
            "output": output,
        }

    files.write_jsonl(path, (article(i) for i in range(rows)))


def watch(peak: dict[str, int], stop: threading.Event) -> None:
    """Note the largest RssAnon and RssFile of this process, in KiB, until told to stop."""
    while not stop.wait(0.2):
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("RssAnon", "RssFile"):
                peak[name] = max(peak.get(name, 0), int(value.split()[0]))


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_corpus(path, count)
        print(f"rows: {count}\ngigabytes: {path.stat().st_size / 1e9:.2f}", flush=True)
        peak, stop, started = {}, threading.Event(), time.perf_counter()
        threading.Thread(target=watch, args=(peak, stop), daemon=True).start()
        tokenizer = models.load_tokenizer(models.PACKAGED)
        steps = {"tokenizer": time.perf_counter()}
        rows = sources.read_source(str(path)).splits["train"]
        steps["read_and_check"] = time.perf_counter()
        clusters = duplicates.near_duplicate_clusters(corpus.texts(rows))
        duplicates.digests(corpus.texts(rows))
        steps["copies"] = time.perf_counter()
        corpus.measure(tokenizer, rows, True)
        steps["lengths"] = time.perf_counter()
        made = splits.make_splits(
            ["train"] * len(rows), list(rows["output"]), clusters, 0.1, 0.3, {}, 42
        )
        for name, chosen in made.items():
            files.write_jsonl(Path(folder) / f"{name}.jsonl", rows.select(chosen))
        steps["splits"] = time.perf_counter()
        stop.set()
        for name, moment in steps.items():
            print(f"seconds_{name}: {moment - started:.0f}")
            started = moment
        print(f"peak_own_gib: {peak['RssAnon'] / 2**20:.2f}")
        print(f"peak_mapped_gib: {peak['RssFile'] / 2**20:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
