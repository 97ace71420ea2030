"""The charts, drawn from bench/results: what the README shows, and every row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS, GOAL, QUIET = "#1f6feb", "#c9510c", "#57606a"
LABEL = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # stands in front of a goal's mark


@dataclass(frozen=True)
class Headline:
    """A row of the results that a newcomer is shown, and its name there."""

    file: str
    work: str  # of the row; with * where its sizes may change
    peer: str
    title: str
    against: str


AUTOGRAD = "PyTorch autograd, all of them in one batch"
HEADLINES = (
    Headline("optimize", "optimise mr layer 1, 300 x 300 *", "batched autograd Adam",
             "What 300 locations detect (movie reviews)", AUTOGRAD),
    Headline("optimize", "optimise ag_news layer 1, 300 x 300 *", "batched autograd Adam",
             "What 300 locations detect (AG's News)", AUTOGRAD),
    Headline("ccp", "CCP mr layer 1, *", "Adam, *",
             "The optimum itself, for 3,198 locations", "1,000 steps of our own Adam"),
    Headline("saliency", "saliency ag_news layer 1, *", "captum, *",
             "Saliency of 7,600 news texts", "Captum"),
    Headline("topk", "top-5 ag: *", "faiss-cpu flat",
             "Nearest words, exact, of 84,252", "Faiss (flat index)"),
    Headline("training", "train mr, *", "plain PyTorch loop",
             "Training, one epoch (movie reviews)", "a plain PyTorch loop"),
)  # fmt: skip


def draw(results: Path) -> None:
    """Writes ratios.png, every_ratio.png and scaling.png beside the results."""
    headlines(results, results / "ratios.png")
    names = ("optimize", "ccp", "saliency", "topk", "training")
    every_ratio([row for name in names for row in rows_of(results, name)], results / "every_ratio.png")
    scaling(json.loads((results / "scaling.json").read_text())["series"], results / "scaling.png")


def rows_of(results: Path, name: str) -> list[dict]:
    """The rows of a file whose results agree with the reference's."""
    return [row for row in json.loads((results / f"{name}.json").read_text())["rows"] if "VOID" not in row["note"]]


def headlines(results: Path, path: Path) -> None:
    """Six bars, how many times as fast as what one would use otherwise, with the seconds behind them."""
    figure, axes = plt.subplots(figsize=(9, 3.9), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12)
    for place, line in enumerate(reversed(HEADLINES)):
        (row,) = (
            row
            for row in rows_of(results, line.file)
            if fnmatchcase(row["work"], line.work) and fnmatchcase(row["peer"], line.peer)
        )
        axes.barh(place, row["ratio"], color=OURS, height=0.55)
        shown = f"{row['ratio']:.0f}x" if row["ratio"] >= 10 else f"{row['ratio']:.1f}x"
        seconds = f"{duration(row['our_seconds'])} instead of {duration(row['peer_seconds'])}"
        axes.annotate(shown, (row["ratio"], place), (6, 0), textcoords="offset points", va="center", weight="bold")
        axes.annotate(
            seconds, (row["ratio"], place), (46, 0), textcoords="offset points", va="center", fontsize=8, color=QUIET
        )
        axes.annotate(
            line.title, (0, place), (-8, 6), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right",
            va="center", fontsize=10,
        )  # fmt: skip
        axes.annotate(
            f"against {line.against}", (0, place), (-8, -7), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va="center", fontsize=8, color=QUIET,
        )  # fmt: skip
    axes.set_yticks([])
    axes.set_xscale("log")
    axes.set_xlim(1, 700)
    axes.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1x", "2x", "5x", "10x", "20x", "50x", "100x"], fontsize=8)
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    whole = json.loads((results / "interpret.json").read_text())
    row, cores = whole["rows"][0], whole["environment"]["cores"]
    sentences = int(row["work"].split()[2])
    figure.suptitle(
        f"How many times as fast, on {cores} CPU cores. The whole of it: {sentences:,} movie reviews are explained in "
        f"{duration(row['our_seconds'])}.",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 0.1 else f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def every_ratio(rows: list[dict], path: Path) -> None:
    """How many times as fast as each peer, on a logarithmic scale; a goal is a mark."""
    rows = rows[::-1]
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
