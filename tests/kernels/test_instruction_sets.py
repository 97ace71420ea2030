"""The operators on the instruction sets that this machine would not choose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastinterp import _C


@pytest.mark.parametrize("simd", ["generic", "avx2", "avx512"])
def test_every_instruction_set_agrees_with_the_reference(simd: str):
    """The same comparisons on the paths that this machine would not choose."""
    ascending = ["generic", "avx2", "avx512", "avx512vnni"]
    if ascending.index(_C.simd) < ascending.index(simd):
        pytest.skip(f"this processor has no {simd}")
    chosen = subprocess.run(
        [sys.executable, "-c", "import torch; from fastinterp import _C; print(_C.simd)"],
        env={**os.environ, "FASTINTERP_SIMD": simd},
        capture_output=True,
        text=True,
        check=True,
    )
    assert chosen.stdout.strip() == simd
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            "agrees_with_the_reference and not every or exact_trajectory",
        ],
        env={**os.environ, "FASTINTERP_SIMD": simd, "FASTINTERP_EXAMPLES": "25"},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    assert finished.returncode == 0, finished.stdout[-3000:]
