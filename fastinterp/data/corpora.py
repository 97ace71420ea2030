"""Corpora by name, and the user's own tables, cut into train and test."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fastinterp.data.downloads import (
    Distribution,
    RemoteFile,
    cache_folder,
    data_folder,
    fetch,
    fetch_distribution,
)
from fastinterp.data.splits import Corpus, TextDataset, split
from fastinterp.data.tables import READERS, csv_records, read_table
from fastinterp.errors import DataError
from fastinterp.messages import quoted, shown_path

MR_ARCHIVE = RemoteFile(
    "https://www.cs.cornell.edu/people/pabo/movie-review-data/rt-polaritydata.tar.gz",
    487_770,
    "a05befe52aafda71d458d188a1c54506a998b1308613ba76bbda2e5029409ce9",
)
_AG_HOME = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv"
AG_FILES = {
    "train.csv": RemoteFile(
        f"{_AG_HOME}/train.csv",
        29_470_338,
        "76a0a2d2f92b286371fe4d4044640910a04a803fdd2538e0f3f29a5c6f6b672e",
    ),
    "test.csv": RemoteFile(
        f"{_AG_HOME}/test.csv",
        1_857_427,
        "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699",
    ),
}
SNIPPETS_ARCHIVE = Distribution(
    requirement="vaderSentiment==0.5",
    filename="vaderSentiment-0.5.zip",
    size=2_448_964,
    sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
    from_source=True,
)
# What reading a damaged archive raises; its reader's and zlib's errors are not among one another's kind.
_BROKEN_ARCHIVE = (OSError, EOFError, KeyError, tarfile.TarError, zlib.error)


def load_corpus(source: str | Path, text_column: str = "text", label_column: str = "label") -> Corpus:
    """Returns a named corpus or the user's own table, cut into train and test.

    Args:
        source: "mr" (sentence polarity), "ag_news" or "snippets" (movie-review snippets with human ratings), or a
            .csv, .tsv or .jsonl file. Named corpora are looked up in FASTINTERP_DATA_DIR and the cache folder and
            then downloaded. All but ag_news, which has an official test part, are split 90/10 with seed 0.
        text_column: column, or JSON key, of the text in the user's file.
        label_column: column, or JSON key, of the label in the user's file.

    Raises:
        ValueError: both columns have the same name.
        DataError: an unknown name, a file that cannot be understood, or too few texts to split; one line.
        DownloadError: the corpus cannot be downloaded.
    """
    named = NAMED_CORPORA.get(str(source))
    if named is not None:
        return named()
    dataset = load_table(source, text_column, label_column)
    try:
        return replace(split(dataset), fingerprint=dataset.fingerprint())
    except DataError as error:
        raise DataError(f"data: {shown_path(Path(source))}: {str(error).removeprefix('dataset: ')}") from error


def load_table(
    source: str | Path, text_column: str = "text", label_column: str = "label", classes: Sequence[str] | None = None
) -> TextDataset:
    """Returns every row of the user's own table.

    Args:
        source: a .csv, .tsv or .jsonl file.
        text_column: column, or JSON key, of the text.
        label_column: column, or JSON key, of the label.
        classes: as `read_table`.

    Raises:
        ValueError: both columns have the same name.
        DataError: neither a file of those kinds nor the name of a corpus, or a file that cannot be understood.
    """
    path = Path(source)
    if path.suffix.lower() not in READERS:
        raise DataError(
            f"data: expected one of {', '.join(NAMED_CORPORA)} or a .csv, .tsv or .jsonl file, got {shown_path(path)}"
        )
    return read_table(path, text_column, label_column, classes)


def _locate(name: str, filename: str) -> Path | None:
    """The file where the user keeps data, or where an earlier download left it."""
    for folder in (data_folder(), cache_folder()):
        if folder is None:
            continue
        path = folder / name / filename
        try:
            if path.is_file():
                return path
        except OSError as error:
            raise DataError(f"{name}: {shown_path(path)} cannot be read ({error.strerror})") from error
    return None


def _decode(content: bytes) -> str:
    """The original MR files are Latin-1; copies of them are often UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _lines(content: bytes) -> list[str]:
    # str.splitlines would also cut at the control characters that some reviews hold.
    return [line.strip() for line in _decode(content).split("\n") if line.strip()]


