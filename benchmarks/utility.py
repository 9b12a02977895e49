"""How useful are synthetic images? Taught on synthetic, judged on real held-out persons.

Compared with the same classifiers taught on the real training set, in the same process. Scores are
measured on real records without noise: they are not differentially private, and the documents and
files written here stay with the data owner. What it does not show: that the images look right to a
radiologist, or that a model of the collaborator's choice will do as well.
"""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console

from benchmarks.envelope import Benchmark
from benchmarks.image_sets import ImageSet, load
from benchmarks.utility_files import Output
from benchmarks.utility_seed import Drawn, Request, fit_and_sample
from benchmarks.utility_tables import ratios, summarised
from privacy.mechanisms import PrivacyTarget, UnitOfPrivacy
from service.walkthrough.display import Display
from training import generators
from training.utility import Labelled, Scored, Task, score
from training.utility.scoring import Protocol

CHOICE = (
    "Epsilon covers each run by itself; it does not cover that the configuration, or the best of "
    "several, was chosen by looking at scores on this data."
)
STAYS_INSIDE = (
    "Scores are measured on real records without noise: they are not differentially private and "
    "stay with the data owner and the auditors."
)
_SAMPLES = {"light": 20_000, "dpimagebench": 60_000}
_PUBLISHED_TRAIN_COUNT = 55_000


