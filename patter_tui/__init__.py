"""patter-tui."""
