"""Tunnel programs as small scripts that print what the real ones print, and stay; a test puts them on the PATH.

They own what cloudflared and ngrok say; they refuse to know what reads it.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

HOST = "four-dashed-word-names.trycloudflare.com"
"""Where `CLOUDFLARED`, `ADDRESS` and `REGISTERED` together lead."""

STAY = "signal.pause()"
CLOUDFLARED = r"""
def say(text, level="INF"):
    print(f"2026-11-22T16:44:36Z {level} {text}", file=sys.stderr, flush=True)

say("Thank you for trying Cloudflare Tunnel. See (https://www.cloudflare.com/website-terms/) and https://developers.cloudflare.com/x")
say("Configuration file /dev/null was empty", "ERR")
say("Requesting new quick Tunnel on trycloudflare.com...")
"""
ADDRESS = r"""
say("+-------------------------------------------------------------------+")
say("|  Your quick Tunnel has been created! Visit it at (it may take some time to be reachable):  |")
say("|  https://four-dashed-word-names.trycloudflare.com                 |")
say("+-------------------------------------------------------------------+")
say("Settings: map[ha-connections:1 no-autoupdate:true protocol:quic url:http://127.0.0.1:1]")
"""
REGISTERED = 'say("Registered tunnel connection connIndex=0 event=0 ip=198.41.192.7 location=fra08 protocol=quic")\n'
NGROK = r"""
def say(**said):
    print(json.dumps({"t": "2026-11-22T16:44:36+0000", "lvl": "info"} | said), flush=True)

say(msg="no configuration paths supplied")
say(msg="open config file", path="/root/.config/ngrok/ngrok.yml", err="<nil>")
say(msg="starting web service", obj="web", addr="127.0.0.1:4040")
"""
STARTED = r"""
say(msg="started tunnel", obj="tunnels", name="command_line (http)", addr="http://127.0.0.1:1", url="http://ab12.ngrok-free.app")
say(msg="started tunnel", obj="tunnels", name="command_line", addr="http://127.0.0.1:1", url="https://ab12.ngrok-free.app")
"""


@dataclass(frozen=True)
class Programs:
    """A folder of programs; each tells in `trace` how it was started."""

    folder: Path

    def __call__(self, name: str, *code: str) -> Path:
        """Install a program made of these pieces of Python; returns its trace."""
        trace = self.folder / f"{name}.json"
        new = str(trace) + ".new"
        script = self.folder / name
        script.write_text(
            f"#!{sys.executable} -IS\n"
            "import json, os, signal, sys\n"
            f"with open({new!r}, 'w') as file: json.dump([os.getpid(), os.getsid(0), sys.argv[1:]], file)\n"
            f"os.replace({new!r}, {str(trace)!r})\n" + "\n".join(code)
        )
        script.chmod(0o755)
        return trace


def started(trace: Path) -> tuple[int, int, list[str]]:
    """A program's process id, its session and its arguments."""
    pid, session, arguments = json.loads(trace.read_text())
    return pid, session, arguments


def lives(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
