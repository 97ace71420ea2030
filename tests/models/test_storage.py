"""Saving and loading: what comes back, what is refused, and that nothing of others is touched."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import WORDS, small_model

from fastinterp import ConvTextModel, ModelError, load_model, save
from fastinterp.models import folder as folder_module
from fastinterp.models.storage import check_output

FILES = ["model.safetensors", "vocabulary.txt"]


def version_of(folder: Path) -> Path:
    """The subfolder that config.json names; the folder itself in the old layout."""
    return folder / json.loads((folder / "config.json").read_text()).get("version", "")


def is_the_same(first: ConvTextModel, second: ConvTextModel) -> bool:
    states = [model.state_dict() for model in (first, second)]
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][n], states[1][n]) for n in states[0])


def save_flat(model: ConvTextModel, folder: Path) -> None:
    """A model folder as it was before there were versions, and a choice of tokenizers."""
    folder.mkdir()
    safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")
    fields = {name: value for name, value in model.config.to_fields().items() if name != "tokenizer"}
    (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
    model.vocabulary.save(folder / "vocabulary.txt")
    (folder / "metrics.json").write_text("{}")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_saved_model_comes_back_bit_for_bit(model: ConvTextModel, tmp_path: Path):
    save(model, tmp_path / "m", {"accuracy": 0.5})
    loaded = load_model(tmp_path / "m")
    version = version_of(tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", version.name]
    assert sorted(path.name for path in version.iterdir()) == ["metrics.json", *FILES]
    assert json.loads((version / "metrics.json").read_text()) == {"accuracy": 0.5}
    assert loaded.config == model.config
    assert loaded.vocabulary == model.vocabulary
    assert not loaded.training
    assert all(weight.requires_grad for weight in loaded.parameters())
    ids = model.encode(["good film", "dull"])
    assert torch.equal(loaded(ids), model(ids))


def test_a_loaded_model_owns_its_memory(model: ConvTextModel, tmp_path: Path):
    save(model, tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    path = version_of(tmp_path / "m") / "model.safetensors"
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert is_the_same(loaded, model)


def test_loading_and_saving_leave_torchs_generator_alone(model: ConvTextModel, tmp_path: Path):
    before = torch.random.get_rng_state()
    save(model, tmp_path / "m")
    load_model(tmp_path / "m")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_loading_does_not_load_torchs_compiler(model: ConvTextModel, tmp_path: Path):
    # It takes longer than all else about loading a model.
    save(model, tmp_path / "m")
    program = "import fastinterp, sys; n = set(sys.modules); fastinterp.load_model(sys.argv[1]).encode(['a']); " + (
        "print([m for m in set(sys.modules) - n if m.startswith(('torch._dynamo', 'torch._inductor', 'sympy'))])"
    )
    ran = subprocess.run([sys.executable, "-c", program, tmp_path / "m"], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_saving_replaces_an_older_model_and_nothing_else(model: ConvTextModel, tmp_path: Path):
    save(small_model(1), tmp_path / "m", {"accuracy": 0.5})
    save(model, tmp_path / "m")
    assert is_the_same(load_model(tmp_path / "m"), model)
    assert sorted(path.name for path in version_of(tmp_path / "m").iterdir()) == FILES
    assert len(list((tmp_path / "m").iterdir())) == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelError, match="is not a model folder; it is left as it is"):
        save(model, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "mine"]


def put(name: str, text: str):
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return write


FOREIGN = {
    "another program's configuration": [put("config.json", '{"name": "my app"}')],
    "a transformer": [
        put("config.json", '{"model_type": "bert"}'),
        put("model.safetensors", ""),
        put("vocabulary.txt", ""),
    ],
    "another format": [put("config.json", '{"format": "other", "format_version": 2}')],
    "a newer format": [put("config.json", '{"format": "fastinterp-model", "format_version": 3}')],
    "a version outside": [put("config.json", '{"format": "fastinterp-model", "format_version": 2, "version": "../x"}')],
    "no JSON": [put("config.json", "name: my app")],
    "a JSON list": [put("config.json", "[]")],
    "not UTF-8": [lambda folder: (folder / "config.json").write_bytes(b"\xff")],
    "deeply nested": [put("config.json", "[" * 100_000)],
    "a folder of that name": [lambda folder: (folder / "config.json").mkdir()],
    "a shape alone": [
        put("config.json", '{"classes": ["a", "b"], "length": 9, "channels": [1], "kernel_sizes": [1]}'),
    ],
    "a text": [],
    "a hidden folder and a text": [put(".git/HEAD", "ref")],
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_folder_that_is_not_ours_is_refused_and_left(model: ConvTextModel, tmp_path: Path, kind: str):
    folder = tmp_path / "project"
    for write in (put("thesis.txt", "text"), put("src/a.py", "code"), *FOREIGN[kind]):
        folder.mkdir(exist_ok=True)
        write(folder)
    before = content(tmp_path)
    for attempt in (lambda: check_output(folder), lambda: save(model, folder)):
        with pytest.raises(ModelError, match=r"^output: .* is not a model folder; it is left as it is") as error:
            attempt()
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 400
    assert content(tmp_path) == before


@pytest.mark.parametrize("first", ["ours", "flat"])
def test_files_of_others_in_a_model_folder_stay(model: ConvTextModel, tmp_path: Path, first: str):
    folder = tmp_path / "m"
    (save if first == "ours" else save_flat)(small_model(1), folder)
    foreign = {"notes.md": "a", "src/a.py": "b", "version-0123456789ab/x": "c", ".fastinterp-partial-mine/x": "d"}
    foreign |= {"fastinterp-version-notes/model.safetensors": "e", ".hidden": "f"}
    for name, text in foreign.items():
        put(name, text)(folder)
    for seed in (2, 3):
        check_output(folder)
        save(small_model(seed), folder, {"seed": seed})
        assert is_the_same(load_model(folder), small_model(seed))
        ours = {"config.json", *(str(path.relative_to(folder)) for path in version_of(folder).iterdir())}
        assert {name: text.decode() for name, text in content(folder).items() if name not in ours} == foreign


def test_what_is_put_into_a_version_stays_too(model: ConvTextModel, tmp_path: Path):
    save(small_model(1), tmp_path / "m")
    notes = version_of(tmp_path / "m") / "notes.md"
    notes.write_text("years of work")
    save(model, tmp_path / "m")
    save(model, tmp_path / "m")
    assert notes.read_text() == "years of work"
    assert [path.name for path in notes.parent.iterdir()] == ["notes.md"]


def test_a_folder_of_before_there_were_versions_loads_and_is_replaced(model: ConvTextModel, tmp_path: Path):
    save_flat(small_model(1), tmp_path / "m")
    assert is_the_same(load_model(tmp_path / "m"), small_model(1))
    save(model, tmp_path / "m")
    assert is_the_same(load_model(tmp_path / "m"), model)
    fields = json.loads((tmp_path / "m" / "config.json").read_text())
    assert "superseded" not in fields
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", fields["version"]]


def test_what_a_kill_leaves_of_the_old_layout_is_removed_by_the_next_save(
    model: ConvTextModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_flat(small_model(1), tmp_path / "m")
    removal = folder_module._remove_leftovers
    calls: list[Path] = []
    monkeypatch.setattr(
        folder_module, "_remove_leftovers", lambda folder: calls.append(folder) or (len(calls) == 1 and removal(folder))
    )
    save(model, tmp_path / "m")  # as killed after the new config.json
    monkeypatch.undo()
    assert (tmp_path / "m" / "model.safetensors").exists()
    assert is_the_same(load_model(tmp_path / "m"), model)
    save(small_model(3), tmp_path / "m")
    assert is_the_same(load_model(tmp_path / "m"), small_model(3))
    assert len(list((tmp_path / "m").iterdir())) == 2


def test_an_empty_volume_takes_a_model(model: ConvTextModel, tmp_path: Path):
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".keep").write_text("")
    check_output(tmp_path)
    save(model, tmp_path)
    assert is_the_same(load_model(tmp_path), model)
    assert (tmp_path / "lost+found").is_dir()
    assert (tmp_path / ".keep").is_file()


def test_a_symbolic_link_stays_one(model: ConvTextModel, tmp_path: Path):
    (tmp_path / "place").mkdir()
    (tmp_path / "m").symlink_to("place")
    for seed in (1, 2):
        check_output(tmp_path / "m")
        save(small_model(seed), tmp_path / "m")
        assert (tmp_path / "m").is_symlink()
        assert is_the_same(load_model(tmp_path / "place"), small_model(seed))


@pytest.mark.parametrize("target", ["nowhere", "m"])
def test_a_link_that_leads_nowhere_is_refused(model: ConvTextModel, tmp_path: Path, target: str):
    (tmp_path / "m").symlink_to(target)
    for attempt in (lambda: check_output(tmp_path / "m"), lambda: save(model, tmp_path / "m")):
        with pytest.raises(ModelError, match="symbolic link"):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_mount_point_takes_a_model(model: ConvTextModel, tmp_path: Path):
    (tmp_path / "volume").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(tmp_path / "volume")]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not permitted here")
    try:
        for seed in (1, 2):
            check_output(tmp_path / "volume")
            save(small_model(seed), tmp_path / "volume")
            assert is_the_same(load_model(tmp_path / "volume"), small_model(seed))
        # A full disk leaves the old model, and no trace of the attempt.
        before = content(tmp_path)
        with pytest.raises(ModelError, match=r"cannot be written \(No space left on device\)"):
            save(small_model(words=tuple(f"w{i}" for i in range(20_000))), tmp_path / "volume")
        assert content(tmp_path) == before
        (tmp_path / "volume" / "fill").write_bytes(b"")
        with contextlib.suppress(OSError), (tmp_path / "volume" / "fill").open("wb", buffering=0) as file:
            while True:
                file.write(b"0" * 4096)
        with pytest.raises(ModelError, match="No space left on device"):
            check_output(tmp_path / "volume")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "volume")], check=True)
        for attempt in (lambda: check_output(tmp_path / "volume"), lambda: save(model, tmp_path / "volume")):
            with pytest.raises(ModelError, match="cannot be written .Read-only file system"):
                attempt()
        assert is_the_same(load_model(tmp_path / "volume"), small_model(2))
    finally:
        subprocess.run(["umount", str(tmp_path / "volume")], check=True)


@pytest.mark.parametrize(
    ("mask", "folder_mode", "file_mode"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600), (0o002, 0o775, 0o664)]
)
def test_modes_follow_the_umask(model: ConvTextModel, tmp_path: Path, mask: int, folder_mode: int, file_mode: int):
    before = os.umask(mask)
    try:
        save(model, tmp_path / "m", {"accuracy": 0.5})
    finally:
        os.umask(before)
    for path in (tmp_path / "m", *(tmp_path / "m").rglob("*")):
        assert path.stat().st_mode & 0o777 == (folder_mode if path.is_dir() else file_mode), path


def test_a_folder_that_cannot_be_written_is_one_clear_error(model: ConvTextModel, tmp_path: Path):
    (tmp_path / "file").write_text("")
    for folder, cause in {
        tmp_path / "file" / "m": "Not a directory",
        tmp_path / ("a" * 300): "File name too long",
        tmp_path / ("b" * 250) / ("c" * 250) / "/".join(["d" * 250] * 14): "File name too long",
        tmp_path / "null\0byte": "null",
    }.items():
        for attempt in (lambda folder=folder: check_output(folder), lambda folder=folder: save(model, folder)):
            with pytest.raises(ModelError, match=f"cannot be written .*{cause}") as error:
                attempt()
            assert len(str(error.value)) < 400
        with pytest.raises(ModelError) as error:
            load_model(folder)
        assert len(str(error.value)) < 400


def test_checking_leaves_no_folder(tmp_path: Path):
    assert check_output(tmp_path / "run" / "m") == tmp_path / "run" / "m"
    assert [path.name for path in tmp_path.rglob("*")] == ["run"]
    (tmp_path / "there").mkdir()
    check_output(tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


def test_a_folder_deleted_during_training_is_made_again(model: ConvTextModel, tmp_path: Path):
    check_output(tmp_path / "run" / "m")
    (tmp_path / "run").rmdir()
    save(model, tmp_path / "run" / "m")
    assert is_the_same(load_model(tmp_path / "run" / "m"), model)


ATTEMPTS = """
import sys
from fastinterp import ModelError, load_model, save
from fastinterp.models.storage import check_output
model = load_model(sys.argv[1])
for folder in sys.argv[2:]:
    for attempt in (lambda: load_model(folder), lambda: check_output(folder), lambda: save(model, folder)):
        try:
            attempt()
            print("done")
        except ModelError as error:
            print(error)
