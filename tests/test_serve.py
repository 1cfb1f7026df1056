"""The exported folder behind `swift deploy` answers over HTTP as this project's scorer does."""

import json
import math
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from helpers import ROOT, export, models, profiles, scoring, templating

LABELS = ["Art", "Law", "Sports"]
# The article comes last, so that a random model writes something else after each article.
FORMAT = templating.PromptFormat("{options}\n{text}", 96, True)
NEW_TOKENS = 8


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command_of_the_page():
    """The words of the first `swift deploy` command on the page."""
    page = (ROOT / "book" / "serve.md").read_text(encoding="utf-8")
    line = re.search(r"^swift deploy(?:.*\\\n)*.*$", page, re.M)[0]
    return shlex.split(line.replace("\\\n", " "))


def test_the_page_gives_the_length_of_the_setting_that_it_serves():
    words = command_of_the_page()
    setting = Path(words[words.index("--model") + 1]).name
    length = profiles.read_profile("sample").training_parameters(setting)["max_length"]
    assert words[words.index("--max_length") + 1] == str(length)


@pytest.fixture(scope="module")
def server(tmp_path_factory, draw_adapter):
    """swift on the loopback with an exported folder: its address, the folder and its log."""
    run = tmp_path_factory.mktemp("run")
    draw_adapter(run / "train" / "rank4", FORMAT, LABELS, r=4)
    folder, port = export.export_model(run / "train" / "rank4" / "adapter"), free_port()
    words = command_of_the_page()
    for option, value in (("--model", folder), ("--port", port), ("--torch_dtype", "float32")):
        if option in words:
            words[words.index(option) + 1] = str(value)
        else:
            words += [option, str(value)]
    words[:1] = [sys.executable, "-m", "swift.cli.main"]
    log = run / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and process.poll() is None:
            with (
                suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2),
            ):
                break
            time.sleep(0.5)
        else:
            pytest.fail(log.read_text(encoding="utf-8", errors="replace")[-3000:])
        yield f"http://127.0.0.1:{port}/v1/", folder, log
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def post(address, body):
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_five_rows_over_http_are_answered_as_here(server, tokenizer, sample):
    address, folder, log = server
    network = models.load_model(str(folder), dtype="float32")
    texts = []
    for row in sample["test"][:5]:
        prompt = templating.fit(tokenizer, FORMAT, row | {"category": LABELS})
        [ours] = scoring.write_on(network, tokenizer, [prompt.ids], NEW_TOKENS)
        body = {"model": "news", "max_tokens": NEW_TOKENS, "temperature": 0}
        answer = post(address + "completions", body | {"prompt": prompt.text})
        assert answer["choices"][0]["text"] == ours
        assert answer["usage"]["prompt_tokens"] == len(prompt.ids)
        texts.append(ours)
        assert row["text"][:20] not in log.read_text(encoding="utf-8", errors="replace")
    assert len(set(texts)) > 1  # else a server that always says the same would pass
    # the other address gives the same, and the log-probability of the first token
    message = {"messages": [{"role": "user", "content": prompt.text}], "logprobs": True}
    [choice] = post(address + "chat/completions", body | message)["choices"]
    assert choice["message"]["content"] == ours
    with torch.inference_mode():
        nats = network(torch.tensor([prompt.ids])).logits[0, -1].log_softmax(-1).max().item()
    first = choice["logprobs"]["content"][0]["logprob"]
    assert math.isclose(first, nats, abs_tol=1e-3)


def test_a_prompt_that_nobody_cut_is_refused_at_once(server, sample):
    address, _, _ = server
    article = max((row["text"] for row in sample["test"]), key=len)
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(address + "completions", {"model": "news", "prompt": article, "max_tokens": 1})
    assert refused.value.code == 400


def test_the_server_is_for_this_machine_alone(server):
    address, _, _ = server
    port = int(re.search(r":(\d+)/", address)[1])
    listening = [c.laddr.ip for c in psutil.net_connections("tcp") if c.laddr.port == port]
    assert set(listening) == {"127.0.0.1"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(address + "completions", {"model": "other", "prompt": "x"})
    assert refused.value.code == 400
