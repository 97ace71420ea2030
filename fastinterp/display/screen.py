"""Where text for people goes: a console that prints what it is given, whatever the terminal is."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from rich.console import Console
from rich.text import Text

NARROWEST = 20
WIDTH_WITHOUT_TERMINAL = 80


class Screen(Console):
    """A rich console that takes no text for markup or emoji codes, and whose width is never nothing.

    Args:
        stderr: standard error instead of standard output.
    """

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=False)
        if not self.is_terminal or self.width < NARROWEST:
            self.width = max(NARROWEST, _asked_width() or (self.width if self.is_terminal else WIDTH_WITHOUT_TERMINAL))

    def on_broken_pipe(self) -> NoReturn:
        """Lets the command line decide, instead of ending the process with exit code 1 as rich does."""
        raise BrokenPipeError

    def say(self, line: str | Text, style: str = "") -> None:
        """Prints one line that is not cut, however narrow the terminal is."""
        self.print(line, style=style or None, soft_wrap=True)


def _asked_width() -> int:
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isascii() and columns.isdigit() else 0


def accept_every_character() -> None:
    """Makes standard output write an escape for what its encoding lacks, as standard error does already."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
