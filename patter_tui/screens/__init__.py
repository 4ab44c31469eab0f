"""The workbench's one screen with its modes, and the questions that open over it."""
