"""A save that is killed, fails at any step, or meets readers and other writers leaves the old model or the new one."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import re
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import small_model
from test_storage import is_the_same, save_flat, version_of

from fastinterp import ConvTextModel, ModelError, load_model, save
from fastinterp.models import lock
from fastinterp.models.storage import check_output

KILLS = int(os.environ.get("FASTINTERP_KILLS", "200"))
MODELS = {seed: small_model(seed, words=tuple(f"w{i}" for i in range(2000))) for seed in (1, 2)}
LEFTOVER = re.compile(r"\.fastinterp-partial-[0-9a-f]{12}|fastinterp-version-[0-9a-f]{12}")


@pytest.fixture(autouse=True)
def _quick_children(threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    # Torch hangs in a process that was forked after its threads had started.
    threads(1)
    # What a process has written outlives its kill; waiting for the disk guards against loss of power.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def fork(work: Callable[[], object]) -> int:
    """Runs `work` in a child, which ends with 0, or with 1 and a traceback; returns its process id."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def exit_code(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def which(folder: Path) -> int:
    """Which of MODELS is in the folder, all of it."""
    loaded = load_model(folder)
    found = [seed for seed, model in MODELS.items() if is_the_same(loaded, model)]
    assert len(found) == 1
    return found[0]


def leftovers(folder: Path, foreign: tuple[str, ...] = ()) -> list[str]:
    counted = {"config.json", version_of(folder).name, *foreign}
    return [path.name for path in folder.iterdir() if path.name not in counted]


def test_a_save_killed_at_a_drawn_moment(tmp_path: Path):
    folder, draw, seen = tmp_path / "m", random.Random(7), Counter()
    save(MODELS[1], folder)
    (folder / "notes").mkdir()
    started = time.perf_counter()
    save(MODELS[1], folder)
    duration = time.perf_counter() - started

    def save_both_for_ever() -> None:
        while True:
            for model in (MODELS[2], MODELS[1]):
                save(model, folder)

    # The kills must meet saves at work; on a busy machine more of them are needed until each kind was met.
    kinds, kills = (1, 2, ".fastinterp-", "fastinterp-v"), 0
    while kills < KILLS or (min(seen[kind] for kind in kinds) < 1 and kills < 10 * KILLS):
        kills += 1
        process = fork(save_both_for_ever)
        time.sleep(draw.uniform(0, 3 * duration))
        os.kill(process, signal.SIGKILL)
        assert exit_code(process) == -signal.SIGKILL
        seen[which(folder)] += 1
        left = leftovers(folder, ("notes",))
        assert len(left) <= 1
        assert all(LEFTOVER.fullmatch(name) for name in left)
        seen.update(name[:12] for name in left)
        if draw.random() < 0.5:
            save(MODELS[1], folder)
            assert which(folder) == 1
            assert leftovers(folder, ("notes",)) == []
    assert min(seen[kind] for kind in kinds) >= 1, seen


# What the interpreter reports of a save; each is a moment at which it can be killed or can fail.
STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir", "fcntl.flock")


class Step:
    """Makes `act` happen before one step of what this process does in a folder; only for a child, for it stays."""

    def __init__(self, number: int, act: Callable[[], None], folder: Path) -> None:
        self.left, self.act, self.folder = number, act, str(folder)

    def install(self) -> Step:
        sys.addaudithook(self.hook)
        return self

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in STEPS and (event == "fcntl.flock" or self.folder in str(arguments[0])):
            self.left -= 1
            if self.left == -1:
                self.act()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nothing(model: ConvTextModel, folder: Path) -> None:
    """No older model."""


@pytest.mark.parametrize("layout", [save, save_flat, nothing])
def test_a_save_killed_before_each_of_its_steps(tmp_path: Path, layout):
    steps, outcomes = 0, Counter()
    while True:
        folder = tmp_path / str(steps)
        layout(MODELS[1], folder)
        step = Step(steps, kill, folder)
        code = exit_code(fork(lambda: (step.install(), save(MODELS[2], folder))))  # noqa: B023  (waited for)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        committed = (folder / "config.json").exists()
        if layout is nothing and not committed:
            left = [path.name for path in folder.iterdir()] if folder.exists() else []
        else:
            outcomes[which(folder)] += 1
            flat = ("model.safetensors", "vocabulary.txt", "metrics.json") if layout is save_flat else ()
            left = leftovers(folder, flat)
        assert len(left) <= 1
        assert all(LEFTOVER.fullmatch(name) for name in left)
        check_output(folder)
        save(MODELS[2], folder)
        assert which(folder) == 2
        assert leftovers(folder) == []
        steps += 1
    assert steps > 15
    assert layout is nothing or min(outcomes[1], outcomes[2]) > 2


