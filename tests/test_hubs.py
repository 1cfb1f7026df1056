"""ModelScope's and Hugging Face's own clients against a server on the loopback.

The server speaks what the installed clients use of both protocols: listings, files, revisions and
ranges. Each fetch runs in a process of its own, because the clients read their addresses only once.
"""

import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from conftest import project_environment

from helpers import ROOT
from helpers.hubs import DATA
from helpers.locations import UNREAD
from helpers.readers import READERS

ROW = {"text": "今天的比赛很精彩。", "category": ["体育", "财经"], "output": "体育"}
LINE = (json.dumps(ROW, ensure_ascii=False) + "\n").encode()
REPOSITORIES = {
    "swift/zh_cls_fudan-news": {
        "main": {"train.jsonl": LINE * 4, "test.jsonl": LINE * 2, "README.md": b"# rows\n"},
        "v1": {"train.jsonl": LINE * 3, "README.md": b"# rows\n"},
    },
    "someone/scripted": {"main": {"scripted.py": b"raise SystemExit('it ran')\n"}},
    "someone/tiny-model": {
        "main": {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"\1" * 400_000}
    },
}
COMMIT = "c" * 40


class Hub(BaseHTTPRequestHandler):
    """Both hubs at one address."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Print nothing."""

    def files(self, repository, revision):
        revisions = REPOSITORIES.get(repository, {})
        return revisions.get("main" if revision in (None, "master", COMMIT) else revision)

    def answer(self, content, status=200, headers=()):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_file(self, name, content, headers=()):
        """Send a file or its rest; where it is to break, the first answer ends half-way."""
        asked = self.headers.get("Range")
        start = int(asked.split("=")[1].split("-")[0]) if asked else 0
        self.server.asked.append((name, start))
        headers = [*headers, ("Accept-Ranges", "bytes"), ("ETag", f'"{digest(content)}"')]
        if asked:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            headers.append(("Content-Range", span))
        if name in self.server.breaking and self.command == "GET" and not start:
            self.server.breaking.discard(name)
            self.send_response(200)
            for key, value in (*headers, ("Content-Length", str(len(content)))):
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        self.answer(content[start:], 206 if asked else 200, headers)

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer({"Code": 200, "Success": True, "Data": {}})

    def do_GET(self):
        address = urlsplit(self.path)
        parts = [unquote(part) for part in address.path.strip("/").split("/")]
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if parts[:2] == ["api", "v1"] and len(parts) > 5:  # ModelScope
            content = self.files("/".join(parts[3:5]), query.get("Revision"))
            if content is None:
                return self.answer({"Code": 404, "Message": "no such repository"}, 404)
            if parts[-1] in ("files", "tree"):
                return self.answer(
                    {"Code": 200, "Success": True, "Data": {"Files": listed(content)}}
                )
            return self.send_file(query["FilePath"], content[query["FilePath"]])
        if parts[:2] == ["api", "datasets"] and len(parts) > 4:  # Hugging Face, a listing
            content = self.files("/".join(parts[2:4]), parts[5] if len(parts) > 5 else None)
            if content is None:
                return self.answer(
                    {"error": "Revision Not Found"}, 404, [("X-Error-Code", "RevisionNotFound")]
                )
            if parts[4] == "tree":
                content = self.files("/".join(parts[2:4]), self.server.revision)
                return self.answer(
                    [
                        {"type": "file", "path": name, "size": len(file), "oid": digest(file)}
                        for name, file in content.items()
                    ]
                )
            siblings = [{"rfilename": name} for name in content]
            return self.answer({"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings})
        if parts[0] == "datasets" and "resolve" in parts:
            self.server.revisions.append(parts[4])
            content = self.files("/".join(parts[1:3]), self.server.revision)
            return self.send_file(parts[-1], content[parts[-1]], [("X-Repo-Commit", COMMIT)])
        return self.answer({"Code": 200, "Success": True, "Data": {}})


def digest(content):
    return hashlib.sha256(content).hexdigest()


def listed(content):
    return [
        {"Name": n, "Path": n, "Type": "blob", "Size": len(c), "Sha256": digest(c), "IsLFS": False}
        for n, c in content.items()
    ]


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.revisions, server.breaking, server.revision = [], [], set(), None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(hub, tmp_path):
    """fetch(code) runs Python code in a process that knows only this hub; returns its output."""

    def run(code):
        address = f"http://127.0.0.1:{hub.server_port}"
        environment = project_environment(ROOT) | {
            "HOME": str(tmp_path),
            "MODELSCOPE_CACHE": str(tmp_path / "modelscope"),
            "MODELSCOPE_ENDPOINT": address,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_ENDPOINT": address,
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        return done.stdout.strip().split("\n")[-1], done.stderr

    return run


SHOW_ROWS = """
from helpers import InputError, sources
try:
    read = sources.read_source({source!r}, revision={revision!r})
    print({{name: len(rows) for name, rows in read.splits.items()}})
except InputError as error:
    print("InputError:", error)
"""


@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_a_data_set_of_the_studys_layout_is_read(fetch, hub, prefix):
    code = SHOW_ROWS.format(source=f"{prefix}swift/zh_cls_fudan-news", revision=None)
    printed, errors = fetch(code)
    assert printed == "{'train': 4, 'test': 2}", errors[-1500:]


@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_a_revision_is_another_set_of_files(fetch, hub, prefix):
    hub.revision = "v1"
    code = SHOW_ROWS.format(source=f"{prefix}swift/zh_cls_fudan-news", revision="v1")
    printed, errors = fetch(code)
    assert printed == "{'train': 3}", errors[-1500:]


@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_a_data_set_that_brings_a_script_is_refused(fetch, prefix):
    printed, _ = fetch(SHOW_ROWS.format(source=f"{prefix}someone/scripted", revision=None))
    assert "brings a script (scripted.py), which is not run" in printed


@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_what_is_not_there_is_one_line(fetch, prefix):
    printed, _ = fetch(SHOW_ROWS.format(source=f"{prefix}nobody/nothing", revision=None))
    assert printed.startswith("InputError: source") and "could not be fetched" in printed


def test_a_broken_download_goes_on_where_it_broke(fetch, hub):
    hub.breaking.add("model.safetensors")
    code = "from helpers import models; print(models.find_model('someone/tiny-model'))"
    printed, errors = fetch(code)
    if "could not be fetched" in errors:  # some clients give up at once, but go on when asked again
        printed, errors = fetch(code)
    weights = REPOSITORIES["someone/tiny-model"]["main"]["model.safetensors"]
    with open(f"{printed}/model.safetensors", "rb") as file:
        assert file.read() == weights
    starts = [start for name, start in hub.asked if name == "model.safetensors"]
    assert max(starts) > 0, starts


def test_every_format_that_is_read_is_fetched_from_a_hub():
    assert set(DATA) == {f"*{form}{end}" for form in READERS for end in ("", ".gz")}
    assert not set(UNREAD) & set(READERS)
