"""A whole telephone call in a test: a carrier of your own rings the agent, listens, presses keys and checks its manners.

python examples/test_an_agent_without_a_telephone.py
"""

import asyncio
import tempfile

from patter import Patter
from patter.loopback.person import Person
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier

PORT, NUMBER, CALLER = 8765, "+15005550006", "+15557770001"
SILENCE = b"\xff"  # of a telephone line


async def answer(message: dict) -> str:
    """The agent under test."""
    return "Thank you." if "4711" in message["text"] else "Please type your customer number."


async def caller(carrier: LoopbackTwilioCarrier) -> None:
    """Ring the agent, wait for its greeting, type the number, listen to the answer, hang up."""
    while not carrier.numbers[NUMBER].voice_url:  # serve() points the number at itself
        await asyncio.sleep(0.05)
    leg = carrier.place_call(CALLER, NUMBER, Person(silence_s=4))  # hangs up when nobody speaks any more
    while not leg.heard.strip(SILENCE):
        await asyncio.sleep(0.05)
    leg.press("4711#")
    await leg.over.wait()


async def main() -> None:
    """One call; then look at what was said."""
    calls: list[dict] = []
    async with LoopbackTwilioCarrier() as carrier, asyncio.TaskGroup() as tasks:
        carrier.add_number(NUMBER)
        with tempfile.TemporaryDirectory() as home:
            phone = Patter(
                twilio_sid=carrier.account_sid, twilio_token=carrier.auth_token, carrier_api=carrier.api_base,
                phone_number=NUMBER, webhook_url=f"127.0.0.1:{PORT}", home=home,
            )  # fmt: skip
            agent = phone.agent(
                "The answers come from a function.", provider="pipeline", stt=Patter.embedded_stt(),
                tts=Patter.embedded_tts(), first_message="Welcome. Your customer number, please?",
            )  # fmt: skip
            serving = tasks.create_task(phone.serve(agent, PORT, on_message=answer, on_call_end=calls.append))
            await caller(carrier)
            await phone.disconnect()
            await serving

    [call] = calls
    for line in call["transcript"]:
        print(f"{line['role']}: {line['text']}")
    assert call["transcript"][-1]["text"] == "Thank you."
    assert carrier.violations == [], carrier.violations
    print("The carrier had nothing to complain of.")


if __name__ == "__main__":
    asyncio.run(main())
