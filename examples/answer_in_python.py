"""An agent whose answers come from a Python function: no key, no model, no network.

python examples/answer_in_python.py                      # type the caller's words
printf 'my name is Ada\nbye\n' | python examples/answer_in_python.py
"""

import asyncio

from patter import CallControl, Patter


async def answer(message: dict, call: CallControl):
    """Called with every turn of the caller; what it yields is spoken as it comes."""
    words = message["text"].lower()
    if "bye" in words:
        yield "Goodbye!"
        await call.hangup()
    elif "my name is" in words:
        name = words.split("my name is")[1].strip(" .!").title()
        yield f"Nice to meet you, {name}. "
        yield f"You have said {sum(entry['role'] == 'user' for entry in message['history'])} things so far."
    else:
        yield "What is your name?"


async def ended(call: dict) -> None:
    """Called once at the end, with the transcript and the metrics."""
    print(
        f"{len(call['transcript'])} lines, {call['metrics'].latency_avg.total_ms:.0f} ms on average, {call['reason']}"
    )


phone = Patter()
agent = phone.agent(
    "The answers come from the function above.",
    provider="pipeline",
    stt=Patter.embedded_stt(),
    tts=Patter.embedded_tts(),
    first_message="Hello! Who is calling?",
    name="name-keeper",
)

if __name__ == "__main__":
    asyncio.run(phone.test(agent, on_message=answer, on_call_end=ended))
