"""What the command line prints of an audit."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from fastinterp.display.screen import Screen
from fastinterp.evaluation.audit import KINDS, Audit, AuditFinding
from fastinterp.messages import clip

_MOST_SHOWN = 200  # characters of a text; a terminal that is narrower shows fewer


def print_audit(screen: Screen, audit: Audit) -> None:
    """Prints how many texts each kind counts, and the worst of each; a text is a line, cut where it is long."""
    screen.say(f"{audit.texts:,} texts{_accuracy(', accuracy ', audit.accuracy)}")
    screen.say(f"tokens that the vocabulary lacks: {audit.unknown_share:.1%} of a text's on average")
    screen.say(f"scripts of the vocabulary: {', '.join(audit.scripts) or 'none'}")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    for name in ("texts", "share", *([] if audit.accuracy is None else ["accuracy"])):
        table.add_column(name, justify="right")
    for kind, finding in audit.findings.items():
        accuracy = [] if audit.accuracy is None else [_accuracy("", finding.accuracy)]
        table.add_row(kind, f"{finding.count:,}", f"{finding.share:.1%}", *accuracy)
    screen.print()
    screen.print(table)
    for kind, finding in audit.findings.items():
        if finding.count:
            screen.print()
            screen.say(f"{kind}: {KINDS[kind]}", style="bold")
            screen.print(_worst(kind, finding))


def _accuracy(before: str, accuracy: float | None) -> str:
    return "" if accuracy is None else f"{before}{accuracy:.3f}"


def _worst(kind: str, finding: AuditFinding) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("row", justify="right", no_wrap=True)
    table.add_column("amount", justify="right", no_wrap=True)
    table.add_column("class", no_wrap=True)
    table.add_column("text", no_wrap=True, overflow="ellipsis", ratio=1)  # what the others leave
    for each in finding.worst:
        # Counted from 1, as the lines of a table and of a file are.
        amount = f"{each.amount:.0f}" if kind == "empty" else f"{each.amount:.2f}"
        table.add_row(f"{each.row + 1:,}", amount, each.predicted, Text(clip(each.text, _MOST_SHOWN)))
    return table
