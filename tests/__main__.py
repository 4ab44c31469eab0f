"""`python -m tests`: the style, the types, the floors, then the tests. Arguments go to pytest.

It owns the order and the verdict; each tool's settings stand in pyproject.toml.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = "from importlinter.cli import lint_imports_command; lint_imports_command()"
CHECKS = {
    "style": ["-m", "ruff", "check", "."],
    "types": ["-m", "mypy"],
    "floors": ["-c", FLOORS, "--no-logo"],
    "tests": ["-m", "pytest", "-q"],
}


def main(arguments: list[str]) -> int:
    """Run every check even if one fails, so that one run tells all. Returns 0 if all passed."""
    failed = []
    for name, command in CHECKS.items():
        print(f"--- {name}", flush=True)
        extra = arguments if name == "tests" else []
        done = subprocess.run([sys.executable, *command, *extra], cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            failed.append(name)
    print(f"--- failed: {', '.join(failed)}" if failed else "--- all passed", flush=True)
    return bool(failed)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
