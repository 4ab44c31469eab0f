"""What a provider's maker is given beside its settings: the one HTTP client, the sockets, the clock, the line's format.

It owns nothing; it refuses to choose anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
from anyio.abc import TaskGroup

from patter.audio.format import AudioFormat
from patter.clock import Clock
from patter.models import TurnTaking
from patter.providers.dialer import Dialer


@dataclass(frozen=True, slots=True)
class Bench:
    """The workplace of a maker: `make(config, bench)`.

    `http` and `dialer` are shared by all calls. `key` is the API key to use and `base_url` another address ("" = the
    vendor's usual one); it is still the vendor's own where it is `vendor_url`, else somebody's server that is like
    it. `hears` and `plays` are the line's formats: a provider that can take or give them spares every conversion.
    `language` is the agent's (BCP-47). `note` takes a sentence for the user about what was chosen, before the call
    begins. `shared` keeps what is built once for all calls (a model, a voice list), by a key of the maker's own.
    `tasks` lives as long as the workshop: what is kept between calls may run there (None: nothing can)."""

    http: aiohttp.ClientSession
    dialer: Dialer
    clock: Clock
    key: str = field(default="", repr=False)
    base_url: str = ""
    vendor_url: str = ""
    hears: AudioFormat | None = None
    plays: AudioFormat | None = None
    language: str = "en"
    turn_taking: TurnTaking = field(default=TurnTaking())
    note: Callable[[str], None] = lambda sentence: None
    shared: dict[str, object] = field(default_factory=dict)
    tasks: TaskGroup | None = None
