"""Corpora by name and the user's own tables: labelled texts and their splits."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from fastinterp.data.downloads import (
    Distribution,
    RemoteFile,
    cache_folder,
    data_folder,
    fetch,
    fetch_distribution,
)
from fastinterp.errors import DataError

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


@dataclass(frozen=True)
class TextDataset:
    """Labelled texts.

    Attributes:
        texts: N raw texts.
        labels: N class indices.
        classes: names of the classes.

    Raises:
        DataError: no texts, or a label without a class.
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.texts:
            raise DataError("dataset: it holds no texts")
        if len(self.texts) != len(self.labels):
            raise DataError(f"dataset: {len(self.texts)} texts but {len(self.labels)} labels")
        if min(self.labels) < 0 or max(self.labels) >= len(self.classes):
            raise DataError(f"dataset: expected labels 0 to {len(self.classes) - 1}")

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, indices: Sequence[int]) -> TextDataset:
        """Returns the texts at `indices`, in that order."""
        return TextDataset(tuple(self.texts[i] for i in indices), tuple(self.labels[i] for i in indices), self.classes)


@dataclass(frozen=True)
class Corpus:
    """A data set cut into a part to learn from and a part held out."""

    train: TextDataset
    test: TextDataset


def split(dataset: TextDataset, share: float = 0.1, seed: int = 0) -> Corpus:
    """Returns a seeded split with the classes in equal proportion on both sides.

    Args:
        dataset: N texts.
        share: part held out, of which N x share, rounded to the nearest number of texts, go to `test`.
        seed: of the shuffle.

    Raises:
        DataError: too few texts of a class to put one on each side.
    """
    try:
        train, test = train_test_split(
            np.arange(len(dataset)),
            test_size=round(len(dataset) * share),
            random_state=seed,
            stratify=dataset.labels,
        )
    except ValueError as error:
        raise DataError(f"dataset: {len(dataset)} texts cannot be split ({error})") from error
    return Corpus(dataset.subset(sorted(train)), dataset.subset(sorted(test)))


def folds(dataset: TextDataset, count: int = 10, seed: int = 0) -> Iterator[Corpus]:
    """Yields `count` stratified cross-validation splits; every text is held out once."""
    folder = StratifiedKFold(n_splits=count, shuffle=True, random_state=seed)
    for train, test in folder.split(np.zeros(len(dataset)), dataset.labels):
        yield Corpus(dataset.subset(train.tolist()), dataset.subset(test.tolist()))


def load_corpus(source: str | Path, text_column: str = "text", label_column: str = "label") -> Corpus:
    """Returns a named corpus or the user's own table, cut into train and test.

    Args:
        source: "mr" (sentence polarity), "ag_news" or "snippets" (movie-review snippets with human ratings), or a
            .csv, .tsv or .jsonl file. Named corpora are looked up in FASTINTERP_DATA_DIR and the cache folder and
            then downloaded. All but ag_news, which has an official test part, are split 90/10 with seed 0.
        text_column: column, or JSON key, of the text in the user's file.
        label_column: column, or JSON key, of the label in the user's file.

    Raises:
        DataError: an unknown name, or a malformed file.
        DownloadError: the corpus cannot be downloaded.
    """
    named = NAMED_CORPORA.get(str(source))
    return named() if named is not None else split(read_table(Path(source), text_column, label_column))


def _locate(name: str, filename: str) -> Path | None:
    """The file where the user keeps data, or where an earlier download left it."""
    for folder in (data_folder(), cache_folder()):
        if folder is not None and (folder / name / filename).is_file():
            return folder / name / filename
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


def load_mr() -> Corpus:
    """Returns Pang & Lee's sentence polarity data, 5,331 sentences a class; 9,596 to train, 1,066 to test."""
    sides: list[list[str]] = []
    for filename in ("rt-polarity.neg", "rt-polarity.pos"):
        path = _locate("mr", filename)
        if path is not None:
            sides.append(_lines(path.read_bytes()))
            continue
        archive = fetch(MR_ARCHIVE, cache_folder() / "mr" / "rt-polaritydata.tar.gz")
        try:
            with tarfile.open(archive) as files:
                member = files.extractfile(f"rt-polaritydata/{filename}")
                sides.append(_lines(member.read() if member else b""))
        except (OSError, KeyError, tarfile.TarError) as error:
            raise DataError(f"mr: {archive} is malformed ({error}); delete it and try again") from error
    texts = [text for side in sides for text in side]
    labels = [label for label, side in enumerate(sides) for _ in side]
    return split(TextDataset(tuple(texts), tuple(labels), ("negative", "positive")))


def load_ag_news() -> Corpus:
    """Returns AG's News (Zhang et al. 2015) with its official test part; a text is title and description."""
    parts = []
    for filename, remote in AG_FILES.items():
        path = _locate("ag_news", filename) or fetch(remote, cache_folder() / "ag_news" / filename)
        texts, labels = [], []
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if len(row) < 2 or row[0] not in {"1", "2", "3", "4"}:
                    raise DataError(f"{path}: row {number}: expected class 1 to 4 and a text, got {row[:2]}")
                labels.append(int(row[0]) - 1)
                texts.append(" ".join(row[1:]))
        parts.append(TextDataset(tuple(texts), tuple(labels), ("World", "Sports", "Business", "Sci/Tech")))
    return Corpus(*parts)


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
    except (OSError, KeyError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(f"snippets: {archive} is malformed ({error}); delete it and try again") from error
    texts, ratings = zip(*rated, strict=True)
    return split(TextDataset(texts, tuple(int(rating > 0) for rating in ratings), ("negative", "positive")))


NAMED_CORPORA: dict[str, Callable[[], Corpus]] = {
    "mr": load_mr,
    "ag_news": load_ag_news,
    "snippets": load_snippets,
}


def read_table(path: Path, text_column: str, label_column: str) -> TextDataset:
    """Returns the labelled texts of a .csv, .tsv or .jsonl file; classes are the distinct labels in sorted order.

    Raises:
        DataError: no such file, another ending, a missing column or key, or a row that cannot be read.
    """
    if not path.is_file():
        names = ", ".join(NAMED_CORPORA)
        raise DataError(f"data: expected one of {names} or a .csv, .tsv or .jsonl file, got {str(path)!r}")
    readers = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"data: expected a .csv, .tsv or .jsonl file, got {path}")
    try:
        pairs = list(reader(path, text_column, label_column))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"data: {path} cannot be read ({error})") from error
    classes = tuple(sorted({label for _, label in pairs}))
    index = {name: i for i, name in enumerate(classes)}
    return TextDataset(tuple(text for text, _ in pairs), tuple(index[label] for _, label in pairs), classes)


def _read_csv(path: Path, text_column: str, label_column: str) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        for column in (text_column, label_column):
            if column not in (rows.fieldnames or ()):
                raise DataError(f"data: {path} has no column {column!r}; it has {list(rows.fieldnames or ())}")
        for row in rows:
            if row[text_column] is None or row[label_column] is None:
                raise DataError(f"data: {path}, line {rows.line_num}: expected {len(rows.fieldnames or ())} columns")
            yield row[text_column], row[label_column]


def _read_jsonl(path: Path, text_column: str, label_column: str) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"data: {path}, line {number}: not JSON ({error.msg})") from error
            for column in (text_column, label_column):
                if not isinstance(record, dict) or column not in record:
                    raise DataError(f"data: {path}, line {number}: no key {column!r}")
            if not isinstance(record[text_column], str):
                raise DataError(f"data: {path}, line {number}: expected a string under {text_column!r}")
            yield record[text_column], str(record[label_column])