"""


def attempts_without_privileges(given: Path, folders: list[Path]) -> list[tuple[str, str, str]]:
    """What load_model, check_output and save say of each folder; root's right to do anything is given up before."""
    command = [sys.executable, "-c", ATTEMPTS, *map(str, (given, *folders))]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv to give up its privileges")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", *command]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    return list(zip(lines[::3], lines[1::3], lines[2::3], strict=True))


def test_permissions_are_one_clear_error(model: ConvTextModel, tmp_path: Path):
    save(model, tmp_path / "given")
    modes = [(mode, place) for mode in (0o500, 0o600, 0o000, 0o300) for place in ("folder", "parent")]
    folders = [tmp_path / f"{mode}-{place}" / "m" for mode, place in modes]
    for folder in folders:
        save(model, folder)
    locked = [folder if place == "folder" else folder.parent for folder, (_, place) in zip(folders, modes, strict=True)]
    before = content(tmp_path)
    for path, (mode, _) in zip(locked, modes, strict=True):
        path.chmod(mode)
    said = attempts_without_privileges(tmp_path / "given", folders)
    for path in locked:
        path.chmod(0o700)
    assert len(said) == len(folders)
    for folder, (mode, place), (loaded, checked, saved) in zip(folders, modes, said, strict=True):
        refusal = f"output: {folder} cannot be written (Permission denied)"
        searchable = mode in (0o500, 0o300)
        if place == "parent" and searchable:  # only a new folder would have to be written there
            assert (loaded, checked, saved) == ("done", "done", "done"), mode
            continue
        assert (checked, saved) == (refusal, refusal), (mode, place)
        assert loaded == ("done" if searchable else f"{folder / 'config.json'}: cannot be read (Permission denied)")
        inside = {name: text for name, text in before.items() if name.startswith(str(folder.relative_to(tmp_path)))}
        assert {name: content(tmp_path)[name] for name in inside} == inside
        assert len(list(folder.iterdir())) == 2


