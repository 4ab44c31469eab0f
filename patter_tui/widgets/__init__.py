"""Widgets of the workbench, drawn line by line."""
