"""`CallControl`: what an `on_message` handler may do to its call. It records wishes; the session carries them out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Transfer = Callable[[str, str], Awaitable[None]]
"""(number, summary) → it is on its way; raises when it cannot be."""

HangUp = Callable[[], Awaitable[None]]


class CallControl:
    """Dynamic call management for `on_message(data, control)`."""

    def __init__(
        self,
        call_id: str,
        caller: str = "",
        callee: str = "",
        telephony_provider: str = "",
        *,
        transfer: Transfer | None = None,
        hang_up: HangUp | None = None,
    ) -> None:
        self.call_id = call_id
        self.caller = caller
        self.callee = callee
        self.telephony_provider = telephony_provider
        self._transfer = transfer
        self._hang_up = hang_up
        self._transferred = False
        self._hung_up = False

    async def transfer(self, number: str, *, summary: str = "") -> None:
        """Hand the call to `number` (E.164) once what is being said has been heard, this handler's answer included.

        With a `summary` that person is called first and hears it, while the conversation goes on. Returns at once and does
        nothing if the call has ended; if nobody takes the call it goes on as if this had not been asked. Raises ValueError
        for other numbers, PatterError when a transfer is under way already."""
        if self.ended:
            return
        self._transferred = True
        try:
            if self._transfer is not None:
                await self._transfer(number, summary)
        except BaseException:
            self._transferred = False
            raise

    def transfer_failed(self) -> None:
        """Nobody took the call: it goes on, and may be transferred again."""
        self._transferred = False

    async def hangup(self) -> None:
        """End the call once what is being said has been heard. Does nothing if it has ended."""
        if self.ended:
            return
        self._hung_up = True
        if self._hang_up is not None:
            await self._hang_up()

    @property
    def is_transferred(self) -> bool:
        """Whether a transfer was requested, and has not failed."""
        return self._transferred

    @property
    def is_hung_up(self) -> bool:
        """Whether a hang-up was requested."""
        return self._hung_up

    @property
    def ended(self) -> bool:
        """True once transferred or hung up."""
        return self._transferred or self._hung_up
