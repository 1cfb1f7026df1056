"""Compose the sample corpus: `python data/sample/compose.py` rewrites train.jsonl and test.jsonl,
the same on every machine.

Each file in classes/ holds one class's hand-written paragraphs and the parts from which headers,
tables, bibliographies and yearbook entries are generated. Its lines are dealt once into a train and
a test pile: no test article uses a line that a training article uses, save the openings' fixed
words. Slots such as {place} or {nn} are filled anew each time a line is used.
"""

import json
import random
import re
from pathlib import Path

HERE = Path(__file__).parent
SEED = 20240607
TEST_SHARE = 0.35  # of each section's lines; 14 of a class's 40 paragraphs
TEST_ARTICLES = 13  # a class, 260 in all
TRAIN_ARTICLES = {  # uneven, as in the corpus this one stands in for
    "Art": 36,
    "Enviornment": 36,
    "History": 36,
    "Space": 36,
    "Economy": 40,
    "Politics": 40,
    "Computer": 40,
    "Agriculture": 36,
    "Sports": 40,
    "Military": 24,
    "Transport": 24,
    "Education": 24,
    "Medical": 24,
    "Law": 24,
    "Philosophy": 20,
    "Literature": 20,
    "Mine": 18,
    "Energy": 18,
    "Electronics": 18,
    "Communication": 18,
}
NEIGHBOURS = {
    "Art": "Literature History",
    "Literature": "Art History Philosophy",
    "Education": "Politics Computer Sports",
    "Philosophy": "History Literature",
    "History": "Politics Literature Military",
    "Space": "Military Electronics",
    "Energy": "Mine Enviornment Economy",
    "Electronics": "Communication Computer",
    "Communication": "Electronics Computer",
    "Computer": "Electronics Communication Education",
    "Mine": "Energy Enviornment",
    "Transport": "Economy Energy",
    "Enviornment": "Agriculture Mine Energy",
    "Agriculture": "Enviornment Economy",
    "Economy": "Agriculture Politics Law",
    "Law": "Economy Politics",
    "Medical": "Sports Education Enviornment",
    "Military": "Politics Space History",
    "Politics": "Law Economy Military",
    "Sports": "Education Medical",
}
# classes whose articles may carry an archive's header, with the subject names that such a header
# gives away
ARCHIVED = {
    "Art": "艺术理论",
    "Education": "教育学",
    "Philosophy": "哲学原理",
    "History": "中国古代史",
    "Economy": "国民经济管理",
    "Law": "法学",
    "Politics": "政治学",
    "Sports": "体育",
    "Literature": "文艺理论",
    "Agriculture": "农业经济",
}
REPRINTED = (
    "Space",
    "Energy",
    "Electronics",
    "Communication",
    "Computer",
    "Mine",
    "Transport",
    "Enviornment",
    "Medical",
)
"""Classes whose articles may open with a journal's masthead and an English abstract."""
LONG = {  # articles of more than 10,000 tokens, by split
    "train": ("Economy", "History", "Enviornment", "Computer", "Agriculture", "Law"),
    "test": ("Politics", "Sports", "Space"),
}
PLACES = (
    "临江 青石 白沙 云岭 柳河 平阳 东塘 南屏 西岭 北湾 金溪 桃源 枫桥 清河 望海 石泉 松坪 "
    "长宁 安丰 梅川 永兴 沙洲 宁谷 兰亭 双桥 龙潭 凤山 玉泉 临渊 海陵 汉阴 赤水 丰镇 竹溪 "
    "丹江 古田 银川湾 红岩 绿洲 塔河 怀远 定安 新浦 旧城 大林 小孤山 和田坝 高坪 九里 十里铺"
).split()
SURNAMES = (
    "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦许何吕施张孔曹严华金魏陶姜戚谢邹喻柏水窦章云苏潘葛范彭郎"
)
GIVEN = (
    "明华建国志强春兰秀英文斌玉梅海涛立新晓东雪峰永康宏伟佳宁思远少卿德厚长青月娥子墨广林素芬启元"
)


def read_class(path: Path) -> dict[str, list[str]]:
    """The sections of one class file: lines by section name."""
    sections: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            lines = sections.setdefault(line[2:].strip(), [])
        else:
            lines.append(line)
    return sections


