"""Files as people bring them: how their tools name columns, splits, labels and encodings."""

import csv
import json
import re

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict

from helpers import ROOT, Fault, InputError, duplicates, lines
from helpers.encodings import misread, other_encoding
from helpers.locations import one_file
from helpers.rows import text_of
from helpers.sources import read_articles, read_source

LABELS = ["Sports", "Business", "Farming"]
ROWS = [{"text": f"report number {n} of the day", "label": LABELS[n % 3]} for n in range(30)]
COLUMNS = {"text": "text", "category": None, "output": "label"}
PORTUGUESE = (
    "A situação política do país mudou após a eleição",
    "A seleção venceu a competição de natação",
    "A produção de grãos e a irrigação crescem",
)
KOREAN = (
    "정부는 오늘 새로운 경제 정책을 발표했다",
    "축구 대표팀이 어제 경기에서 이겼다",
    "농민들이 올해 쌀 수확을 시작했다",
)
JAPANESE = (
    "政府は今日新しい経済政策を発表しました",
    "サッカーの代表チームが試合に勝ちました",
    "農家は米の収穫を始めています",
)


def write_table(path, rows, encoding="utf-8"):
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def renamed(rows, **names):
    return [{names.get(name, name): value for name, value in row.items()} for row in rows]


def test_a_column_of_labels_may_be_called_category(tmp_path):
    path = write_table(tmp_path / "news.csv", renamed(ROWS, label="category"))
    source = read_source(path, {"output": "category"})
    assert source.menu == tuple(sorted(LABELS))
    articles = read_articles(path, {"output": "category"}, options=LABELS)
    assert all(article.row["category"] == LABELS for article in articles)


def test_the_way_to_map_a_column_of_labels_called_category_is_named(tmp_path):
    rows = [row | {"label": "Arts, Culture"} for row in ROWS[:15]] + ROWS[15:]
    path = write_table(tmp_path / "news.csv", renamed(rows, label="category"))
    with pytest.raises(InputError, match=r"it is `columns: {category: null, output: category}`"):
        read_source(path)
    assert len(read_source(path, {"category": None, "output": "category"}).menu) == 4


def test_labels_of_a_test_file_under_a_name_of_its_own_are_not_passed_over(tmp_path):
    write_table(tmp_path / "train.csv", ROWS)
    write_table(tmp_path / "test.csv", renamed(ROWS[:6], label="sentiment"))
    with pytest.raises(InputError, match="and 'sentiment', which other files have not"):
        read_source(str(tmp_path), COLUMNS)
    write_table(tmp_path / "test.csv", [{"text": row["text"]} for row in ROWS[:6]])
    assert read_source(str(tmp_path), COLUMNS).splits["test"]["output"] == [None] * 6


@pytest.mark.parametrize("name", ["id", "ID", "", "number"])
def test_a_test_file_without_labels_may_number_its_rows(tmp_path, name):
    """Contests keep the labels, and ask for answers by number."""
    rows = [{name: n, "text": row["text"]} for n, row in enumerate(ROWS[:6])]
    write_table(tmp_path / "train.csv", ROWS)
    path = write_table(tmp_path / "test.csv", rows)
    if name == "number":  # it may be a label
        with pytest.raises(InputError, match="where labels are missing an empty 'label'"):
            read_source(str(tmp_path), COLUMNS)
        write_table(tmp_path / "test.csv", [row | {"label": ""} for row in rows])
    test = read_source(str(tmp_path), COLUMNS).splits["test"]
    assert test["text"] == [row["text"] for row in rows] and test["output"] == [None] * 6
    assert len(list(read_articles(path, options=LABELS))) == 6


def test_articles_without_labels_are_classified_once_the_mapping_says_so(tmp_path):
    """The mapping of the training file is given for new articles, too."""
    path = write_table(tmp_path / "new.csv", [{"text": row["text"]} for row in ROWS])
    with pytest.raises(
        InputError, match=r"\{category: null, output: null\}` \(.*there are no labels\)"
    ):
        read_articles(path, COLUMNS, options=LABELS)
    articles = list(read_articles(path, COLUMNS | {"output": None}, options=LABELS))
    assert [article.row["text"] for article in articles] == [row["text"] for row in ROWS]


