import random

import pytest
from conftest import texts_of, with_copies

from helpers import duplicates, headers


def test_near_copies_share_a_cluster_and_others_do_not():
    texts, _ = with_copies(60, 5)
    clusters = duplicates.near_duplicate_clusters(iter(texts))
    assert len(set(clusters)) == 60
    assert clusters[60:] == clusters[:5]


@pytest.mark.parametrize(("changes", "low", "high"), [(2, 0.9, 1), (6, 0.25, 0.6), (20, 0, 0.02)])
def test_as_many_near_copies_are_found_as_chapter_one_says(changes, low, high):
    texts = texts_of(100)  # a change spoils 8 of 293 shingles, so that 0.9, 0.7 and 0.3 are shared
    copies = []
    for text in texts:
        copy = list(text)
        for k in range(changes):
            copy[10 + 14 * k] = "〇"
        copies.append("".join(copy))
    clusters = duplicates.near_duplicate_clusters([*texts, *copies])
    assert low <= sum(a == b for a, b in zip(clusters, clusters[100:])) / 100 <= high


def test_exact_copies_and_conflicting_labels():
    prints = duplicates.digests(["甲 乙", "甲乙", "丙", "丙"])
    assert len(set(prints)) == 2
    assert duplicates.conflicting_copies(prints, ["A", "B", "A", "A"]) == 1


def test_short_texts_that_share_a_phrase_are_no_near_copies():
    rng = random.Random(3)
    signs = [chr(0x4E00 + n) for n in range(2000)]
    for _ in range(8):
        phrase = "".join(rng.choices(signs, k=10))
        texts = [phrase + "".join(rng.choices(signs, k=3)) for _ in range(100)]
        # two texts have 6 shingles each and share 3, which is 3 of 9
        assert len(set(duplicates.near_duplicate_clusters(texts))) > 90
        again = duplicates.near_duplicate_clusters([*texts, texts[7]])
        assert again[-1] == again[7]


def test_a_naive_split_would_straddle():
    clusters = [i // 2 for i in range(200)]
    assert 10 < duplicates.straddling(clusters, 0.3, seed=1) < 80
    assert duplicates.straddling(list(range(200)), 0.3, seed=1) == 0


@pytest.mark.parametrize(
    ("text", "body"),
    [
        (
            "【 文献号 】1-24\n【 分 类 名 】体育\n【 标 题 】赛\n【 正 文 】\n比赛开始了",
            "\n比赛开始了",
        ),
        ("临江大学学报 Vol.3 题目 张三 摘 要 本文研究", "摘 要 本文研究"),
        ("题目 张三【摘要】本文研究", "摘要】本文研究"),
        ("A title. A. Author\nAbstract: We study", "Abstract: We study"),
        ("题目\n张三 李四\nAbstract We study", "Abstract We study"),
        ("委员会昨天公布报告，并在摘要中说明了原因。", None),  # a word of the news
        ("The museum shows Abstract art from today.", None),
        ("委员会昨天公布了报告。\n摘要：今年雨水很多", None),  # within a report
        ("临江学报 第3卷 题目。张三\n摘要：本文研究", "摘要：本文研究"),
        ("没有头的文章，一开始就是正文。", "没有头的文章，一开始就是正文。"),
        ("【 标 题 】只有头【 正 文 】", "【 标 题 】只有头【 正 文 】"),
    ],
)
def test_headers_end_where_the_body_begins(text, body):
    assert headers.strip_header(text) == (text if body is None else body)
