"""A softphone for the workbench's tests: no sound, the same lines. Run as a program; what it is told lands in a file."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from pathlib import Path


def say(**message: object) -> None:
    """One line for the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def levels(stop: threading.Event) -> None:
    """Ten times a second, as the real one."""
    while not stop.wait(0.1):
        now = time.monotonic()
        say(**{"is": "levels", "mic": -30 + 18 * math.sin(now * 3), "speaker": -28 + 20 * math.sin(now * 2), "jitter_ms": 3,
               "underruns": 0, "dropped": 0, "aec": "on"})  # fmt: skip


def main(log: str, sound: str, call_id: str) -> None:
    """Answer commands until the input ends."""
    stop = threading.Event()
    with Path(log).open("a", encoding="utf-8") as told:
        for line in sys.stdin:
            told.write(line)
            told.flush()
            command = json.loads(line)
            if command["do"] == "dial":
                if sound == "silent" and command["device"] == "sound":
                    say(
                        **{
                            "is": "ready",
                            "sound": False,
                            "problem": "No sound device was found.",
                            "fix": "Plug one in, or press s or t.",
                        }
                    )
                    say(**{"is": "ended", "reason": "failed"})
                    break
                say(
                    **{
                        "is": "ready",
                        "sound": True,
                        "problem": "",
                        "fix": "",
                        "aec": "on",
                        "input": "Built-in Mic",
                        "output": "Headphones",
                    }
                )
                say(**{"is": "ringing"})
                say(**{"is": "in_call", "call_id": call_id})
                threading.Thread(target=levels, args=(stop,), daemon=True).start()
            elif command["do"] in ("hang_up", "quit"):
                say(**{"is": "ended", "reason": "caller_hung_up"})
                break
    stop.set()


if __name__ == "__main__":
    main(*sys.argv[1:4])
