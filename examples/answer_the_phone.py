"""A real phone number that an agent answers, and calls that it places meanwhile.

export TWILIO_ACCOUNT_SID=AC… TWILIO_AUTH_TOKEN=… TWILIO_PHONE_NUMBER=+1…
python examples/answer_the_phone.py                 # through a tunnel (cloudflared or ngrok), or
python examples/answer_the_phone.py voice.example.com          # through your own public host, which leads to port 8000
python examples/answer_the_phone.py voice.example.com +15557654321   # and call somebody as soon as the line is open
"""

import asyncio
import os
import sys

from patter import CallControl, IncomingMessage, Patter

host, callee = [*sys.argv[1:], "", ""][:2]
port = int(os.environ.get("PORT", "8000"))
phone = Patter(
    twilio_sid=os.environ.get("TWILIO_ACCOUNT_SID", ""),
    twilio_token=os.environ.get("TWILIO_AUTH_TOKEN", ""),
    phone_number=os.environ.get("TWILIO_PHONE_NUMBER", ""),
    webhook_url=host,
    carrier_api=os.environ.get("PATTER_CARRIER_API", ""),  # a loopback carrier's, to try all this without a telephone
)


def agent(name: str, first_message: str):
    """Hears and speaks with the embedded engines: no key but the carrier's."""
    engines = {"provider": "pipeline", "stt": Patter.embedded_stt(), "tts": Patter.embedded_tts()}
    return phone.agent("The answers come from functions.", first_message=first_message, name=name, **engines)


async def answer(message: dict, call: CallControl) -> str:
    """For everybody who calls our number."""
    if "person" in message["text"].lower():
        await call.transfer("+15550100", summary=f"{message['caller']} asks for a person.")
        return "One moment, I am getting somebody for you."
    return f"You said: {message['text']}"


async def remind(message: IncomingMessage, call: CallControl) -> str:
    """For the one call that we place; other calls have other handlers."""
    await call.hangup()
    return "Thank you, goodbye!"


async def ended(call: dict) -> None:
    """Called at the end of every call, also of one that nobody took."""
    print(f"{call['direction']} call with {call['callee']}: {call['reason']}, {len(call['transcript'])} lines")


async def main() -> None:
    """Serve until Ctrl+C; calls that are up may finish."""
    async with asyncio.TaskGroup() as tasks:
        desk = agent("front-desk", "Riverside Dental, good morning!")
        serving = phone.serve(desk, port, on_message=answer, on_call_end=ended, tunnel=not host, dashboard=False)
        tasks.create_task(serving)
        if callee:
            await asyncio.sleep(0)  # serve() has begun; call() waits until its line is open
            await phone.call(
                callee,
                remind,
                agent=agent(
                    "reminder", "This is Riverside Dental. You have an appointment tomorrow at ten, is that right?"
                ),
                voicemail_message="This is Riverside Dental: you have an appointment tomorrow at ten.",
            )


if __name__ == "__main__":
    asyncio.run(main())
