"""The kitchen behind pizza.toml: tools of an agent file are looked up beside it."""

MINUTES = {"margherita": 15, "funghi": 20, "diavola": 20}


def place_order(arguments: dict, context: dict) -> str:
    """A real agent would talk to the till here; `context` says who is calling."""
    pizza = arguments["pizza"]
    return f"One {pizza}, ready in {MINUTES[pizza]} minutes."
