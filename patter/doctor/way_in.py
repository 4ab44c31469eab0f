"""The way in: whether the public address leads to this very machine and port.

It owns one request that goes out and comes back in; it refuses to know carriers.
"""

from __future__ import annotations

import secrets

import aiohttp
from aiohttp import web

from patter.doctor.findings import Finding
from patter.server.listener import PortInUse, guarded, listen

CHECK = "public address"
PATIENCE_S = 10.0
_PROXY = "Let its reverse proxy or tunnel lead to http://127.0.0.1:{port}, or give the right PATTER_WEBHOOK_HOST."


async def examine(host: str, port: int, http: aiohttp.ClientSession) -> Finding:
    """Ask https://`host`/health, with something of our own listening on `port` unless a server is there already."""
    if not host:
        fix = "Set PATTER_WEBHOOK_HOST to this machine's public host name, or serve with --tunnel."
        return Finding(CHECK, "skipped", "No public host is set.", fix)
    identity = secrets.token_hex(8)

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "door": identity})

    try:
        listener = listen(port)
    except PortInUse:
        return await _ask(host, port, http, "")
    app = web.Application()
    app.add_routes([web.get("/health", health)])
    runner = guarded(app)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        return await _ask(host, listener.getsockname()[1], http, identity)
    finally:
        await runner.cleanup()
        listener.close()


async def _ask(host: str, port: int, http: aiohttp.ClientSession, identity: str) -> Finding:
    scheme = "http" if host.startswith(("127.0.0.1:", "localhost:")) else "https"
    public, fix = f"{scheme}://{host}", _PROXY.format(port=port)
    try:
        url, patience = f"{public}/health", aiohttp.ClientTimeout(total=PATIENCE_S)
        async with http.get(url, timeout=patience, allow_redirects=False) as answer:
            body = await answer.json(content_type=None) if answer.status == 200 else None
            status = answer.status
    except aiohttp.ClientConnectorDNSError:
        return Finding(CHECK, "problem", f"{host} has no address in the DNS (or there is no network).", fix)
    except aiohttp.ClientSSLError as problem:
        why = type(problem).__name__
        return Finding(
            CHECK, "problem", f"{host} has no certificate that carriers accept ({why}).", "Renew or complete it."
        )
    except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
        return Finding(CHECK, "problem", f"{public} does not answer ({type(problem).__name__}).", fix)
    door = body.get("door") if isinstance(body, dict) else None
    if door is None:
        return Finding(CHECK, "problem", f"{public} answers {status}, but it is not Patter that answers.", fix)
    if identity and door != identity:
        return Finding(CHECK, "problem", f"{public} leads to another Patter, not to port {port} here.", fix)
    who = f"leads to port {port} here" if identity else f"leads to a Patter that is serving (port {port} is in use)"
    return Finding(CHECK, "ok", f"{public} {who}.")