def test_articles_of_a_second_file_under_another_name_ask_for_the_same_columns(tmp_path):
    first = write_table(tmp_path / "a.csv", ROWS)
    second = write_table(tmp_path / "b.csv", renamed(ROWS, text="content"))
    with pytest.raises(InputError, match=r"b\.csv line 2: no column 'text', which other files"):
        read_source([first, second], COLUMNS)


def test_a_column_that_says_the_split_is_not_passed_over(tmp_path):
    rows = [row | {"split": "test" if n % 5 else "train"} for n, row in enumerate(ROWS)]
    path = write_table(tmp_path / "all.csv", rows)
    with pytest.raises(InputError, match=r"column 'split' says .* \(train\.csv, test\.csv\)"):
        read_source(path, COLUMNS)
    path = write_table(tmp_path / "one.csv", [row | {"split": "train"} for row in ROWS])
    assert len(read_source(path, COLUMNS).splits["train"]) == 30


def test_one_typo_does_not_outweigh_a_class(tmp_path):
    rows = [{"text": "the first one", "label": "sports"}, *ROWS]
    path = write_table(tmp_path / "rows.csv", rows)
    source = read_source(path, COLUMNS, on_bad_row="skip")
    assert source.menu == tuple(sorted(LABELS)) and len(source.splits["train"]) == 30
    assert source.skipped == {"a label spelled in two ways": 1}
    with pytest.raises(InputError, match="line 3: a label spelled in two ways"):
        read_source(path, COLUMNS)


@pytest.mark.parametrize(
    "texts, encoding", [(PORTUGUESE, "CP1252"), (KOREAN, "CP949"), (JAPANESE, "EUC-JP")]
)
def test_another_language_is_not_read_as_chinese(tmp_path, texts, encoding):
    rows = [{"text": f"{texts[n % 3]} {n}", "label": LABELS[n % 3]} for n in range(30)]
    path = write_table(tmp_path / "rows.csv", rows, encoding)
    with pytest.raises(InputError, match=f"written in {encoding} .* iconv -f {encoding} -t UTF-8"):
        read_source(path, COLUMNS)


def test_chinese_is_chinese_in_short_pieces_and_beside_english(sample):
    for row in sample["train"]:
        for piece in (row["text"][:30], row["text"][-300:], row["text"]):
            assert other_encoding(piece.encode("gb18030")) is None


def test_quotes_of_excel_in_an_english_file_are_told_from_a_damaged_byte(tmp_path):
    rows = [*ROWS, {"text": "a title, and it’s on one line", "label": "Sports"}]
    path = write_table(tmp_path / "rows.csv", rows, "cp1252")
    with pytest.raises(InputError, match=r"line 32: a byte .* iconv -f CP1252 -t UTF-8"):
        read_source(path, COLUMNS)


def test_a_folder_s_name_says_the_split_where_the_file_s_says_none(tmp_path):
    files = []
    for split, rows in (("train", ROWS[:20]), ("test", ROWS[20:])):
        (tmp_path / split).mkdir()
        files.append(str(tmp_path / split / "0000.parquet"))
        pd.DataFrame(rows).to_parquet(files[-1])
    splits = read_source(files, COLUMNS).splits
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 20, "test": 10}
    with pytest.raises(InputError, match=r"as a list, `source: \[.*test/0000.*, .*train/0000"):
        read_source(str(tmp_path), COLUMNS)


def test_several_files_of_a_folder_are_proposed_as_a_list(tmp_path):
    files = [write_table(tmp_path / f"{year}.csv", ROWS) for year in (2020, 2021)]
    with pytest.raises(InputError) as error:
        read_source(str(tmp_path), COLUMNS)
    assert f"`source: [{', '.join(files)}]`" in str(error.value)
    (tmp_path / "2020.csv").rename(tmp_path / ".2020.csv")  # as systems hide their own files
    (tmp_path / "data").mkdir()
    (tmp_path / "2021.csv").rename(tmp_path / "data" / "2021.csv")
    with pytest.raises(InputError, match=r"give the file \S+/data/2021\.csv as source"):
        read_source(str(tmp_path), COLUMNS)