def person(rng: random.Random) -> str:
    return rng.choice(SURNAMES) + "".join(rng.sample(GIVEN, rng.choice((1, 2, 2))))


def fill(line: str, rng: random.Random) -> str:
    """`line` with each slot filled anew."""
    makers = {
        "place": lambda: rng.choice(PLACES),
        "person": lambda: person(rng),
        "year": lambda: str(rng.randint(1983, 2004)),
        "month": lambda: str(rng.randint(1, 12)),
        "day": lambda: str(rng.randint(1, 28)),
        "n": lambda: str(rng.randint(2, 9)),
        "nn": lambda: str(rng.randint(11, 97)),
        "nnn": lambda: str(rng.randint(120, 980)),
        "nnnn": lambda: str(rng.randint(1200, 9800)),
        "pct": lambda: f"{rng.randint(11, 389) / 10}",
    }
    return re.sub(r"\{(\w+)\}", lambda match: makers[match[1]](), line)


def table(parts: dict, rng: random.Random, rows: int) -> str:
    """A statistical table in running text, as optical character recognition leaves one."""
    years = sorted(rng.sample(range(1984, 2005), 3))
    lines = [fill("附表 {place}有关指标（", rng) + "、".join(f"{year}年" for year in years) + "）"]
    for _ in range(rows):
        name, unit = rng.choice(parts["terms"]).split("|")
        values = " ".join(
            f"{rng.uniform(1, 10 ** rng.randint(1, 5)):.{rng.randint(0, 2)}f}" for _ in years
        )
        lines.append(f"{rng.choice(PLACES)} {name}（{unit}） {values}")
    return "\n".join(lines)


def bibliography(parts: dict, rng: random.Random, rows: int) -> str:
    """A list of invented references."""
    kinds = (
        "{p}大学学报，{y}，{n}（{m}）：{a}－{b}",
        "{p}人民出版社，{y}年版，第{a}页",
        "{p}师范学院学报，{y}年第{m}期",
        "{p}科技，{y}（{m}）：{a}",
    )
    lines = ["参考文献"]
    for i in range(1, rows + 1):
        place, year, page = rng.choice(PLACES), rng.randint(1983, 2004), rng.randint(1, 400)
        source = rng.choice(kinds).format(
            p=place,
            y=year,
            n=rng.randint(1, 40),
            m=rng.randint(1, 12),
            a=page,
            b=page + rng.randint(2, 15),
        )
        lines.append(
            f"［{i}］{person(rng)}，{person(rng)}．{rng.choice(parts['works'])}［J］．{source}．"
        )
    return "\n".join(lines)


def yearbook(parts: dict, rng: random.Random, rows: int) -> str:
    """Yearbook entries, one a line."""
    return "\n".join(fill(rng.choice(parts["entries"]), rng) for _ in range(rows))


def opening(name: str, parts: dict, rng: random.Random) -> str:
    """What stands before the body: a headline, a dateline, an archive's header or a journal's
    masthead with its abstract.
    """
    headline = fill(rng.choice(parts["headlines"]), rng)
    kind = rng.random()
    if name in ARCHIVED and kind < 0.3:
        subject = f"【 分 类 名 】{ARCHIVED[name]}\n" if rng.random() < 0.3 else ""
        number = f"【 文献号 】{rng.randint(1, 9)}－{rng.randint(100, 2400)}\n"
        source = fill("【原文出处】{place}社会科学\n【原刊期号】{year}0{n}\n", rng)
        author = f"【 作 者 】{person(rng)}\n【 正 文 】\n"
        return f"{number}{source}{subject}【 标 题 】{headline}\n{author}"
    if name in REPRINTED and kind < 0.3:
        abstract = " ".join(fill(line, rng) for line in rng.sample(parts["abstract"], 2))
        return (
            fill("{place}大学学报（自然科学版）\nVol.{nn} No.{n} {year}\n", rng)
            + f"{headline}\n{person(rng)} {person(rng)}\nAbstract {abstract}\n"
        )
    if kind < 0.6:
        return f"{headline}\n" + fill("本报{place}{month}月{day}日电（记者{person}）", rng)
    return f"{headline}\n" if kind < 0.85 else ""


