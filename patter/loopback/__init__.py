"""Loopback."""
