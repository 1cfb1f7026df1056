"""Files appear whole or not at all, are not written for nothing, and lines end at \\n only."""

import os
import stat

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from helpers import InputError, files


def test_a_file_that_would_stay_the_same_is_not_written(tmp_path):
    path = tmp_path / "deep" / "rows.jsonl"
    files.write_jsonl(path, [{"a": 1}])
    before = path.stat()
    files.write_jsonl(path, iter([{"a": 1}]))
    assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_ino == before.st_ino
    files.write_jsonl(path, [{"a": 2}])
    assert files.read_jsonl(path) == [{"a": 2}]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "text"
    files.write_text(path, ["old"])

    def parts():
        yield "new"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        files.write_text(path, parts())
    with pytest.raises(TypeError):
        files.write_jsonl(path, [{"text": "new"}, {"text": object()}])
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["text"]


def test_lines_end_at_one_character_only(tmp_path):
    text = "a\u2028b\x85c\x0bd\x1ee\rf\r\ng"
    files.write_jsonl(tmp_path / "rows.jsonl", [{"text": text}] * 2)
    assert files.read_jsonl(tmp_path / "rows.jsonl") == [{"text": text}] * 2


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(InputError, match="line 2: invalid JSON"):
        files.read_jsonl(tmp_path / "rows.jsonl")


class Saved:
    """An object that saves nothing, or fails as a library does on a full disk."""

    def __init__(self, failure=None):
        self.failure = failure

    def save_pretrained(self, folder):
        if self.failure:
            raise self.failure
        save_file({"a": torch.ones(2)}, folder / "model.safetensors")


def test_saved_weights_have_the_mode_of_new_files(tmp_path):
    """safetensors itself would let only the owner read them."""
    before = os.umask(0o027)
    try:
        files.save_model(Saved(), Saved(), tmp_path)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.filemode((tmp_path / "model.safetensors").stat().st_mode) == "-rw-r-----"


def test_a_full_disk_is_an_error_of_the_system_whoever_meets_it(tmp_path):
    full = "I/O error: No space left on device (os error 28)"
    for parts in (
        (Saved(SafetensorError(full)), Saved()),
        (Saved(), Saved(Exception(full))),  # tokenizers
    ):
        with pytest.raises(OSError) as error:
            files.save_model(*parts, tmp_path)
        assert full in error.value.strerror and "\n" not in error.value.strerror
    with pytest.raises(RuntimeError):
        files.save_model(Saved(RuntimeError()), Saved(), tmp_path)