def test_a_file_that_cannot_be_read_is_one_clear_error(model: ConvTextModel, tmp_path: Path):
    save(model, tmp_path / "given")
    folders = []
    for name in ("config.json", *FILES):
        folders.append(tmp_path / name)
        save(model, folders[-1])
        (folders[-1] if name == "config.json" else version_of(folders[-1])).joinpath(name).chmod(0o000)
    for folder, said in zip(folders, attempts_without_privileges(tmp_path / "given", folders), strict=True):
        loaded, checked, saved = said
        assert loaded.startswith(f"{folder}/")
        assert folder.name in loaded.removeprefix(str(folder))
        assert loaded.endswith("(Permission denied)")
        # Files other than config.json are not read by those that replace them.
        refusal = f"output: {folder} cannot be written (Permission denied)"
        assert (checked, saved) == ((refusal, refusal) if folder.name == "config.json" else ("done", "done"))


def spoil_weights(folder: Path, model: ConvTextModel, **tensors: torch.Tensor) -> None:
    state = {**model.state_dict(), **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}
    safetensors.torch.save_file(state, version_of(folder) / "model.safetensors")


def truncate(folder: Path, _: ConvTextModel) -> None:
    path = version_of(folder) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def change_config(**fields: object):
    def spoil(folder: Path, _: ConvTextModel) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return spoil


