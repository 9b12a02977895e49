"""A generator that walks: it charges blocks of steps, and takes each step slowly and in public.

For tests of faults only. Each step that is taken is a line in the file KAIMA_TEST_STEPS_LOG, written
behind the ledger's back, so that a test can compare what ran with what was charged.
"""

import os
import time
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from privacy.manifests import DatasetSchema
from privacy.mechanisms import DpSgdStage, Mechanism
from training.records import TrainingRecords
from training.run import Run


class Config(BaseModel):
    """How long the walk is."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    steps: int = Field(default=60, ge=1, description="steps")
    batch: int = Field(default=10, ge=1, description="expected batch size")
    block: int = Field(default=5, ge=1, description="steps charged at a time")
    milliseconds: int = Field(default=100, ge=0, description="time for one step")


STAGES = (DpSgdStage(stage="walk", steps="steps", expected_batch_size="batch"),)


@dataclass(frozen=True)
class Fitted:
    """Where the walk ended."""

    schema: DatasetSchema
    mechanisms: tuple[Mechanism, ...]

    def sample(
        self, labels: NDArray[np.integer], *, seed: int, progress: Any = None
    ) -> NDArray[np.integer]:
        """Draw grey noise."""
        del progress
        shape = (len(labels), self.schema.height, self.schema.width)
        return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)

    def score(
        self, images: NDArray[np.integer], labels: NDArray[np.integer], *, seed: int
    ) -> dict[str, NDArray[np.float64]]:
        """Score at random: the walk has seen nothing."""
        del labels
        return {"none": np.random.default_rng(seed).random(len(images))}

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return something to store."""
        return {"place": np.zeros(1)}

    def with_mechanisms(self, mechanisms: tuple[Mechanism, ...]) -> Self:
        """Return the same walk with the recorded mechanisms."""
        return replace(self, mechanisms=mechanisms)


def from_state(
    state: dict[str, NDArray[np.generic]], *, config: Config, schema: DatasetSchema
) -> Fitted:
    """Rebuild the walk."""
    del state, config
    return Fitted(schema=schema, mechanisms=())


def fit(
    records: TrainingRecords, config: Config, *, schema: DatasetSchema, run: Run, seed: int
) -> Fitted:
    """Walk the steps that are still reserved, block after block."""
    del records, seed
    total = run.mechanisms[0].steps
    while (done := run.charged_steps(0)) < total:
        block = min(config.block, total - done)
        run.charge(0, block)
        for step in range(done, done + block):
            _take(step, config)
            run.progress("walking", step + 1, total)
        run.save_checkpoint({"step": np.array([done + block])})
    return Fitted(schema=schema, mechanisms=run.mechanisms)


def _take(step: int, config: Config) -> None:
    line = f"{step} {os.getpid()}\n".encode()
    descriptor = os.open(os.environ["KAIMA_TEST_STEPS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line)  # appended whole, whoever else writes
    os.close(descriptor)
    time.sleep(config.milliseconds / 1000)
