"""How far something has come, said on standard error: a bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fastinterp.display.screen import Screen

SECONDS_BETWEEN_LINES = 10.0


class ProgressReport:
    """What is going on and how far it has come, for as long as the `with` block lasts.

    A log file gets its lines from a thread of its own, so that one long step is not a long silence.

    Args:
        screen: where to say it; standard error by default.
        seconds_between_lines: where there is no terminal.
    """

    def __init__(self, screen: Screen | None = None, seconds_between_lines: float = SECONDS_BETWEEN_LINES) -> None:
        self.screen = screen or Screen(stderr=True)
        self._seconds = seconds_between_lines
        self._line = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write_lines, name="fastinterp progress", daemon=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=self.screen, transient=True)
        self._task = self._bar.add_task("", total=None, state="")
        self._started = time.perf_counter()

    def __enter__(self) -> ProgressReport:
        if self.screen.is_terminal:
            self._bar.start()
        else:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.screen.is_terminal:
            self._bar.stop()
        else:
            self._ended.set()
            self._thread.join()

    def show(self, description: str, done: int = 0, total: int | None = None, state: str = "") -> None:
        """Says what is going on, how many of how many are done, and anything else worth knowing."""
        if self.screen.is_terminal:
            self._bar.update(self._task, description=description, completed=done, total=total, state=state)
            return
        count = f" {done:,} of {total:,}" if total is not None else f" {done:,}" if done else ""
        self._line = f"{description}{count}{f', {state}' if state else ''}"

    def _write_lines(self) -> None:
        while not self._ended.wait(self._seconds):
            if self._line:
                self.screen.say(f"[{time.perf_counter() - self._started:.0f} s] {self._line}")
