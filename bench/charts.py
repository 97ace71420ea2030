"""The charts of the README, drawn from bench/results."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS, GOAL = "#1f6feb", "#c9510c"
LABEL = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # stands in front of a goal's mark


def draw(results: Path) -> None:
    """Writes ratios.png and scaling.png beside the results."""
    rows = []
    for name in ("optimize", "ccp", "saliency", "topk"):
        path = results / f"{name}.json"
        if path.is_file():
            rows += json.loads(path.read_text())["rows"]
    ratios(rows, results / "ratios.png")
    path = results / "scaling.json"
    if path.is_file():
        scaling(json.loads(path.read_text())["series"], results / "scaling.png")


def ratios(rows: list[dict], path: Path) -> None:
    """How many times faster than each peer, on a logarithmic scale; a goal is a mark."""
    rows = [row for row in rows if "VOID" not in row["note"]][::-1]
    figure, axes = plt.subplots(figsize=(11, 0.27 * len(rows) + 1), layout="constrained")
    places = range(len(rows))
    axes.barh(places, [row["ratio"] for row in rows], color=OURS, height=0.7)
    for place, row in zip(places, rows, strict=True):
        axes.text(row["ratio"] * 1.06, place, f"{row['ratio']:.1f}x", va="center", fontsize=8, zorder=3, bbox=LABEL)
        if row["goal"]:
            axes.plot([row["goal"]] * 2, [place - 0.4, place + 0.4], color=GOAL, linewidth=2)
    axes.set_yticks(places, [f"{row['work']}  |  {row['peer']}" for row in rows], fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(0.5, max(row["ratio"] for row in rows) * 2)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times as fast as the peer (orange: the goal)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def scaling(series: list[dict], path: Path) -> None:
    """Seconds against each quantity, with the fitted growth."""
    figure, all_axes = plt.subplots(1, len(series), figsize=(3.3 * len(series), 3.2), layout="constrained")
    for axes, each in zip(all_axes, series, strict=True):
        axes.plot(each["sizes"], each["seconds"], "o-", color=OURS)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(each["sizes"], [f"{size:,}" for size in each["sizes"]], fontsize=7, rotation=30)
        axes.set_yticks(each["seconds"][:: max(1, len(each["seconds"]) // 4)])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g} s")
        axes.minorticks_off()
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title(f"{each['quantity']}: time ~ size^{each['growth']:.2f}", fontsize=9)
        axes.set_xlabel(each["work"], fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
