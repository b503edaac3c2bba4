"""A small real server that answers like vLLM: `python vllm_like.py --model M --port P ...`, with vLLM's own arguments.

A model of transformers is behind it. It loads adapters with PEFT from the folders that it is given, samples with them,
and reports the log-probabilities it sampled from. `POST /faults` makes it do what real servers do now and then, until
the next one:

    old         answers from the version before the newest one, and says so
    silent_old  the same under the newest one's name
    raw         gives log-probabilities before temperature, as vLLM's default
    noise       gives log-probabilities that are off by so much
    no_ids      gives no token ids, as vLLM of old
    slow        answers after so many seconds
    no_lora     has no route for adapters, and no_reload none for whole weights
    context, root: of its list of models

`--die N FILE`: it dies in the middle of completion request N, once; FILE keeps that it did.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("model", "dtype", "host", "logprobs-mode", "generation-config", "seed", "max-loras"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--port", type=int)
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--max-lora-rank", type=int)
    for name in ("enforce-eager", "enable-lora", "trust-remote-code"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--die", nargs=2)
    return parser.parse_args()


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Served:
    """The model with its adapters; one request at a time."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.name = options.model
        self.requests = 0
        self.lock = threading.Lock()
        torch.manual_seed(int(options.seed or 0))
        self.set_faults({})

    def set_faults(self, faults: dict[str, Any]) -> None:
        """Begin anew, with these faults."""
        self.faults = faults
        self.base: Any = AutoModelForCausalLM.from_pretrained(self.options.model, dtype=torch.float32).eval()
        self.model: Any = self.base
        self.adapters: dict[str, str] = {}
        self.weight_version = "default"

    def cards(self) -> dict[str, Any]:
        root = self.faults.get("root", self.options.model)
        context = self.faults.get("context", self.options.max_model_len)
        cards = [{"id": self.name, "root": root, "parent": None, "max_model_len": context}]
        cards += [{"id": name, "root": place, "parent": self.name} for name, place in self.adapters.items()]
        return {"object": "list", "data": cards}

    def load(self, body: dict[str, Any]) -> None:
        if "lora_name" not in body or "lora_path" not in body:
            raise Refused(400, "Field required")
        name, place = body["lora_name"], body["lora_path"]
        if name in self.adapters:
            raise Refused(400, f"The lora adapter '{name}' has already been loaded.")
        if not Path(place, "adapter_config.json").is_file():
            raise Refused(404, f"Loading lora {name} failed: No adapter found for {place}")
        if self.model is self.base:
            self.model = PeftModel.from_pretrained(self.base, place, adapter_name=_key(name))
        else:
            self.model.load_adapter(place, adapter_name=_key(name))
        self.model.eval()
        self.adapters[name] = place

    def unload(self, body: dict[str, Any]) -> None:
        if self.adapters.pop(body.get("lora_name", ""), None) is None:
            raise Refused(404, "cannot be found")

    def rpc(self, body: dict[str, Any]) -> None:
        if "method" not in body:
            raise Refused(400, "Missing 'method' in request body")
        weights: dict[str, Any] = {}
        for file in Path(body["kwargs"]["weights_path"]).glob("*.safetensors"):
            weights |= load_file(str(file))
        self.base.load_state_dict(weights, strict=False)

    @torch.no_grad()
    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        die, asked = self.options.die, body["model"]
        self.requests += 1
        time.sleep(self.faults.get("slow", 0))
        if die and self.requests >= int(die[0]) and not Path(die[1]).exists():
            Path(die[1]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if asked != self.name and asked not in self.adapters:
            raise Refused(404, f"The model `{asked}` does not exist.")
        known, silent = list(self.adapters), "silent_old" in self.faults
        old = (silent or "old" in self.faults) and len(known) > 1 and asked == known[-1]
        used = known[-2] if old else asked
        bare: Any = contextlib.nullcontext()
        if self.adapters and used == self.name:
            bare = self.model.disable_adapter()
        elif self.adapters:
            self.model.set_adapter(_key(used))
        with bare:
            choices = [self._choice(self.model, i, p, body) for i, p in enumerate(body["prompt"])]
        return {"object": "text_completion", "model": asked if silent else used, "choices": choices}

    def _choice(self, model: Any, index: int, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        if len(prompt) + body["max_tokens"] > self.options.max_model_len:
            raise Refused(400, f"max_model_len={self.options.max_model_len}")
        ids, logps, cache = torch.tensor([prompt]), [], None
        found: list[int] = []
        while len(found) < body["max_tokens"]:
            output = model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            raw = output.logits[0, -1].float()
            processed = (raw / (body["temperature"] or 1.0)).log_softmax(-1)
            token = int(torch.multinomial(processed.exp(), 1) if body["temperature"] else raw.argmax())
            mode = raw.log_softmax(-1) if "raw" in self.faults else processed
            noise = self.faults.get("noise", 0.0) * (1 if len(found) % 2 else -1)
            logps.append(float(mode[token]) + noise)
            found.append(token)
            if token in body["stop_token_ids"]:
                break
            ids = torch.tensor([[token]])
        reason = "stop" if found[-1] in body["stop_token_ids"] else "length"
        return {
            "index": index,
            "finish_reason": reason,
            "token_ids": found if body["return_token_ids"] and "no_ids" not in self.faults else None,
            "logprobs": {"token_logprobs": logps},
        }


def _key(name: str) -> str:
    """PEFT keeps adapters as modules, whose names have no dots."""
    return name.replace(".", "_")


class Handler(BaseHTTPRequestHandler):
    served: Served
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        found = {
            "/health": lambda: {},
            "/version": lambda: {"version": "0.32.0"},
            "/v1/models": self.served.cards,
        }
        if not self.served.faults.get("no_reload"):
            found["/weight_info"] = lambda: {"weight_version": self.served.weight_version}
        self._answer(found.get(self.path))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        served = self.served
        found: dict[str, Any] = {
            "/v1/completions": lambda: served.complete(body),
            "/faults": lambda: served.set_faults(body),
            "/pause?mode=wait": lambda: {},
            "/resume": lambda: {},
            "/reset_prefix_cache": lambda: {},
            "/update_weight_version": lambda: setattr(served, "weight_version", body["new_version"]),
        }
        if not served.faults.get("no_lora"):
            found["/v1/load_lora_adapter"] = lambda: served.load(body)
            found["/v1/unload_lora_adapter"] = lambda: served.unload(body)
        if not served.faults.get("no_reload"):
            found["/collective_rpc"] = lambda: served.rpc(body)
        self._answer(found.get(self.path))

    def _answer(self, work: Any) -> None:
        status, content = 404, {"detail": "Not Found"}
        if work is not None:
            with self.served.lock:
                try:
                    status, content = 200, work() or {}
                except Refused as error:
                    status, content = error.status, {"error": {"message": str(error), "code": error.status}}
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def main() -> None:
    options = parsed()
    Handler.served = Served(options)
    server = ThreadingHTTPServer((options.host or "127.0.0.1", options.port), Handler)
    print(f"listening on {server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
