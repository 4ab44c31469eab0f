"""The way in: the engine's API, its event socket and the carriers' webhooks and media sockets, on one aiohttp server.

It owns who may come in and which call they reach; it refuses to know how a call is put together (it is handed `open_call`).
"""