def article(name: str, paragraphs: list[str], piles: dict, rng: random.Random) -> str:
    """One article of class `name` around its `paragraphs`: opening, body, at times a neighbour's
    paragraphs, at times an appendix.
    """
    parts, body = piles[name], [fill(line, rng) for line in paragraphs]
    if (
        rng.random() < 0.4
    ):  # touches a second class: mostly later in the text, where a cut body loses it
        other = piles[rng.choice(NEIGHBOURS[name].split())]["paragraphs"]
        for line in rng.sample(other, rng.choice((1, len(body)))):
            body.insert(rng.choice((0, 1, len(body), len(body), len(body))), fill(line, rng))
    if rng.random() < 0.18:
        body.append(yearbook(parts, rng, rng.randint(3, 14)))
    if rng.random() < 0.15:
        body.append(table(parts, rng, rng.randint(6, 40)))
    if rng.random() < 0.12:
        body.append(bibliography(parts, rng, rng.randint(4, 30)))
    return opening(name, parts, rng) + "\n".join(body)


def long_article(name: str, parts: dict, rng: random.Random) -> str:
    """An article beyond 10,000 tokens: prose, then generated yearbook entries, tables and
    references.
    """
    body = [fill(line, rng) for line in rng.sample(parts["paragraphs"], 4)]
    body += [
        part(parts, rng, rows)
        for part, rows in (
            (yearbook, 60),
            (table, 150),
            (bibliography, 70),
            (table, 90),
            (yearbook, 25),
        )
    ]
    return opening(name, parts, rng) + "\n".join(body)


def options_for(name: str, names: list[str], rng: random.Random) -> list[str]:
    """4 to 15 options in random order, the label and often its neighbours among them."""
    count = rng.randint(4, 15)
    near = [other for other in NEIGHBOURS[name].split() if rng.random() < 0.6]
    rest = rng.sample([other for other in names if other != name and other not in near], count - 1)
    options = ([name, *near] + rest)[:count]
    rng.shuffle(options)
    return options


def compose() -> dict[str, list[dict]]:
    """Rows by split."""
    classes = {path.stem: read_class(path) for path in sorted((HERE / "classes").glob("*.txt"))}
    names = sorted(classes)
    piles: dict[str, dict] = {"train": {}, "test": {}}
    for name in names:
        for section, lines in classes[name].items():
            lines = random.Random(f"{SEED}-{name}-{section}").sample(lines, len(lines))
            border = round(TEST_SHARE * len(lines))
            piles["test"].setdefault(name, {})[section] = lines[:border]
            piles["train"].setdefault(name, {})[section] = lines[border:]
    splits = {}
    for split in ("train", "test"):
        rng = random.Random(f"{SEED}-{split}")
        rows = []
        for name in names:
            pile = piles[split][name]["paragraphs"]
            count = TRAIN_ARTICLES[name] if split == "train" else TEST_ARTICLES
            for i in range(count):
                lead = pile[i % len(pile)]
                more = rng.sample(
                    [line for line in pile if line != lead],
                    rng.choices((0, 1, 2, 4), weights=(45, 28, 17, 10))[0],
                )
                rows.append((name, article(name, [lead, *more], piles[split], rng)))
        rows += [(name, long_article(name, piles[split][name], rng)) for name in LONG[split]]
        if split == "train":
            rows += rng.sample([row for row in rows if len(row[1]) < 2000], 8)  # exact duplicates
            for name, text in rng.sample(
                [row for row in rows if 200 < len(row[1]) < 2000], 14
            ):  # near duplicates: figures and a place differ
                text = re.sub(r"\d{3,4}", lambda match: str(int(match[0]) + 1), text)
                rows.append((name, text.replace(PLACES[0], PLACES[1]) + "（有删节）"))
        rng.shuffle(rows)
        splits[split] = [
            {"text": text, "category": options_for(name, names, rng), "output": name}
            for name, text in rows
        ]
    return splits


if __name__ == "__main__":
    for split, rows in compose().items():
        (HERE / f"{split}.jsonl").write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
        print(f"{split}: {len(rows)} articles")
