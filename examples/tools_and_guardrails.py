"""An agent with a tool and guardrails, answered by rules instead of a model, so that it always does the same.

    python examples/tools_and_guardrails.py
    printf 'when can I come on tuesday\nmy tooth hurts\n' | python examples/tools_and_guardrails.py

With a language model (Patter(openai_key=...), or Ollama on this machine and llm=LLMConfig(...)) the same tool and the same
guardrails are used; only the rules are then idle.
"""

import asyncio

from patter import Guardrail, Patter
from patter.models import ScriptRule

FREE = {"monday": ["two o'clock"], "tuesday": ["half past nine", "four o'clock"]}


def find_slots(arguments: dict, context: dict) -> str:
    """The model sees the name, the description and the schema; this is what runs."""
    times = FREE.get(arguments["day"], [])
    return f"{arguments['day'].title()}: {' or '.join(times) or 'nothing left'}."


def sounds_medical(text: str) -> bool:
    """A guardrail may be any function of the text that is about to be spoken."""
    return any(word in text.lower() for word in ("antibiotic", "milligram"))


phone = Patter()
agent = phone.agent(
    "You are the receptionist of {clinic}. Offer only times that find_slots returned.",
    provider="pipeline",
    stt=Patter.embedded_stt(),
    tts=Patter.embedded_tts(),
    first_message="{clinic}, good morning!",
    variables={"clinic": "Riverside Dental"},
    tools=[
        Patter.tool(
            "find_slots",
            "Free times on a weekday.",
            {"type": "object", "required": ["day"], "properties": {"day": {"type": "string", "enum": [*FREE]}}},
            handler=find_slots,
        )
    ],
    guardrails=[
        Patter.guardrail("no-prices", blocked_terms=["dollar"], replacement="The desk will tell you our prices."),
        Guardrail("no-medicine", check=sounds_medical, replacement="Please ask the dentist about that."),
    ],
    script=[
        ScriptRule(("tuesday", "appointment"), "I have {result}", tool="find_slots", arguments={"day": "tuesday"}),
        ScriptRule(("hurts", "pain"), "Take four hundred milligrams of something."),
        ScriptRule(("cost", "price"), "It is ninety dollars."),
        ScriptRule(("bye",), "Goodbye!", hang_up=True),
        ScriptRule((), "You can ask for an appointment on Tuesday."),
    ],
    name="riverside-dental",
)

if __name__ == "__main__":
    asyncio.run(phone.test(agent))
