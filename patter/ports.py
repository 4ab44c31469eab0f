"""The seams of a call, as Protocols: the caller's side, the agent's side, and the providers behind a pipeline.

They own the shapes that parts must have; they refuse to know any part. One object, one life: never restarted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from anyio.abc import TaskGroup

from patter.audio.format import AudioChunk, AudioFormat
from patter.models import Agent, TurnTaking
from patter.signals import (
    ConversationSignal,
    ListenerSignal,
    Message,
    ReplyAudio,
    ResponderPiece,
    SynthesizerPiece,
    TokensUsed,
    TranscriberSignal,
    TransportSignal,
)

AnsweredBy = Literal["human", "machine", "fax", "unknown"]

Ear = Callable[[AudioChunk], None]
"""Takes one frame of caller audio at once; must never block or raise."""


@dataclass(frozen=True, slots=True)
class CallInfo:
    """Who speaks with whom. `direction`: "inbound", "outbound" or "test"; `telephony`: "twilio", "loopback", "text", …"""

    call_id: str
    caller: str = ""
    callee: str = ""
    direction: str = "inbound"
    telephony: str = ""
    custom_params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a transport can do. A format of None means: no sound that way (a text line).

    `announce`: the carrier can speak in a voice of its own."""

    hears: AudioFormat | None
    plays: AudioFormat | None
    digits_out: bool = False
    transfer: bool = False
    announce: bool = False


@dataclass(frozen=True, slots=True)
class LineStats:
    """How a line did so far. `frames` came from the caller, `lost` never came, `dropped` came but too late or twice;
    `jitter_ms`: smoothed deviation of their arrival (RFC 3550, 6.4.1), averaged; `underruns`: times the agent's sound ran
    dry in the middle of a reply."""

    frames: int = 0
    lost: int = 0
    dropped: int = 0
    jitter_ms: float = 0.0
    underruns: int = 0


class CarrierControl(Protocol):
    """What only the carrier's REST API can do to one call that is up.

    Every method raises PatterError, with what to do about it, when the carrier refuses."""

    async def send_digits(self, digits: str) -> None:
        """Press keys on the line (`0-9*#`, w = half a second of pause)."""

    async def transfer(self, number: str, summary: str = "") -> None:
        """Hand the call to `number` (E.164); from then on the carrier joins the two and our stream ends.

        With a `summary` (a warm transfer) that person is called first and hears the summary; the caller stays with the
        agent until then. Returns when the carrier has joined them, and raises PatterError when nobody took the call."""

    async def announce(self, text: str) -> None:
        """Say `text` in the carrier's own voice, then end the call. Our stream ends with it."""

    async def record(self) -> None:
        """Let the carrier record the call from now on, both sides."""

    async def hang_up(self) -> None:
        """End the call at the carrier; not an error if it is over already."""


class Transport(Protocol):
    """The caller's side of one call."""

    @property
    def abilities(self) -> Abilities: ...

    def listen(self, ear: Ear) -> None:
        """Give every frame of caller audio to `ear`, synchronously, from now on."""

    def signals(self) -> AsyncIterator[TransportSignal]:
        """What the caller's side says, until it hangs up (the last one is `HungUp`)."""

    def play(self, chunk: AudioChunk, reply_id: int, at_ms: float) -> float:
        """Queue sound (in the format of `abilities.plays`) that stands at `at_ms` of the reply's timeline.

        Returns when its first sample should reach the ear (clock seconds)."""

    def finish(self, reply_id: int) -> None:
        """No more sound will come for this reply; `PlayoutEnded` follows when all of it has been heard."""

    def show(self, text: str, reply_id: int) -> None:
        """Give the reply's text to a transport that reads (nothing on a phone line)."""

    def clear(self) -> float:
        """Drop everything not yet heard, at once. Returns how many ms of the current reply were heard (0.0: nothing)."""

    def heard_ms(self, reply_id: int) -> float:
        """How much of the reply's timeline has been heard by now, within about 100 ms."""

    def quality(self) -> LineStats | None:
        """How the line did so far; None for one that measures nothing (a text line, a call that had no stream)."""

    async def send_digits(self, digits: str) -> None: ...

    async def transfer(self, number: str, summary: str = "") -> None:
        """See `CarrierControl.transfer`; raises PatterError on a line that cannot."""

    async def announce(self, text: str) -> None:
        """See `CarrierControl.announce`; raises PatterError on a line that cannot."""

    async def hang_up(self) -> None:
        """End the call on the caller's side (what was queued is dropped); leaves a call alone that was handed over."""

    async def aclose(self) -> None: ...


Screen = Callable[[str, str], tuple[str, str | None]]
"""(text so far without this piece, this piece) → (text to speak instead, name of the guardrail that tripped or None)."""


@dataclass(frozen=True, slots=True)
class Brief:
    """What a conversation is told before it starts. `hears`/`plays` as in `Abilities`."""

    call: CallInfo
    agent: Agent
    hears: AudioFormat | None
    plays: AudioFormat | None
    screen: Screen
    tools: Sequence[dict[str, Any]] = ()


