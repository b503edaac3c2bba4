"""Who may ask: the holder of the token, from this machine, and for changes from a page of this dashboard."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", re.IGNORECASE)
"""Names under which a browser on this machine, or at the other end of `ssh -L`, reaches the dashboard."""
SAFE = ("GET", "HEAD")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # not no-referrer: with it browsers send `Origin: null` with a form
    "referrer-policy": "same-origin",
}
_OPENED = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">'
    '<link rel="icon" href="/static/icon.svg"><title>rft dashboard</title>'
    '<p><a href="/">Open the dashboard</a></p></html>'
)


class Guard:
    """ASGI middleware: refuses with 403 what lacks the token, names another host or comes from another origin.

    `token` is in the address that the command prints; the browser gets it as a cookie. `once` also opens the dashboard,
    one time: it goes on the browser's command line, which other users of the machine can read.
    """

    def __init__(self, app: ASGIApp, *, token: str, once: str, port: int) -> None:
        self._app = app
        self._token = token
        self._once: str | None = once
        # Cookies are not kept apart by port: two dashboards need two names.
        self._cookie = f"rft_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        answer = self._refusal_or_opening(scope)
        await (answer or self._app)(scope, receive, hardened)

    def _refusal_or_opening(self, scope: Scope) -> Response | None:
        """None for a request that may pass."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if HOSTS.fullmatch(host) is None:
            return _refused("this name is not one of the dashboard's: open http://127.0.0.1")
        offered = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if offered and scope["method"] in SAFE:
            return self._opening(offered[0]) or _refused(WRONG_TOKEN)
        if not self._is_token(self._in_cookie(headers.getlist("cookie"))):
            return _refused(NO_TOKEN)
        if scope["method"] not in SAFE and headers.get("origin") != f"http://{host}":
            return _refused("a change is accepted from the dashboard's own pages only")
        return None

    def _opening(self, offered: str) -> Response | None:
        # Constant time for the lasting one; the other is used up by its first use.
        if self._once is not None and secrets.compare_digest(offered.encode(), self._once.encode()):
            self._once = None
        elif not self._is_token(offered):
            return None
        # No redirect: the browser counts one as part of what led to this address, another site maybe, and would
        # not send a SameSite=Strict cookie with it.
        answer = HTMLResponse(_OPENED)
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        return answer

    def _is_token(self, offered: str) -> bool:
        return secrets.compare_digest(offered.encode(), self._token.encode())

    def _in_cookie(self, headers: Sequence[str]) -> str:
        for header in headers:
            try:
                found = SimpleCookie(header).get(self._cookie)
            except CookieError:
                continue
            if found is not None:
                return found.value
        return ""


NO_TOKEN = "open the address that `rft dashboard` printed: it has the token"
WRONG_TOKEN = "wrong token: open the address that the running `rft dashboard` printed"


def _refused(why: str) -> Response:
    return PlainTextResponse(f"403: {why}\n", status_code=403)