def rewrite(name: str, text: str):
    return lambda folder, _: (folder if name == "config.json" else version_of(folder)).joinpath(name).write_text(text)


def spoil_padding(folder: Path, model: ConvTextModel) -> None:
    weight = model.embedding.weight.detach().clone()
    weight[0, 3] = 0.25
    spoil_weights(folder, model, embedding__weight=weight)


def make_pipe(name: str):
    def make(folder: Path, _: ConvTextModel) -> None:
        path = (folder if name == "config.json" else version_of(folder)) / name
        path.unlink()
        os.mkfifo(path)

    return make


NAN = torch.full((len(WORDS) + 2, 7), float("nan"))
DAMAGE = {
    "truncated weights": (truncate, "damaged or not a safetensors file"),
    "no weights": (
        lambda folder, _: (version_of(folder) / "model.safetensors").unlink(),
        "not a model folder, model.safetensors is missing",
    ),
    "NaN": (lambda f, m: spoil_weights(f, m, embedding__weight=NAN), "embedding.weight holds NaN"),
    "shorter vocabulary": (
        rewrite("vocabulary.txt", "<pad>\n<unk>\ngood\n"),
        r"embedding.weight has shape \(14, 7\), expected \(3, 7\) \(vocabulary.txt has 3 words\)",
    ),
    "repeated word": (
        rewrite("vocabulary.txt", "<pad>\n<unk>\na\na\n"),
        "not a vocabulary .*'a' stands more",
    ),
    "dtype": (
        lambda f, m: spoil_weights(f, m, linear__bias=torch.zeros(2, dtype=torch.float64)),
        "linear.bias has dtype torch.float64",
    ),
    "extra tensor": (
        lambda f, m: spoil_weights(f, m, more=torch.zeros(1)),
        r"missing or unknown: \['more'\]",
    ),
    "other widths": (change_config(channels=[6, 4]), "config.json says so"),
    "a padding row": (spoil_padding, "expected zeros in row 0 of embedding.weight"),
    "no vocabulary": (lambda folder, _: (version_of(folder) / "vocabulary.txt").unlink(), "vocabulary.txt is missing"),
    "a pipe for the weights": (make_pipe("model.safetensors"), "model.safetensors is missing"),
    "a pipe for the configuration": (make_pipe("config.json"), "not a regular file"),
    "a vocabulary that is not UTF-8": (
        lambda folder, _: (version_of(folder) / "vocabulary.txt").write_bytes(b"<pad>\n<unk>\n\xff\n"),
        "not a vocabulary .not UTF-8 from byte 12",
    ),
    "huge channels": (change_config(channels=[10**12, 5]), "has shape .* expected .*1000000000000"),
    "huge length": (change_config(length=10**12), "length: expected 1 to 1000000, got 1000000000000"),
    "endless length": (change_config(length=10**4000), "length: expected 1 to 1000000"),
    "lone surrogate": (change_config(classes=["a", "\ud800"]), "classes: .* holds a lone surrogate"),
    "no JSON": (rewrite("config.json", "{"), "not a model configuration"),
    "JSON list": (rewrite("config.json", "[]"), "not a model configuration"),
    "unknown field": (change_config(colour="red"), "not a model configuration .*colour"),
    "bad field": (change_config(length=-1), "length: expected 1 to 1000000, got -1"),
}


