"""Pure turn-taking: who has the floor, when the caller is done, what was heard. No clock, no loop, no sockets."""
