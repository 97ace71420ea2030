"""The command line: fastinterp demo | train | interpret | evaluate | audit | reproduce | info."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TextIO

import click

# A command's module is imported when the command runs: torch takes seconds, `fastinterp --help` should not.
_COMMANDS = {
    "demo": "Train a small model on movie-review snippets and interpret held-out ones.",
    "train": "Train a model on texts with labels.",
    "interpret": "Say in words what decides a model's predictions.",
    "evaluate": "Measure accuracy of a model, and how far its answers can be trusted.",
    "audit": "Say which texts a model cannot have understood, and which predictions rest on nothing.",
    "reproduce": "Train and measure models of several seeds, and write the paper's tables beside ours.",
    "info": "Show versions, how the extension was built, and where data is looked up.",
}
_LONGEST_MESSAGE = 600


class Commands(click.Group):
    """The commands, imported one by one; every expected failure is one line and exit code 2, Ctrl-C exit code 130."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Returns the names in the order of the help text."""
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Returns the command of that name, None where there is none."""
        if name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"fastinterp.cli.{name}").command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        """Runs the command line; arguments that cannot even be parsed end as one line too."""
        with one_line_errors():
            return super().main(args, *rest, **settings)

    def invoke(self, context: click.Context) -> Any:
        """Runs the command."""
        with one_line_errors(), one_line_warnings():
            result = super().invoke(context)
            sys.stdout.flush()
            return result


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns every expected failure into one line on standard error and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        _end("\nInterrupted; no file was left half-written.", 130)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        _discard(sys.stdout)
        sys.exit(0)
    except click.ClickException as error:
        if "\n" not in error.message:  # the help text, which is shown where no command was given, has many lines
            vars(error)["message"] = _shortened(error.message)
        raise
    except MemoryError:
        _end("Error: not enough memory", 2)
    except RecursionError:
        _end("Error: something is nested too deeply", 2)
    except OSError as error:
        _flush_or_discard(sys.stdout)
        where = error.filename if error.filename is not None else "input or output"
        _end(f"Error: {where}: {error.strerror or error}", 2)
    except Exception as error:
        if not _is_expected(error):
            raise
        _end(f"Error: {error}", 2)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Shows what a tokeniser lost as one line on standard error, without the line of our code that says so."""
    from fastinterp.errors import LostTextWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", LostTextWarning)
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, LostTextWarning):
                click.echo(f"Warning: {message}", err=True)
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def _is_expected(error: Exception) -> bool:
    """Whether it is one of those that our documented functions raise, or torch's way of saying that memory is short."""
    from fastinterp.errors import FastinterpError

    if isinstance(error, (FastinterpError, ValueError, TypeError)):
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error) for sign in ("out of memory", "can't allocate memory")
    )


def _end(message: str, code: int) -> None:
    lines = message.rstrip("\n").split("\n")
    line = " ".join([*lines[:1], *(part.strip() for part in lines[1:])]) if code == 2 else message
    click.echo(_shortened(line), err=True)
    sys.exit(code)


def _shortened(line: str) -> str:
    return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 4] + " ..."


def _flush_or_discard(stream: TextIO) -> None:
    """Writes what is left in the buffer; where that fails too it would fail again, with a traceback, at exit."""
    try:
        stream.flush()
    except OSError:
        _discard(stream)


def _discard(stream: TextIO) -> None:
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # a stream that is no file, as in tests
        return


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"fastinterp, version {version('fastinterp')}")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show the version."
)
def main() -> None:
    """Which hidden locations of a text CNN decide a prediction, what they detect, and what that means in words."""
    from fastinterp.display.screen import accept_every_character

    accept_every_character()
