"""The dashboard's files: the page for who is signed in, the form for who is not, and what both are drawn with.

It owns their types, caching and the policy that the browser holds them to; it refuses to know who may sign in and how. The
files hold no secrets: what the page shows, it reads from the API.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import resources

from aiohttp import web

from patter.server.answers import Refused
from patter.server.endpoint import Endpoint

ROOT = "/dashboard"
PAGE, FORM = "index.html", "login.html"
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml; charset=utf-8",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is sent."""

    body: bytes = field(repr=False)
    kind: str
    tag: str


class Page:
    """The entries under /dashboard. `signed_in` says whether a request carries a valid sign-in."""

    def __init__(self, signed_in: Callable[[web.Request], bool]) -> None:
        self._signed_in = signed_in
        self._files = _files()

    def endpoints(self) -> list[Endpoint]:
        """The entries of the API's table; what they show is open to everybody."""
        return [
            Endpoint("GET", ROOT, self.show, "open", "The dashboard, or the form to sign in", content="text/html"),
            Endpoint("GET", f"{ROOT}/{{file}}", self.file, "open", "What the dashboard is drawn with", content="*/*"),
        ]

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The page, or the form to sign in. Which of them depends on the cookie: neither may be kept for the other."""
        answer = _sent(request, self._files[PAGE if self._signed_in(request) else FORM])
        answer.headers["Vary"] = "Cookie"
        return answer

    async def file(self, request: web.Request) -> web.StreamResponse:
        """A file by its bare name: there is nothing to climb out of. Raises Refused."""
        found = self._files.get(request.match_info["file"])
        if found is None or found.kind == TYPES["html"]:
            raise Refused(404, f"There is nothing at {request.path}.")
        return _sent(request, found)


def _files() -> dict[str, File]:
    """All of them, read once: they are a few dozen, and change only with the version."""
    found = {}
    for entry in resources.files("patter.server").joinpath("page").iterdir():
        kind = TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None and entry.is_file():
            body = entry.read_bytes()
            found[entry.name] = File(body, kind, sha256(body).hexdigest()[:32])
    return found


def _sent(request: web.Request, file: File) -> web.Response:
    """The file, or that what the browser has is still right. It asks each time: a new version is seen at once."""
    headers = HEADERS | {"Cache-Control": "no-cache", "ETag": f'"{file.tag}"'}
    known = request.if_none_match or ()
    if any(tag.value in (file.tag, "*") for tag in known):
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.body, headers=headers | {"Content-Type": file.kind})