@pytest.mark.parametrize("layout", [save, save_flat])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_model_folder_is_one_clear_error(model: ConvTextModel, tmp_path: Path, damage: str, layout):
    layout(model, tmp_path / "m")
    spoil, message = DAMAGE[damage]
    spoil(tmp_path / "m", model)
    with pytest.raises(ModelError, match=message) as error:
        load_model(tmp_path / "m")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_what_could_not_be_loaded_is_refused_on_saving(model: ConvTextModel, tmp_path: Path, dtype: torch.dtype):
    save(model, tmp_path / "m")
    before = content(tmp_path)
    with pytest.raises(ValueError, match=f"model: embedding.weight is {dtype}; .* model.float"):
        save(small_model().to(dtype), tmp_path / "m")
    assert content(tmp_path) == before


def test_a_changed_model_is_refused_on_saving(tmp_path: Path):
    def change(**parts: object) -> ConvTextModel:
        model = small_model()
        for name, part in parts.items():
            setattr(model, name, part)
        return model

    refused = {
        r"missing or unknown: \['linear.bias'\]": change(linear=torch.nn.Linear(5, 2, bias=False)),
        r"linear.weight has shape \(3, 5\), expected \(2, 5\)": change(linear=torch.nn.Linear(5, 3)),
        "embedding.weight has shape .* .its vocabulary has 3 words.": change(
            vocabulary=small_model(words=("a",)).vocabulary
        ),
        "its activation is GELU, its configuration says relu": change(activation=torch.nn.GELU()),
    }
    for message, model in refused.items():
        with pytest.raises(ValueError, match=f"^model: .*{message}"):
            save(model, tmp_path / "m")
    with pytest.raises(TypeError, match="model: expected a ConvTextModel, got Linear"):
        save(torch.nn.Linear(1, 1), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_refused_before_anything_is_written(model, tmp_path: Path, value: float):
    for spoilt, message in (
        (model, "linear.bias holds NaN or infinite"),
        (small_model(), "metrics: expected what JSON"),
    ):
        metrics = {"rates": [0.5, value]} if spoilt is not model else None
        with torch.no_grad():
            model.linear.bias[1] = value
        with pytest.raises(ValueError, match=message):
            save(spoilt, tmp_path / "m", metrics)
    assert list(tmp_path.iterdir()) == []


def test_metrics_that_json_does_not_know_are_refused(model: ConvTextModel, tmp_path: Path):
    with pytest.raises(TypeError, match="metrics: expected what JSON knows .*Tensor"):
        save(model, tmp_path / "m", {"loss": torch.zeros(1)})
    circle: dict[str, object] = {}
    circle["circle"] = circle
    with pytest.raises(ValueError, match="metrics: expected what JSON knows .*[Cc]ircular"):
        save(model, tmp_path / "m", circle)
    assert list(tmp_path.iterdir()) == []


def test_layers_that_share_their_weights_are_saved(tmp_path: Path):
    model = small_model(channels=(7, 7), kernel_sizes=(3, 3))
    model.convolutions[1].weight = model.convolutions[0].weight
    save(model, tmp_path / "m")
    assert is_the_same(load_model(tmp_path / "m"), model)


@pytest.mark.parametrize("device", ["banana", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_one_clear_error(model, tmp_path: Path, device: str):
    save(model, tmp_path / "model")
    with pytest.raises(ValueError, match="^device: "):
        load_model(tmp_path / "model", device)
