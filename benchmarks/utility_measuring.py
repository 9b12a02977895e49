"""One run of the utility benchmark: all seeds, what they are compared with, and the summary."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console

from benchmarks.envelope import Benchmark
from benchmarks.image_sets import ImageSet
from benchmarks.utility_baselines import RealBaseline, dp_classifier
from benchmarks.utility_files import Output
from benchmarks.utility_seed import Drawn, Request, fit_and_sample
from benchmarks.utility_tables import ratios, summarised
from privacy.mechanisms import UnitOfPrivacy
from service.walkthrough.display import Display
from training.utility import (
    Labelled,
    Scored,
    Task,
    augmentation,
    fidelity,
    light,
    score,
    shortcuts,
)
from training.utility.measures import Measured
from training.utility.scoring import PROTOCOLS, Effort, Protocol, accuracy

_MANY_REAL = 20_000  # records; the baseline of a larger set hardly varies, and takes long
_FEW_REAL_SEEDS = 3


@dataclass(frozen=True)
class Parts:
    """What is measured beside the scores; a sentence says why a part is left out."""

    comparisons: bool
    augmentation: str | None
    shortcut: str | None


class Measuring:
    """Measures, and puts what it finds into the benchmark's document."""

    def __init__(
        self,
        benchmark: Benchmark,
        real: ImageSet,
        request: Request,
        *,
        task: Task,
        protocol: Protocol,
        effort: Effort,
        device: torch.device,
        output: Output,
    ) -> None:
        self.benchmark = benchmark
        self.real = real
        self.request = request
        self.task = task
        self.protocol: Protocol = protocol
        self.effort = effort
        self.device = device
        self.output = output
        self.display = Display(Console(stderr=True))
        self.scored: dict[bool, list[Scored]] = {True: [], False: []}
        self.real_scored: list[Scored] = []
        self.first: Labelled | None = None  # the first seed's synthetic set

    def run(self, seeds: int, parts: Parts) -> None:
        """Measure everything; what fails is recorded with its reason."""
        first = self.benchmark.seed
        if parts.comparisons:
            self.benchmark.attempt("real_baseline", partial(self._baseline, seeds))
        for seed in range(first, first + seeds):
            self.benchmark.attempt(f"seed {seed}", partial(self._seed, seed))
        self._summarise()
        extra = self.benchmark.extra
        self._part("dp_classifier_ceiling", self._ceiling, _unless(parts.comparisons))
        self._part("shortcut", self._shortcut, parts.shortcut)
        self._part("augmentation_curve", self._augmentation, parts.augmentation)
        extra["protocol_details"] = {
            "name": self.protocol,
            **PROTOCOLS[self.protocol].described(),
            "shortened": None if self.effort == Effort() else repr(self.effort),
        }

    def _part(self, name: str, measure: Any, left_out: str | None) -> None:
        """Measure one part, or say why it is null."""
        extra = self.benchmark.extra
        extra[name] = None
        if left_out is None and self.benchmark.attempt(name, measure):
            return
        failed = [entry["reason"] for entry in self.benchmark.failures if entry["what"] == name]
        extra[f"{name}_reason"] = left_out or failed[-1]

    def _seed(self, seed: int) -> None:
        drawn = fit_and_sample(self.request, self.real, seed=seed, display=self.display)
        target = self.request.target
        stem = f"{self.real.name}-{self.request.generator}-eps{target.epsilon:g}-seed{seed}"
        for relabelled, synthetic in drawn.sets.items():
            is_main = relabelled or len(drawn.sets) == 1
            name = stem if is_main else f"{stem}-without-teacher"
            files = self.output.save(name, synthetic, self._caption(), self.real.schema)
            self.benchmark.extra.setdefault("contact_sheet", files["contact_sheet"])
            if is_main and self.first is None:
                self.first = synthetic
            scored = self._score(synthetic, seed)
            self.scored[relabelled].append(scored)
            about = self._about(seed, drawn, relabelled=relabelled)
            more = self._beside(synthetic)
            scores = scored.as_json(self.task)
            self.benchmark.results.append({**about, "scores": scores, **more, **files})

    def _score(self, synthetic: Labelled, seed: int) -> Scored:
        with self.display.step(f"score {seed}", f"seed {seed}: teach and judge") as advance:
            return score(
                synthetic,
                self.real.test,
                task=self.task,
                protocol=self.protocol,
                seed=seed,
                device=self.device,
                effort=self.effort,
                watch=lambda _name, done, total: advance(done, total),
            )

    def _about(self, seed: int, drawn: Drawn, *, relabelled: bool) -> dict[str, Any]:
        told = drawn.as_json(self.request, relabelled=relabelled)
        if told["within_minutes"] is False:
            click.echo(f"seed {seed}: fit and sample took longer than --minutes allows", err=True)
        train = self.real.train
        is_person = self.request.unit is UnitOfPrivacy.PERSON
        return {
            "seed": seed,
            "data": self.real.name,
            "test": self.real.test_name,
            "protocol": self.protocol,
            **told,
            "persons_train": len(np.unique(train.persons)) if is_person else len(train),
            "images_train": len(train),
            "persons_test": len(np.unique(self.real.test.persons)),
            "images_test": len(self.real.test),
            "declared_count": self.real.schema.declared_count,
            "device": self.device.type,
        }

    def _beside(self, synthetic: Labelled) -> dict[str, Any]:
        """Return fidelity, and train-on-real-test-on-synthetic where a baseline is at hand."""
        found = fidelity.compare(synthetic, self.real.test, reference=self.real.train)
        if not self.real_scored:
            return {"fidelity": found, "trts": None, "trts_reason": "no real baseline"}
        networks = self.real_scored[0].networks
        trts = {name: {"accuracy": accuracy(one, synthetic)} for name, one in networks.items()}
        return {"fidelity": found, "trts": trts}

    def _baseline(self, seeds: int) -> None:
        baseline = RealBaseline(
            self.real, self.output, task=self.task, protocol=self.protocol, effort=self.effort
        )
        count = 1 if len(self.real.train) > _MANY_REAL else min(seeds, _FEW_REAL_SEEDS)
        first = self.benchmark.seed
        for seed in range(first, first + count):
            self.real_scored.append(baseline.scored(seed, device=self.device, display=self.display))
        self.benchmark.extra["real_baseline_details"] = {
            "images": len(self.real.train),
            "seeds": count,
            "networks_kept_from_an_earlier_run": baseline.was_kept,
        }

    def _ceiling(self) -> None:
        self.benchmark.extra["dp_classifier_ceiling"] = dp_classifier(
            self.request,
            self.real,
            task=self.task,
            seed=self.benchmark.seed,
            display=self.display,
        )

    def _shortcut(self) -> None:
        found: dict[str, Any] = {"what": shortcuts.MEANING}
        steps = light.recipe_of(light.HEADLINE, self.effort.most_steps).steps
        for name, records in {"synthetic": self._synthetic(), "real": self.real.train}.items():
            with self.display.step(f"shortcut {name}", f"shortcut check, {name}") as advance:
                checked = shortcuts.check(
                    records,
                    self.real.test,
                    task=self.task,
                    device=self.device,
                    most_steps=self.effort.most_steps,
                    watch=lambda _name, done, total: advance(done, total),
                )
            found[name] = {
                sight: _json(one, self.task) | {"steps": steps} for sight, one in checked.items()
            }
        self.benchmark.extra["shortcut"] = found

    def _augmentation(self) -> None:
        recipe = augmentation.RECIPE
        if self.effort.most_steps is not None:
            recipe = recipe.at_most(self.effort.most_steps)
        with self.display.step("augmentation", "augmentation curve") as advance:
            self.benchmark.extra["augmentation_curve"] = augmentation.curve(
                self.real.train,
                self._synthetic(),
                self.real.test,
                task=self.task,
                recipe=recipe,
                device=self.device,
                progress=advance,
            )

    def _synthetic(self) -> Labelled:
        if self.first is None:
            raise RuntimeError("No seed has drawn a synthetic set.")
        return self.first

    def _caption(self) -> str:
        unit, target = self.request.unit.value, self.request.target
        return (
            f"Synthetic: ε = {target.epsilon:g} per {unit}, δ = {target.delta:g}, add or remove one "
            f"{unit}; generator '{self.request.generator}'. Drawn at random with a fixed seed."
        )

    def _summarise(self) -> None:
        with_teacher, plain = self.scored[True], self.scored[False]
        main = with_teacher or plain
        summary = summarised(main)
        if with_teacher:
            summary |= summarised(plain, prefix="without_teacher.")
        baseline = summarised(self.real_scored)
        self.benchmark.extra.setdefault("contact_sheet", None)
        self.benchmark.extra.update(
            headline_classifier=PROTOCOLS[self.protocol].HEADLINE,
            summary=summary,
            real_baseline=baseline,
            ratio_to_real=ratios(main, baseline),
        )


def _unless(wanted: bool) -> str | None:  # noqa: FBT001
    return None if wanted else "--scores-only"


def _json(measured: Measured, task: Task) -> dict[str, object]:
    return measured.as_json(task)
