"""`rft serve` of a LoRA run, asked by OpenAI's own client; `rft try` and `rft validate --endpoint` on the same."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from rft_cli.runs import Run
from rft_cli.types import Sample
from tests.command import RFT, Ended, environment, rft


@dataclass
class Served:
    run: Run
    document: dict[str, Any]
    process: psutil.Process

    @property
    def url(self) -> str:
        return str(self.document["url"])

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key="secret", max_retries=0, timeout=120)

    def samples(self, name: str) -> list[Sample]:
        """The run's greedy completions of its validation rows."""
        step = 0 if name == "base" else self.run.info["best_step"]
        return self.run.read_samples(f"step-{step:06d}")

    def post(self, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
        sent = {"Content-Type": "application/json", "Authorization": "Bearer secret", **headers}
        request = urllib.request.Request(f"{self.url}/chat/completions", body, sent)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["error"]


@pytest.fixture(scope="module")
def served(lora_run: Run) -> Iterator[Served]:
    """Base and best model side by side; a signal ends both engines."""
    command = [
        *RFT,
        "serve",
        str(lora_run.path),
        "--compare",
        "--port",
        "0",
        "--api-key-env",
        "KEY",
        "--json",
    ]
    process = subprocess.Popen(
        command, env=environment(KEY="secret"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = []
    while not lines or lines[-1] != "}\n":
        lines.append(process.stdout.readline())
        assert lines[-1], process.communicate()
    own = psutil.Process(process.pid)
    engines = own.children(recursive=True)
    assert len(engines) >= 4
    yield Served(lora_run, json.loads("".join(lines)), own)
    process.terminate()
    rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest) == (143, ""), errors
    assert errors.endswith("stopped\n")
    assert psutil.wait_procs(engines, timeout=30)[1] == []


def ask(served: Served, name: str, prompt: str, stream: bool, max_tokens: int | None = None) -> str:
    create = served.client.chat.completions.create
    messages: Any = [{"role": "user", "content": prompt}]
    limit: Any = {} if max_tokens is None else {"max_tokens": max_tokens}
    if not stream:
        found = create(model=name, messages=messages, temperature=0, **limit)
        assert found.model == name
        return found.choices[0].message.content or ""
    events = list(create(model=name, messages=messages, temperature=0, stream=True, **limit))
    assert {event.model for event in events} == {name}
    return "".join(event.choices[0].delta.content or "" for event in events if event.choices)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["base", "tuned"])
def test_the_openai_client_gets_what_validation_gave(served: Served, name: str, stream: bool) -> None:
    for sample in served.samples(name):
        assert ask(served, name, sample.prompt, stream) == sample.completion


def test_200_requests_of_32_clients_at_once_lose_nothing(served: Served) -> None:
    samples = {name: served.samples(name) for name in ("base", "tuned")}

    def is_begun(number: int) -> bool:
        """Whether the answer is the beginning of what validation gave: four tokens show whose it is."""
        name = ("base", "tuned")[number // 2 % 2]
        sample = samples[name][number % 8]
        text = ask(served, name, sample.prompt, stream=number % 3 == 0, max_tokens=4)
        return bool(text) and sample.completion.startswith(text)

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(is_begun, range(200))) == [True] * 200


def test_models_health_and_texts(served: Served) -> None:
    assert [model.id for model in served.client.models.list()] == ["base", "tuned"]
    with urllib.request.urlopen(served.url.replace("/v1", "/health"), timeout=60) as reply:
        assert json.load(reply) == {"status": "ok", "models": ["base", "tuned"]}
    sample = served.samples("tuned")[0]
    found = served.client.completions.create(
        model="tuned", prompt=f"<|user|>{sample.prompt}<|end|><|assistant|>", temperature=0
    )
    assert found.choices[0].text == sample.completion


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"{nope", {}, 400, "the request is not valid JSON"),
        (b'{"messages": []}', {}, 400, "model is missing; there is: base, tuned"),
        (b'{"model": "gpt-4o"}', {}, 404, "there is no model 'gpt-4o' here; there is: base, tuned"),
        (
            b'{"model": "base", "messages": [{"role": "user", "content": "LONG"}]}',
            {},
            400,
            "the model's context is 512",
        ),
        (b'{"model": "base", "messages": [{"role": "x", "content": "a"}], "banana": 1}', {}, 422, "banana"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "Content-Type: application/json"),
        (b"{}", {"Authorization": "Bearer wrong"}, 401, "the API key is missing or wrong"),
    ],
)
def test_a_wrong_request_gets_an_error_of_openais_form(
    served: Served, body: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    found, error = served.post(body.replace(b"LONG", b"word " * 2000), **headers)
    assert found == status
    assert message in error["message"]
    assert error["type"] == "invalid_request_error"


def test_clients_that_go_away_stop_nobody(served: Served) -> None:
    body = json.dumps(
        {"model": "base", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    ).encode()
    port = int(served.url.split(":")[2].split("/")[0])
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer secret\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    for content in (body[:9], body, body.replace(b"true", b"null")):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(head + content)
    sample = served.samples("base")[0]
    assert ask(served, "base", sample.prompt, stream=False) == sample.completion


def test_the_reward_through_the_endpoint_is_the_runs(served: Served, tmp_path: Path) -> None:
    def validate(name: str) -> Ended:
        asked = (
            "--endpoint",
            served.url,
            "--model",
            name,
            "--api-key-env",
            "KEY",
            "--set",
            "grader.audit=none",
        )
        flags = ("--run", served.run.path, *asked, "--json", "--quiet")
        return rft("validate", *flags, folder=tmp_path, env={"KEY": "secret"})

    done = validate("tuned")
    assert (done.code, done.errors) == (0, [])
    document = json.loads(done.out)
    assert document["same_completions"] == 8
    assert document["validation"]["difference"]["mean"] == 0
    assert document["validation"]["after"] == document["validation"]["before"]
    [problem] = validate("tuna").problems
    assert problem == (
        f"the endpoint {served.url} does not answer for the model 'tuna': "
        "HTTP 404: there is no model 'tuna' here; there is: base, tuned"
    )


def test_a_port_in_use_is_one_message(served: Served, tmp_path: Path) -> None:
    port = served.url.split(":")[2].split("/")[0]
    done = rft("serve", served.run.path, "--port", port, folder=tmp_path)
    assert (done.code, done.problems) == (2, [f"port {port} is in use"])


def test_try_asks_base_and_tuned_what_validation_asked(lora_run: Run, tmp_path: Path) -> None:
    first = lora_run.read_samples(f"step-{lora_run.info['best_step']:06d}")[0]
    base = lora_run.read_samples("step-000000")[0]
    done = rft("try", lora_run.path, "-", "--json", folder=tmp_path, given=f"{first.prompt}\n".encode())
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert [(each["model"], each["completion"]) for each in document["completions"]] == [
        ("base", base.completion),
        ("tuned", first.completion),
    ]
    assert rft("try", lora_run.path, " ", folder=tmp_path).problems == ["the prompt is empty"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "nothing is neither a run nor a model's directory"),
        ((".",), ". holds no model: neither config.json nor adapter_config.json, and it is not a run"),
        (("./model.gguf",), "./model.gguf: no such model directory"),
        (("builtin/tiny", "--engine", "vlm"), "--engine 'vlm' is not known"),
        (("builtin/tiny", "--compare"), "--compare needs a run; builtin/tiny is none"),
        (("builtin/tiny", "--api-key-env", "NOT_SET"), "--api-key-env NOT_SET: the variable is not set"),
    ],
)
def test_what_can_not_be_served_is_one_message(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = rft("serve", *arguments, folder=tmp_path)
    assert (done.code, done.problems) == (2, [message])
