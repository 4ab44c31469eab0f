"""`python -m tests`: the style, the types, the floors, then the tests. Arguments go to pytest.

It owns the order and the verdict; each tool's settings stand in pyproject.toml. Tests that measure or that drive a whole
terminal run one after another; all others run on every core, and one more beside, since many of them wait. These tests live
in real time, and machines stall: the few that failed are run once more when nothing else runs. What fails again has failed;
what passes then is named at the end, so that a test that does so often is seen and mended.
"""

from __future__ import annotations

import json
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
PYTEST = ["-m", "pytest", "-q"]
BESIDE = ["-n", str(min(4, (os.cpu_count() or 1) + 1)), "--dist", "loadfile", *(f"--ignore={place}" for place in ALONE)]
TESTS = {
    "tests, side by side": [*PYTEST, "--cache-clear", *BESIDE],
    "tests, one by one": [*PYTEST, *ALONE],
}
AGAIN = [*PYTEST, "--last-failed", "--last-failed-no-failures", "none"]
FAILED = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"
FEW = 5  # more of them are no accident


def main(arguments: list[str]) -> int:
    """Run every check even if one fails, so that one run tells all. Returns 0 if all passed.

    With `arguments` (of pytest) the chosen tests run in one go, and none of them twice."""
    failed = [name for name, command in CHECKS.items() if _run(name, command)]
    if arguments:
        failed += ["tests"] * (_run("tests", [*PYTEST, *arguments]) != 0)
    else:
        failed += _all_tests()
    print(f"--- failed: {', '.join(failed)}" if failed else "--- all passed", flush=True)
    return bool(failed)


def _all_tests() -> list[str]:
    """Run all tests, and the few that failed again. Returns which groups failed."""
    codes = {name: _run(name, command) for name, command in TESTS.items()}
    groups = [name for name, code in codes.items() if code]
    unsteady = json.loads(FAILED.read_text()) if groups and FAILED.exists() else {}
    if not 0 < len(unsteady) <= FEW or any(codes[name] != 1 for name in groups):  # 1: tests failed, and nothing else
        return groups
    if _run("what failed, once more", AGAIN):
        return groups
    print("--- passed only when run again:", *sorted(unsteady), sep="\n", flush=True)
    return []


def _run(name: str, command: list[str]) -> int:
    print(f"--- {name}", flush=True)
    return subprocess.run([sys.executable, *command], cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
