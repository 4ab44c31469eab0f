"""`python -m tests`: the style, the types, the floors, then the tests. Arguments go to pytest.

It owns the order and the verdict; each tool's settings stand in pyproject.toml. Tests that measure or that drive a whole
terminal run one after another; all others run on every core, and one more beside, since many of them wait. A test that ran
out of time on a busy machine gets one more chance; a wrong result does not, but where words pass a sound server in real time.
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
}
ALONE = ["tests/e2e", "tests/softphone", "tests/benchmarks"]
PYTEST = ["-m", "pytest", "-q", "--reruns", "1", "--only-rerun", "TimeoutError", "--only-rerun", "Failed: Timeout"]
BESIDE = ["-n", str(min(4, (os.cpu_count() or 1) + 1)), "--dist", "loadfile", *(f"--ignore={place}" for place in ALONE)]
TESTS = {
    "tests, side by side": [*PYTEST, *BESIDE],
    "tests, one by one": [*PYTEST, *ALONE],
}


def main(arguments: list[str]) -> int:
    """Run every check even if one fails, so that one run tells all. Returns 0 if all passed.

    With `arguments` (of pytest) the chosen tests run in one go."""
    failed = []
    tests = {"tests": [*PYTEST, *arguments]} if arguments else TESTS
    for name, command in (CHECKS | tests).items():
        print(f"--- {name}", flush=True)
        done = subprocess.run([sys.executable, *command], cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            failed.append(name)
    print(f"--- failed: {', '.join(failed)}" if failed else "--- all passed", flush=True)
    return bool(failed)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
