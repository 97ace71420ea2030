"""Timing side by side: ours and each peer in turn in one process, medians, and the error that makes a row valid."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import fastinterp
from fastinterp import _C

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "captum", "faiss-cpu", "scikit-learn", "gensim")


@dataclass
class Row:
    """One comparison. `ratio` is peer_seconds / our_seconds; `error` is relative to the float64 reference."""

    work: str
    peer: str
    our_seconds: float
    peer_seconds: float
    our_spread: float  # (slowest - fastest) / median of the repeats
    peer_spread: float
    repeats: int
    our_error: float | None = None
    peer_error: float | None = None
    goal: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.peer_seconds / self.our_seconds


@dataclass
class Peer:
    """Something to compare with: `run` does `share` of our work (the rest is extrapolated, which the note says)."""

    name: str
    run: Callable[[], Any]
    share: float = 1.0
    goal: float | None = None
    error: Callable[[Any], float] | None = None


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    started = time.perf_counter()
    result = run()
    wait()
    return time.perf_counter() - started, result


def compare(
    work: str,
    ours: Callable[[], Any],
    peers: list[Peer],
    repeats: int = 5,
    our_error: Callable[[Any], float] | None = None,
    void_above: float = 1e-3,
) -> list[Row]:
    """Runs ours and every peer once to warm up and to check the results, then in turn `repeats` times.

    A peer whose result is further than `void_above` from the reference makes its row void: the note says so.
    """
    results = {"ours": ours(), **{peer.name: peer.run() for peer in peers}}
    times: dict[str, list[float]] = {name: [] for name in results}
    for _ in range(repeats):
        times["ours"].append(timed(ours)[0])
        for peer in peers:
            times[peer.name].append(timed(peer.run)[0])
    rows = []
    for peer in peers:
        row = Row(
            work,
            peer.name,
            statistics.median(times["ours"]),
            statistics.median(times[peer.name]) / peer.share,
            spread(times["ours"]),
            spread(times[peer.name]),
            repeats,
            our_error(results["ours"]) if our_error else None,
            peer.error(results[peer.name]) if peer.error else None,
            peer.goal,
        )
        notes = [f"peer ran {peer.share:.2%} of the work"] if peer.share != 1 else []
        if max(row.our_error or 0, row.peer_error or 0) > void_above:
            notes.append("VOID: the results do not agree")
        row.note = "; ".join(notes)
        rows.append(row)
    return rows


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Returns the largest error of a row relative to the row's norm; `found` may have more rows than were checked."""
    difference = (found[: len(expected)].cpu().double() - expected.cpu()).flatten(1).norm(dim=1)
    return float((difference / expected.cpu().flatten(1).norm(dim=1).clamp(min=1e-9)).max())


def spread(times: list[float]) -> float:
    return (max(times) - min(times)) / statistics.median(times)


def environment() -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.is_file() else []
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True).stdout.strip()
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit + (" with uncommitted changes" if changed else ""),
        "fastinterp": fastinterp.__version__,
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "simd": _C.simd(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": versions,
    }


def print_rows(title: str, rows: list[Row]) -> None:
    table = Table("work", "peer", "peer s", "ours s", "ratio", "goal", "our error", "note", title=title, box=None)
    for row in rows:
        met = "" if row.goal is None else f"{row.goal:g}x " + ("met" if row.ratio >= row.goal else "[red]missed[/]")
        table.add_row(
            row.work,
            row.peer,
            f"{row.peer_seconds:.4g}",
            f"{row.our_seconds:.4g}",
            f"[bold]{row.ratio:.1f}x[/]",
            met,
            "" if row.our_error is None else f"{row.our_error:.1e}",
            row.note,
        )
    Console(width=200).print(table)


def write(name: str, rows: list[Row], **more: Any) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    measured = [{**dataclasses.asdict(row), "ratio": row.ratio} for row in rows]
    path.write_text(json.dumps({"environment": environment(), "rows": measured, **more}, indent=1) + "\n")
    return path
