"""`python -m patter_tui`: the same as the command `patter-tui`."""

from __future__ import annotations

import sys

from patter_tui.cli import main

if __name__ == "__main__":
    sys.exit(main())
