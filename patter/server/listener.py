"""Listening on loopback, and the limits that a server in the open needs.

It owns the socket and the limits; it refuses to know routes.
"""

from __future__ import annotations

import os
import socket

from aiohttp import web

HOST = "127.0.0.1"
IDLE_CONNECTION_S = 30.0  # also the time a new connection has to send a whole request head
LINGER_S = 1.0  # how long the rest of a refused body is taken, so that its sender can read the refusal
HEAD_LINE = 8190  # bytes of a request line or a header
HEADERS = 64
GOODBYE_S = 1.0  # how long open requests may take to finish when the server closes


class PortInUse(Exception):
    """Another program listens on the port; the message says which port and what to do."""


def guarded(app: web.Application) -> web.AppRunner:
    """A runner of `app` with the limits that a server in the open needs."""
    return web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        keepalive_timeout=IDLE_CONNECTION_S,
        lingering_time=LINGER_S,
        max_line_size=HEAD_LINE,
        max_field_size=HEAD_LINE,
        max_headers=HEADERS,
        shutdown_timeout=GOODBYE_S,
        auto_decompress=False,  # nobody who means well packs a webhook, and a packed body may be a bomb
    )


def listen(port: int = 0) -> socket.socket:
    """A socket on loopback (0: any free port) for a server. Raises PortInUse."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise PortInUse(
            f"Port {port} on {HOST} cannot be used ({error.strerror}): stop the program that has it, or leave --port out."
        ) from None
    return listener
