"""Which version of the package runs.

It owns asking for it; it refuses to know what it is used for.
"""

from __future__ import annotations

from importlib import metadata


def installed_version() -> str:
    """The version; "0" when it runs from a checkout."""
    try:
        return metadata.version("patter")
    except metadata.PackageNotFoundError:
        return "0"
