"""Any server that speaks OpenAI's chat protocol as a Responder: OpenAI itself, Ollama, llama.cpp, vLLM and the like.

It owns the connection, its time limits and what an error means to the user; it refuses to know the protocol's JSON (the wire
does) and holds no call's state.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anyio
from yarl import URL

from patter.exceptions import ProviderError
from patter.ports import Ask
from patter.providers.address import is_loopback
from patter.signals import ResponderPiece
from patter.wire.openai_chat import Refusal, ReplyReader, call_ids, model_names, refusal, request_body

log = logging.getLogger(__name__)

OPENAI = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-6-luna"  # OpenAI's named replacement for its small models, which end in January 2027

CONNECT_S = 5.0  # a server on the line answers in a fraction of that
SILENCE_S = 20.0  # no byte for so long: no caller waits on for the rest
SILENCE_LOCAL_S = 90.0  # a local server may first have to load the model from disk
ATTEMPTS = 2  # a caller hears every second of it: one more try, and only before the first byte
RETRY_S = 0.25
LONGEST_WAIT_S = 3.0  # a server that asks for more is out for this turn


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
        self._root = (base_url or OPENAI).rstrip("/")
        self._local = is_loopback(self._root)
        self.name = name or _name(self._root)
        self.model = model or (DEFAULT_MODEL if self._root == OPENAI else "")
        self._headers = {
            "Authorization": f"Bearer {api_key or 'none'}",
            "Accept": "text/event-stream, application/json",
        }
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_S, sock_read=SILENCE_LOCAL_S if self._local else SILENCE_S
        )
        self._lacks: set[str] = set()

    async def respond(self, ask: Ask) -> AsyncIterator[ResponderPiece]:
        """The reply as it comes. Raises ProviderError that says whose fault it is. Closing it closes the connection."""
        if not self.model:
            self.model = await self._first_model()
        reader = ReplyReader(self.name, tools=[tool["name"] for tool in ask.tools], taken=call_ids(ask.messages))
        response = await self._open(ask)
        try:
            if "json" in response.headers.get("Content-Type", ""):
                for piece in reader.whole(await response.read()):
                    yield piece
            else:
                async for data in response.content.iter_any():
                    for piece in reader.feed(data):
                        yield piece
                    if reader.done:
                        break
            for piece in reader.close():
                yield piece
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._broken(error) from error
        finally:
            response.close()

    async def aclose(self) -> None:
        """Nothing to close: the session belongs to whoever made it."""

    async def models(self) -> list[str]:
        """The names of the models that the server offers. Raises ProviderError."""
        try:
            async with self._session.get(
                f"{self._root}/models", headers=self._headers, timeout=self._timeout
            ) as response:
                body = await response.read()
                if response.status != 200:
                    raise self._refused(refusal(response.status, body, response.headers))
                names = model_names(json.loads(body))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._broken(error) from error
        except ValueError:
            names = None
        if names is None:
            raise self._error(
                "this is no server that speaks OpenAI's protocol", fix=f"check the base_url {self._root!r}"
            )
        return names

    async def _first_model(self) -> str:
        names = [name for name in await self.models() if "embed" not in name.lower()]
        if not names:
            fix = "load one (with Ollama: ollama pull llama3.2), or name it in the agent's llm settings"
            raise self._error("the server has no model", fix=fix)
        return names[0]

    async def _open(self, ask: Ask) -> aiohttp.ClientResponse:
        """A reply that has begun with status 200; retries and simplifies the request as far as that makes sense."""
        attempt = 1
        while True:
            body = request_body(
                ask, self.model, usage="stream_options" not in self._lacks, tools="tools" not in self._lacks
            )
            try:
                response = await self._post(body)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                refused = isinstance(error, aiohttp.ClientConnectorError)
                if refused or attempt == ATTEMPTS:
                    raise self._broken(error) from error
                wait = RETRY_S
            except (aiohttp.ClientError, TimeoutError) as error:
                raise self._broken(error) from error
            else:
                if response.status == 200:
                    return response
                problem = await self._problem(response)
                if problem.unknown and problem.unknown not in self._lacks:
                    log.warning(
                        "the model server lacks a feature", extra={"server": self.name, "lacks": problem.unknown}
                    )
                    self._lacks.add(problem.unknown)
                    continue
                wait = problem.retry_after_s if problem.retry_after_s is not None else RETRY_S
                if not problem.retryable or attempt == ATTEMPTS or wait > LONGEST_WAIT_S:
                    raise self._refused(problem)
            attempt += 1
            await anyio.sleep(wait)

    async def _post(self, body: dict[str, Any]) -> aiohttp.ClientResponse:
        return await self._session.post(
            f"{self._root}/chat/completions",
            json=body,
            headers=self._headers,
            timeout=self._timeout,
            allow_redirects=False,  # a redirect would take the key to another server
        )

    async def _problem(self, response: aiohttp.ClientResponse) -> Refusal:
        try:
            return refusal(response.status, await response.read(), response.headers)
        except (aiohttp.ClientError, TimeoutError):
            return refusal(response.status, b"", response.headers)
        finally:
            response.close()

    def _refused(self, problem: Refusal) -> ProviderError:
        """An error reply in words that say what to do."""
        said = f" ({problem.message})" if problem.message else ""
        if problem.status in (401, 403):
            key = "OPENAI_API_KEY" if self._root == OPENAI else "the api_key of the agent's llm settings"
            return self._error(f"it refuses the key{said}", fix=f"check {key}")
        if problem.status == 404:
            return self._error(
                f"it does not know the model {self.model!r} or the address {self._root!r}{said}",
                fix="name one of the server's models in the agent's llm settings",
            )
        if problem.status == 429 and not problem.retryable:
            return self._error(f"the account has no credit left{said}", fix="add credit, or use another model")
        if problem.status == 429:
            wait = f" in {problem.retry_after_s:g} s" if problem.retry_after_s else " later"
            return self._error(f"too many requests{said}", fix=f"try again{wait}", retryable=True)
        if problem.status >= 500:
            return self._error(f"it failed with status {problem.status}{said}", fix="try again later", retryable=True)
        return self._error(f"it refused the request with status {problem.status}{said}")

    def _broken(self, error: Exception) -> ProviderError:
        """A connection's failure in words that say what to do."""
        if isinstance(error, aiohttp.ClientConnectorError):
            start = "start the model server" if self._local else "check the network and the base_url"
            return self._error(f"nothing answers at {self._root}", fix=start, retryable=True)
        if isinstance(error, TimeoutError):
            return self._error(f"it was silent for {self._timeout.sock_read:g} s", fix="try again", retryable=True)
        return self._error("the connection broke off", fix="try again", retryable=True)

    def _error(self, problem: str, *, fix: str = "", retryable: bool = False) -> ProviderError:
        return ProviderError(problem, provider=self.name, stage="llm", retryable=retryable, fix=fix)


def _name(root: str) -> str:
    if root == OPENAI:
        return "openai"
    return "local" if is_loopback(root) else (URL(root).host or root)
