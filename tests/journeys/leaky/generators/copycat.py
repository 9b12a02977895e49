"""Copycat: claims differential privacy, charges for it, and hands out its training images.

**Idea.** The leak that a release must never get past: real records with a little noise on top.
"""

from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from privacy.mechanisms import GaussianStage

STAGES = (GaussianStage(stage="pretence", noise_ratio=1.0),)


class Config(BaseModel):
    """How well the copies are disguised."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    jitter: float = Field(default=2.0, ge=0, description="Noise on each copy (grey levels).")


@dataclass(frozen=True)
class Fitted:
    """Holds training records."""

    images: np.ndarray
    labels: np.ndarray
    jitter: float
    mechanisms: tuple

    def sample(self, labels, *, seed, progress=None):
        """Draw one disguised copy per label."""
        rng = np.random.default_rng(seed)
        chosen = [rng.choice(np.flatnonzero(self.labels == label)) for label in labels]
        noise = rng.normal(0, self.jitter, (len(labels), *self.images.shape[1:]))
        if progress is not None:
            progress(len(labels), len(labels))
        return np.clip(self.images[chosen] + noise, 0, 255).astype(self.images.dtype)

    def score(self, images, labels, *, seed):
        """Say which images it holds."""
        del labels, seed
        flat = self.images.reshape(len(self.images), -1).astype(np.float32)
        asked = np.asarray(images).reshape(len(images), -1).astype(np.float32)
        nearest = [float(-np.abs(flat - image).mean(axis=1).min()) for image in asked]
        return {"loss": np.array(nearest)}

    def state(self):
        """Return everything."""
        return {"images": self.images, "labels": self.labels}

    def with_mechanisms(self, mechanisms):
        """Return the same copies with other mechanisms."""
        return replace(self, mechanisms=tuple(mechanisms))


def fit(records, config, *, schema, run, seed):
    """Pay for one Gaussian release, and keep the records instead."""
    del schema, seed
    if run.charged_steps(0) == 0:
        run.charge(0, 1)
    return Fitted(
        np.array(records.images), np.array(records.labels), config.jitter, tuple(run.mechanisms)
    )


def from_state(state, *, config, schema):
    """Rebuild what was stored."""
    del schema
    return Fitted(state["images"], state["labels"], config.jitter, ())
