"""The loopback Telnyx's REST API, asked by Telnyx' own client: what it takes, refuses, repeats and remembers."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from telnyx import APIStatusError, AsyncTelnyx, AuthenticationError, NotFoundError, RateLimitError

from patter.loopback.person import Person
from patter.loopback.telnyx_carrier import LoopbackTelnyxCarrier
from patter.loopback.telnyx_parameters import COMMANDS, DIAL, check
from patter.loopback.telnyx_refusal import Refusal
from tests.loopback.telnyx_office import OURS, THEIRS, office

pytestmark = pytest.mark.anyio


def code_of(error: APIStatusError) -> str:
    body: Any = error.body
    return str(body["errors"][0]["code"])


async def test_a_wrong_key_is_refused() -> None:
    async with office() as here:
        async with AsyncTelnyx(api_key="KEYwrong", base_url=f"{here.carrier.api_base}/v2", max_retries=0) as stranger:
            with pytest.raises(AuthenticationError) as caught:
                await stranger.calls.actions.hangup("v3:x")
        assert code_of(caught.value) == "10009"
        assert len(here.carrier.violations) == 1
        assert "KEYwrong" not in here.carrier.violations[0]


async def test_what_does_not_exist_is_not_found() -> None:
    async with office() as here:
        with pytest.raises(NotFoundError) as caught:
            await here.client.conferences.list()
        assert code_of(caught.value) == "10005"


async def test_the_application_and_its_webhook() -> None:
    async with office() as here:
        applications = here.client.call_control_applications
        first = (await applications.retrieve(here.carrier.connection_id)).data
        assert first is not None
        assert first.webhook_event_url == "https://voice.example.test/webhooks/telnyx/voice"
        changed = await applications.update(
            here.carrier.connection_id, application_name="mine", webhook_event_url="https://other.example.test/hook"
        )
        assert changed.data is not None
        assert changed.data.webhook_event_url == here.carrier.webhook_url == "https://other.example.test/hook"
        with pytest.raises(NotFoundError):
            await applications.retrieve("123")
        with pytest.raises(APIStatusError):
            await applications.update(here.carrier.connection_id, application_name="x", webhook_event_url="ftp://x")


async def test_numbers_are_found_and_bound() -> None:
    async with office() as here:
        here.carrier.add_number("+14155550101")
        found = [row async for row in here.client.phone_numbers.list(filter={"phone_number": "4155550101"})]
        assert [row.phone_number for row in found] == ["+14155550101"]
        assert found[0].connection_id == here.carrier.connection_id
        changed = await here.client.phone_numbers.update(found[0].id, connection_id="1")
        assert changed.data is not None
        assert changed.data.connection_id == "1"
        with pytest.raises(ValueError, match="bound"):
            here.carrier.place_call(THEIRS, "+14155550101")


async def test_a_repeated_command_is_done_once_and_answered_alike() -> None:
    async with office() as here:
        here.carrier.people[THEIRS] = Person()
        first = await here.dialled(command_id="d-1")
        again = await here.dialled(command_id="d-1")
        assert first is again
        assert len(here.carrier.legs) == 1
        await here.event("call.answered")
        for _ in range(2):
            await here.client.calls.actions.send_dtmf(first.handle, digits="12", command_id="c-1")
        assert first.digits_heard == "12"
        await here.client.calls.actions.send_dtmf(first.handle, digits="3", command_id="c-2")
        assert first.digits_heard == "123"
        assert here.carrier.violations == []
        await here.client.calls.actions.speak(first.handle, payload="Hi", voice="female", command_id="c-2")
        assert first.announced == []
        assert here.carrier.violations == ["speak is ignored: its command_id was that of send_dtmf"]


async def test_failures_come_on_request_with_the_time_to_ask_again() -> None:
    async with office() as here:
        here.carrier.people[THEIRS] = Person()
        here.carrier.refuse_next(429, "10011", "slow down", retry_after=2)
        with pytest.raises(RateLimitError) as caught:
            await here.dialled()
        assert caught.value.response.headers["x-ratelimit-reset"] == "2"
        assert code_of(caught.value) == "10011"
        assert here.carrier.legs == {}
        here.carrier.refuse_next(503, times=2, done=True)
        for _ in range(2):
            with pytest.raises(APIStatusError):
                await here.dialled(command_id="d-1")
        assert len(here.carrier.legs) == 1
        assert here.carrier.violations == []


async def test_every_request_is_kept_but_no_key() -> None:
    async with office() as here:
        here.carrier.people[THEIRS] = Person()
        await here.dialled(command_id="d-1")
        asked = here.carrier.requests[-1]
        assert (asked.method, asked.path) == ("POST", "/v2/calls")
        assert asked.fields["to"] == THEIRS
        assert here.carrier.api_key not in repr(here.carrier.requests)


async def test_a_call_is_made_only_from_a_number_and_an_application_of_the_account() -> None:
    async with office() as here:
        calls = here.client.calls
        with pytest.raises(APIStatusError) as caught:
            await calls.dial(connection_id="1", to=THEIRS, from_=OURS)
        assert code_of(caught.value) == "10015"
        with pytest.raises(APIStatusError) as caught:
            await calls.dial(connection_id=here.carrier.connection_id, to=THEIRS, from_="+14155550777")
        assert code_of(caught.value) == "10002"
        assert len(here.carrier.violations) == 2


@pytest.mark.parametrize(
    ("body", "content_type"), [(b"{", "application/json"), (b"[]", "application/json"), (b"to=1", "text/plain")]
)
async def test_a_body_that_is_no_json_object_is_a_bad_request(body: bytes, content_type: str) -> None:
    async with LoopbackTelnyxCarrier() as carrier, aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {carrier.api_key}", "Content-Type": content_type}
        async with http.post(f"{carrier.api_base}/v2/calls", data=body, headers=headers) as answer:
            assert answer.status == 400
            assert (await answer.json())["errors"][0]["code"] == "10015"


async def test_the_clock_of_the_carrier_can_be_wrong() -> None:
    async with LoopbackTelnyxCarrier(skew_s=3600) as wrong, LoopbackTelnyxCarrier() as right:
        async with aiohttp.ClientSession() as http:
            dates = []
            for carrier in (wrong, right):
                async with http.get(f"{carrier.api_base}/v2/phone_numbers") as answer:
                    assert answer.status == 401
                    dates.append(answer.headers["Date"])
        assert dates[0] != dates[1]


# --------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("action", "fields", "code"),
    [
        ("speak", {"voice": "female"}, "10004"),
        ("speak", {"payload": "x" * 3001, "voice": "female"}, "10015"),
        ("speak", {"payload": "Hi", "voice": "female", "volume": 3}, "10015"),
        ("answer", {"client_state": "not base64!"}, "90017"),
        ("answer", {"stream_auth_token": "x", "stream_url": "wss://a.test"}, "10015"),
        ("answer", {"webhook_urls": {"call.unheard": ["https://a.test"]}}, "90057"),
        ("answer", {"stream_codec": "PCMU"}, "10004"),
        ("reject", {"cause": "no"}, "10032"),
        ("transfer", {"to": "5550100"}, "10016"),
        ("send_dtmf", {"digits": "1a"}, "10015"),
        ("send_dtmf", {"digits": "1", "duration_millis": 50}, "10015"),
        ("streaming_start", {"stream_url": "https://a.test"}, "10015"),
        ("streaming_start", {"stream_url": "wss://a.test", "stream_bidirectional_codec": "pcmu"}, "10032"),
        ("streaming_start", {"stream_url": "wss://a.test", "stream_bidirectional_sampling_rate": 16000}, "10032"),
        ("streaming_start", {"stream_url": "wss://a.test", "custom_parameters": [{"name": 1}]}, "10015"),
        ("record_start", {"channels": "dual"}, "10004"),
        ("hangup", {"command_id": ""}, "10015"),
    ],
)
def test_wrong_parameters_are_refused_with_their_code(action: str, fields: dict[str, Any], code: str) -> None:
    with pytest.raises(Refusal) as caught:
        check(COMMANDS[action], fields)
    assert caught.value.code == code


def test_a_dial_needs_three_things_and_knows_its_limits() -> None:
    whole = {"connection_id": "1", "to": "+14155550111", "from": "+14155550100"}
    assert check(DIAL, whole | {"to": "sip:alice@example.test"}) == []
    for name in whole:
        with pytest.raises(Refusal) as caught:
            check(DIAL, {key: value for key, value in whole.items() if key != name})
        assert caught.value.body()["errors"][0]["source"] == {"pointer": f"/{name}"}
    with pytest.raises(Refusal):
        check(DIAL, whole | {"timeout_secs": 4})
    with pytest.raises(Refusal):
        check(DIAL, whole | {"timeout_secs": "30"})


def test_a_codec_without_rtp_mode_is_warned_of() -> None:
    fields = {"stream_url": "wss://a.test", "stream_bidirectional_codec": "PCMU"}
    assert "ignored" in check(COMMANDS["streaming_start"], fields)[0]
    assert check(COMMANDS["streaming_start"], fields | {"stream_bidirectional_mode": "rtp"}) == []


def test_a_stream_in_the_open_is_warned_of() -> None:
    def warnings(url: str) -> list[str]:
        return check(COMMANDS["streaming_start"], {"stream_url": url})

    assert "wss://" in warnings("ws://voice.example.test/ws")[0]
    assert warnings("ws://127.0.0.1:8000/ws") == warnings("wss://voice.example.test/ws") == []
