"""Serving and calling without a screen: plain lines for people and pipes, JSON lines for programs. No interface is loaded."""
