"""What each way of cutting leaves, computed from lengths, agrees with what swift really does."""

import pytest

from helpers import models, survival, templating

INSTRUCTION = "你是一位报社编辑"


def test_survival_is_what_swift_does(tokenizer, sample):
    from swift.model import get_processor
    from swift.template import get_template

    import helpers.swift_plugin  # noqa: F401

    processor, rows = get_processor(models.find_model(models.PACKAGED)), sample["train"][:60]
    parts = survival.part_lengths(tokenizer, templating.EDITOR, rows, True)
    table = survival.survival(parts, [120, 384]).set_index(["way", "max_length"])
    for limit in (120, 384):
        for way in ("left", "right"):
            template = get_template(
                processor, max_length=limit, truncation_strategy=way, template_type="news-bos"
            )
            template.set_mode("train")
            left = []
            for row in rows:
                whole = templating.render(templating.EDITOR, row["text"], row["category"])
                turns = [("user", whole), ("assistant", row["output"])]
                messages = [{"role": role, "content": content} for role, content in turns]
                encoded = template.encode({"messages": messages})
                text = tokenizer.decode(encoded["input_ids"])
                answer = templating.encode_answer(tokenizer, row["output"])
                supervised = [token for token in encoded["labels"] if token != -100] == answer
                left.append((INSTRUCTION in text, "，".join(row["category"]) in text, supervised))
            for part, column in zip(("instruction", "options", "answer"), zip(*left)):
                share = sum(column) / len(rows)
                assert table.loc[(way, limit), part] == pytest.approx(share, abs=0.04)
    assert table.loc[("body only", 384), "all"] == 1
