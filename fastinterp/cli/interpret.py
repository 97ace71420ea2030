"""fastinterp interpret: sentences in, what decides their predictions out, each as soon as its batch is done."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import click

from fastinterp.cli.options import device_option, interpretation_arguments, interpretation_options
from fastinterp.display.console import print_interpretation
from fastinterp.display.progress import ProgressReport
from fastinterp.display.screen import Screen
from fastinterp.errors import DataError
from fastinterp.method.companions import background_of, index_of
from fastinterp.method.interpretation import ANSWERS, SENTENCES_AT_ONCE, interpret
from fastinterp.method.locations import ORDERS
from fastinterp.models.conv import ConvTextModel
from fastinterp.models.storage import load_model

_BYTES_AT_ONCE = 1 << 16


@click.command("interpret")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("text", nargs=-1)
@click.option("--file", "file", type=click.File("rb"), help="One sentence a line; - is standard input.")
@interpretation_options
@click.option("--answers", help=f"Some of {','.join(ANSWERS)}; default: all that the model has what they need for.")
@click.option("--target", help="Class to explain, by name; default: the predicted one.")
@click.option("--versus", help="Another class: explain the difference of the two scores.")
@click.option(
    "--order", type=click.Choice(ORDERS), default="most", show_default=True, help="Which locations come first."
)
@device_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with every score and vector.")
def command(
    model: Path,
    text: tuple[str, ...],
    file: BinaryIO | None,
    answers: str | None,
    target: str | None,
    versus: str | None,
    order: str,
    device: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Say in words what decides the prediction of MODEL for each TEXT.

    Without TEXT and --file, sentences are read from standard input, one a line, and answered as they arrive.
    """
    if text and file is not None:
        raise click.UsageError("give sentences as arguments or with --file, not both")
    loaded = load_model(model, device)
    arguments = {
        **interpretation_arguments(settings),
        "answers": None if answers is None else [answer.strip() for answer in answers.split(",")],
        "target": target,
        "versus": versus,
        "order": order,
    }
    interpret(loaded, [], **arguments)  # a wrong option is refused before the first sentence is waited for
    if answers is None and sys.stderr.isatty():
        _say_what_is_left_out(loaded, settings["layer"])
    batches = _cut(text) if text else read_lines(file if file is not None else sys.stdin.buffer)
    done = 0
    screen = Screen()
    # On a screen, results that scroll by are progress enough, and a bar would run into them.
    with nullcontext() if sys.stdout.isatty() else ProgressReport() as progress:
        for batch in batches:
            for interpretation in interpret(loaded, batch, **arguments):
                if as_json:
                    click.echo(to_json(interpretation.to_dict()))
                else:
                    print_interpretation(screen, interpretation)
            sys.stdout.flush()
            done += len(batch)
            if progress is not None:
                progress.show(f"Interpreted {done:,} sentences")
    if done == 0:
        click.echo("No sentences came in.", err=True)


def _say_what_is_left_out(model: ConvTextModel, layer: int) -> None:
    missing = [
        name
        for name, found in (("stands out by", background_of(model)), ("fires alike on", index_of(model, layer)))
        if found is None
    ]
    if missing:
        click.echo(
            f"Left out: {' and '.join(missing)}; the model was saved without what they need, which `fastinterp train` "
            "measures.",
            err=True,
        )


def to_json(fields: dict[str, object]) -> str:
    """Returns one line of JSON, in ASCII where standard output cannot write more."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return json.dumps(fields, ensure_ascii=not encoding.startswith("utf"), allow_nan=False)


def _cut(sentences: Sequence[str]) -> Iterator[list[str]]:
    for first in range(0, len(sentences), SENTENCES_AT_ONCE):
        yield list(sentences[first : first + SENTENCES_AT_ONCE])


def read_lines(stream: BinaryIO) -> Iterator[list[str]]:
    """Yields the lines that have arrived, as many as are there and no more than are interpreted at once.

    Raises:
        DataError: a line that is not UTF-8; the lines before it are answered first.
    """
    name = getattr(stream, "name", "standard input")
    where = name if isinstance(name, str) and name != "<stdin>" else "standard input"
    read: Any = getattr(stream, "read1", stream.read)
    rest, number = b"", 0
    while True:
        arrived = read(_BYTES_AT_ONCE)
        *complete, rest = (rest + arrived).split(b"\n")
        if not arrived and rest:
            complete, rest = [*complete, rest], b""
        decoded: list[str] = []
        for line in complete:
            number += 1
            try:
                decoded.append(line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r"))
            except UnicodeDecodeError as error:
                yield from _cut(decoded)
                raise DataError(f"{where}, line {number}: expected UTF-8 ({error.reason})") from error
        yield from _cut(decoded)
        if not arrived:
            return
