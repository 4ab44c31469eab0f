"""How well and how fast the embedded recognition hears callers over the µ-law line.

Run: `python -m tests.benchmarks.recognition [--sentences FILE] [--threads N] [--show]`. Forty sentences of callers and agents
are spoken by the embedded voice, sent through 8 kHz µ-law and our resampler, and decoded as the transcriber does it at a pause.
Prints the word error rate against the measured figure for this engine, and the decoding time.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import anyio

from patter.audio.convert import Converter
from patter.audio.format import MULAW_8K, PCM_16K, PCM_24K
from patter.providers.embedded.hibari import HibariSynthesizer
from patter.providers.embedded.mel import to_samples
from patter.providers.embedded.spoken import spoken
from patter.providers.embedded.whisper_model import WhisperModel

BAR = 0.018  # measured for CTranslate2 with a short window on 40 sentences of this kind, same voice, same line
BEFORE_MS, AFTER_MS = (
    350,
    200,
)  # of quiet around the words: the transcriber's pre-roll, and the pause that asks for the words
SENTENCES = """
Hi, I would like to make an appointment for a dental cleaning.
Do you have any openings on Thursday afternoon?
Could you move my visit from Monday to Friday?
I have been a patient with you for about three years.
My last name is Henderson and my first name is Claire.
You can reach me at four one five, five five five, zero one three two.
What are your opening hours on the weekend?
How long does the appointment usually take?
I woke up with a terrible toothache this morning.
Do you accept my insurance, or do I have to pay cash?
I never got the receipt for my last payment.
Sorry, I meant the twelfth of June, not the twentieth.
Is there an elevator in the building?
I am stuck in traffic and will be fifteen minutes late.
Can my daughter come in at the same time?
Please cancel the table for two that I booked for tonight.
The package was damaged when it was delivered.
I want to return a pair of shoes that are too small.
Could I talk to somebody in the billing department?
No thank you, that is everything for today.
Good afternoon, this is the front desk, how may I help you?
Let me look that up for you, it will only take a moment.
The next free appointment is on Wednesday at a quarter past two.
May I have your date of birth, please?
I have you down for half past ten tomorrow morning.
That comes to sixty two dollars and fifty cents.
We are closed on Sundays and on public holidays.
Would you like to wait, or should we call you back?
I am afraid the doctor is on vacation until next week.
Please bring a photo and your insurance card.
The parking garage is across the street from our entrance.
I just sent a text message with the address to your phone.
Your order was shipped yesterday and should be there by Saturday.
We can refund the full amount to your credit card.
Do you prefer a window seat or something near the garden?
Your reservation is confirmed for five people at seven o'clock.
I will connect you with my colleague, please stay on the line.
Could you say that again a little more slowly?
Is there anything else that I can do for you?
Thanks for calling, and have a lovely evening.
""".strip().splitlines()


def words(text: str) -> list[str]:
    """The words of `text` with numbers spelled out, without case and punctuation: what counts as the same thing said."""
    text = re.sub(r"(?<![$\d])\b(\d{1,2})\.(\d{2})\b", r"\1:\2", text)  # Whisper writes half past nine as 9.30
    return re.sub(r"[^a-z' ]+", " ", spoken(text).lower()).split()


def errors(reference: Sequence[str], heard: Sequence[str]) -> int:
    """Least number of words to insert, drop or replace to get from one to the other."""
    row = list(range(len(heard) + 1))
    for place, word in enumerate(reference, 1):
        above, row = row, [place]
        for column, other in enumerate(heard, 1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (word != other)))
    return row[-1]


async def over_the_line(voice: HibariSynthesizer, text: str) -> bytes:
    """`text` as it reaches the transcriber, in PCM 16 kHz."""
    there, back = Converter(PCM_24K, MULAW_8K), Converter(MULAW_8K, PCM_16K)
    pcm = PCM_24K.quiet(BEFORE_MS)
    async for chunk in voice.synthesize(text):
        pcm += chunk.data
    return back.convert(there.convert(pcm + PCM_24K.quiet(AFTER_MS)))


async def measure(sentences: Sequence[str], threads: int, show: bool) -> None:
    """Speak, decode and print."""
    voice, model = HibariSynthesizer(), WhisperModel(threads=threads)
    await voice.start()
    await anyio.to_thread.run_sync(model.load)
    clips = [await over_the_line(voice, sentence) for sentence in sentences]
    model.transcribe(to_samples(clips[0]))
    wrong = total = exact = 0
    taken, processor = list[float](), list[float]()
    for sentence, clip in zip(sentences, clips, strict=True):
        began, cpu = time.perf_counter(), time.process_time()
        heard = await anyio.to_thread.run_sync(model.transcribe, to_samples(clip))
        taken.append(time.perf_counter() - began)
        processor.append(time.process_time() - cpu)
        reference = words(sentence)
        missed = errors(reference, words(heard))
        wrong, total, exact = wrong + missed, total + len(reference), exact + (not missed)
        if show and missed:
            print(f"  said  {sentence}\n  heard {heard}")
    seconds = statistics.fmean(PCM_16K.ms_of(len(clip)) for clip in clips) / 1000
    ms = sorted(1000 * each for each in taken)
    print(f"{len(sentences)} sentences over 8 kHz µ-law, {seconds:.1f} s on average, {model.name}")
    print(f"word error rate  {wrong / total:.1%} ({exact}/{len(sentences)} exact; bar {BAR:.1%})")
    print(
        f"decoding         min {ms[0]:.0f}, median {statistics.median(ms):.0f}, p95 {ms[int(0.95 * (len(ms) - 1))]:.0f} ms; "
        f"CPU median {1000 * statistics.median(processor):.0f} ms"
    )


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=Path, help="a file with one sentence a line, instead of the forty")
    parser.add_argument("--threads", type=int, default=0, help="of the decoder; 0 lets it choose")
    parser.add_argument("--show", action="store_true", help="print what was heard wrongly")
    options = parser.parse_args()
    sentences = options.sentences.read_text("utf-8").splitlines() if options.sentences else SENTENCES
    anyio.run(measure, [line for line in sentences if line.strip()], options.threads, options.show)


if __name__ == "__main__":
    main()
