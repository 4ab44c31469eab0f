"""Watching a call: readers of the event stream. They only read; deleting this package must change no call."""
