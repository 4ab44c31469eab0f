"""Vendor protocols as pure codecs: text in, values out, and back. No sockets, no clock, no loop."""
