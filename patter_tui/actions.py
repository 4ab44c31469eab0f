"""Every action of the workbench once: keys, words, where it applies. Footer, help, palette and bindings are made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["agent", "rehearse", "serve", "calls"]
Scope = Literal["everywhere", "agent", "rehearse", "serve", "panes", "calls"]

CALL_MODES: tuple[Mode, ...] = ("rehearse", "serve")
"""Modes that show a call in its panes; actions of the scope "panes" apply in both."""


@dataclass(frozen=True)
class Action:
    """One action. `typing`: its keys work while a text is being edited. `rank` orders the footer; 0 keeps it out."""

    id: str
    keys: str
    shown: str
    label: str
    help: str
    scope: Scope = "everywhere"
    rank: int = 0
    typing: bool = False


ACTIONS: tuple[Action, ...] = (
    # rehearse
    Action("dial", "d", "d", "Dial", "Talk to the agent with your own microphone and speaker.", "rehearse", 10),
    Action("simulate", "s", "s", "Simulate", "Let a simulated caller speak the [rehearsal] lines.", "rehearse", 11),
    Action("text", "t", "t", "Text", "Start a typed call: no sound needed.", "rehearse", 12),
    Action("hang_up", "b", "b", "Hang up", "End the call.", "rehearse", 13),
    Action("interrupt", "i", "i", "Interrupt", "Stop what the agent is saying.", "panes", 14),
    Action("mute", "m,space", "m", "Mute", "Switch your microphone off or on.", "rehearse", 15),
    Action("type", "enter", "enter", "Type", "Go to the input line: what you type, the caller says.", "rehearse", 16),
    Action("earlier_turn", "k,less_than_sign", "k", "", "Select the turn before.", "panes"),
    Action("later_turn", "j,greater_than_sign", "j", "", "Select the turn after.", "panes"),
    Action("next_pane", "right_square_bracket", "]", "Pane", "Narrow screens: show the next pane.", "panes", 30),
    Action("previous_pane", "left_square_bracket", "[", "", "Narrow screens: show the pane before.", "panes"),
    Action("follow", "f", "f", "", "Follow the end of the transcript again.", "panes"),
    Action("copy", "y", "y", "Copy", "Copy the selection, else the whole transcript.", "panes", 40),
    # serve
    Action("open_line", "s", "s", "Serve", "Take real calls with the chosen agent: opens the phone line.", "serve", 10),
    Action("close_line", "x", "x", "Stop serving", "Close the phone line; calls can go on or end.", "serve", 19),
    Action("place_call", "n", "n", "Call", "Call somebody; your agent talks.", "serve", 11),
    Action("hang_up_watched", "b", "b", "Hang up", "End the selected call.", "serve", 12),
    Action("transfer", "t", "t", "Transfer", "Hand the selected call to another number.", "serve", 13),
    Action("send_digits", "d", "d", "Digits", "Press telephone keys on the selected call's line.", "serve", 15),
    Action("say", "enter", "enter", "Say", "Go to the input line: what you type, the agent says.", "serve", 16),
    # agent
    Action(
        "save", "ctrl+s", "^s", "Save", "Save the agent file; calls use it from the next turn on.", "agent", 10, True
    ),
    Action(
        "try", "ctrl+g", "^g", "Call it", "Let the simulated caller call the agent as it is saved.", "agent", 11, True
    ),
    Action("open", "ctrl+o", "^o", "Open", "Choose another agent.", "everywhere", 35, True),
    Action("next_problem", "f8", "F8", "Next problem", "Go to the next problem in the file.", "agent", 12, True),
    Action(
        "reload",
        "ctrl+r",
        "^r",
        "Reload",
        "Read the file from disk again; your text is kept as a draft.",
        "agent",
        14,
        True,
    ),
    Action("leave", "escape", "Esc", "", "Leave the text, the zoom or an old call."),
    # calls
    Action(
        "view_call", "enter,v", "enter", "Look at it", "Show the selected call again, from its journal.", "calls", 10
    ),
    Action("hang_up_selected", "b", "b", "Hang up", "End the selected call.", "calls", 11),
    Action("copy_id", "y", "y", "Copy id", "Copy the selected call's id.", "calls", 12),
    # everywhere
    Action(
        "help", "f1,question_mark", "F1", "Help", "What this screen is for and which keys it has.", rank=20, typing=True
    ),
    Action("mode_agent", "f2", "F2", "Agent", "Edit the agent.", rank=50, typing=True),
    Action("mode_rehearse", "f3", "F3", "Rehearse", "Talk to the agent and watch the call.", rank=51, typing=True),
    Action("mode_serve", "f4", "F4", "Serve", "Take and place real calls, watch them, step in.", rank=52, typing=True),
    Action("mode_calls", "f5", "F5", "Calls", "All calls, live and ended.", rank=53, typing=True),
    Action("keys", "f7", "F7", "Keys", "Show the keys beside the work.", rank=60, typing=True),
    Action("zoom", "f10", "F10", "Zoom", "Give the focused pane the whole screen, and back.", rank=45, typing=True),
    Action("restart", "ctrl+e", "^e", "Start engine", "Start the engine again after it stopped.", rank=5, typing=True),
    Action("palette", "ctrl+p", "^p", "Commands", "Find any command by name.", rank=25, typing=True),
    Action("choose_theme", "", "", "", "Choose other colours."),
    Action("switch_line", "", "", "", "Rehearse on the telephone line (8 kHz) or on the wideband line (16 kHz)."),
    Action(
        "quit",
        "ctrl+q",
        "^q",
        "Quit",
        "Leave; an engine that we started stops too, after asking if calls are on.",
        rank=26,
        typing=True,
    ),
)

KEYPAD = "0123456789*#"
"""Telephone keys; they dial digits into the call while no text is being edited."""

KEY_NAMES = {"*": "asterisk", "#": "number_sign"}

PURPOSE: dict[Mode, str] = {
    "agent": "Here you write the agent: its prompt, voice, tools and script. Save it, and the next turn uses it.",
    "rehearse": "Here you call the agent, aloud or typed, and see what was said, heard, waited for and paid.",
    "serve": "Here you take and place real calls. Each can be watched as it is spoken, spoken into, handed on and ended.",
    "calls": "Here is every call of this engine. A live one can be watched, an ended one looked at again.",
}


def by_id(action_id: str) -> Action:
    """The action of that name. Raises StopIteration for an unknown one."""
    return next(action for action in ACTIONS if action.id == action_id)


def applies(action: Action, mode: Mode) -> bool:
    """Whether an action belongs to a mode (those of everywhere do not)."""
    return action.scope == mode or (action.scope == "panes" and mode in CALL_MODES)


def in_mode(mode: Mode) -> list[Action]:
    """Actions that apply in a mode, its own first."""
    own = sorted((action for action in ACTIONS if applies(action, mode)), key=lambda action: action.scope != mode)
    return own + [action for action in ACTIONS if action.scope == "everywhere"]
