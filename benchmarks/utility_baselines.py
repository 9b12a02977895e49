"""What synthetic images are compared with: the same classifiers on real images, and a DP classifier."""

import hashlib
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.image_sets import ImageSet
from benchmarks.utility_files import Output
from benchmarks.utility_seed import Request, WatchedRun, plan, units
from privacy import accounting
from privacy.mechanisms import mechanisms_to_json
from privacy.planning import plan_mechanisms
from service.walkthrough.display import Display
from training.checkpoints import Progress, from_bytes, to_bytes
from training.records import TrainingRecords
from training.teacher import STAGE, TeacherOptions, fit_teacher
from training.utility import Scored, Task, score
from training.utility.measures import measure
from training.utility.scoring import PROTOCOLS, Effort, Protocol
from workers.contact_sheet import write_private


class RealBaseline:
    """Classifiers taught on the real training set; kept in the output folder for the next run.

    Files are named after a digest of the records and of the recipe, hold networks that saw real
    records, and are written with mode 0600.
    """

    def __init__(
        self, real: ImageSet, output: Output, *, task: Task, protocol: Protocol, effort: Effort
    ) -> None:
        self._real = real
        self._output = output
        self._task = task
        self._protocol: Protocol = protocol
        self._effort = effort
        self.was_kept: list[bool] = []

    def scored(self, seed: int, *, device: torch.device, display: Display) -> Scored:
        """Return the scores of one seed, teaching what no earlier run has left behind."""
        kept = {name: found for name in self._names() if (found := self._read(name, seed, device))}
        self.was_kept.append(len(kept) == len(self._names()))
        with display.step(f"real {seed}", f"seed {seed}: real baseline") as advance:
            scored = score(
                self._real.train,
                self._real.test,
                task=self._task,
                protocol=self._protocol,
                seed=seed,
                device=device,
                effort=self._effort,
                networks=kept,
                watch=lambda _name, done, total: advance(done, total),
            )
        for name in self._names():
            if name not in kept:
                self._write(name, seed, scored.networks[name])
        return scored

    def _names(self) -> tuple[str, ...]:
        module = PROTOCOLS[self._protocol]
        names: tuple[str, ...] = self._effort.classifiers or module.CLASSIFIERS
        return names

    def _path(self, name: str, seed: int) -> Any:
        recipe = json.dumps(
            [
                PROTOCOLS[self._protocol].described(),
                repr(
                    replace(self._effort, classifiers=None)
                ),  # one is the same beside fewer others
                self._task.kinds,
                repr(self._fresh(name, seed)),
            ],
            sort_keys=True,
        )
        content = f"{self._real.digest}|{recipe}|{name}|{seed}"
        digest = hashlib.sha256(content.encode()).hexdigest()[:24]
        return self._output.folder / f"real-baseline-{digest}.safetensors"

    def _fresh(self, name: str, seed: int) -> nn.Module:
        module = PROTOCOLS[self._protocol]
        shape = self._real.train.images.shape[1:]
        network: nn.Module = module.fresh(name, shape, kinds=self._task.kinds, seed=seed)
        return network

    def _read(self, name: str, seed: int, device: torch.device) -> nn.Module | None:
        path = self._path(name, seed)
        if not path.is_file():
            return None
        network = self._fresh(name, seed)
        state = from_bytes(path.read_bytes())
        network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
        return network.to(device).eval()

    def _write(self, name: str, seed: int, network: nn.Module) -> None:
        state = {k: v.cpu().numpy() for k, v in network.state_dict().items()}
        write_private(self._path(name, seed), to_bytes(state))


def dp_classifier(
    request: Request, real: ImageSet, *, task: Task, seed: int, display: Display
) -> dict[str, Any]:
    """Return the scores of a DP classifier that spends the whole target by itself.

    It answers what could be learnt at this epsilon by somebody who needs no images; relabelled
    synthetic images can hardly teach more. Its settings are those that the generator's teacher
    has, preset included, with nothing left for the generator; it sees records alone, never redrawn.
    """
    schema = real.schema.model_copy(update={"unit": request.unit})
    config, _ = plan(request, schema)
    of_teacher = config.model_dump(include=set(TeacherOptions.model_fields))
    options = TeacherOptions(**(of_teacher | {"teacher": "relabel"}))
    mechanisms = plan_mechanisms(
        (STAGE,),
        config=options.model_dump(),
        target=request.target,
        public_train_count=schema.declared_count,
    )
    records = TrainingRecords(
        images=real.train.images, labels=real.train.labels, persons=units(real, request.unit)
    )
    started = time.perf_counter()
    with display.step("ceiling", "DP classifier with the whole budget") as advance:
        run = WatchedRun(mechanisms, advance)
        teacher = fit_teacher(records, options, schema=schema, run=run, kept=Progress(run))
    seconds = time.perf_counter() - started
    if teacher is None:
        raise RuntimeError("The teacher is switched off.")
    probabilities = teacher.probabilities(real.test.images)
    found = measure(probabilities, real.test.labels, real.test.persons, task=task)
    return {
        "classifier": "teacher: linear on fixed features, DP-SGD",
        "config": options.model_dump(),
        **found.as_json(task),
        "epsilon_rederived": accounting.epsilon(mechanisms, request.target.delta),
        "mechanisms": mechanisms_to_json(mechanisms),
        "fit_seconds": seconds,
        "seed": seed,
    }
