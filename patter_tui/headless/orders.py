"""What a command line asks of the phone line, as the engine wants it. It owns defaults and checks; it sends nothing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patter.exceptions import PatterError
from patter_tui.carrier import PORT, Keys, bare_host, is_number, keys_in, plain_number
from patter_tui.paths import Paths


class WrongUse(PatterError):
    """The command line cannot be carried out as it stands."""


def add_line_options(parser: argparse.ArgumentParser) -> None:
    """Options of every command that may open a line."""
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--host", default="", metavar="NAME", help="public name of this machine (also: PATTER_WEBHOOK_HOST)"
    )
    way.add_argument("--tunnel", action="store_true", help="reach this machine by cloudflared or ngrok")
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help=f"local port the public name leads to ({PORT})"
    )
    parser.add_argument("--codec", default="", metavar="NAME", help="what Telnyx is sent: PCMU, PCMA or L16")
    parser.add_argument("--json", action="store_true", help="JSON lines for programs")
    parser.add_argument(
        "--home", default="", metavar="DIR", help="keep agents, calls and logs here (also: PATTER_HOME)"
    )


def agent_named(text: str, paths: Paths) -> str:
    """An agent as the engine finds it: a name, or the full path of a file. Raises WrongUse for a file that is not there."""
    path = Path(text).expanduser()
    if path.suffix != ".toml" and not path.is_file():
        return text
    if path.is_file():
        return str(path.absolute())
    if path.parent == Path() and (paths.agents / path.name).is_file():
        return str(paths.agents / path.name)
    raise WrongUse(f"There is no agent file {text}.")


def number_named(text: str, what: str) -> str:
    """A number in the form that carriers take. Raises WrongUse."""
    number = plain_number(text)
    if not is_number(number):
        raise WrongUse(f"{what} {text} is no number that a carrier can dial: write it like +15551234567.")
    return number


def line_order(options: argparse.Namespace, agent: str, routes: dict[str, str], number: str = "") -> dict[str, Any]:
    """The body of POST /line, with the carrier keys of the environment. Raises Missing and WrongUse."""
    keys = keys_in()
    host = "" if options.tunnel else bare_host(options.host) or keys.host
    if not host and not options.tunnel:
        raise WrongUse(
            "The carrier must be able to reach this machine: give its public name with --host voice.example.com "
            "(or PATTER_WEBHOOK_HOST), or --tunnel."
        )
    order = keys.to_json() | {
        "agent": agent, "routes": routes, "number": _own_number(number, routes, keys), "host": host, "tunnel": not host,
        "port": options.port or (PORT if host else 0),
    }  # fmt: skip
    return order | ({"codec": options.codec.upper()} if options.codec else {})


def _own_number(given: str, routes: dict[str, str], keys: Keys) -> str:
    text = given or keys.number or next(iter(routes), "")
    if not text:
        name = f"{keys.carrier.upper()}_PHONE_NUMBER"
        raise WrongUse(
            f"Which of your numbers? Give it with --number +15551234567, or set {name} or PATTER_PHONE_NUMBER."
        )
    return number_named(text, "The number")


def routes_named(words: Sequence[str], paths: Paths) -> dict[str, str]:
    """ "+1555…=agent" words as numbers and agents. Raises WrongUse."""
    routes: dict[str, str] = {}
    for word in words:
        number, equals, agent = word.partition("=")
        if not equals or not agent:
            raise WrongUse(f"{word} is no route: write it like +15551234567=agent.")
        routes[number_named(number, "The route's")] = agent_named(agent, paths)
    return routes