@click.command()
@click.option("--data", required=True, help="mnist, fashion_mnist, PATH.npz or PATH.zip.")
@click.option("--label", help="Column of the CSV that holds the label.")
@click.option("--test", default="same", show_default=True, help="same, or PATH.zip of others.")
@click.option("--unit", type=click.Choice([u.value for u in UnitOfPrivacy]))
@click.option("--generator", required=True, type=click.Choice(generators.available()))
@click.option("--set", "settings", multiple=True, help="FIELD=VALUE of the generator's Config.")
@click.option("--epsilon", type=click.FloatRange(0, 100, min_open=True), required=True)
@click.option("--delta", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=1e-5)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Fit + sample per seed.")
@click.option("--samples", type=click.IntRange(100), help="Synthetic images per seed.")
@click.option("--protocol", type=click.Choice(list(_SAMPLES)), default="light", show_default=True)
@click.option("--binary-rule", help='Two-way rule of ordered labels, such as "KL>=2".')
@click.option("--configs-tried", type=click.IntRange(0), default=0, help="Tried elsewhere before.")
@click.option("--out", "folder", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
def main(**options: Any) -> None:
    """Fit a generator, draw from it, and score what was drawn."""
    device = _device(options["device"])
    unit = UnitOfPrivacy(options["unit"] or _default_unit(options["data"]))
    is_published = options["protocol"] == "dpimagebench"
    real = load(
        options["data"],
        label=options["label"],
        test=options["test"],
        unit=unit,
        train_count=_PUBLISHED_TRAIN_COUNT if is_published else None,
    )
    request = Request(
        generator=options["generator"],
        settings=_settings(options["settings"]),
        target=PrivacyTarget(epsilon=options["epsilon"], delta=options["delta"]),
        unit=unit,
        samples=options["samples"] or _SAMPLES[options["protocol"]],
        minutes=options["minutes"],
    )
    task = Task.of(
        real.schema.labels,
        name=real.schema.label,
        rule=options["binary_rule"],
        nominal=real.is_nominal,
    )
    benchmark = Benchmark("utility", seed=options["seed"])
    display = Display(Console(stderr=True))
    measuring = _Measuring(
        benchmark,
        real,
        request,
        task,
        options["protocol"],
        device,
        display,
        Output(options["folder"]),
    )
    measuring.run(options["seeds"], configs_before=options["configs_tried"])
    benchmark.write(options["json_path"])
    click.echo(f"{options['json_path']}: {len(benchmark.failures)} failures", err=True)


class _Measuring:
    """One run: all seeds, the baseline, and the summary."""

    def __init__(  # noqa: PLR0917 - the parts of one run
        self,
        benchmark: Benchmark,
        real: ImageSet,
        request: Request,
        task: Task,
        protocol: Protocol,
        device: torch.device,
        display: Display,
        output: Output,
    ) -> None:
        self.benchmark = benchmark
        self.real = real
        self.request = request
        self.task = task
        self.protocol = protocol
        self.device = device
        self.display = display
        self.output = output
        self.scored: dict[bool, list[Scored]] = {True: [], False: []}
        self.real_scored: list[Scored] = []

    def run(self, seeds: int, *, configs_before: int) -> None:
        """Measure everything; what fails is recorded with its reason."""
        tried = self.output.count_configuration(self.real.digest, self.request)
        self.benchmark.extra.update(
            configs_tried_on_this_data=tried + configs_before,
            configs_note=CHOICE,
            stays_inside=STAYS_INSIDE,
            notes=list(self.real.notes),
        )
        first = self.benchmark.seed
        for seed in range(first, first + seeds):
            self.benchmark.attempt(f"seed {seed}", partial(self._seed, seed))
        self.benchmark.attempt("real_baseline", self._baseline)
        self._summarise()

    def _seed(self, seed: int) -> None:
        drawn = fit_and_sample(self.request, self.real, seed=seed, display=self.display)
        stem = (
            f"{self.real.name}-{self.request.generator}-eps{self.request.target.epsilon:g}-{seed}"
        )
        for relabelled, synthetic in drawn.sets.items():
            name = f"{stem}{'' if relabelled or len(drawn.sets) == 1 else '-without-teacher'}"
            files = self.output.save(name, synthetic, self._caption(), self.real.schema)
            self.benchmark.extra.setdefault("contact_sheet", files["contact_sheet"])
            scored = self._score(synthetic, seed, f"seed {seed}: ")
            self.scored[relabelled].append(scored)
            self.benchmark.results.append(
                {
                    **self._about(seed, drawn, relabelled=relabelled),
                    "scores": scored.as_json(self.task),
                    **files,
                }
            )

    def _about(self, seed: int, drawn: Drawn, *, relabelled: bool) -> dict[str, Any]:
        if drawn.as_json(self.request, relabelled=relabelled)["within_minutes"] is False:
            click.echo(f"seed {seed}: fit and sample took longer than --minutes allows", err=True)
        units = len(self.real.train)
        if self.request.unit is UnitOfPrivacy.PERSON:
            units = len(np.unique(self.real.train.persons))
        return {
            "seed": seed,
            "data": self.real.name,
            "test": self.real.test_name,
            "protocol": self.protocol,
            **drawn.as_json(self.request, relabelled=relabelled),
            "persons_train": units,
            "images_train": len(self.real.train),
            "persons_test": len(set(self.real.test.persons.tolist())),
            "images_test": len(self.real.test),
            "declared_count": self.real.schema.declared_count,
            "device": self.device.type,
        }

    def _score(self, records: Labelled, seed: int, title: str) -> Scored:
        with self.display.step(f"score {title}", f"{title}teach and judge") as advance:
            return score(
                records,
                self.real.test,
                task=self.task,
                seed=seed,
                device=self.device,
                watch=lambda _name, done, total: advance(done, total),
            )

    def _baseline(self) -> None:
        self.real_scored = [self._score(self.real.train, self.benchmark.seed, "real: ")]

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
            headline_classifier=main[0].headline if main else None,
            summary=summary,
            real_baseline=baseline,
            ratio_to_real=ratios(main, baseline),
        )


def _settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return configuration fields; a value is JSON, or else a word."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign:
            raise click.UsageError(f"--set {pair} was refused: write FIELD=VALUE.")
        try:
            found[name] = json.loads(text)
        except json.JSONDecodeError:
            found[name] = text
    return found


def _default_unit(data: str) -> str:
    """Return the unit that a set can have: the person where the set names persons."""
    return UnitOfPrivacy.PERSON.value if data.endswith(".zip") else UnitOfPrivacy.RECORD.value


def _device(name: str) -> torch.device:
    """Return the device that everything computes on, and tell the generators."""
    if name == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("--device cuda was refused: torch finds no GPU. Give --device cpu.")
    os.environ["KAIMA_DEVICE"] = name
    return torch.device(name)


if __name__ == "__main__":
    main()
