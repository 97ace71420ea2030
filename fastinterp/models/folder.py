"""A model folder on disk: which of its files count, and how they change all at once.

`config.json` says by a format entry that the folder is ours, holds the model's shape, and names the version: the
subfolder with all other files. A version never changes. Saving writes a new one beside the old one and then replaces
`config.json`, the one step that counts: before it there is the old model, after it the new one. The folder itself is
never renamed, so it may be a mount point or a symbolic link and may hold files of others.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastinterp.errors import ModelError
from fastinterp.messages import one_line
from fastinterp.models.config import ModelConfig
from fastinterp.models.lock import locked

FORMAT, FORMAT_VERSION = "fastinterp-model", 2
CONFIG_FILE = "config.json"
WEIGHTS_FILE, VOCABULARY_FILE, METRICS_FILE = "model.safetensors", "vocabulary.txt", "metrics.json"
# All that a version may hold, and so all that is ever removed from one. A new kind of file is added here.
VERSION_FILES = (WEIGHTS_FILE, VOCABULARY_FILE, METRICS_FILE)
# What is measured with the model's weights and saved with them: a background, an index for a layer, keys of the texts.
COMPANION = re.compile(r"background\.safetensors|index-[0-9]{1,3}\.safetensors|texts\.safetensors")
# Before there were versions, these files stood beside config.json, the first two of them always.
_FLAT_FILES = (WEIGHTS_FILE, VOCABULARY_FILE, METRICS_FILE)
_VERSION = re.compile(r"fastinterp-version-[0-9a-f]{12}")
_PARTIAL = re.compile(r"\.fastinterp-partial-[0-9a-f]{12}")
_OWN_FIELDS = ("format", "format_version", "version", "superseded")
_MOST_CONFIG_BYTES = 1 << 24


@dataclass(frozen=True)
class Entry:
    """What `config.json` says.

    Attributes:
        config: the model's shape.
        place: the folder with the other files.
    """

    config: ModelConfig
    place: Path


def read_entry(folder: Path) -> Entry:
    """Returns what the folder's `config.json` says. Folders of before there were versions are read too.

    Raises:
        ModelError: there is none, or it is not ours.
    """
    path = folder / CONFIG_FILE
    try:
        fields = _read_fields(folder)
        version = _version(fields)
        if version is None:
            return Entry(ModelConfig.from_fields(fields), folder)
        shape = {name: value for name, value in fields.items() if name not in _OWN_FIELDS}
        return Entry(ModelConfig.from_fields(shape), folder / version)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(f"{one_line(folder)}: not a model folder, {CONFIG_FILE} is missing") from error
    except OSError as error:
        raise ModelError(f"{one_line(path)}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ModelError(f"{one_line(path)}: not a model configuration ({one_line(error)})") from error


def check_folder(folder: Path) -> None:
    """Does all that `write_version` does but for changing the model, and leaves no folder that was not there.

    Missing parents are made and left.

    Raises:
        ModelError: as `write_version`.
    """
    with _errors(folder), locked(folder) as made:
        try:
            _check_ours(folder)
            _remove_leftovers(folder)
            partial = folder / _new_name(_PARTIAL)
            try:
                _stage(partial, {max(VERSION_FILES, key=len): lambda path: path.write_bytes(b"\0" * 4096)})
            finally:
                _remove(partial)
        finally:
            if made:
                with contextlib.suppress(OSError):  # somebody has put a file there meanwhile
                    folder.rmdir()


def write_version(folder: Path, config: ModelConfig, files: Mapping[str, Callable[[Path], object]]) -> Path:
    """Makes this the model of the folder, all or nothing, also when killed; returns the place of its files.

    A killed save leaves at most one leftover, `.fastinterp-partial-*` or an unused `fastinterp-version-*`, which the
    next one removes. Writers to one folder wait for each other where the file system has locks.

    Args:
        folder: absolute path.
        config: the model's shape.
        files: for each of its files the function that writes it; the names are among VERSION_FILES or match COMPANION.

    Raises:
        ModelError: the folder cannot be written, holds something that is no model of ours, or another process has
            been writing to it for a minute.
    """
    with _errors(folder), locked(folder):
        old = _check_ours(folder)
        _remove_leftovers(folder)
        version = _new_name(_VERSION)
        fields: dict[str, object] = {"format": FORMAT, "format_version": FORMAT_VERSION, "version": version}
        if old is not None and _version(old) is None:
            # The old layout's files beside config.json are listed there until they are removed, so that after a kill
            # the next save knows them as ours.
            fields["superseded"] = list(_FLAT_FILES)
        try:
            _commit(folder, version, fields | config.to_fields(), files)
        finally:
            # The old version, or what a failed attempt left. Where that fails the next save tries again.
            with contextlib.suppress(OSError, ValueError):
                _remove_leftovers(folder)
    return folder / version


def _commit(
    folder: Path, version: str, fields: Mapping[str, object], files: Mapping[str, Callable[[Path], object]]
) -> None:
    staged = folder / _new_name(_PARTIAL)
    text = json.dumps(fields, indent=2, allow_nan=False) + "\n"
    _stage(staged, {**files, CONFIG_FILE: lambda path: path.write_text(text, encoding="utf-8")})
    place = folder / version
    staged.rename(place)
    _sync_folder(folder)
    os.replace(place / CONFIG_FILE, folder / CONFIG_FILE)
    _sync_folder(folder)


def _stage(partial: Path, files: Mapping[str, Callable[[Path], object]]) -> None:
    """Writes the files into a new folder, and through to the disk."""
    partial.mkdir()
    for name, write in files.items():
        write(partial / name)
        descriptor = os.open(partial / name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    _sync_folder(partial)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot do it for folders
            raise
    finally:
        os.close(descriptor)


def _new_name(pattern: re.Pattern[str]) -> str:
    return pattern.pattern.replace("[0-9a-f]{12}", secrets.token_hex(6)).replace("\\", "")


def _read_fields(folder: Path) -> dict[str, object]:
    """Returns the fields of `config.json`; raises OSError, or ValueError where it is no JSON object."""
    path = folder / CONFIG_FILE
    if path.exists() and not path.is_file():  # opening a named pipe would wait for ever
        raise ValueError("it is not a regular file")
    with path.open("rb") as file:
        data = file.read(_MOST_CONFIG_BYTES + 1)
    if len(data) > _MOST_CONFIG_BYTES:
        raise ValueError(f"it is larger than {_MOST_CONFIG_BYTES >> 20} MiB")
    try:
        fields = json.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(fields, dict):
        raise ValueError(f"expected a JSON object, got {type(fields).__name__}")
    return fields


def _version(fields: Mapping[str, object]) -> str | None:
    """Returns the version's name, None for the layout without versions; raises ValueError if neither is right."""
    if "format" not in fields:
        return None
    if fields["format"] != FORMAT:
        raise ValueError(f"format: expected {FORMAT!r}, got {one_line(repr(fields['format']), 60)}")
    if fields.get("format_version") != FORMAT_VERSION:
        found = one_line(repr(fields.get("format_version")), 60)
        raise ValueError(f"format_version: this fastinterp reads {FORMAT_VERSION}, got {found}")
    version = fields.get("version")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise ValueError(f"version: expected fastinterp-version-<12 digits>, got {one_line(repr(version), 60)}")
    return version


