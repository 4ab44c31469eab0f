"""What a caller with bad intentions calls themselves, and how to tell that it was made harmless."""

from __future__ import annotations

import unicodedata

NASTY = (
    "", " ", "\0", "\n", "\r\n2026-01-01 00:00:00 ERROR patter: forged", "\x1b[2J\x1b]0;owned\x07", "\x9b31m",
    "\x1bP+q544e\x1b\\",
    "\u202eevil\u2066", "\u2028\u2029", "\ufeff", "../../etc/passwd", "..\\..\\x", "%2e%2e%2f", "a/b", "${jndi:ldap://x}",
    "</Say><Dial>+19005550100</Dial>", "<Response/>", "]]>", "&amp;&x;", "<!DOCTYPE a>", "\"'`--; DROP TABLE calls",
    "=cmd|' /C calc'!A0", "[red]", "[/]", "[", "[@click=app.quit]x[/]",
    "{system_prompt}", "%s%n", "{0.__class__}", "\ud7ff", "é" * 300,
    "9" * 400, "+", "sip:a@b;transport=udp", "anonymous", "null", "true", "[]", "\x08\x08\x08", "\t",
)  # fmt: skip


def is_plain(text: str) -> bool:
    """Whether nothing in it could steer a terminal, a log or a header."""
    return not any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in text)