def test_files_called_after_a_corpus_and_a_split_are_to_be_called_after_the_split(tmp_path):
    """As in news.train.csv and news.test.csv, whose rows must not end up in one split."""
    for split in ("train", "val", "test"):
        write_table(tmp_path / f"news.{split}.csv", ROWS[:6])
    with pytest.raises(InputError, match=r"by its name alone \(train\.csv, val\.csv, test\.csv\)"):
        read_source(str(tmp_path), COLUMNS)
    for split in ("train", "val", "test"):
        (tmp_path / f"news.{split}.csv").rename(tmp_path / f"{split}.csv")
    assert len(read_source(str(tmp_path), COLUMNS).splits) == 3


def test_lines_of_objects_may_be_called_json(tmp_path):
    path = write_lines(tmp_path / "train.json", [row | {"turns": [{"a": 1}]} for row in ROWS])
    assert len(read_source(path, COLUMNS).splits["train"]) == 30


def test_an_end_within_lines_of_objects_is_not_taken_for_an_array(tmp_path, monkeypatch):
    """A fault in a later line ends the reading, whatever the file is called."""
    monkeypatch.setattr(lines, "LINE_LIMIT", 200)
    path = write_lines(tmp_path / "train.json", [*ROWS[:2], ROWS[2] | {"text": "x" * 300}])
    with pytest.raises(InputError, match=r"line \d: longer than"):
        read_source(path, COLUMNS)


def test_a_list_of_one_label_is_that_label_and_an_empty_one_is_none(tmp_path):
    rows = [row | {"label": [row["label"]]} for row in ROWS] + [{"text": "new", "label": []}]
    source = read_source(write_lines(tmp_path / "doccano.jsonl", rows), COLUMNS)
    assert source.menu == tuple(sorted(LABELS)) and source.splits["train"]["output"][-1] is None


def test_articles_within_objects_are_not_to_be_mapped(tmp_path):
    rows = [{"messages": [{"role": "user", "content": row["text"]}]} for row in ROWS]
    with pytest.raises(InputError, match="'messages' holds objects, whose parts cannot be mapped"):
        read_source(write_lines(tmp_path / "rows.jsonl", rows))


WITH_OBJECTS = {
    "of a database": {"_id": {"$oid": "0"}, "text": "甲", "label": "A"},
    "of a tool for labelling": {"text": "甲", "meta": {"page": 1}, "label": ["A"], "notes": []},
}


@pytest.mark.parametrize("row", WITH_OBJECTS.values(), ids=WITH_OBJECTS.keys())
def test_objects_beside_text_and_label_are_no_hindrance(tmp_path, row):
    path = write_lines(tmp_path / "rows.jsonl", [row, row | {"text": "乙", "label": "B"}])
    with pytest.raises(InputError, match=r"\{category: null, output: label\}") as error:
        read_source(path)
    assert "cannot be mapped" not in str(error.value)
    assert read_source(path, COLUMNS).splits["train"]["output"] == ["A", "B"]


WITHIN_OBJECTS = {
    "a search engine's": ({"_index": "news", "_source": {"text": "甲"}}, "'_source' holds objects"),
    "a tool's": (
        {"id": 1, "data": {"text": "甲"}, "marks": [{"label": "A"}]},
        "'data', 'marks' hold",
    ),
    "a chat's": ({"messages": [{"role": "user", "content": "甲"}]}, "'messages' holds objects"),
    "options": ({"text": "甲", "options": [{"id": "A"}], "label": "A"}, "'options' holds objects"),
}


@pytest.mark.parametrize("row, says", WITHIN_OBJECTS.values(), ids=WITHIN_OBJECTS.keys())
def test_what_stands_within_objects_is_to_be_taken_out_of_them(tmp_path, row, says):
    path = write_lines(tmp_path / "rows.jsonl", [row])
    with pytest.raises(InputError, match=says + ".*columns of their own"):
        read_source(path)
    if "text" not in row:
        with pytest.raises(InputError, match=says + ".*columns of their own"):
            read_articles(path, options=LABELS)


def test_the_word_that_a_label_was_accepted_is_not_proposed_as_label(tmp_path):
    rows = [{"text": "甲", "accept": ["A"], "answer": "accept"}]
    with pytest.raises(InputError, match=r"\{category: null, output: NAME\}"):
        read_source(write_lines(tmp_path / "rows.jsonl", rows))