def _check_ours(folder: Path) -> dict[str, object] | None:
    """Returns the fields of our `config.json`, None where a model may be put; raises ModelError otherwise."""
    try:
        fields = _read_fields(folder)
        if _version(fields) is None:
            ModelConfig.from_fields(fields)
            missing = [name for name in (WEIGHTS_FILE, VOCABULARY_FILE) if not (folder / name).is_file()]
            if missing:
                raise ValueError(f"{missing[0]} is missing")
        return fields
    except ValueError as error:
        found = f"{CONFIG_FILE}: {one_line(error, 100)}"
        raise ModelError(
            f"output: {one_line(folder)} exists and is not a model folder; it is left as it is ({found})"
        ) from error
    except FileNotFoundError:
        # Hidden files and a volume's lost+found are no content of the user's that a model would be mixed into.
        visible = (name for name in sorted(os.listdir(folder)) if not (name.startswith(".") or name == "lost+found"))
        other = next((name for name in visible if not _VERSION.fullmatch(name)), None)
        if other is None:
            return None
        raise ModelError(
            f"output: {one_line(folder)} exists and is not a model folder; it is left as it is (it holds "
            f"{one_line(other, 60)})"
        ) from None


def _remove_leftovers(folder: Path) -> None:
    """Removes versions that `config.json` does not name, partial ones, and files that it lists as superseded."""
    try:
        fields = _read_fields(folder)
    except FileNotFoundError:
        fields = {}
    kept = _version(fields) if fields else None
    for entry in list(os.scandir(folder)):
        leftover = _PARTIAL.fullmatch(entry.name) or (_VERSION.fullmatch(entry.name) and entry.name != kept)
        if leftover and entry.is_dir(follow_symlinks=False):
            _remove(Path(entry.path))
    if kept is not None and fields.pop("superseded", None):
        for name in _FLAT_FILES:
            (folder / name).unlink(missing_ok=True)
        staged = folder / _new_name(_PARTIAL)
        text = json.dumps(fields, indent=2) + "\n"
        _stage(staged, {CONFIG_FILE: lambda path: path.write_text(text, encoding="utf-8")})
        os.replace(staged / CONFIG_FILE, folder / CONFIG_FILE)
        _remove(staged)


def _remove(place: Path) -> None:
    """Removes a folder of ours; what somebody else has put into it stays, and the folder with it."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(place):
            if name in (*VERSION_FILES, CONFIG_FILE) or COMPANION.fullmatch(name):
                (place / name).unlink(missing_ok=True)
    try:
        place.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


@contextlib.contextmanager
def _errors(folder: Path) -> Iterator[None]:
    """Makes a ModelError of one line of what the file system says."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        cause = one_line(getattr(error, "strerror", None) or error)
        raise ModelError(f"output: {one_line(folder)} cannot be written ({cause})") from error
