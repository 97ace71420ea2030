"""Whatever is in a model folder: a model that works, or one short line."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import small_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_storage import content, save_flat, version_of

from fastinterp import ModelError, Vocabulary, load_model, saliency, save
from fastinterp.models.storage import check_output

EXAMPLES = int(os.environ.get("FASTINTERP_EXAMPLES", "150"))
MODEL = small_model()

ODD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 1, 2, 3, 5, 6, 7, 9, 10**6, 10**12, 2**63, 10**4000])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["relu", "tanh", "\ud800", "fastinterp-model", "../..", "x" * 5000, "\n"])
)
JSON = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
FIELDS = ["format", "format_version", "version", "superseded", *MODEL.config.to_fields()]


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@st.composite
def changed_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Draws the bytes with a few of them cut out, overwritten or put in."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        # The first bytes are where the structure is.
        start = draw(st.integers(0, min(len(changed), 600)) | st.integers(0, len(changed)))
        end = start + draw(st.sampled_from([0, 1, 1, 2, 8, 100, len(changed)]))
        changed[start:end] = draw(st.binary(max_size=9) | st.sampled_from([b"", b"\0" * 8, b"9" * 12, b"]", b'"F16"']))
    return bytes(changed)


@st.composite
def changed_config(draw: st.DrawFn, data: bytes) -> bytes:
    fields = json.loads(data)
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(FIELDS) | st.text(max_size=5))
        if draw(st.booleans()) or name not in fields:
            fields[name] = draw(JSON)
        elif isinstance(fields[name], list) and fields[name]:
            fields[name][draw(st.integers(0, len(fields[name]) - 1))] = draw(JSON)
        else:
            del fields[name]
    return json.dumps(fields).encode()


@st.composite
def changed_vocabulary(draw: st.DrawFn, data: bytes) -> bytes:
    words = data.decode().split("\n")
    for _ in range(draw(st.integers(1, 2))):
        position = draw(st.integers(0, len(words) - 1))
        words[position : position + draw(st.integers(0, 2))] = draw(st.lists(st.text(max_size=6), max_size=2))
    return "\n".join(words).encode("utf-8", "surrogatepass")


@st.composite
def changed_header(draw: st.DrawFn, data: bytes) -> bytes:
    """Draws weights whose header says something else, well-formed, about the same data."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    name = draw(st.sampled_from(sorted(header)))
    change = draw(st.sampled_from(["dtype", "shape", "data_offsets", "name", "gone"]))
    if change == "dtype":
        header[name]["dtype"] = draw(st.sampled_from(["F16", "F64", "I32", "BOOL", "F8_E8M0", "F4", "C64", "x", 3]))
    elif change == "shape":
        shape = st.lists(st.sampled_from([0, 1, 2, 7, 14, 10**12, 2**63, 2**64, -1]), max_size=4)
        header[name]["shape"] = draw(shape | st.just([math.prod(header[name]["shape"])]))
    elif change == "data_offsets":
        header[name]["data_offsets"] = draw(st.lists(st.sampled_from([0, 4, 28, 10**9, 2**63, -4]), max_size=3))
    else:
        taken = header.pop(name)
        if change == "name":
            header[draw(st.text(max_size=10) | st.just("x" * 5000))] = taken
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def refusal(attempt: Callable[[], object], kind: type[Exception] = ModelError) -> str | None:
    """Returns the one short line by which the attempt is refused; None where it is not."""
    try:
        attempt()
    except kind as error:
        said = str(error)
    else:
        return None
    assert "\n" not in said
    assert 0 < len(said) < 400
    return said


@pytest.mark.parametrize("layout", [save, save_flat])
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_a_changed_folder_loads_or_is_refused_in_one_line(layout, data: st.DataObject):
    home = Path(tempfile.mkdtemp())
    try:
        folder = home / "m"
        layout(MODEL, folder)
        files = {
            folder / "config.json": (changed_config, changed_bytes),
            version_of(folder) / "vocabulary.txt": (changed_vocabulary, changed_bytes),
            version_of(folder) / "model.safetensors": (changed_header, changed_bytes),
        }
        path = data.draw(st.sampled_from(sorted(files)), label="file")
        path.write_bytes(data.draw(st.one_of(change(path.read_bytes()) for change in files[path]), label="bytes"))
        (folder / "notes.md").write_text("mine")
        before = content(home)
        if refusal(lambda: load_model(folder)) is None:
            loaded = load_model(folder)
            found = saliency(loaded, ["good film", ""])
            torch.testing.assert_close(found.class_scores, loaded(loaded.encode(["good film", ""])))
        assert content(home) == before
        if refusal(lambda: save(MODEL, folder)):
            assert content(home) == before
        else:
            assert torch.equal(load_model(folder).linear.weight, MODEL.linear.weight)
            assert (folder / "notes.md").read_text() == "mine"
    finally:
        shutil.rmtree(home)


NAMES = st.sampled_from(
    [
        "config.json",
        "model.safetensors",
        "vocabulary.txt",
        "metrics.json",
        "fastinterp-version-0123456789ab/x",
        ".fastinterp-partial-0123456789ab/x",
        "version-1/model.safetensors",
        "a/b",
        "thesis.txt",
        ".hidden",
        "lost+found/x",
    ]
)
TEXTS = st.sampled_from([b"", b"{}", b"[]", b'{"name": "my app"}', b'{"format": "fastinterp-model"}', b"\xff"])


@settings(max_examples=EXAMPLES)
@given(st.dictionaries(NAMES, TEXTS, max_size=6))
def test_a_folder_of_others_is_never_changed_but_by_a_model_in_it(files: dict[str, bytes]):
    home = Path(tempfile.mkdtemp())
    try:
        folder = home / "m"
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        before = content(home)
        refused = refusal(lambda: check_output(folder))
        assert content(home) == before
        assert refusal(lambda: save(MODEL, folder)) == refused
        if refused is None:
            after = content(home)
            assert {name: after[name] for name in before} == before
            assert torch.equal(load_model(folder).linear.weight, MODEL.linear.weight)
        else:
            assert content(home) == before
    finally:
        shutil.rmtree(home)


@settings(max_examples=EXAMPLES)
@given(st.lists(st.text(max_size=6), max_size=5))
def test_a_vocabulary_that_can_be_made_survives_a_file(words: list[str]):
    if refusal(lambda: Vocabulary(("<pad>", "<unk>", *words)), ValueError):
        return
    vocabulary = Vocabulary(("<pad>", "<unk>", *words))
    home = Path(tempfile.mkdtemp())
    try:
        vocabulary.save(home / "v.txt")
        assert Vocabulary.load(home / "v.txt") == vocabulary
    finally:
        shutil.rmtree(home)
