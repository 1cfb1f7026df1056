"""Encodings: whether the bytes of a text are UTF-8 or GB18030.

A text in another encoding is never converted by a guess. It is a fault, which says where it can how
to convert the text.
"""

import re
import unicodedata

from helpers import Fault

BEYOND_ASCII = re.compile(r"[A-Za-z]?(?:[^\x00-\x7f]+[A-Za-z]?)+")
"""Characters beyond ASCII, together with the ASCII letters that touch them."""
IN_WORDS = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Sk", "Cn"}
"""Unicode categories of letters, of marks on letters, and of code points without a character."""
ADDED = re.compile("[\u0460-\u052f]+")
"""Cyrillic letters that were added for further languages. These use the common letters, too, so
that no word consists of added ones alone.
"""
RARE = re.compile(
    "[\u01a2-\u01af\u01b1-\u023f\u02a1-\u02b8\u02bd-\u0377\u03d7-\u03ff\u0460-\u0487]"
)
"""Letters and marks that languages write only alone or beside ASCII letters."""
BYTES = {
    ord(sign): byte
    for byte in range(128, 160)
    if (sign := bytes([byte]).decode("cp1252", "ignore"))
}
"""The bytes of characters that CP1252 has and Latin-1 has not, by the character's number."""
BEYOND_BYTES = re.compile(f"[^\0-\xff{''.join(map(chr, BYTES))}]")
"""A character that text in CP1252 or Latin-1 cannot hold."""
LOST = re.compile("[\ufffd\ue000-\uf8ff]")
"""Signs for what was lost, or for bytes that stand for no character of GB18030."""


def misread(text: str) -> tuple[str, str] | None:
    """How a Chinese text was read wrongly before it was saved, as 体育新闻 becomes ä½“è‚²æ–°é—».

    Args:
        text: of some length; a few words do not tell.

    Returns:
        The encoding that it was taken for, and what it was; None for any other text.
    """
    if text.isascii():
        return None
    text = LOST.sub("", text)
    if BEYOND_BYTES.search(text):
        taken_for, content = "GB18030", text.encode("gb18030", "ignore")
    else:
        taken_for, content = "CP1252", text.translate(BYTES).encode("latin-1")
    high = content.translate(None, bytes(range(128)))
    if len(high) < 12:
        return None
    original = soundly_decoded(content, "utf-8", len(high))
    if any("\u3000" <= sign for sign in original):
        return taken_for, original
    if taken_for == "GB18030" or not (original := soundly_decoded(content, "gb2312", len(high))):
        return None
    # frequent characters and punctuation of Chinese, which words with accents rarely are
    frequent = re.findall(rb"[\xa1-\xa3\xb0-\xd7][\xa1-\xfe]", content)
    few = len(set(frequent)) < 4  # as in a row of dots or crosses
    if 2 * len(frequent) >= 0.8 * len(high) and 2 * len(high) >= len(content) and not few:
        return taken_for, original
    return None


def soundly_decoded(content: bytes, encoding: str, high: int) -> str:
    """Bytes as text without what is not sound in an encoding; "" where that is too much.

    Args:
        content: the bytes.
        encoding: in which ASCII is itself.
        high: how many of the bytes are beyond ASCII; of more than 36, some may be unsound.
    """
    text = content.decode(encoding, "ignore")
    sound = len(text.encode(encoding)) - (len(content) - high)
    return text if sound >= (0.85 if high > 36 else 1) * high else ""


def encoding_of(content: bytes) -> str:
    """The encoding that most of the bytes are in, "utf-8" or "gb18030".

    Args:
        content: a text, or its beginning.

    Raises:
        Fault: when it is neither.
    """

    def broken(encoding: str) -> int:
        return len(content) - len(content.decode(encoding, "ignore").encode(encoding))

    high = len(content.translate(None, bytes(range(128))))  # bytes beyond ASCII
    # Of Chinese text in GB18030 about a third happens to be sound UTF-8.
    if broken("utf-8") <= min(0.4 * high, broken("gb2312")):
        # A few words may be sound in both: 农业 in GB2312 is ũҵ in UTF-8.
        return "gb18030" if high and not broken("gb2312") and is_unreal(content) else "utf-8"
    if broken("gb2312") and is_big5(content):
        way = "; convert it: iconv -f BIG5 -t UTF-8 old > new (Hong Kong's: -f BIG5-HKSCS)"
        raise Fault("written in Big5", way)
    # Almost any bytes decode as GB18030; its common characters are those of GB2312.
    if broken("gb2312") <= 0.6 * high:
        if other := other_encoding(content):
            way = f"; convert it: iconv -f {other} -t UTF-8 old > new"
            raise Fault(f"written in {other} or the like", way)
        return "gb18030"
    lines = content.splitlines()
    if 2 * sum(decodes(line, "utf-8") for line in lines) < len(lines):
        raise Fault("neither UTF-8 nor GB18030", "; convert it to UTF-8")
    return "utf-8"


