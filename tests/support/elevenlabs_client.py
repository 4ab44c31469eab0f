"""The official ElevenLabs client of conversations, as a judge of ours.

It owns importing it: the package names a class that another one calls old, which is a warning, and warnings are errors here.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from elevenlabs.conversational_ai.conversation import (
        AsyncAudioInterface,
        AsyncConversation,
        BaseConversation,
        ClientTools,
        ClientToOrchestratorEvent,
        ConversationInitiationData,
    )

__all__ = [
    "AsyncAudioInterface",
    "AsyncConversation",
    "BaseConversation",
    "ClientToOrchestratorEvent",
    "ClientTools",
    "ConversationInitiationData",
]
