"""Options that several commands share. Their defaults are those of the dataclasses they fill."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import click

from fastinterp.kernels.problems import OptimizationConfig

Command = TypeVar("Command", bound=Callable[..., Any])
_OPTIMIZATION_DEFAULTS = {each.name: each.default for each in fields(OptimizationConfig)}


def _optimization_option(name: str, text: str, **settings: Any) -> Callable[[Command], Command]:
    default = _OPTIMIZATION_DEFAULTS[name]
    return click.option(f"--{name.replace('_', '-')}", default=default, show_default=True, help=text, **settings)


def _all_of(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def wrap(command: Command) -> Command:
        return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)

    return wrap


interpretation_options = _all_of(
    click.option("--layer", default=0, show_default=True, help="Convolution to interpret, 0 is the first."),
    click.option("--locations", default=3, show_default=True, help="Most salient locations per sentence."),
    click.option("--neighbors", default=5, show_default=True, help="Words per location."),
    _optimization_option("steps", "Adam steps of the input optimisation."),
    _optimization_option("l2_weight", "lambda1; the paper has .002 for AG."),
    _optimization_option("similarity_weight", "lambda2; .01 for AG."),
    _optimization_option("seed", "Of the random starts."),
    _optimization_option("solver", "ccp: all the way up, in a few steps.", type=click.Choice(["adam", "ccp"])),
    _optimization_option("objective", "Eq. 5-7, or Eq. 4.", type=click.Choice(["joint", "per-channel"])),
)
device_option = click.option("--device", default="cpu", show_default=True, help="Where to compute, such as cuda.")
data_options = _all_of(
    click.option("--text-column", default="text", show_default=True, help="Column or JSON key of the text."),
    click.option("--label-column", default="label", show_default=True, help="Column or JSON key of the label."),
)


def interpretation_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the keyword arguments of `interpret` out of the options above."""
    chosen = {name: settings[name] for name in ("layer", "locations", "neighbors")}
    rest = {name: value for name, value in settings.items() if name not in chosen}
    return {**chosen, "optimization": OptimizationConfig(**rest)}
