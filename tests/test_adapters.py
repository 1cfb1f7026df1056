"""An adapter records how it was trained to be asked; anything else must be said explicitly."""

import json
from dataclasses import replace

import pytest

from helpers import InputError, adapters, templating
from helpers.adapters import AdapterPrompt
from helpers.templating import PromptFormat

OWN = AdapterPrompt("gemma-3-270m", PromptFormat(templating.EDITOR, 288, True), ["Art", "Law"])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    adapters.write_prompt(tmp_path, OWN)
    return tmp_path


def test_what_is_written_is_read(folder):
    assert adapters.read_prompt(folder) == OWN
    values = json.loads((folder / "prompt.json").read_text(encoding="utf-8"))
    assert values["template"] == templating.EDITOR and values["labels"] == ["Art", "Law"]


def test_it_says_whether_headers_were_removed_and_one_from_before_does_not(folder):
    adapters.write_prompt(folder, replace(OWN, strip_header=True))
    assert adapters.read_prompt(folder) == replace(OWN, strip_header=True)
    values = json.loads((folder / "prompt.json").read_text(encoding="utf-8"))
    del values["strip_header"]
    (folder / "prompt.json").write_text(json.dumps(values), encoding="utf-8")
    assert adapters.read_prompt(folder) == OWN


def test_a_wish_that_contradicts_is_refused_unless_it_is_meant(folder):
    assert adapters.resolve(folder, max_length=288, template=None) == OWN
    with pytest.raises(InputError, match="template plain where it learned editor") as error:
        adapters.resolve(folder, template=templating.PLAIN, max_length=256)
    assert "max_length 256 where it learned 288" in str(error.value)
    assert "\n" not in str(error.value)
    meant = adapters.resolve(folder, insist=True, template=templating.PLAIN)
    assert meant.prompt_format == PromptFormat(templating.PLAIN, 288, True)


@pytest.mark.parametrize("name", adapters.WEIGHTS)
def test_a_folder_without_an_adapter_is_one_line(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        adapters.adapter_digest(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match="a whole model, as make export writes one"):
        adapters.adapter_digest(folder)


def test_an_adapter_from_before_says_what_to_write(folder):
    (folder / "prompt.json").unlink()
    with pytest.raises(InputError, match="write the file by hand") as error:
        adapters.read_prompt(folder)
    example = str(error.value).split("by hand: ")[1]
    (folder / "prompt.json").write_text(example, encoding="utf-8")
    assert adapters.read_prompt(folder).model == "gemma-3-270m"


@pytest.mark.parametrize(
    "change",
    [
        *({"max_length": "288"}, {"bos": None}, {"cut": "tail"}, {"labels": [1]}, {"template": ""}),
        *({"max_length": -5}, {"labels": ["a", "a"]}, {"labels": ["a", " "]}),
    ],
)
def test_a_damaged_file_is_one_line(folder, change):
    path = folder / "prompt.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match="is not sound"):
        adapters.read_prompt(folder)
    path.write_text("[]")
    with pytest.raises(InputError, match="is not sound"):
        adapters.read_prompt(folder)


@pytest.mark.parametrize("template", ["plain", "{text}", "{text}{text}{options}"])
def test_a_template_without_article_or_options_is_refused(folder, template):
    path = folder / "prompt.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"template": template}))
    with pytest.raises(InputError, match=r"prompt.json: template must hold \{text\} once"):
        adapters.read_prompt(folder)


def test_an_adapter_cannot_trust_code_in_the_readers_place(folder):
    """An adapter may come from anywhere; only a profile in this project may allow code to run."""
    values = json.loads((folder / "prompt.json").read_text(encoding="utf-8"))
    for model in ("trust:some/model", "trust:baichuan-inc/Baichuan2-7B"):
        (folder / "prompt.json").write_text(json.dumps(values | {"model": model}))
        with pytest.raises(InputError, match=f"`model: {model}` in a profile") as error:
            adapters.read_prompt(folder)
        assert "\n" not in str(error.value)
    named = "trust:baichuan-inc/Baichuan2-7B-Base"
    (folder / "prompt.json").write_text(json.dumps(values | {"model": named}))
    assert adapters.read_prompt(folder).model == named


def test_a_file_that_an_editor_marked_is_read(folder):
    path = folder / "prompt.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert adapters.read_prompt(folder) == OWN
