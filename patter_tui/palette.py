"""The command palette's source: every action that can be done now, by name. It decides nothing."""

from __future__ import annotations

from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.markup import escape

from patter_tui.actions import ACTIONS, Action


def title(action: Action) -> str:
    """What the palette calls an action."""
    name = action.id.replace("mode_", "go to ").replace("_", " ").capitalize()
    return f"{name}  ({action.shown})" if action.shown else name


class Actions(Provider):
    """Actions of the registry."""

    def _possible(self) -> list[Action]:
        can = self.app.check_action
        return [
            action
            for action in ACTIONS
            if action.id not in ("palette", "leave", "type") and can("palette_act", (action.id,))
        ]

    async def discover(self) -> Hits:
        """Everything, before a letter was typed."""
        for action in self._possible():
            yield DiscoveryHit(
                title(action), partial(self.app.run_action, f"act('{action.id}')"), help=escape(action.help)
            )

    async def search(self, query: str) -> Hits:
        """What matches."""
        matcher = self.matcher(query)
        for action in self._possible():
            score = max(matcher.match(title(action)), matcher.match(action.help) * 0.8)
            if score > 0:
                run = partial(self.app.run_action, f"act('{action.id}')")
                yield Hit(score, matcher.highlight(title(action)), run, help=escape(action.help))
