"""A private scratch directory: fetch by digest, verify, wipe.

Private records are on a worker's disk only here: mode 0700, removed when the job ends, and swept at
the next job when the machine died in between. Object storage is never trusted for content: what is
fetched is compared with the digest that the job names.
"""

import contextlib
import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from privacy.documents import Document
from service.config import Settings
from service.store.objects import Bucket
from workers.context import JobContext

D = TypeVar("D", bound=Document)

_YOUNG_SECONDS = 60
"""A lock file this young may be about to be locked, so `sweep_scratch` passes it by."""


def scratch_root(settings: Settings) -> Path:
    """Return the directory above all scratch directories of this machine."""
    root = Path(settings.state) / "scratch"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return root


@contextlib.contextmanager
def scratch_directory(settings: Settings, job_id: str) -> Iterator[Path]:
    """Yield an empty directory that nobody else may read, and remove it afterwards.

    A lock is held on it, so that `sweep_scratch` of another worker leaves it alone.
    """
    path = Path(tempfile.mkdtemp(prefix=f"{job_id}-", dir=scratch_root(settings)))
    with (path.parent / f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            Path(lock.name).unlink(missing_ok=True)


def sweep_scratch(settings: Settings) -> None:
    """Remove directories whose supervisor died: nobody holds their lock any more."""
    for name in scratch_root(settings).glob("*.lock"):
        with contextlib.suppress(FileNotFoundError), name.open("r+") as lock:
            if time.time() - name.stat().st_mtime < _YOUNG_SECONDS:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(name.with_suffix(""), ignore_errors=True)
            name.unlink(missing_ok=True)


def fetch_document(context: JobContext, key: str, *, kind: type[D], digest: str) -> D:
    """Fetch a document whose bytes are canonical, and compare them with the digest that names it.

    Raises: DigestMismatch; ObjectMissing.
    """
    objects = context.application.objects
    return kind.model_validate_json(objects.get_bytes(Bucket.WORK, key, sha256=digest))


def fetch_arrays(
    context: JobContext, prefix: str, *, blobs: Mapping[str, str], folder: Path
) -> dict[str, NDArray[Any]]:
    """Fetch `.npy` files into `folder` and map them, read-only; names lose the suffix.

    `blobs` maps file names to the SHA-256 of their bytes.  Raises: DigestMismatch; ObjectMissing.
    """
    arrays = {}
    for name, digest in blobs.items():
        path = folder / name
        context.application.objects.get_to_file(
            Bucket.WORK, f"{prefix}{name}", path=path, sha256=digest
        )
        arrays[path.stem] = _map(path)
    return arrays


def _map(path: Path) -> NDArray[Any]:
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # an empty array cannot be mapped
        mapped = np.load(path, allow_pickle=False)
    return mapped
