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
from benchmarks.utility_tables import RATIO_NOTE, ratios, summarised
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
_PARTS = ("real_baseline", "dp_classifier_ceiling", "shortcut", "augmentation_curve")
_NOT_YET = "the run had not come to it"


@dataclass(frozen=True)
class Parts:
    """What is measured beside the scores; a sentence says why a part is left out."""

    comparisons: bool
    augmentation: str | None
    shortcut: str | None
    augmentation_seeds: int


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
        self._stems: list[str] = []  # of the results' files, in their order
        self.first: Labelled | None = None  # the first seed's synthetic set

    def run(self, seeds: int, parts: Parts) -> None:
        """Measure everything; what fails is recorded with its reason."""
        first, left_out = self.benchmark.seed, _unless(parts.comparisons)
        self._begin()
        for seed in range(first, first + seeds):
            self.benchmark.attempt(f"seed {seed}", partial(self._seed, seed))
            self._keep()
        self._part("real_baseline", partial(self._baseline, seeds), left_out)
        self._part("dp_classifier_ceiling", self._ceiling, left_out)
        self._part("shortcut", self._shortcut, parts.shortcut)
        draw_curve = partial(self._augmentation, parts.augmentation_seeds)
        self._part("augmentation_curve", draw_curve, parts.augmentation)
        self.benchmark.extra["is_complete"] = True
        self._keep()

    def _begin(self) -> None:
        """Say what the document holds before anything is measured."""
        extra = self.benchmark.extra
        extra["is_complete"] = False  # until the end: a run that is cut short leaves what it has
        extra["ratio_note"] = RATIO_NOTE
        extra["contact_sheet"], extra["contact_sheet_reason"] = None, "no seed has drawn images"
        for name in _PARTS:
            extra[name], extra[f"{name}_reason"] = None, _NOT_YET
        details = {"name": self.protocol, **PROTOCOLS[self.protocol].described()}
        is_short = self.effort != Effort(self.effort.classifiers)  # fewer of them shorten none
        details |= {"is_shortened": is_short} | (
            {"shortened": repr(self.effort)} if is_short else {}
        )
        if self.effort.classifiers is not None:
            details |= {"classifiers_taught": list(self.effort.classifiers)}
        extra["protocol_details"] = details
        self._keep()

    def _part(self, name: str, measure: Any, left_out: str | None) -> None:
        """Measure one part, or say why it is null; then write the document."""
        extra = self.benchmark.extra
        if left_out is None and self.benchmark.attempt(name, measure):
            del extra[f"{name}_reason"]
        else:
            failed = [entry["reason"] for entry in self.benchmark.failures if entry["what"] == name]
            extra[f"{name}_reason"] = left_out or failed[-1]
            if name == "real_baseline":
                for result in self.benchmark.results:
                    result["trts_reason"] = extra[f"{name}_reason"]
        self._keep()

    def _keep(self) -> None:
        """Write the document as it is now."""
        self._summarise()
        self.benchmark.write(self.output.document)

    def _seed(self, seed: int) -> None:
        drawn = fit_and_sample(self.request, self.real, seed=seed, display=self.display)
        target = self.request.target
        stem = f"{self.real.name}-{self.request.generator}-eps{target.epsilon:g}-seed{seed}"
        for relabelled, synthetic in drawn.sets.items():
            is_main = relabelled or len(drawn.sets) == 1
            name = stem if is_main else f"{stem}-without-teacher"
            files = self.output.save(name, synthetic, self._caption(), self.real.schema)
            if self.benchmark.extra.pop("contact_sheet_reason", None):
                self.benchmark.extra["contact_sheet"] = files["contact_sheet"]
            if is_main and self.first is None:
                self.first = synthetic
            scored = self._score(synthetic, seed)
            self.scored[relabelled].append(scored)
            about = self._about(seed, drawn, relabelled=relabelled)
            found = fidelity.compare(synthetic, self.real.test, reference=self.real.train)
            more = {"fidelity": found, "trts": None, "trts_reason": _NOT_YET}
            scores = scored.as_json(self.task)
            self.benchmark.results.append({**about, "scores": scores, **more, **files})
            self._stems.append(name)

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

    def _judge_synthetic(self) -> None:
        """Add train-on-real-test-on-synthetic to every result, from the files that were saved."""
        networks = self.real_scored[0].networks
        for result, stem in zip(self.benchmark.results, self._stems, strict=True):
            made = self.output.read(stem)
            result["trts"] = {name: {"accuracy": accuracy(n, made)} for name, n in networks.items()}
            del result["trts_reason"]

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
        self._judge_synthetic()

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
        steps = light.steps_of(light.HEADLINE, self.real.test, self.effort.most_steps)
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

    def _augmentation(self, seeds: int) -> None:
        recipe = augmentation.RECIPE
        if self.effort.most_steps is not None:
            recipe = recipe.at_most(self.effort.most_steps)
        with self.display.step("augmentation", "augmentation curve") as advance:
            self.benchmark.extra["augmentation_curve"] = augmentation.curve(
                self.real.train,
                self._synthetic(),
                self.real.test,
                task=self.task,
                seeds=seeds,
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
