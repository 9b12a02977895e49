"""Fitted generators as files: safetensors and JSON, checked against a digest before reading.

Nothing that is read here is executed, and nothing is parsed before its digest is right.
"""

import hashlib
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.errors import DigestMismatch
from privacy.manifests import GeneratorManifest
from training import checkpoints, generators
from training.generators import Fitted, FittedJoint, FittedTable

FORMAT = "safetensors"


def save(fitted: Fitted | FittedTable | FittedJoint, path: Path) -> str:
    """Write the weights of a fitted generator and return the SHA-256 of the file, as hex."""
    content = checkpoints.to_bytes(fitted.state())
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def load(manifest: GeneratorManifest, path: Path) -> Any:
    """Read the fitted generator that a manifest describes: `Fitted`, `FittedTable` or `FittedJoint`.

    Raises: DigestMismatch if the file is not the one named by the manifest.
    """
    return restore(manifest.generator, read(path, manifest.weights), manifest)


def read(path: Path, digest: str) -> dict[str, NDArray[np.generic]]:
    """Read the arrays of a weights file after its digest was found right."""
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise DigestMismatch(
            f"Reading {path.name} was refused: its SHA-256 is {found}, and the manifest names "
            f"{digest}. Fetch the file again; if it still differs, it was changed."
        )
    return checkpoints.from_bytes(content)


def restore(name: str, state: dict[str, NDArray[np.generic]], manifest: GeneratorManifest) -> Any:
    """Rebuild a fitted generator from its arrays, config and schema."""
    module = generators.load(name)
    config = module.Config.model_validate(manifest.config)
    from_state: Callable[..., Fitted | FittedTable | FittedJoint] = module.from_state
    fitted = from_state(state, config=config, schema=manifest.declared)
    return fitted.with_mechanisms(manifest.mechanisms)


def versions() -> dict[str, str]:
    """Return the versions of what computes, for the generator manifest; loads none of it."""
    return {name: metadata.version(name) for name in ("torch", "numpy", "opacus")}


def device() -> str:
    """Return the kind of device that a fit in this process uses, for the generator manifest."""
    if "torch" not in sys.modules:  # no network was trained
        return "cpu"
    from training.devices import compute_device  # noqa: PLC0415  (loads torch)

    return compute_device().type
