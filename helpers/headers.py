"""Headers: what archives and journals put before an article, which may give its class away."""

import re

MASTHEAD = re.compile(
    r".{1,1200}?(?:(?<=[\s【［\[〔（(<])|(?<=内容|论文|中文|英文))(?:(?<=\n)(?=Abstract\s)|"
    r"(?=摘\s*要[\s：:；;】\]］〕）)>—–-]|ABSTRACT\W|Abstract(?:[：:.】\]］—–-]|\s\s|\s*\n)))",
    re.DOTALL,
)
"""The title and names on a journal's page, up to the word for its abstract. The word must stand
alone: within a sentence it says nothing.
"""

ISSUE = re.compile(r"第\s*\d+\s*[卷期]|\b(Vol|No)\b|【[^】]{1,12}[号名题]\s*】")
"""A volume or an issue of a journal, or a field of an archive's record."""


def header_end(text: str) -> int:
    """Where the body of an article begins; 0 where no header is recognised.

    The header of an archive's record opens with fields such as 【 分 类 名 】 and ends with
    【 正 文 】. The header of a journal's page is masthead, title and names, up to the abstract.

    Args:
        text: an article.

    Returns:
        An index into `text`.
    """
    record = re.match(r"\s*【[^】]{1,12}】.{0,8000}?【\s*正\s*文\s*】", text, re.DOTALL)
    record = record or re.match(
        r".{0,40}?【[^】]{1,12}】.{0,8000}?【\s*正\s*文\s*】", text, re.DOTALL
    )
    if record:
        return record.end()
    masthead = MASTHEAD.match(text)
    # after sentences, only a journal's number shows that this is its page and not a report
    if masthead and "。" in masthead[0] and not ISSUE.search(text, 0, 200):
        return 0
    return masthead.end() if masthead else 0


def header_fields(header: str) -> list[str]:
    """Names of the fields of an archive's header, spaces removed: 【 分 类 名 】 gives 分类名.

    Args:
        header: the part of an article before its body.
    """
    return ["".join(name.split()) for name in re.findall(r"【([^】]{1,12})】", header)]


def strip_header(text: str) -> str:
    """An article without its recognised header; unchanged when nothing would be left.

    Args:
        text: the article.
    """
    body = text[header_end(text) :]
    return body if body.strip() else text
