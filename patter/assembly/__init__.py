"""The one place that picks the parts of a call: by what the agent asks for, which keys there are and what this machine has.

The package owns the choice and everything that is built once (clients, models, voices); it refuses to know what happens in a
call. Mode and vendor names stand here and where arguments are checked, nowhere else.
"""

from __future__ import annotations

from patter.assembly.workshop import Workshop

__all__ = ["Workshop"]
