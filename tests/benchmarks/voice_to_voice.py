"""How long the caller waits and how fast the agent falls silent, on the embedded engines over the µ-law line.

Run: `python -m tests.benchmarks.voice_to_voice [--questions 20] [--interruptions 20]`. Starts a real engine process and
calls it. The wait is measured between the two recorded sides: the caller's clip is found by cross-correlation, its last sound
and the agent's next first sound by level; the segments on screen are compared with it. Prints medians and p95 against the bars.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp
import anyio

from patter.audio.convert import Converter
from patter.audio.format import AudioFormat
from patter.providers.embedded.hibari import HibariSynthesizer
from tests.support import ears
from tests.support.rig import Caller, Engine, engine

AGENT = '''
system_prompt = "You are the front desk of Riverside Dental."
first_message = "Thank you for calling Riverside Dental. How can I help you today?"
provider = "pipeline"
[stt]
provider = "embedded"
[tts]
provider = "embedded"
[[script]]
when = ["insurance"]
say = """We take nearly all of the plans that people around here have and for the few that we do not take we will give you \
a receipt with all the codes that you can send to them yourself so that they pay you back within a month or at most two months"""
[[script]]
when = ["open", "hours"]
say = "We are open from eight to six on weekdays."
[[script]]
when = ["parking"]
say = "You can park behind the building for free."
[[script]]
when = []
say = "I will make a note of that. What else can I do for you?"
'''
QUESTIONS = (
    "What time do you open on Saturday morning?",
    "Is there parking near the office?",
    "I would like to see a doctor on Friday.",
    "How much does a cleaning cost?",
    "My tooth has been hurting since yesterday evening.",
    "Could you tell me where you are?",
    "I need to move my appointment to next week.",
    "Do you treat children as well?",
    "Please send the confirmation to my email address.",
    "What are your hours on Wednesday?",
)
LONG_ANSWER = "Do you take my insurance?"
INTERRUPTION = "Wait, I have another question about Friday."
QUIET_FOR_MS = 900.0  # the agent has finished when nothing sounded for this long


async def clips(texts: Sequence[str], line: AudioFormat) -> dict[str, bytes]:
    """Each text spoken by the embedded voice, in the line's format, without silence at either end."""
    voice = HibariSynthesizer()
    await voice.start()
    made: dict[str, bytes] = {}
    for text in texts:
        chunks = [chunk async for chunk in voice.synthesize(text)]
        converter = Converter(chunks[0].format, line)
        sound = b"".join(converter.convert(chunk.data) for chunk in chunks) + converter.flush()
        first, last = ears.bounds(ears.samples(sound, line))
        made[text] = sound[line.bytes_for(first) : line.bytes_for(last)]
    await voice.aclose()
    return made


async def quiet(caller: Caller, spoken_after_ms: float) -> None:
    """Wait until the agent has said something after `spoken_after_ms` and then nothing for a while."""
    with anyio.fail_after(60):
        while True:
            await anyio.sleep(0.1)
            heard = ears.samples(bytes(caller.heard), caller.format)
            last = ears.last_sound(heard, spoken_after_ms, caller.now_ms)
            if last is not None and caller.now_ms - last > QUIET_FOR_MS:
                return


async def sounding(caller: Caller, after_ms: float) -> float:
    """Wait until the agent begins to sound after `after_ms`; returns when."""
    with anyio.fail_after(30):
        while True:
            await anyio.sleep(0.05)
            began = ears.first_sound(ears.samples(bytes(caller.heard), caller.format), after_ms)
            if began is not None:
                return began


class Latency:
    """Asks questions and waits for the answers."""

    def __init__(self, said: dict[str, bytes], count: int) -> None:
        self._said, self._count = said, count
        self._asked: list[tuple[str, float]] = []

    async def play(self, caller: Caller) -> None:
        await quiet(caller, 0)
        for index in range(self._count):
            text = QUESTIONS[index % len(QUESTIONS)]
            clip = self._said[text]
            began = caller.speak(clip)
            self._asked.append((text, began))
            await quiet(caller, began + caller.format.ms_of(len(clip)))

    def waits(self, caller: Caller) -> list[float]:
        """ms from the caller's last sound to the agent's first, between the two recorded sides."""
        said, heard = ears.samples(bytes(caller.said), caller.format), ears.samples(bytes(caller.heard), caller.format)
        waits: list[float] = []
        for text, near in self._asked:
            clip = ears.samples(self._said[text], caller.format)
            ended = ears.place(clip, said, near) + ears.bounds(clip)[1]
            began = ears.first_sound(heard, ended)
            waits.append(math.inf if began is None else began - ended)
        return waits


