"""Panes as plain rows of styled text: pure functions of the state, tested without a terminal."""
