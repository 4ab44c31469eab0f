"""Who is asked before a call, and what is opened for it: the errands of an agent, by its engine and providers.

It owns that list; it refuses to run it (`foresight` does).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import sha256

from patter import builders
from patter.assembly.brains import Brains
from patter.assembly.engines import RINGS_S, Engines
from patter.assembly.foresight import Errand, Job
from patter.assembly.stock import Stock
from patter.assembly.voices import Voices
from patter.audio.format import AudioFormat
from patter.models import Agent
from patter.registry import voucher_of, warmer_of

WARM_S = 8.0  # a recogniser's socket lasts no longer without sound


class Errands:
    """Lists errands. `alone` picks the engines that need no pipeline."""

    def __init__(self, stock: Stock, engines: Engines, brains: Brains, voices: Voices) -> None:
        self._stock = stock
        self._engines = engines
        self._brains = brains
        self._voices = voices

    def checks(self, agent: Agent, line: AudioFormat) -> list[Errand]:
        """What is asked before anybody's telephone rings. A stage with fallbacks is not asked: they would take over."""
        if self._engines.alone(agent):
            return [self._errand("engine", agent, partial(self._engines.vouch, agent))]
        jobs: list[tuple[str, Job]] = []
        if not agent.tts_fallbacks:
            jobs.append(("voice", partial(self._voices.vouch, agent, line)))
        if not agent.llm_fallbacks:
            jobs.append(("model", partial(self._brains.vouch, agent)))
        if not agent.stt_fallbacks and (vouch := self._recogniser(agent, line, voucher_of)):
            jobs.append(("recogniser", vouch))
        return [self._errand(about, agent, job) for about, job in jobs]

    def preparations(self, agent: Agent, line: AudioFormat) -> list[Errand]:
        """What is made ready while it rings: each errand for as many calls as it serves."""
        if self._engines.alone(agent):
            return [self._errand("engine's socket", agent, partial(self._engines.warm, agent), lasts_s=RINGS_S)]
        jobs = [
            self._errand(f"greeting on {line}", agent, partial(self._voices.prepare, agent, line), greets=True),
            self._errand("model", agent, partial(self._brains.vouch, agent)),
        ]
        if warm := self._recogniser(agent, line, warmer_of):
            jobs.append(self._errand("recogniser's socket", agent, warm, lasts_s=WARM_S))
        return jobs

    def _errand(self, about: str, agent: Agent, job: Job, *, lasts_s: float = 0.0, greets: bool = False) -> Errand:
        """Named by what it depends on, in a form that shows no key. Only greetings differ from caller to caller."""
        stt, tts = builders.stt_of(agent, self._stock.keys), builders.tts_of(agent, self._stock.keys)
        parts = (
            stt.to_dict(),
            tts.to_dict(),
            agent.llm and (agent.llm, agent.llm.api_key),
            agent.provider,
            agent.model,
        )
        greeting = (agent.first_message, agent.variables) if greets else ()
        place = repr((*parts, agent.agent_id, agent.realtime, agent.voice, *greeting))
        return Errand(f"{about} {sha256(place.encode()).hexdigest()[:16]}", job, lasts_s)

    def _recogniser(self, agent: Agent, line: AudioFormat, kind: Callable[..., object]) -> Job | None:
        config = builders.stt_of(agent, self._stock.keys)
        found = kind("stt", config.provider)
        return partial(found, config, self._stock.bench(config, agent, line, line)) if callable(found) else None
