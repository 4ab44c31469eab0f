"""Where OpenAI's audio models are asked: at OpenAI, or at a server that speaks the same protocol.

It owns the address, the key and whom errors and prices name; it refuses to send anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from yarl import URL

from patter.providers.address import as_socket, checked_base, is_loopback
from patter.providers.openai_account import BASE, OPENAI
from patter.providers.retired import living
from patter.providers.vendor import Vendor


@dataclass(frozen=True, slots=True)
class Place:
    """The root of a server's API, and the key for it."""

    vendor: Vendor
    root: str
    key: str = field(default="", repr=False)

    @classmethod
    def of(cls, base_url: str, key: str, setting: str, own: str = "") -> Place:
        """OpenAI itself for "" and `own`. Another server is named "local" or by its host: OpenAI's prices are not its prices.

        `setting` is where its key is kept, `own` another address of OpenAI.

        Raises ValueError for an address that would send the key in the clear."""
        root = checked_base(base_url, "base_url") if base_url else BASE
        if URL(root).host == URL(BASE).host or root == own:
            return cls(OPENAI, root, key)
        name = "local" if is_loopback(root) else str(URL(root).host)
        return cls(Vendor(name, name, setting), root, key)

    def living(self, model: str) -> tuple[str, str]:
        """See `retired.living`; another server's models are its own business."""
        return living(model) if self.vendor == OPENAI else (model, "")

    @property
    def socket_root(self) -> str:
        """The same root for WebSockets."""
        return as_socket(self.root)

    @property
    def headers(self) -> dict[str, str]:
        """Who asks; a server of one's own may need no key."""
        return {"Authorization": f"Bearer {self.key or 'none'}"}
