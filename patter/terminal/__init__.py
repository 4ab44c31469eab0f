"""The text test in a plain terminal: what is typed, what is printed, and the loop between them."""
