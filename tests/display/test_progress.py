from __future__ import annotations

import re
import time

import pytest

from fastinterp.display.progress import ProgressReport


def test_a_log_file_gets_a_line_every_few_seconds_even_while_nothing_moves(capsys: pytest.CaptureFixture[str]):
    with ProgressReport(seconds_between_lines=0.05) as progress:
        progress.show("Interpreted", 1536, state="[sentences]")
        time.sleep(0.3)
        progress.show("Epoch 2, batch", 3, 70, "loss 0.500")
        time.sleep(0.2)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert re.fullmatch(r"\[\d+ s\] Interpreted 1,536, \[sentences\]", lines[0])
    assert re.fullmatch(r"\[\d+ s\] Epoch 2, batch 3 of 70, loss 0.500", lines[-1])
    assert 4 <= len(lines) <= 10
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_nothing_is_said_of_what_is_done_at_once(capsys: pytest.CaptureFixture[str]):
    with ProgressReport() as progress:
        progress.show("Reading")
    assert capsys.readouterr().err == ""
