"""Any server that speaks OpenAI's chat protocol as a Responder: OpenAI itself, Ollama, llama.cpp, vLLM and the like.

It owns what is asked of which server, and what its errors mean to the user; it refuses to know the protocol's JSON (the wire
does) and holds no call's state.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import anyio
from yarl import URL

from patter.exceptions import ProviderError
from patter.ports import Ask
from patter.providers.address import is_loopback
from patter.providers.retired import living
from patter.providers.vendor import Vendor, scrubbed, secret_words
from patter.providers.vendor_http import VendorReply, VendorRequest, sent
from patter.signals import ResponderPiece
from patter.wire.openai_chat import ReplyReader, call_ids, lacking, model_names, request_body

log = logging.getLogger(__name__)

OPENAI = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-6-luna"  # OpenAI's named replacement for its small models, which end in January 2027

SILENCE_S = 20.0  # no byte for so long: no caller waits on for the rest
SILENCE_LOCAL_S = 90.0  # a local server may first have to load the model from disk
TAIL_S = 0.25  # after its last word a server ends the body at once; then the connection can be used again
LACKS = "lacks "  # begins the code of an error about a part of the request that a server does not know


@dataclass(frozen=True)
class _Server(Vendor):
    """A server of models: OpenAI's errors, in the words of whoever runs or rents it."""

    root: str = ""
    local: bool = False
    silence_s: float = SILENCE_S

    def refused(
        self, stage: str, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, **more: Any
    ) -> ProviderError:
        """See `Vendor.refused`; an optional part of the request that the server does not know is the error's code."""
        error = super().refused(stage, status, body, headers, **more)
        if unknown := lacking(status, body):
            error.code, error.retryable = f"{LACKS}{unknown}", False
        return error

    def broken(self, stage: str, error: BaseException) -> ProviderError:
        """See `Vendor.broken`."""
        told = super().broken(stage, error)
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError) and told.code != "tls":
            problem = f"nothing answers at {self.root}"
            fix = "start the model server" if self.local else "check the network and the base_url"
        elif told.code == "timeout":
            problem, fix = f"it was silent for {self.silence_s:g} s", told.fix
        else:
            return told
        return ProviderError(
            problem, provider=told.provider, stage=stage, retryable=told.retryable, fix=fix, code=told.code
        )


class OpenAIChat:
    """A Responder over one shared `session`, which stays open when this is closed.

    `base_url` is the root that ends in /v1 ("" = OpenAI); `model` "" = OpenAI's small default, or the first that another
    server lists. `name` is how it is called in prices and on screen: default "openai", "local" on loopback, else the host."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        api_key: str = "",
        model: str = "",
        base_url: str = "",
        name: str = "",
    ) -> None:
        self._session = session
        root = (base_url or OPENAI).rstrip("/")
        own, local = root == OPENAI, is_loopback(root)
        self.name = name or _name(root)
        self.model, self.warning = living(model or DEFAULT_MODEL) if own else (model, "")
        """`warning` is a sentence for the user if the name is retired and another one is used instead, otherwise ""."""
        self._server = _Server(
            self.name,
            "OpenAI" if own else self.name,
            "OPENAI_API_KEY" if own else "the api_key of the agent's llm settings",
            root,
            local,
            SILENCE_LOCAL_S if local else SILENCE_S,
        )
        self._headers = {
            "Authorization": f"Bearer {api_key or 'none'}",
            "Accept": "text/event-stream, application/json",
        }
        self._lacks: set[str] = set()

    async def respond(self, ask: Ask) -> AsyncIterator[ResponderPiece]:
        """The reply as it comes. Raises ProviderError that says whose fault it is. Closing it closes the connection.

        What a reply has cost that is cut off before the server counts it is estimated, and told to `ask.count`."""
        if not self.model:
            self.model = await self._first_model()
        while True:
            body = request_body(
                ask, self.model, usage="stream_options" not in self._lacks, tools="tools" not in self._lacks
            )
            try:
                async with aclosing(self._reply(ask, body)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except ProviderError as error:
                unknown = error.code.removeprefix(LACKS) if error.code.startswith(LACKS) else ""
                if not unknown or unknown in self._lacks:
                    raise
                log.warning("the model server lacks a feature", extra={"server": self.name, "lacks": unknown})
                self._lacks.add(unknown)

    async def aclose(self) -> None:
        """Nothing to close: the session belongs to whoever made it."""

    async def models(self) -> list[str]:
        """The names of the models that the server offers. Raises ProviderError."""
        async with sent(self._session, self._request("GET", "/models", attempts=1)) as reply:
            body = await reply.response.read()
        try:
            names = model_names(json.loads(body))
        except ValueError:
            names = None
        if names is None:
            raise self._error(
                "this is no server that speaks OpenAI's protocol", fix=f"check the base_url {self._server.root!r}"
            )
        return names

    async def _first_model(self) -> str:
        names = [name for name in await self.models() if "embed" not in name.lower()]
        if not names:
            fix = "load one (with Ollama: ollama pull llama3.2), or name it in the agent's llm settings"
            raise self._error("the server has no model", fix=fix)
        return names[0]

    async def _reply(self, ask: Ask, body: dict[str, Any]) -> AsyncGenerator[ResponderPiece, None]:
        reader = ReplyReader(
            self.name,
            tools=[tool["name"] for tool in ask.tools],
            taken=call_ids(ask.messages),
            clean=lambda said: scrubbed(said, secret_words(self._headers.items())),
        )
        async with sent(self._session, self._request("POST", "/chat/completions", body)) as reply:
            for told in reply.told:
                yield told
            left = True
            try:
                async with aclosing(_read(reader, reply)) as pieces:
                    async for piece in pieces:
                        yield piece
                left = False
            finally:
                if left and (owed := reader.owed(body, left=True)) is not None:
                    ask.count(replace(owed, provider=self.name, model=self.model))
            if (owed := reader.owed(body, left=False)) is not None:
                yield owed
            await _tail(reply)

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None, attempts: int = 2) -> VendorRequest:
        return VendorRequest(
            self._server,
            "llm",
            method,
            f"{self._server.root}{path}",
            self._headers,
            body,
            attempts=attempts,
            silence_s=self._server.silence_s,
            what=f"the model {self.model!r} or the address {self._server.root!r}",
        )

    def _error(self, problem: str, *, fix: str = "") -> ProviderError:
        return ProviderError(problem, provider=self.name, stage="llm", fix=fix)


async def _read(reader: ReplyReader, reply: VendorReply) -> AsyncGenerator[ResponderPiece, None]:
    if "json" in reply.response.headers.get("Content-Type", ""):
        for piece in reader.whole(await reply.response.read()):
            yield piece
    else:
        async for data in reply.response.content.iter_any():
            for piece in reader.feed(data):
                yield piece
            if reader.done:
                break
    for piece in reader.close():
        yield piece


async def _tail(reply: VendorReply) -> None:
    """Read what follows the last word, so that the connection can be used again."""
    with anyio.move_on_after(TAIL_S), suppress(aiohttp.ClientError):  # the reply is whole, however the rest ends
        async for _ in reply.response.content.iter_any():
            pass


def _name(root: str) -> str:
    if root == OPENAI:
        return "openai"
    return "local" if is_loopback(root) else (URL(root).host or root)
