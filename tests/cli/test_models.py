"""`--model` against a hub that is here: a server on this machine which answers as the hub does."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rft_cli.commands.job.model_check import check_model
from rft_cli.errors import UsageError

ANSWERS = {
    "/org/none/": (404, "RepoNotFound"),
    "/org/gated/": (403, "GatedRepo"),
    "/org/adapter/": (404, "EntryNotFound"),
    "/org/revision/": (404, "RevisionNotFound"),
    "/org/broken/": (500, None),
    "/tinny/": (404, "RepoNotFound"),
}

ASK = """
import json, sys
from rft_cli.commands.job.model_check import check_model
from rft_cli.errors import UsageError
said = {}
for name in sys.argv[1:]:
    try:
        check_model(name, "v9" if "revision" in name else None)
        said[name] = None
    except UsageError as error:
        said[name] = [error.message, error.fix]
print(json.dumps(said))
"""


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self):
        code, error = next((a for path, a in ANSWERS.items() if self.path.startswith(path)), (200, None))
        self.send_response(code)
        if error:
            self.send_header("X-Error-Code", error)
        self.send_header("ETag", '"abc"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", "2")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def ask(tmp_path, request):
    """What check_model says of these names, with the hub at the server here."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(*names, endpoint=f"http://127.0.0.1:{server.server_port}"):
        env = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")}
        env |= {"NO_PROXY": "*", "no_proxy": "*", "PYTHONPATH": str(request.config.rootpath)}
        env.pop("TRANSFORMERS_OFFLINE", None)
        command = [sys.executable, "-c", ASK, *names]
        found = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True)
        return json.loads(found.stdout)

    yield run
    server.shutdown()
    server.server_close()


def test_what_the_hub_says_becomes_a_message_and_a_fix(ask):
    said = ask("org/good", "org/adapter", "org/none", "org/gated", "org/revision", "org/broken", "tinny")
    assert said["org/good"] is None
    assert said["org/adapter"] is None
    assert said["org/none"][0] == "org/none is neither a directory nor a model on the Hugging Face hub"
    assert said["org/gated"][0] == "org/gated is gated on the Hugging Face hub, and you have no access"
    assert said["org/revision"] == ["org/revision has no revision v9", "correct model.revision"]
    assert "the Hugging Face hub can't be reached: " in said["org/broken"][0]
    assert said["tinny"][1] == "did you mean builtin/tiny?"


def test_no_connection_is_said_as_such(ask):
    said = ask("org/good", endpoint="http://127.0.0.1:1")
    assert "the Hugging Face hub can't be reached" in said["org/good"][0]


def test_a_downloaded_model_needs_no_hub(tmp_path, ask):
    folder = tmp_path / "hf" / "hub" / "models--org--none"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    assert ask("org/none") == {"org/none": None}


def test_directories_that_are_models(tmp_path):
    for name in ("config.json", "adapter_config.json"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("{}")
        (folder / "model.safetensors").write_bytes(b"")
        check_model(str(folder))
    with pytest.raises(UsageError) as caught:
        check_model("./nowhere/model")
    assert caught.value.fix == "there is no folder nowhere either"


def test_a_configuration_without_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"holds a config\.json and no weights"):
        check_model(str(tmp_path))
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"")
    check_model(str(tmp_path))