def is_unreal(content: bytes) -> bool:
    """Whether bytes that are read as UTF-8 hold words beyond ASCII, none of which any language has.

    See `is_word`.

    Args:
        content: a text, or its beginning.
    """
    text = unicodedata.normalize("NFC", content.decode(errors="ignore"))
    words = set()
    for piece in set(BEYOND_ASCII.findall(text)):
        parts = (sign if unicodedata.category(sign) in IN_WORDS else " " for sign in piece)
        words.update(word for word in "".join(parts).split() if not word.isascii())
    return bool(words) and not any(map(is_word, words))


def is_word(word: str) -> bool:
    """Whether some language may have this word.

    A word with ASCII letters may hold any others, as in μm. Any other word is in one script, has no
    capital after a small letter, no letter of RARE beside another letter, and not only letters of
    ADDED.

    Args:
        word: letters, marks, and code points without a character.
    """
    if any(map(str.isascii, word)):
        return True
    scripts = {unicodedata.name(sign, "").split(" ")[0] for sign in word}
    cased = word in (word.lower(), word.upper(), word.capitalize())
    rare = ADDED.fullmatch(word) or (len(word) > 1 and RARE.search(word))
    return len(scripts) == 1 and "" not in scripts and cased and not rare


def is_big5(content: bytes) -> bool:
    """Whether bytes that are no UTF-8 are Chinese text in Big5.

    Nearly all characters of such a text are among the 5,401 frequent ones, whose first byte is at
    most 0xC6. Text in GB18030 that happens to be sound Big5 has about half of its first bytes
    above that. First bytes below 0xA1 belong to characters that Hong Kong added (HKSCS). They make
    up a tenth of a text in Cantonese. In GB18030 they make up a third of a text in traditional
    characters. A short text does not tell these two cases apart.

    Args:
        content: a text, or its beginning, that holds characters beyond those of GB2312.
    """
    sound = content.decode("big5hkscs", "ignore").encode("big5hkscs")
    first = [pair[0] for pair in re.findall(rb"[\x80-\xff].", sound, re.DOTALL)]
    number = len(first)
    added = sum(byte < 0xA1 for byte in first)
    frequent = sum(byte <= 0xC6 for byte in first) - (added if number < 40 else 0)
    few = len(content) - len(sound) <= 0.05 * number and added <= 0.2 * number
    return few and frequent >= 0.9 * number > 0


def other_encoding(content: bytes) -> str | None:
    """The encoding of bytes that are sound GB18030 but text in another language.

    Among different Korean syllables, nearly all first bytes lie from 0xB0 to 0xC8; among Chinese
    characters, half of them do. In Japanese about half of the characters are kana, and no second
    byte lies below 0xA1. In a language with accents, many bytes beyond ASCII stand alone between
    ASCII letters.

    Args:
        content: a text, or its beginning.

    Returns:
        A name that iconv knows; None for Chinese text, and for what is too short to tell.
    """
    runs = list(re.finditer(rb"[\x80-\xff]+", content))
    between = [
        len(run[0])
        for run in runs
        if content[run.start() - 1 : run.start()].isalpha()
        and content[run.end() : run.end() + 1].isalpha()
    ]
    if len(runs) >= 10 and 4 * between.count(1) > len(between) > 0.4 * len(runs):
        return "CP1252"
    pairs = re.findall(rb"[\x81-\xfe][\x40-\xfe]", content)
    signs = {pair for pair in pairs if pair[0] > 0xA9 and pair[1] >= 0xA1}
    if len(signs) >= 25 and sum(0xB0 <= pair[0] <= 0xC8 for pair in signs) >= 0.97 * len(signs):
        return "CP949"
    kana = sum(0xA4 <= pair[0] <= 0xA5 for pair in pairs)
    wide = all(pair[1] >= 0xA1 for pair in pairs)
    return "EUC-JP" if wide and len(set(pairs)) >= 25 and len(pairs) <= 2.5 * kana else None


def decodes(content: bytes, encoding: str) -> bool:
    """Whether bytes are sound in an encoding."""
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def decode(content: bytes) -> str:
    """Bytes as text. Raises Fault unless they are UTF-8 or GB18030 throughout."""
    try:
        return content.decode(encoding_of(content))
    except UnicodeDecodeError as error:
        detail = f" (byte {error.start + 1} of {len(content)} is {content[error.start]:#04x})"
        raise Fault("the bytes are neither UTF-8 nor GB18030", detail) from None