def test_equal_texts_are_found_without_a_comparison_of_each_pair(monkeypatch):
    """Thousands of reviews may be equal; only the first of them is looked up and kept."""
    from datasketch import MinHashLSH

    looks, query = [], MinHashLSH.query
    monkeypatch.setattr(MinHashLSH, "query", lambda *args: looks.append(1) or query(*args))
    clusters = duplicates.near_duplicate_clusters(["没有 填写评价", "另一篇", "没有填写 评价"] * 50)
    assert clusters == [0, 1, 0] * 50 and len(looks) == 2


def wrongly_opened(text, encoding, taken_for):
    """What a text becomes where its bytes are read in another encoding, and saved so."""
    return "".join(
        bytes([byte]).decode(taken_for, "ignore") or chr(byte) for byte in text.encode(encoding)
    )


CHINESE = "球队在加时赛中取胜，主教练赛后表示满意"
SAVED_WRONGLY = {
    "UTF-8 as CP1252": (wrongly_opened(CHINESE, "utf-8", "cp1252"), "CP1252"),
    "UTF-8 as Latin-1": (wrongly_opened(CHINESE, "utf-8", "latin-1"), "CP1252"),
    "GBK as CP1252": (wrongly_opened(CHINESE, "gbk", "cp1252"), "CP1252"),
    "UTF-8 as GBK": (CHINESE.encode().decode("gbk", "replace"), "GB18030"),
}


@pytest.mark.parametrize("text, taken_for", SAVED_WRONGLY.values(), ids=SAVED_WRONGLY.keys())
def test_a_text_that_was_opened_in_another_encoding_is_no_article(text, taken_for):
    with pytest.raises(Fault, match=f"opened as {taken_for} and saved so.*was '球队在加时"):
        text_of(text)
    with pytest.raises(Fault, match=f"opened as {taken_for}"):
        text_of("Report 1997-03-02, page 12. " * 7 + 9 * text)


def test_what_any_language_writes_was_opened_rightly(sample):
    texts = [row["text"] for row in sample["train"]]
    texts += [text[place : place + 15] for text in texts for place in range(0, 300, 15)]
    texts += [
        "Une nouvelle exposition a été inaugurée à Paris, où élèves et maîtres ont dîné",
        "Größe Straße übermäßig Füße Äußerung Höhe Bücher größtmöglich",
        "體育新聞：今天天氣很好，臺北舉辦展覽",
        "«Спартак» выиграл — счёт 2:1 – “ура”",
        "“‘’”—…•™" * 9,
        *("·" * 12, "××××××××××××××××××××", "°·°·°·°·°·°·°·°·", "Ä" * 40),
    ]
    assert [text for text in texts if misread(text)] == []


def test_question_marks_in_place_of_chinese_are_no_article_and_no_label(tmp_path):
    """Excel leaves them where a table is saved in an encoding that has no Chinese."""
    rows = [(CHINESE, "体育"), ("央行下调了存款准备金率，市场反应积极", "财经")]
    content = "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode("cp1252", "replace"))
    columns = {"category": None, "output": "label"}
    with pytest.raises(InputError, match=r"line 2: a text of which only question marks are left"):
        read_source(str(path), columns)
    path.write_text("text,label\n第一篇,??\n第二篇,???\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2: question marks are no label"):
        read_source(str(path), columns)
    for text in ("什么？？？真的吗?????????????????", "why? why? why? why? why? why? why?", "??"):
        assert text_of(text) == text


def test_an_article_is_looked_through_once_for_a_wrong_encoding(monkeypatch):
    """Of a long one 200 characters tell, so that 4,000 articles are read in a second."""
    looks = []
    monkeypatch.setattr("helpers.rows.misread", lambda text: looks.append(len(text)))
    source = read_source("sample")
    assert len(looks) == sum(map(len, source.splits.values())) and max(looks) <= 200


