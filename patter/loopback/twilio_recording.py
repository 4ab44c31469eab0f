"""A recording at Twilio: what is on it, what is told of it, and the JSON it is asked for with.

It owns its states and spellings; it refuses to know who started it, and how sound is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from patter.loopback.line import Line, Recording
from patter.loopback.twilio_resources import API, date, new_sid


class Tape:
    """One recording of one call. `status`: "in-progress", "paused", "completed"; `source`: what started it."""

    def __init__(
        self,
        account_sid: str,
        call_sid: str,
        api_base: str,
        now: Callable[[], float],
        *,
        source: str,
        channels: str = "mono",
        track: str = "both",
        callback_url: str = "",
        callback_method: str = "POST",
        callback_events: Collection[str] = (),
    ) -> None:
        self.sid = new_sid("RE")
        self.call_sid, self.source, self.track = call_sid, source, track
        self.status = "in-progress"
        self.callback_url, self.callback_method = callback_url, callback_method
        self.callback_events = frozenset(callback_events or ("completed",))
        self._path = f"{API}/Accounts/{account_sid}/Recordings/{self.sid}"
        self.url = api_base + self._path
        self._account_sid, self._now = account_sid, now
        self._channels = "dual" if channels == "dual" else "single"
        self._began_at = now()
        self._recording: Recording | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more will be on it."""
        return self.status == "completed"

    @property
    def duration(self) -> str:
        """Whole seconds, as text."""
        return str(round(self._recording.seconds)) if self._recording is not None else "0"

    def start(self, line: Line) -> None:
        """From now on."""
        self._recording = Recording(line.format, self._channels, self._began_at)
        line.recordings.append(self._recording)

    def pause(self, line: Line) -> None:
        """Leave out what is said now; the file does not have it."""
        if self.status == "in-progress" and self._recording is not None:
            self.status = "paused"
            line.recordings.remove(self._recording)

    def resume(self, line: Line) -> None:
        """Go on after a pause."""
        if self.status == "paused" and self._recording is not None:
            self.status = "in-progress"
            line.recordings.append(self._recording)

    def finish(self, line: Line) -> None:
        """The end of it."""
        self.pause(line)
        self.status = "completed"

    def wav(self) -> bytes:
        """The file."""
        return self._recording.wav() if self._recording is not None else b""

    def form(self) -> dict[str, str]:
        """The fields of its callback."""
        form = {
            "AccountSid": self._account_sid,
            "CallSid": self.call_sid,
            "RecordingSid": self.sid,
            "RecordingUrl": self.url,
            "RecordingStatus": self.status,
            "RecordingChannels": "2" if self._channels == "dual" else "1",
            "RecordingStartTime": str(date(self._began_at)),
            "RecordingSource": self.source,
            "RecordingTrack": self.track,
            "ErrorCode": "0",
        }
        return form | {"RecordingDuration": self.duration} if self.finished else form

    def resource(self) -> dict[str, Any]:
        """Its JSON."""
        return {
            "sid": self.sid,
            "account_sid": self._account_sid,
            "call_sid": self.call_sid,
            "conference_sid": None,
            "status": self.status,
            "channels": 2 if self._channels == "dual" else 1,
            "source": self.source,
            "track": self.track,
            "error_code": None,
            "duration": self.duration if self.finished else None,
            "price": None,
            "price_unit": "USD",
            "encryption_details": None,
            "start_time": date(self._began_at),
            "date_created": date(self._began_at),
            "date_updated": date(self._now()),
            "api_version": "2010-04-01",
            "uri": self._path + ".json",
        }
