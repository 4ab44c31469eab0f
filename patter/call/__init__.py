"""A call as it happens: the session that joins both sides, and the tools it runs."""