def test_nul_characters_that_pad_a_table_end_up_in_no_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text,label\n17\0\0,一\0,A\0\n\0,二,B\n", encoding="utf-8")
    source = read_source(str(path), {"category": None, "output": "label"})
    rows = [list(row.values()) for row in source.splits["train"]]
    assert rows == [
        ["train-1", "17", "一", ["A", "B"], "A"],
        ["train-2", None, "二", ["A", "B"], "B"],
    ]
    assert source.padded == 1


PAGE = (ROOT / "book" / "your-data.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"^```python\n(.*?)^```", PAGE.split("is no table yet")[1], re.M | re.S)
CORPUS = [
    (f"第{n}篇“{word}”：{word}的消息\u3000", word) for n in range(4) for word in ("体育", "财经")
]


def test_the_recipes_for_other_layouts_make_sources(tmp_path, monkeypatch):
    """A folder a class, lines without names, chats, and a data set that was saved to disk."""
    monkeypatch.chdir(tmp_path)
    texts = [(text.strip(), label) for text, label in CORPUS]
    for n, (text, label) in enumerate(texts):
        (tmp_path / "THUCNews" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "THUCNews" / label / f"{n}.txt").write_text(text, encoding="utf-8")
    lines = [f"{label}\t{text}\n" for text, label in texts]
    (tmp_path / "cnews.train.txt").write_text("".join(lines), encoding="utf-8")
    said = [[{"content": text}, {"content": label}] for text, label in texts]
    write_lines(tmp_path / "chats.jsonl", [{"messages": messages} for messages in said])
    rows = Dataset.from_list([{"text": text, "label": label} for text, label in texts])
    DatasetDict(train=rows, test=rows).save_to_disk(str(tmp_path / "corpus"))
    results = ["news.parquet", "train.parquet", "train.parquet", "train.parquet"]
    for recipe, result in zip(RECIPES, results, strict=True):
        exec(recipe, {})
        read = read_source(str(tmp_path / result), COLUMNS).splits["train"]
        assert sorted(zip(read["text"], read["output"])) == sorted(texts)
        (tmp_path / result).unlink()


def test_a_folder_of_texts_or_of_a_saved_data_set_names_the_page_with_recipes(tmp_path):
    folders = ("corpus/train/C3-Art", "corpus/test/C3-Art")
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.txt").write_text("甲", encoding="utf-8")
    for source in ("corpus", "corpus/train"):
        with pytest.raises(InputError, match=r"1\.txt: .*book/your-data\.md shows how to make"):
            read_source(str(tmp_path / source))
    rows = Dataset.from_list(ROWS)
    DatasetDict(train=rows, test=rows).save_to_disk(str(tmp_path / "saved"))
    for source in ("saved", "saved/train"):
        with pytest.raises(InputError, match=r"\.arrow: write it as \.parquet, as book/your-data"):
            read_source(str(tmp_path / source))
    with pytest.raises(InputError, match=r"with rows: \.jsonl"):
        one_file(tmp_path / "saved" / "train")


def test_a_label_that_a_person_rejected_is_not_learned(tmp_path):
    """Prodigy writes each label that it proposed, and beside it what the person answered."""
    answers = ("accept", "reject", "accept", "ignore")
    rows = [
        {"text": f"第{i}篇文章", "label": "体育财经"[i % 2 * 2 :][:2], "answer": answer}
        for i, answer in enumerate(answers)
    ]
    path = tmp_path / "prodigy.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    columns = {"category": None, "output": "label"}
    with pytest.raises(InputError, match=r"line 2: a label that nobody accepted.*on_bad_row: skip"):
        read_source(str(path), columns)
    for row in rows[1::2]:
        row["answer"] = "accept"
    rows[3]["answer"] = "ignore"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    source = read_source(str(path), columns, on_bad_row="skip")
    assert source.skipped == {"a label that nobody accepted is no label": 1}
    assert len(source.splits["train"]) == 3


def test_a_class_that_is_called_reject_is_learned_from_reviewed_rows(tmp_path):
    """There, `answer` is what a model said, and a person may have chosen otherwise."""
    rows = [
        {"text": row["text"], "answer": "reject", "probability": 0.6, "output": label}
        for row, label in zip(ROWS, ("accept", "reject") * 3)
    ]
    path = write_lines(tmp_path / "review.jsonl", rows)
    assert read_source(path, {"category": None}).menu == ("accept", "reject")
