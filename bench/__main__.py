"""Every benchmark: `python -m bench` in the project's folder, with the `bench` extra installed."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path

import click

# The benchmarks are scripts that import each other by name.
sys.path.insert(0, str(Path(__file__).parent))

import charts
import harness
import scaling
from rich.console import Console
from rich.table import Table

# Each module's file in results/. Those of three operators are older than the modules' names and keep their own, so that
# one file's history shows how a figure came about.
FILES = {
    "optimize_adam": "optimize",
    "optimize_ccp": "ccp",
    "contrast": "contrast",
    "saliency": "saliency",
    "cosine_topk": "topk",
    "evidence": "evidence",
    "interpret": "interpret",
    "adapted": "adapted",
    "latency": "latency",
    "training": "training",
    "scaling": "scaling",
}


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Small sizes and an untrained model, under a minute; writes nothing.")
@click.option("--plot", is_flag=True, help="Only draw the charts, from the results that are there.")
@click.option("--only", multiple=True, type=click.Choice(list(FILES)), help="One benchmark; can be repeated.")
def main(quick: bool, plot: bool, only: tuple[str, ...]) -> None:
    console = Console(stderr=True)
    if plot:
        charts.draw(harness.RESULTS)
        return
    table = []
    for name in only or FILES:
        if name == "scaling":
            if not quick:
                measure_scaling(console)
            continue
        with console.status(f"Running {name}"):
            rows = importlib.import_module(name).main(quick)
        table += rows
        if not quick:
            console.print(f"Wrote {harness.write(FILES[name], rows)}")
    if table:
        harness.print_rows("fastinterp against its peers", table)
    if any("VOID" in row.note for row in table):
        sys.exit("A peer's result does not agree with ours.")


def measure_scaling(console: Console) -> None:
    with console.status("Running scaling"):
        series = scaling.every_series()
    table = Table("quantity", "work", "sizes", "seconds", "growth", box=None)
    for each in series:
        seconds = " ".join(f"{value:.3g}" for value in each.seconds)
        table.add_row(each.quantity, each.work, " ".join(map(str, each.sizes)), seconds, f"size^{each.growth:.2f}")
    Console(width=200).print(table)
    measured = [{**dataclasses.asdict(each), "growth": each.growth} for each in series]
    console.print(f"Wrote {harness.write('scaling', [], series=measured)}")


if __name__ == "__main__":
    main()
