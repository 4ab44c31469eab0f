"""A small calendar as a server of the Model Context Protocol, for tools_by_mcp.toml.

Try it without a telephone: `patter-tui test examples/tools_by_mcp.toml`.
"""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer

server = MCPServer("calendar")
FREE = {"tuesday": ["9:30", "14:00"], "friday": ["11:00"]}
BOOKED: list[str] = []


@server.tool()
def free_times(day: str) -> list[str]:
    """The free times of a day of this week."""
    return [time for time in FREE.get(day.lower(), []) if f"{day.lower()} {time}" not in BOOKED]


@server.tool()
def book(day: str, time: str, name: str) -> str:
    """Book a free time for somebody."""
    if time not in free_times(day):
        return f"{day} {time} is not free"
    BOOKED.append(f"{day.lower()} {time}")
    return f"booked for {name}: {day} at {time}"


if __name__ == "__main__":
    server.run()