def _malformed(name: str, archive: Path, error: Exception) -> DataError:
    # tarfile tells on several lines what it tried.
    reason = " ".join(str(error).split())
    return DataError(f"{name}: {shown_path(archive)} is malformed ({reason[:100]}); delete it and try again")


def _sentences(path: Path, content: bytes) -> list[str]:
    """The sentences of a file of MR, one a line."""
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise DataError(f"mr: {shown_path(path)}, line {line}: expected text, got a NUL")
    sentences = _lines(content)
    if not sentences:
        raise DataError(f"mr: {shown_path(path)} holds no sentences")
    return sentences


def load_mr() -> Corpus:
    """Returns Pang & Lee's sentence polarity data, 5,331 sentences a class; 9,596 to train, 1,066 to test."""
    sides: list[list[str]] = []
    for filename in ("rt-polarity.neg", "rt-polarity.pos"):
        path = _locate("mr", filename)
        if path is not None:
            try:
                sides.append(_sentences(path, path.read_bytes()))
            except OSError as error:
                raise DataError(f"mr: {shown_path(path)} cannot be read ({error.strerror})") from error
            continue
        archive = fetch(MR_ARCHIVE, cache_folder() / "mr" / "rt-polaritydata.tar.gz")
        try:
            with tarfile.open(archive) as files:
                member = files.extractfile(f"rt-polaritydata/{filename}")
                sides.append(_sentences(archive, member.read() if member else b""))
        except _BROKEN_ARCHIVE as error:
            raise _malformed("mr", archive, error) from error
    texts = [text for side in sides for text in side]
    labels = [label for label, side in enumerate(sides) for _ in side]
    return split(TextDataset(tuple(texts), tuple(labels), ("negative", "positive")))


def load_ag_news() -> Corpus:
    """Returns AG's News (Zhang et al. 2015) with its official test part; a text is title and description."""
    parts = []
    for filename, remote in AG_FILES.items():
        path = _locate("ag_news", filename) or fetch(remote, cache_folder() / "ag_news" / filename)
        texts, labels = [], []
        for line, row in csv_records(path, ","):
            # The official files have title and description in two columns, copies of them often in one.
            if len(row) not in (2, 3) or row[0] not in {"1", "2", "3", "4"}:
                raise DataError(
                    f"ag_news: {shown_path(path)}, line {line}: expected a class 1 to 4 and one or two texts, "
                    f"got {len(row)} columns that begin with {quoted(row[0])}"
                )
            labels.append(int(row[0]) - 1)
            texts.append(" ".join(row[1:]))
        if not texts:
            raise DataError(f"ag_news: {shown_path(path)} holds no texts")
        parts.append(TextDataset(tuple(texts), tuple(labels), ("World", "Sports", "Business", "Sci/Tech")))
    train, test = parts
    return Corpus(train, test)


def load_snippets() -> Corpus:
    """Returns the movie-review snippets of Hutto & Gilbert (ICWSM 2014), cased, with the sign of their mean rating.

    They stand inside the source distribution of vaderSentiment 0.5 (MIT), which is read, not installed. Snippets
    rated 0 are left out.
    """
    archive = fetch_distribution(SNIPPETS_ARCHIVE)
    folder = "vaderSentiment-0.5/additional_resources"
    try:
        with (
            zipfile.ZipFile(archive) as outer,
            tarfile.open(fileobj=io.BytesIO(outer.read(f"{folder}/hutto_ICWSM_2014.tar.gz"))) as inner,
        ):
            member = inner.extractfile("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt")
            rows = [line.split("\t", 2) for line in _lines(member.read() if member else b"")]
        rated = [(text.replace("''", '"'), float(rating)) for _, rating, text in rows if float(rating) != 0]
    except (*_BROKEN_ARCHIVE, ValueError, zipfile.BadZipFile) as error:
        raise _malformed("snippets", archive, error) from error
    texts, ratings = zip(*rated, strict=True)
    return split(TextDataset(texts, tuple(int(rating > 0) for rating in ratings), ("negative", "positive")))


NAMED_CORPORA: dict[str, Callable[[], Corpus]] = {
    "mr": load_mr,
    "ag_news": load_ag_news,
    "snippets": load_snippets,
}
