"""Before a call: who is asked, what is opened, and that neither happens twice for nothing. Over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from patter.assembly import Workshop, foresight
from patter.assembly.foresight import Errand, Foresight
from patter.audio.format import MULAW_8K
from patter.builders import Keys
from patter.bus import Bus
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.loopback.stage import Stage, closed_port
from patter.loopback.stage_http import Answer, Exchange
from patter.loopback.stage_peer import Peer
from patter.models import Agent, LLMConfig, STTConfig, TTSConfig

pytestmark = pytest.mark.anyio

NO_KEYS = Keys()
KEY = "dg-a-key-of-this-test"
TOKEN, MODELS = "/v1/auth/token", "/v1/models"
KNOWN = Exchange(Answer(body={"data": []}))
STRANGER = Exchange(Answer(401, body={"err_code": "INVALID_AUTH", "err_msg": "Invalid credentials."}))


def agent(at: str, **changes: object) -> Agent:
    """A pipeline at these vendors whose voice is this machine's."""
    made = Agent(
        "Be kind.",
        provider="pipeline",
        stt=STTConfig("deepgram", KEY, base_url=at),
        llm=LLMConfig("m", f"{at}/v1", "k"),
        tts=TTSConfig("embedded", ""),
    )
    return Agent(**{name: changes.get(name, getattr(made, name)) for name in made.__dataclass_fields__})  # type: ignore[arg-type]


@asynccontextmanager
async def workshop(keys: Keys = NO_KEYS) -> AsyncIterator[Workshop]:
    clock = Clock()
    async with Workshop(Bus(clock), clock, keys=keys) as made:
        yield made


async def test_a_refused_key_is_told_before_the_call_and_never_shown() -> None:
    async with Stage() as stage, workshop() as shop:
        stage.exchanges("GET", TOKEN, STRANGER)
        stage.exchanges("GET", MODELS, KNOWN)
        with pytest.raises(ProviderError, match="refuses the key") as told:
            await shop.vouch(agent(stage.http))
    assert "DEEPGRAM_API_KEY" in told.value.fix
    assert KEY not in str(told.value)


async def test_who_was_asked_is_believed_for_a_while_and_a_refusal_is_not_kept() -> None:
    async with Stage() as stage, workshop() as shop:
        stage.exchanges("GET", TOKEN, STRANGER, KNOWN)
        stage.exchanges("GET", MODELS, KNOWN)
        with pytest.raises(ProviderError):
            await shop.vouch(agent(stage.http))
        await shop.vouch(agent(stage.http))  # the key was mended: asked again, the model is not
        await shop.vouch(agent(stage.http))  # nobody is asked


async def test_callers_who_are_greeted_by_name_share_what_was_asked() -> None:
    async with Stage() as stage, workshop() as shop:
        stage.exchanges("GET", TOKEN, Exchange(Answer(body={"api_key_id": "x"})))
        stage.exchanges("GET", MODELS, KNOWN)
        for name in ("Ana", "Ben"):
            await shop.vouch(agent(stage.http, first_message="Hello {name}.", variables={"name": name}))


async def test_a_refused_provider_with_a_fallback_behind_it_stops_no_call() -> None:
    async with Stage() as stage, workshop() as shop:
        stage.exchanges("GET", MODELS, KNOWN)
        await shop.vouch(agent(stage.http, stt_fallbacks=(STTConfig("embedded", ""),)))  # the recogniser is not even asked


async def test_a_vendor_that_cannot_be_reached_or_fails_is_no_refusal() -> None:
    async with Stage() as stage, workshop() as shop:
        stage.exchanges("GET", TOKEN, Exchange(Answer(503, body="down")))
        await shop.vouch(agent(stage.http, llm=LLMConfig("m", f"http://127.0.0.1:{closed_port()}/v1", "k")))


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (Answer(401, body={"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}), True),
        (Answer(404, body={"error": {"message": "no such model", "code": "model_not_found"}}), True),
        (Answer(403, body={"error": {"message": "missing scope", "code": "missing_scope"}}), False),
        (Answer(404, body="not here"), False),
    ],
)
async def test_only_a_certain_no_of_the_engines_account_stops_a_call(answer: Answer, *, refused: bool) -> None:
    async with Stage() as stage, workshop(Keys("sk-wrong-key", openai_url=f"{stage.http}/v1")) as shop:
        stage.exchanges("GET", "/v1/models/{model}", Exchange(answer))
        if refused:
            with pytest.raises(ProviderError) as told:
                await shop.vouch(Agent("Be kind."))
            assert "sk-wrong-key" not in str(told.value)
        else:
            await shop.vouch(Agent("Be kind."))


async def test_each_call_that_rings_gets_a_socket_of_its_own_and_no_second_one() -> None:
    opened: list[Peer] = []
    some = anyio.Event()

    async def listen(peer: Peer) -> None:
        opened.append(peer)
        if len(opened) == 2:
            some.set()
        async for _ in peer:
            pass

    async with Stage() as stage, workshop() as shop:
        stage.socket("/v1/listen", listen)
        stage.exchanges("GET", MODELS, KNOWN)
        who = agent(stage.http)
        for key in ("CA1", "CA1", "CA2", "CA1"):
            shop.foresee(key, who, MULAW_8K)
        with anyio.fail_after(10):
            await some.wait()
        await anyio.sleep(0.2)
    assert len(opened) == 2
    assert all(peer.query["encoding"] == "mulaw" for peer in opened)


async def test_what_cannot_be_made_ready_stops_nothing() -> None:
    async with workshop() as shop:
        shop.foresee("CA1", agent(f"http://127.0.0.1:{closed_port()}"), MULAW_8K)
        await anyio.sleep(0.3)


async def test_errands_of_many_calls_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresight, "KEPT", 5)
    done: list[str] = []

    async def job() -> None:
        done.append("")

    def errands(agent: Agent, line: object) -> list[Errand]:
        return [Errand(f"greeting of {agent.first_message}", job), Errand("socket", job, lasts_s=8.0)]

    async with anyio.create_task_group() as tasks:
        seer = Foresight(tasks, errands, errands)
        for number in range(8):
            seer.foresee(number, Agent("", first_message=f"Hello {number}."), MULAW_8K)
            await anyio.wait_all_tasks_blocked()
            await seer.vouch(Agent("", first_message=f"Hello {number}, again."))
        seer.foresee("once more", Agent("", first_message="Hello 7."), MULAW_8K)
    assert len(seer._good) == 5
    assert len(done) == 8 * 2 + 8 * 2 + 1  # the last call finds its greeting made, and needs a socket of its own


async def test_a_socket_that_cannot_have_lasted_is_opened_again_for_the_same_call() -> None:
    opened: list[str] = []

    async def socket() -> None:
        opened.append("socket")

    async with anyio.create_task_group() as tasks:
        foresight = Foresight(tasks, lambda *_: [], lambda *_: [Errand("socket", socket, lasts_s=0.2)])
        foresight.foresee("CA1", Agent("x"), MULAW_8K)
        foresight.foresee("CA1", Agent("x"), MULAW_8K)
        await anyio.sleep(0.3)
        foresight.foresee("CA1", Agent("x"), MULAW_8K)
    assert len(opened) == 2
