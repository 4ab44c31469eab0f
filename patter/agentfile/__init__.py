"""Agent files: an agent's definition in TOML, read strictly, with every problem told by its line and its fix.

It owns the file's keys and the look-up of `module:function`; it refuses to know who runs the agent or replaces `{names}`.
"""

from __future__ import annotations

from patter.agentfile.file import MAX_BYTES, AgentFile, CallerLine, check, load, parse

__all__ = ["MAX_BYTES", "AgentFile", "CallerLine", "check", "load", "parse"]
