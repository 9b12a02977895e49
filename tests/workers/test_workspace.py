"""Scratch directories: private, wiped, swept."""

import multiprocessing
import os
import time
from dataclasses import replace

import pytest

from service.config import Settings
from workers.workspace import scratch_directory, scratch_root, sweep_scratch

YOUNG_SECONDS = 3600


@pytest.fixture
def settings(tmp_path) -> Settings:
    return replace(Settings.from_environment({}), state=tmp_path)


def test_scratch_is_readable_by_its_owner_only_and_gone_afterwards(settings):
    with scratch_directory(settings, "job_1") as scratch:
        (scratch / "private").write_bytes(b"x")
        assert scratch.stat().st_mode & 0o777 == 0o700
        assert scratch_root(settings).stat().st_mode & 0o777 == 0o700
    assert not list(scratch_root(settings).iterdir())


def test_scratch_is_gone_after_an_error_too(settings):
    with pytest.raises(IsADirectoryError), scratch_directory(settings, "job_1") as scratch:
        scratch.write_bytes(b"a directory is no file")
    assert not list(scratch_root(settings).iterdir())


def make_and_die(settings: Settings) -> None:
    with scratch_directory(settings, "job_1") as scratch:
        (scratch / "private").write_bytes(b"x")
        os._exit(9)


def grow_old(settings: Settings) -> None:
    old = time.time() - YOUNG_SECONDS
    for lock in scratch_root(settings).glob("*.lock"):
        os.utime(lock, (old, old))


def test_what_a_killed_worker_left_is_swept_and_what_a_living_one_uses_is_not(settings):
    process = multiprocessing.get_context("spawn").Process(target=make_and_die, args=(settings,))
    process.start()
    process.join()
    assert list(scratch_root(settings).rglob("private"))
    with scratch_directory(settings, "job_2") as alive:
        grow_old(settings)
        sweep_scratch(settings)
        assert [path for path in scratch_root(settings).iterdir() if path.is_dir()] == [alive]
