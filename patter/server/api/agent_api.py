"""The API of agent files: list, read, check, put and open them.

It owns these shapes; it refuses to know how agent files are read and watched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from patter.exceptions import AgentFileError
from patter.server.agents import Agents, Entry, agent_path
from patter.server.answers import Refused, data, json_body, json_text, text_in
from patter.server.endpoint import Endpoint
from patter.server.schemas import ANYTHING, FLAG, TEXT, WHOLE, Schema, answered, listing, record, words

TEXT_LIMIT = 256 * 1024  # characters of an agent file
PUT: Schema = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string", "maxLength": TEXT_LIMIT}, "if_version": {"type": "string"}},
}
_TEXTS = ("name", "path", "version", "problem", "fix", "provider", "first_message", "stt", "llm", "tts")
AGENT: Schema = record(
    {**dict.fromkeys(_TEXTS, TEXT), "ok": FLAG, "line": WHOLE, "caller": listing(ANYTHING)}, title="Agent"
)
_WITH_TEXT: Schema = record({**AGENT["properties"], "text": TEXT}, title="AgentFile")
_PATH: Schema = record({"path": words()})
_CHECK: Schema = record({"text": words(TEXT_LIMIT, needed=False), "path": words()}, optional=("text",))
_PROBLEM: Schema = record({"problem": TEXT, "line": WHOLE, "column": WHOLE, "fix": TEXT}, title="AgentProblem")
_FOUND: Schema = record({"ok": FLAG, "problems": listing(_PROBLEM)}, title="AgentCheck")


@dataclass(frozen=True, slots=True)
class AgentApi:
    """The entries of /api/v1/agents."""

    agents: Agents

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        root = "/api/v1/agents"
        return [
            Endpoint(
                "GET",
                root,
                self.list_agents,
                "read",
                "All agent files, with what is wrong with them",
                answer=answered(listing(AGENT)),
            ),
            Endpoint(
                "POST",
                f"{root}/validate",
                self.validate,
                "admin",  # the modules beside a file run when it is checked
                "All problems of a text that is being edited",
                body=_CHECK,
                answer=answered(_FOUND),
            ),
            Endpoint(
                "GET",
                f"{root}/{{name}}",
                self.read,
                "read",
                "An agent file with its text",
                answer=answered(_WITH_TEXT),
                refusals=(409,),
            ),
            Endpoint(
                "PUT",
                f"{root}/{{name}}",
                self.put,
                "admin",
                "Put a new version; calls have it from their next turn on",
                body=PUT,
                answer=answered(_WITH_TEXT),
                refusals=(409, 422),
            ),
            Endpoint(
                "POST",
                f"{root}/open",
                self.open_agent,
                "admin",
                "Follow an agent file wherever it is",
                body=_PATH,
                answer=answered(AGENT),
                refusals=(404,),
            ),
        ]

    async def list_agents(self, _: web.Request) -> web.Response:
        """All agent files, with what is wrong with them."""
        return data(self.agents.rows())

    async def validate(self, request: web.Request) -> web.Response:
        """All problems of a text that is being edited."""
        body = await json_body(request)
        text = text_in(body, "text", limit=TEXT_LIMIT, default="")
        path = agent_path(text_in(body, "path"))
        problems = [_problem(found) for found in await self.agents.check(text, path)]
        return data({"ok": not problems, "problems": problems})

    async def read(self, request: web.Request) -> web.Response:
        """An agent file with its text."""
        return data(_whole(await self.agents.wanted(request.match_info["name"], may_open=False)))

    async def put(self, request: web.Request) -> web.Response:
        """Check a text, and make it the agent's file if nothing is wrong with it."""
        body, name = await json_body(request), request.match_info["name"]
        text = text_in(body, "text", limit=TEXT_LIMIT)
        if_version = text_in(body, "if_version", default="")
        entry = self.agents.find(name)
        path = entry.path if entry else self.agents.directory / f"{name}.toml"
        if problems := await self.agents.check(text, path):
            sentence = f"The text has {len(problems)} problem{'s' if len(problems) > 1 else ''}: {problems[0]}"
            told = {"error": sentence, "problems": [_problem(found) for found in problems]}
            return web.json_response(told, status=422, dumps=json_text)
        return data(_whole(await self.agents.put(name, text, if_version)))

    async def open_agent(self, request: web.Request) -> web.Response:
        """Follow an agent file wherever it is."""
        path = agent_path(text_in(await json_body(request), "path"))
        entry = await self.agents.open(path)
        if entry.file is None and entry.raw is None:
            raise Refused(404, f"There is no agent file at {path}.")
        return data(entry.row())


def _whole(entry: Entry) -> dict[str, Any]:
    return entry.row() | {"text": (entry.raw or b"").decode(errors="replace")}


def _problem(found: AgentFileError) -> dict[str, Any]:
    return {"problem": found.problem, "line": found.line, "column": found.column, "fix": found.fix}
