from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fastinterp import DownloadError
from fastinterp.data.downloads import Distribution, RemoteFile, fetch, fetch_distribution

CONTENT = b"a corpus\n" * 1000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "public" / "corpus.csv"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


def remote(source: Path, size: int = len(CONTENT), sha256: str = hashlib.sha256(CONTENT).hexdigest()) -> RemoteFile:
    return RemoteFile(source.as_uri(), size, sha256)


def test_a_file_is_fetched_once(source: Path, cache: Path):
    target = cache / "mr" / "corpus.csv"
    assert fetch(remote(source), target).read_bytes() == CONTENT
    source.unlink()
    assert fetch(remote(source), target).read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["corpus.csv"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 5}, "got 9,000 bytes instead of 5"),
        ({"sha256": "0" * 64}, "SHA-256"),
    ],
)
def test_another_file_than_expected_leaves_nothing(source: Path, cache: Path, change: dict, message: str):
    with pytest.raises(DownloadError, match=message) as error:
        fetch(remote(source, **change), cache / "corpus.csv")
    assert f"by hand and put it at {cache / 'corpus.csv'}" in str(error.value)
    assert list(cache.iterdir()) == []


def test_a_missing_file_says_what_to_fetch_by_hand(source: Path, cache: Path):
    source.unlink()
    with pytest.raises(DownloadError, match="download failed .* by hand and put it at"):
        fetch(remote(source), cache / "corpus.csv")
    assert list(cache.iterdir()) == []


def test_pip_that_finds_nothing_is_one_clear_error(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))
    wanted = Distribution("fastinterp-no-such-thing==1", "nothing.whl", 1, "0" * 64)
    with pytest.raises(DownloadError, match="pip download failed") as error:
        fetch_distribution(wanted)
    assert "\n" not in str(error.value)
    assert "pip download --no-deps fastinterp-no-such-thing==1" in str(error.value)
    assert list(cache.iterdir()) == []
