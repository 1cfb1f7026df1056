"""An encoder as a baseline: a tiny one with random weights, because no hub can be reached."""

import pytest

from helpers import InputError
from helpers.encoder import encoder_baseline

SUBJECTS = {"Art": "油画", "Law": "法院", "Sports": "足球"}


def rows_of(count):
    """Articles with a single word that tells the class, after as many filler words as fit."""
    labels = [list(SUBJECTS)[i % 3] for i in range(count)]
    return [
        {
            "text": SUBJECTS[label] + "的新闻" * (200 if i == 0 else i % 9),
            "output": label,
            "category": ["Art", "Law"],
        }
        for i, label in enumerate(labels)
    ]


def test_an_encoder_learns_and_answers_with_options(encoder_folder):
    train, rows = rows_of(90), rows_of(12)
    answers, seconds = encoder_baseline(
        str(encoder_folder), train, rows, epochs=10, learning_rate=2e-3
    )
    assert seconds > 0 and set(answers) <= {"Art", "Law"}
    offered = [(answer, row["output"]) for answer, row in zip(answers, rows)]
    known = [answer == label for answer, label in offered if label != "Sports"]
    assert sum(known) >= 7  # of 8
    again, _ = encoder_baseline(str(encoder_folder), train, rows, epochs=10, learning_rate=2e-3)
    assert again == answers


def test_what_cannot_be_an_encoder_is_one_line(encoder_folder, tmp_path):
    with pytest.raises(InputError, match="two classes"):
        encoder_baseline(str(encoder_folder), rows_of(1), rows_of(3))
    with pytest.raises(InputError, match="no such folder"):
        encoder_baseline(str(tmp_path / "none"), rows_of(3), rows_of(3))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="is no encoder with a tokenizer") as error:
        encoder_baseline(str(tmp_path), rows_of(3), rows_of(3))
    assert "\n" not in str(error.value)
