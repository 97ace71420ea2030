"""Long computations in steps, each kept once it is finished: a second run goes on where the first stopped."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastinterp.display.screen import Screen
from fastinterp.files import write_whole


@dataclass(frozen=True)
class Step:
    """A step of a plan.

    Attributes:
        name: of its file, without the ending.
        kind: steps of one kind take about as long.
        what: says what is done.
    """

    name: str
    kind: str
    what: str


class Steps:
    """A plan of steps, each kept in `folder` as JSON with its settings and the seconds that it took.

    Args:
        folder: made where it is missing.
        plan: all steps in their order.
        screen: where to say what is done and how long the rest will take.
    """

    def __init__(self, folder: Path, plan: Sequence[Step], screen: Screen) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._plan, self._screen = folder, plan, screen
        self._numbers = {step.name: number for number, step in enumerate(plan)}
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._found = {step.name: self._kept(step.name) for step in plan}
        for step in plan:
            kept = self._found[step.name]
            if kept is not None:
                self._seconds[step.kind].append(float(kept["seconds"]))

    def run(self, name: str, settings: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Returns the step's result: the kept one if it was computed with the same settings, else a new one.

        Args:
            name: of the step.
            settings: all that decides the result, as JSON knows it.
            compute: returns the result, as JSON knows it.
        """
        number = self._numbers[name]
        step = self._plan[number]
        plain = json.loads(json.dumps(settings))
        kept = self._found[name]
        if kept is not None and kept["settings"] == plain:
            self._screen.say(f"Step {number + 1} of {len(self._plan)}: {step.what}; kept from an earlier run")
            return dict(kept["result"])
        self._screen.say(f"Step {number + 1} of {len(self._plan)}: {step.what}; {self._time_left(number)}")
        started = time.perf_counter()
        result = compute()
        seconds = round(time.perf_counter() - started, 1)
        self._seconds[step.kind].append(seconds)
        text = json.dumps({"settings": plain, "seconds": seconds, "result": result}, allow_nan=False)
        write_whole(self._path(name), text)
        return dict(json.loads(text)["result"])

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _kept(self, name: str) -> dict[str, Any] | None:
        path = self._path(name)
        try:
            kept = json.loads(path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except ValueError:
            kept = None
        if not isinstance(kept, dict) or not kept.keys() >= {"settings", "seconds", "result"}:
            self._screen.say(f"{path}: not a finished step; it is computed again", style="yellow")
            return None
        return kept

    def _time_left(self, number: int) -> str:
        """How long this step and those behind it that are not there yet will take."""
        ahead = [step for step in self._plan[number:] if step is self._plan[number] or self._found[step.name] is None]
        known = [step for step in ahead if step.kind in self._seconds]
        if not known:
            return "how long is known once a step of each kind is done"
        seconds = sum(sum(self._seconds[step.kind]) / len(self._seconds[step.kind]) for step in known)
        about = f"{seconds / 60:,.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
        return f"about {about} left" if len(known) == len(ahead) else f"more than {about} left"
