"""Calls of the command line, through click's runner and as real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click.testing

from fastinterp.cli.main import main

PROGRAM = Path(sys.executable).with_name("fastinterp")
SMALL = ["--channels", "6,4", "--kernel-sizes", "3,3", "--length", "8", "--vectors", "corpus"]
FAST = ["--steps", "20", "--locations", "2", "--neighbors", "3"]
FASTEST = ["--steps", "1", "--locations", "1", "--neighbors", "1"]


def run(*arguments: str, given: str | bytes | None = None) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, list(arguments), input=given)


def run_process(
    *arguments: str, given: str | bytes = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    data = given.encode() if isinstance(given, str) else given
    finished = subprocess.run(
        [PROGRAM, *arguments], input=data, capture_output=True, check=False, env={**os.environ, **(environment or {})}
    )
    out, errors = (stream.decode("utf-8", "surrogateescape") for stream in (finished.stdout, finished.stderr))
    return subprocess.CompletedProcess(finished.args, finished.returncode, out, errors)


def error_line(result: click.testing.Result | subprocess.CompletedProcess[str]) -> str:
    """The one line of an expected failure; fails where there is a traceback, another exit code or more than a line."""
    code = result.exit_code if isinstance(result, click.testing.Result) else result.returncode
    assert code == 2, (code, result.stdout, result.stderr)
    assert "Traceback" not in result.stdout + result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert len(line) < 700
    return line
