"""The terminal workbench: edit an agent, rehearse it, watch its calls. A client of the engine process, nothing more."""