class Conversation(Protocol):
    """The agent's side of one call."""

    async def start(self, brief: Brief, tasks: TaskGroup) -> None:
        """Connect and be ready. All its tasks live in `tasks`."""

    def hear(self, chunk: AudioChunk) -> None:
        """One frame of caller audio, in the order it came."""

    async def read(self, text: str) -> None:
        """The caller's turn as text: answer it."""

    async def reply(self, utterance: str) -> None:
        """Answer an utterance that the engine heard itself (named by `UtteranceEnded.utterance`)."""

    async def speak(self, text: str, kind: str = "say") -> None:
        """Say this word for word. `kind`: "greeting", "say" or "filler"."""

    async def interrupt(self, reply_id: int, heard: str, heard_ms: float) -> None:
        """Stop this reply; the caller heard only `heard`. Keep just that in the context."""

    async def answer(self, tool_id: str, output: str) -> None:
        """The result of a tool the model asked for."""

    async def guide(self, text: str) -> None:
        """Tell the model something that the caller does not hear; it counts from the next reply on.

        Raises PatterError when there is no model that could be told."""

    def update(self, agent: Agent) -> None:
        """Use this definition from the next turn on."""

    def straight(self, play: Callable[[ReplyAudio], None]) -> None:
        """Give the sound of replies to `play` at once, whenever nothing that was said before it waits to be read.

        What is given so is not among the `signals`."""

    def signals(self) -> AsyncIterator[ConversationSignal]: ...

    async def aclose(self) -> None: ...


class VoiceDetector(Protocol):
    """Voice activity of one caller: feed PCM 16 kHz, get a speech probability per window of `window_ms`.

    `lag_ms`/`tail_ms`: how late its probability rises after the first sound and falls after the last one."""

    @property
    def window_ms(self) -> float: ...

    @property
    def lag_ms(self) -> float: ...

    @property
    def tail_ms(self) -> float: ...

    def probabilities(self, pcm_16k: bytes) -> list[float]: ...


class TurnModel(Protocol):
    """Says how likely the caller is done, from the sound of the utterance (PCM 16 kHz). Runs off the event loop."""

    async def complete(self, pcm_16k: bytes) -> float: ...


class Transcriber(Protocol):
    """Speech-to-text of one call. `hear` gets everything the caller's side sends as PCM 16 kHz, silence included."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    async def start(self, tasks: TaskGroup) -> None: ...

    def hear(self, pcm_16k: bytes) -> None: ...

    def begin(self) -> None:
        """The caller began to speak (a little ago: keep a pre-roll)."""

    def pause(self) -> None:
        """The caller is silent: give the best transcript of the utterance so far (`Transcribed(final=True)`)."""

    def resume(self) -> None:
        """The caller goes on: the same utterance, an unfinished request is moot."""

    def commit(self) -> None:
        """The utterance has been taken: the next words are a new one."""

    def signals(self) -> AsyncIterator[TranscriberSignal]:
        """Partials and finals, and what they cost. Raises ProviderError when it can go on no more.

        Usage is told as `Used`, or by the `audio_seconds` of a `Transcribed`, never both."""

    async def aclose(self) -> None: ...


class StreamingTranscriber(Protocol):
    """Speech-to-text of one call that is given every frame as it comes, and says itself when the caller speaks and pauses."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    async def start(self, hears: AudioFormat, tasks: TaskGroup) -> None:
        """Connect; from then on `hear` takes audio of format `hears`. Its tasks live in `tasks`. Raises ProviderError."""

    def hear(self, chunk: AudioChunk) -> None:
        """One frame of caller audio, silence included, in the order it came. Never raises or blocks."""

    def settle(self, settings: TurnTaking) -> None:
        """Use these settings from the next utterance on, as far as the vendor can."""

    def signals(self) -> AsyncIterator[ListenerSignal]:
        """What is heard. Reconnects by itself (each try is a `Faulted`); raises ProviderError when it can go on no more."""

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """What a responder is asked: the context ends with the caller's words or a tool's result.

    `tools` in JSON-schema form: dicts with name, description, parameters. `count` is told of tokens that can be a piece no
    more, because the iterator was closed or broke; it returns at once."""

    call: CallInfo
    agent: Agent
    system_prompt: str
    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]] = ()
    count: Callable[[TokensUsed], None] = field(default=lambda tokens: None, compare=False, repr=False)


class Responder(Protocol):
    """The brain of a pipeline: a model, a handler in user code, or a script. Shared by calls; holds no call's state."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    def respond(self, ask: Ask) -> AsyncIterator[ResponderPiece]:
        """The reply piece by piece as it comes. Raises ProviderError. Closing the iterator stops the request."""

    async def aclose(self) -> None: ...


class Synthesizer(Protocol):
    """Text-to-speech. Shared by calls."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def voice(self) -> str: ...

    async def start(self) -> None:
        """Load or connect; may be called more than once."""

    def synthesize(self, text: str) -> AsyncIterator[SynthesizerPiece]:
        """The sound of `text`, in order, as it comes; nothing for text without words. Raises ProviderError.

        A `Spent` among the pieces replaces the count of the text's characters. Closing the iterator stops the work."""

    async def aclose(self) -> None: ...


class AudioTap(Protocol):
    """Hears both sides of a call as the caller's ear does: a recorder, a meter, a listener."""

    def caller(self, chunk: AudioChunk, at: float) -> None:
        """A frame of the caller's, received at `at`."""

    def agent(self, chunk: AudioChunk, starts_at: float) -> None:
        """Sound for the caller whose first sample reaches the ear at `starts_at`."""

    def cut(self, at: float) -> None:
        """Whatever would have been heard from the agent after `at` was dropped."""

    def close(self, at: float) -> None:
        """The call is over."""
