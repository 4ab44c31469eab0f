"""The agent's side of a call: engines with one shape, `ports.Conversation`."""
