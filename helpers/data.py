"""What rows have in common: copies, headers, splits; and files that appear whole or not at all.

For what a row is, see helpers.sources.
"""

import json
import os
import random
import re
import warnings
import zlib
from collections import defaultdict
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from helpers import ROOT, InputError
from helpers.sources import LAYOUT, Counts, checked, read_file

SPLITS = ("train", "val", "test")


def read_rows(path: Path) -> list[dict]:
    """The checked rows of one of a run's splits, in order; ids begin with the file's name.

    Raises InputError naming file and line, or the notebook that makes the file.
    """
    need(path, "01-dataset-exploration")
    rows = list(checked(path.stem, lambda: read_file(path), LAYOUT, None, "error", Counts()))
    if not rows:
        raise InputError(f"{path} holds no rows")
    return rows


def labelled(rows: Iterable[dict]) -> list[dict]:
    """The rows that have a label."""
    return [row for row in rows if row["output"] is not None]


def digests(texts: Iterable[str]) -> list[bytes]:
    """A 16-byte fingerprint of each text, white space aside."""
    return [blake2b("".join(text.split()).encode(errors="surrogatepass"), digest_size=16).digest() for text in texts]


def exact_copies(fingerprints: list[bytes]) -> int:
    """How many rows repeat an earlier one."""
    return len(fingerprints) - len(set(fingerprints))


def conflicting_copies(fingerprints: list, labels: list[str]) -> int:
    """How many groups of equal fingerprints (or cluster numbers) carry more than one label."""
    seen = defaultdict(set)
    for fingerprint, label in zip(fingerprints, labels):
        seen[fingerprint].add(label)
    return sum(len(group) > 1 for group in seen.values())


def near_duplicate_clusters(texts: Iterable[str], threshold: float = 0.7, permutations: int = 64) -> list[int]:
    """A cluster number for each text; texts that share `threshold` of their 8-character shingles share one.

    Estimated by MinHash with locality-sensitive hashing (datasketch); of the shingles a third is looked at, chosen by their
    hash and so the same third in every text, which makes 4,000 long articles a matter of seconds. Texts are streamed.
    """
    from datasketch import MinHash, MinHashLSH
    from scipy.cluster.hierarchy import DisjointSet

    index, clusters = MinHashLSH(threshold=threshold, num_perm=permutations), DisjointSet()
    for i, text in enumerate(texts):
        text = "".join(text.split())
        shingles = {text[j : j + 8].encode(errors="surrogatepass") for j in range(max(1, len(text) - 7))}
        sketch = MinHash(num_perm=permutations, seed=1, hashfunc=zlib.crc32)
        sketch.update_batch({shingle for shingle in shingles if zlib.crc32(shingle) % 3 == 0} or shingles)
        clusters.add(i)
        for other in index.query(sketch):
            clusters.merge(i, other)
        index.insert(i, sketch)
    names: dict[int, int] = {}
    return [names.setdefault(clusters[i], len(names)) for i in clusters]


def straddling(clusters: list[int], share: float, seed: int) -> int:
    """How many clusters would have rows on both sides of a split that draws `share` of the rows one by one."""
    held = set(random.Random(seed).sample(range(len(clusters)), round(share * len(clusters))))
    sides = defaultdict(set)
    for i, cluster in enumerate(clusters):
        sides[cluster].add(i in held)
    return sum(len(side) > 1 for side in sides.values())


def header_end(text: str) -> int:
    """Where the body begins, as an index into `text`; 0 where no header is recognised.

    An archive's record opens with fields such as 【 分 类 名 】 and ends with 【 正 文 】; a journal's page with a masthead, title
    and names, up to its abstract.
    """
    record = re.match(r"\s*【[^】]{1,12}】.{0,8000}?【\s*正\s*文\s*】", text, re.DOTALL)
    record = record or re.match(r".{0,40}?【[^】]{1,12}】.{0,8000}?【\s*正\s*文\s*】", text, re.DOTALL)
    if record:
        return record.end()
    masthead = re.match(r".{1,1200}?(?=摘\s*要|Abstract|ABSTRACT)", text, re.DOTALL)
    return masthead.end() if masthead else 0


def header_fields(header: str) -> list[str]:
    """Names of the fields of an archive's header, spaces removed: 【 分 类 名 】 gives 分类名."""
    return ["".join(name.split()) for name in re.findall(r"【([^】]{1,12})】", header)]


def strip_header(text: str) -> str:
    """`text` without its recognised header; unchanged when nothing would be left."""
    body = text[header_end(text) :]
    return body if body.strip() else text


def cut(rows: list[int], labels: list[str], clusters: list[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """`rows` (indices) in two: about 1 - `share` and `share` of them, stratified by label, no cluster on both sides.

    Where no class has enough rows for so small a share, the second part is as small as it can be.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    ours, groups = [labels[i] for i in rows], [clusters[i] for i in rows]
    counts = [ours.count(label) for label in set(ours)]
    folds = max(2, min(round(1 / share), max(counts, default=0)))
    if len(set(groups)) < folds or len(counts) < 2 or min(counts) < 2:
        raise InputError(f"{len(rows)} rows are too few to hold out {share:.0%} of them; two classes and two rows a class are the least")
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class rarer than the folds is absent from some: no harm here
        kept, held = next(splitter.split(rows, ours, groups))
    return [rows[i] for i in kept], [rows[i] for i in held]


def make_splits(
    given: list[str], labels: list[str], clusters: list[int], val_share: float, test_share: float, limits: dict[str, int | None], seed: int
) -> dict[str, list[int]]:
    """Indices of the train, val and test rows among labelled rows.

    given: the source's split of each row; a test or val split of the source stays, what is missing is cut from its training
    rows. A row in a cluster with a held-out row never stays in train. limits: the most rows to keep of each split (None: all),
    drawn with `seed`.
    """
    sides = {split: [i for i, name in enumerate(given) if name == split] for split in SPLITS}
    if not sides["train"]:
        raise InputError("the training split has no labelled row")
    for split, share in (("test", test_share), ("val", val_share)):
        if not sides[split]:
            sides["train"], sides[split] = cut(sides["train"], labels, clusters, share, seed)
        held = {clusters[i] for i in sides[split]}
        for other in ("train", "val") if split == "test" else ("train",):
            sides[other] = [i for i in sides[other] if clusters[i] not in held]
    drawn = {}
    for split in SPLITS:
        rows = sides[split]
        random.Random(seed).shuffle(rows)
        drawn[split] = rows[: limits.get(split)]
    return drawn


def write_jsonl(path: Path | str, rows: Iterable[dict]) -> None:
    """Write one JSON object a line; the file appears whole or not at all."""
    write_text(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_json(path: Path | str, value) -> None:
    """Write one JSON value, indented; the file appears whole or not at all."""
    write_text(path, [json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n"])


def write_text(path: Path | str, parts: Iterable[str]) -> None:
    """Write a text file piece by piece that appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            file.writelines(parts)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def need(path: Path | str, notebook: str) -> Path:
    """`path`, if it exists. Raises InputError naming the notebook that makes it."""
    path = Path(path)
    if not path.exists():
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        raise InputError(f"{shown} is missing: notebooks/{notebook}.ipynb makes it; `make book` runs all in order")
    return path