class BargeIn:
    """Interrupts a long answer again and again."""

    def __init__(self, said: dict[str, bytes], count: int) -> None:
        self._said, self._count = said, count
        self._cut: list[float] = []

    async def play(self, caller: Caller) -> None:
        await quiet(caller, 0)
        for index in range(self._count):
            question, words = self._said[LONG_ANSWER], self._said[INTERRUPTION]
            began = caller.speak(question)
            answer = await sounding(caller, began + caller.format.ms_of(len(question)))
            await anyio.sleep(max(0.0, (answer + 1000 + 137 * (index % 8) - caller.now_ms) / 1000))
            cut = caller.speak(words)
            self._cut.append(cut)
            await quiet(caller, cut + caller.format.ms_of(len(words)))

    def stops(self, caller: Caller) -> list[float]:
        """ms from the caller's first sound to the agent's last; inf when old sound came back while the caller spoke."""
        said, heard = ears.samples(bytes(caller.said), caller.format), ears.samples(bytes(caller.heard), caller.format)
        words = ears.samples(self._said[INTERRUPTION], caller.format)
        stops: list[float] = []
        for near in self._cut:
            began = ears.place(words, said, near) + ears.bounds(words)[0]
            ended = began + ears.bounds(words)[1]
            last = ears.last_sound(heard, began - 300, ended + 200)  # no answer can come within 200 ms of the last word
            assert last is not None, "the agent was not speaking when it was interrupted"
            stops.append(max(0.0, last - began))
        return stops


async def call(running: Engine, agent: Path, scene: Callable[[Caller], Awaitable[None]]) -> Caller:
    """One call with `scene` as its caller; returns it with both sides recorded."""
    async with aiohttp.ClientSession() as session:
        caller = Caller(await running.dial(agent), session)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.carrier.call)
            await scene(caller)
            caller.carrier.hang_up()
    assert not caller.carrier.violations, caller.carrier.violations
    return caller


def nearest_rank(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


async def main(questions: int, interruptions: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as scratch:
        agent = Path(scratch) / "agents" / "desk.toml"
        agent.parent.mkdir()
        agent.write_text(AGENT)
        async with engine(agent) as running:
            asker = Caller(await running.dial(agent), None)  # type: ignore[arg-type]  # only for the line's format
            said = await clips([*QUESTIONS, LONG_ANSWER, INTERRUPTION], asker.format)
            if questions:
                latency = Latency(said, questions)
                caller = await call(running, agent, latency.play)
                await report_waits(running, caller, latency.waits(caller))
            if interruptions:
                barge = BargeIn(said, interruptions)
                caller = await call(running, agent, barge.play)
                stops = barge.stops(caller)
                good = sum(stop <= 300 for stop in stops)
                print(f"barge-in: {good} of {len(stops)} within 300 ms; median {statistics.median(stops):.0f} ms, "
                      f"worst {max(stops):.0f} ms")  # fmt: skip


async def report_waits(running: Engine, caller: Caller, waits: list[float]) -> None:
    """Print the silence the caller heard beside the segments that the journal tells."""
    print(f"voice to voice, {len(waits)} turns: median {statistics.median(waits):.0f} ms (bar 1000), "
          f"p95 {nearest_rank(waits, 0.95):.0f} ms (bar 1600)")  # fmt: skip
    turns = [
        event
        for event in await running.events(caller.carrier.call_sid)
        if event["type"] == "TurnMeasured" and event["closed"] and event["kind"] == "answer"
    ]
    for name in turns[0]["segments"]:
        print(f"  {name:>15} median {statistics.median(turn['segments'][name] for turn in turns):6.0f} ms")
    gaps = [abs(turn["total_ms"] - wait) for turn, wait in zip(turns, waits, strict=False)]
    print(
        f"  measured at the ear minus told by the segments: median {statistics.median(gaps):.0f} ms, worst {max(gaps):.0f} ms"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--interruptions", type=int, default=20)
    given = parser.parse_args()
    anyio.run(main, given.questions, given.interruptions)
