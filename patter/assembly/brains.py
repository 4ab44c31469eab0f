"""Who answers in a pipeline: the user's handler, a model by key or address, one found on this machine, or the script.

It owns that ladder; it refuses to know what is answered.
"""

from __future__ import annotations

from collections.abc import Sequence

from patter.assembly.stock import Stock
from patter.call.outfit import Steered
from patter.control import CallControl
from patter.models import Agent, LLMConfig, OnMessage
from patter.ports import Responder
from patter.providers import openai_account
from patter.providers.discovery import Found
from patter.providers.fallback_model import FallbackResponder
from patter.providers.handler import HandlerResponder
from patter.providers.openai_chat import DEFAULT_MODEL, OpenAIChat
from patter.providers.script import ScriptResponder

NO_MODEL = (
    "No language model: answers come from the script rules of the agent. "
    "Connect one with [llm] base_url in the agent file, an OpenAI key, or a local server such as Ollama."
)


class Brains:
    """Picks responders. `servers` are model servers found on this machine."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock
        self.servers: Sequence[Found] = ()
        self._chains: dict[tuple[LLMConfig | None, ...], FallbackResponder] = {}

    def needs_search(self, agent: Agent, on_message: OnMessage | None) -> bool:
        """Whether a server on this machine would be used if there were one."""
        return on_message is None and agent.llm is None and not self._stock.keys.openai

    def pick(self, session: Steered, agent: Agent, on_message: OnMessage | None, notes: list[str]) -> Responder:
        """Who answers this call."""
        if on_message is not None:
            return self._handler(session, on_message)
        first = self._model(agent.llm or LLMConfig(), notes)
        if first is None:
            return ScriptResponder()
        if not agent.llm_fallbacks:
            return first
        place = (agent.llm, *agent.llm_fallbacks)
        if place not in self._chains:  # shared by all calls: who is out is out for all of them
            others = [model for config in agent.llm_fallbacks if (model := self._model(config, notes)) is not None]
            self._chains[place] = FallbackResponder([first, *others])
        return self._chains[place]

    def chat(self, config: LLMConfig) -> OpenAIChat | None:
        """The model that these settings name; None if they name none and there is no key."""
        key = config.api_key or ("" if config.base_url else self._stock.keys.openai)
        if not config.base_url and not key:
            return None
        if config.base_url:
            return OpenAIChat(self._stock.http, api_key=key, model=config.model, base_url=config.base_url)
        elsewhere = self._stock.keys.openai_url  # another address of OpenAI: its models, its name and its prices
        model = config.model or DEFAULT_MODEL
        return OpenAIChat(self._stock.http, api_key=key, model=model, base_url=elsewhere, name="openai")

    async def vouch(self, agent: Agent) -> None:
        """Raise ProviderError where the model's key or name is refused."""
        config = agent.llm or LLMConfig()
        chat = self.chat(config)
        if chat is None:
            return
        if config.base_url:
            await chat.models()
            return
        keys = self._stock.keys
        key = config.api_key or keys.openai
        await openai_account.vouch(self._stock.http, key, keys.openai_url, chat.model or DEFAULT_MODEL, "llm")

    def _model(self, config: LLMConfig, notes: list[str]) -> Responder | None:
        chat = self.chat(config)
        if chat is not None and chat.warning:
            notes.append(chat.warning)
        if chat is None and self.servers:
            server = self.servers[0]
            model = config.model or server.models[0]
            notes.append(f"Answers come from {server.name} at {server.base_url}, found on this machine.")
            return OpenAIChat(self._stock.http, model=model, base_url=server.base_url, name=server.name.lower())
        if chat is None:
            notes.append(NO_MODEL)
        return chat

    def _handler(self, session: Steered, on_message: OnMessage) -> Responder:
        call = session.call

        async def transfer(number: str, summary: str) -> None:
            await session.transfer(number, "handler", summary, failed=control.transfer_failed)

        async def hang_up() -> None:
            await session.hang_up_after_goodbye("handler_ended")

        control = CallControl(
            call.call_id, call.caller, call.callee, call.telephony, transfer=transfer, hang_up=hang_up
        )
        return HandlerResponder(
            on_message,
            control,
            history=session.history,
            http=self._stock.http,
            secret=self._stock.keys.webhook_secret,
        )
