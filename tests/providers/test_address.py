"""The address of a vendor's WebSocket is that of its API."""

from __future__ import annotations

import pytest

from patter.providers.address import as_socket


@pytest.mark.parametrize(
    ("url", "socket"),
    [
        ("https://api.example.com/v1", "wss://api.example.com/v1"),
        ("http://127.0.0.1:8", "ws://127.0.0.1:8"),
        ("HTTPS://api.example.com", "wss://api.example.com"),
        ("wss://api.example.com", "wss://api.example.com"),
        ("https://http.example.com/http", "wss://http.example.com/http"),
    ],
)
def test_the_same_address_for_a_socket(url: str, socket: str) -> None:
    assert as_socket(url) == socket