FAILED, SAVED, NO_SUCH_STEP = 10, 11, 12


@pytest.mark.parametrize("layout", [save, save_flat, nothing])
def test_a_save_that_fails_at_each_of_its_steps(tmp_path: Path, layout):
    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def attempt(step: Step, folder: Path) -> None:
        step.install()
        try:
            save(MODELS[2], folder)
        except ModelError:
            os._exit(FAILED)
        os._exit(SAVED if step.left < 0 else NO_SUCH_STEP)

    steps, outcomes = 0, Counter()
    while True:
        folder = tmp_path / str(steps)
        layout(MODELS[1], folder)
        code = exit_code(fork(lambda: attempt(Step(steps, fail, folder), folder)))  # noqa: B023  (waited for)
        if code == NO_SUCH_STEP:
            break
        assert code in (FAILED, SAVED)
        if (folder / "config.json").exists():
            outcomes[code, which(folder)] += 1
        else:
            assert layout is nothing
            assert code == FAILED
        save(MODELS[2], folder)
        assert which(folder) == 2
        assert leftovers(folder) == []
        steps += 1
    assert steps > 15
    assert outcomes[SAVED, 1] == 0  # what is said to be saved is saved
    assert layout is nothing or outcomes[FAILED, 1] > 5


@pytest.mark.parametrize("layout", [save, save_flat])
def test_readers_and_writers_at_once_see_one_model_or_the_other(tmp_path: Path, layout):
    folder, end = tmp_path / "m", time.monotonic() + 2.5
    layout(MODELS[1], folder)

    def repeat(work: Callable[[], object]) -> Callable[[], None]:
        def loop() -> None:
            rounds = 0
            while time.monotonic() < end:
                work()
                rounds += 1
            assert rounds > 0

        return loop

    processes = [
        fork(repeat(lambda: save(MODELS[1], folder))),
        fork(repeat(lambda: save(MODELS[2], folder, {"a": 1}))),
        fork(repeat(lambda: which(folder))),
        fork(repeat(lambda: which(folder))),
        fork(repeat(lambda: check_output(folder))),
    ]
    assert [exit_code(process) for process in processes] == [0] * 5
    assert leftovers(folder) == []
    which(folder)


def test_checks_and_saves_of_a_new_folder_at_once(tmp_path: Path):
    for attempt in range(8):
        folder = tmp_path / str(attempt) / "m"
        processes = [fork(lambda: check_output(folder)) for _ in range(2)]  # noqa: B023  (waited for below)
        processes += [fork(lambda model=model: save(model, folder)) for model in MODELS.values()]  # noqa: B023
        assert [exit_code(process) for process in processes] == [0] * 4
        assert leftovers(folder) == []
        which(folder)


def test_threads_save_to_one_folder(tmp_path: Path):
    folder = tmp_path / "m"
    with ThreadPoolExecutor(4) as pool:
        saved = [pool.submit(save, MODELS[1 + i % 2], folder) for i in range(40)]
        read = [pool.submit(which, folder) for _ in range(1) if saved[0].result() is None]
    for future in (*saved, *read):
        future.result()
    assert leftovers(folder) == []


def test_a_writer_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.1)
    save(MODELS[1], tmp_path / "m")
    descriptor = os.open(tmp_path / "m", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for attempt in (lambda: check_output(tmp_path / "m"), lambda: save(MODELS[2], tmp_path / "m")):
            with pytest.raises(ModelError, match="cannot be written .another process has been writing"):
                attempt()
        assert which(tmp_path / "m") == 1  # readers need no lock
    finally:
        os.close(descriptor)
    save(MODELS[2], tmp_path / "m")
    assert which(tmp_path / "m") == 2


def test_a_child_that_was_forked_during_a_save_does_not_keep_the_lock(tmp_path: Path):
    with lock.locked(tmp_path):
        process = fork(lambda: time.sleep(60))
    try:
        started = time.monotonic()
        save(MODELS[1], tmp_path)
        assert time.monotonic() - started < 10
    finally:
        os.kill(process, signal.SIGKILL)
        exit_code(process)


def test_a_file_system_without_locks_takes_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    save(MODELS[1], tmp_path / "m")
    assert which(tmp_path / "m") == 1
