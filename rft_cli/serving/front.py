"""The front of `rft serve`: OpenAI's routes, the key, the models' names and a run's settings. Engines generate.

Imported when a server starts, because starlette and httpx2 are an extra.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rft_cli.serving.engine_process import EngineProcess
from rft_cli.serving.requests import Kind, Refused, for_engine, read_body

_PATHS: dict[Kind, str] = {"chat": "/v1/chat/completions", "text": "/v1/completions"}
_LARGEST = 64 * 1024 * 1024
"""Bytes of a request."""


class Front:
    """The application: it hands each request to the engine of the model that the request names."""

    def __init__(self, engines: Sequence[EngineProcess], key: str | None) -> None:
        self._engines = {process.model.name: process for process in engines}
        self._key = key
        self._created = int(time.time())
        # Completions take as long as they take, and as many at a time as clients ask for.
        self._client = httpx2.AsyncClient(
            timeout=None,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=False,
        )
        self.app = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._model),
                Route(_PATHS["chat"], self._chat, methods=["POST"]),
                Route(_PATHS["text"], self._text, methods=["POST"]),
            ],
            exception_handlers={404: _no_route, 405: _no_route, Refused: _refuse},
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await self._client.aclose()

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "models": list(self._engines)})

    async def _models(self, request: Request) -> Response:
        self._check_key(request)
        return JSONResponse({"object": "list", "data": [self._described(name) for name in self._engines]})

    async def _model(self, request: Request) -> Response:
        self._check_key(request)
        return JSONResponse(self._described(self._engine(request.path_params["name"]).model.name))

    async def _chat(self, request: Request) -> Response:
        return await self._complete(request, "chat")

    async def _text(self, request: Request) -> Response:
        return await self._complete(request, "text")

    def _described(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "rft"}

    def _engine(self, name: Any) -> EngineProcess:
        if not isinstance(name, str) or name not in self._engines:
            known = ", ".join(self._engines)
            raise Refused(
                404, f"there is no model {name!r} here; there is: {known}", "model_not_found", "model"
            )
        return self._engines[name]

    def _check_key(self, request: Request) -> None:
        if self._key is None:
            return
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(sent.encode(), self._key.encode()):
            raise Refused(401, "the API key is missing or wrong", "invalid_api_key")

    async def _complete(self, request: Request, kind: Kind) -> Response:
        self._check_key(request)
        # A web page can post any other type to this address without being asked.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(415, "the request must have the header Content-Type: application/json")
        body = read_body(await _content(request))
        if "model" not in body:
            raise Refused(400, f"model is missing; there is: {', '.join(self._engines)}", param="model")
        process = self._engine(body["model"])
        sent = for_engine(body, kind, process.model, process.engine)
        answer = await self._ask(request, process, kind, sent)
        if answer is None:
            return Response(status_code=499)
        name = process.model.name
        if answer.is_success and sent.get("stream"):
            return StreamingResponse(_stream(answer, name), media_type="text/event-stream")
        content = await answer.aread()
        await answer.aclose()
        return _whole(answer, content, name)

    async def _ask(
        self, request: Request, process: EngineProcess, kind: Kind, body: dict[str, Any]
    ) -> httpx2.Response | None:
        """The engine's answer, to be read; None where the client has gone meanwhile."""
        to_engine = self._client.build_request("POST", process.url + _PATHS[kind], json=body)
        asked = asyncio.ensure_future(self._client.send(to_engine, stream=True))
        gone = asyncio.ensure_future(_until_gone(request))
        try:
            await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                return None
            return asked.result()
        except httpx2.HTTPError as error:
            said = str(error) or type(error).__name__
            raise Refused(502, f"the engine {process.engine.name} does not answer: {said}") from None
        finally:
            asked.cancel()
            gone.cancel()


async def _content(request: Request) -> bytes:
    found = b""
    try:
        async for part in request.stream():
            found += part
            if len(found) > _LARGEST:
                raise Refused(413, f"the request is larger than {_LARGEST // 1024**2} MB")
    except ClientDisconnect:
        raise Refused(400, "the request ended early") from None
    return found


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _whole(answer: httpx2.Response, content: bytes, name: str) -> Response:
    """The engine's answer under the model's public name; an error in OpenAI's form."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if not answer.is_success:
        raise Refused(answer.status_code, _error_text(body, content))
    if not isinstance(body, dict):
        raise Refused(502, "the engine's answer is not JSON")
    return JSONResponse({**body, "model": name})


def _error_text(body: Any, content: bytes) -> str:
    for key in ("error", "detail", "message"):
        if isinstance(body, dict) and key in body:
            body = body[key]
    if body is None:
        body = content.decode(errors="replace")
    text = body if isinstance(body, str) else json.dumps(body)
    return text.strip()[:1000] or "the engine failed"


async def _stream(answer: httpx2.Response, name: str) -> AsyncIterator[str]:
    """The engine's events under the model's public name; an error event where it breaks off."""
    ended = False
    try:
        async for line in answer.aiter_lines():
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            ended = data == "[DONE]"
            yield f"data: {data if ended else _event(data, name)}\n\n"
    except httpx2.HTTPError:
        yield f"data: {_event('', name)}\n\n"
    finally:
        await answer.aclose()
    if not ended:
        yield "data: [DONE]\n\n"


def _event(data: str, name: str) -> str:
    try:
        event = json.loads(data)
    except ValueError:
        event = {"error": "the engine broke off"}
    if "error" in event:
        return json.dumps(Refused(500, _error_text(event, b"")).body)
    return json.dumps({**event, "model": name}, ensure_ascii=False)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse(error.body, status_code=error.status)


async def _no_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return JSONResponse(
        Refused(status, f"there is no {request.method} {request.url.path} here").body, status_code=status
    )
