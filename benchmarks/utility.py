"""How useful are synthetic images? Taught on synthetic, judged on real held-out persons.

Compared with the same classifiers taught on the real training set, in the same process. Scores are
measured on real records without noise: they are not differentially private, and the documents and
files written here stay with the data owner. What it does not show: that the images look right to a
radiologist, or that a model of the collaborator's choice will do as well.
"""

import json
import os
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.envelope import Benchmark
from benchmarks.image_sets import load
from benchmarks.refusals import Refused, check_device, check_writable, refusing
from benchmarks.utility_files import Output
from benchmarks.utility_measuring import Measuring, Parts
from benchmarks.utility_seed import NO_PRESET, Request, configuration_digest, plan
from privacy.manifests import DatasetSchema
from privacy.mechanisms import PrivacyTarget, UnitOfPrivacy
from privacy.presets import PRESET_NAMES
from training import generators
from training.utility import Task, augmentation
from training.utility.scoring import PROTOCOLS, Effort, Protocol

CHOICE = (
    "Epsilon covers each run by itself; it does not cover that the configuration, or the best of "
    "several, was chosen by looking at scores on this data."
)
STAYS_INSIDE = (
    "Scores are measured on real records without noise: they are not differentially private and "
    "stay with the data owner and the auditors."
)
_PUBLISHED_SAMPLES = 60_000
_FEWEST_SAMPLES = 20_000  # of the light protocol
_PUBLISHED_TRAIN_COUNT = 55_000
_SLOW_ON_CPU = frozenset({"diffusion", "wasserstein_gan"})  # their best preset takes hours there
_SMALL = 20_000  # units; augmentation curves are a question of small sets


@click.command()
@click.option("--data", required=True, help="mnist, fashion_mnist, PATH.npz or PATH.zip.")
@click.option("--label", help="Column of the CSV that holds the label.")
@click.option("--test", default="same", show_default=True, help="same, or PATH.zip of others.")
@click.option("--ids-are-per-file", is_flag=True, help="One id in two zips means two persons.")
@click.option("--unit", type=click.Choice([u.value for u in UnitOfPrivacy]))
@click.option("--generator", required=True, type=click.Choice(generators.available("image")))
@click.option(
    "--preset",
    type=click.Choice(["auto", *PRESET_NAMES, "none"]),
    default="auto",
    show_default=True,
    help="Settings for the size of the set and epsilon. auto: best, or balanced where a network "
    "learns on a processor. none: the generator's defaults.",
)
@click.option("--set", "settings", multiple=True, help="FIELD=VALUE of the generator's Config.")
@click.option("--epsilon", type=click.FloatRange(0, 100, min_open=True), required=True)
@click.option("--delta", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=1e-5)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Fit + sample per seed.")
@click.option(
    "--samples",
    type=click.IntRange(100),
    help="Synthetic images per seed; by default 60,000, for the light protocol the declared number "
    "of real ones, at least 20,000.",
)
@click.option("--protocol", type=click.Choice(list(PROTOCOLS)), default="light", show_default=True)
@click.option("--binary-rule", help='Two-way rule of the labels, such as "KL>=2".')
@click.option("--ordinal/--nominal", default=None, help="By default the grades 0 to 4 are ordered.")
@click.option("--augmentation/--no-augmentation", default=None, help="By default for small sets.")
@click.option("--shortcut/--no-shortcut", default=None, help="By default for small sets.")
@click.option(
    "--scores-only", is_flag=True, help="Skip all that synthetic scores are compared with."
)
@click.option(
    "--classifiers", help="Only these of the protocol, with commas; its headline must be one."
)
@click.option(
    "--teacher-only", is_flag=True, help="Where there is a teacher, skip the set drawn without it."
)
@click.option(
    "--augmentation-seeds",
    type=click.IntRange(1),
    default=augmentation.SEEDS,
    show_default=True,
    help="Draws of real persons per point of the curve.",
)
@click.option("--epochs", type=click.IntRange(1), help="Shorten dpimagebench (a deviation).")
@click.option("--most-steps", type=click.IntRange(1), help="Shorten light (a deviation).")
@click.option("--configs-tried", type=click.IntRange(0), default=0, help="Tried elsewhere before.")
@click.option("--out", "folder", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
def main(**options: Any) -> None:
    """Fit a generator, draw from it, and score what was drawn."""
    device = _device(options["device"])
    classifiers = _classifiers(options["classifiers"], options["protocol"])
    check_writable(folder=options["folder"], file=options["json_path"])
    unit = UnitOfPrivacy(options["unit"] or _default_unit(options["data"]))
    is_published = options["protocol"] == "dpimagebench"
    real = load(
        options["data"],
        label=options["label"],
        test=options["test"],
        unit=unit,
        train_count=_PUBLISHED_TRAIN_COUNT if is_published else None,
        ids_are_per_file=options["ids_are_per_file"],
    )
    with refusing():
        task = Task.of(
            real.schema.labels,
            name=real.schema.label,
            rule=options["binary_rule"],
            ordinal=options["ordinal"],
        )
        request = Request(
            generator=options["generator"],
            preset=resolved_preset(options["preset"], options["generator"], device),
            settings=_settings(options["settings"]),
            is_ordinal=task.is_ordinal,
            target=PrivacyTarget(epsilon=options["epsilon"], delta=options["delta"]),
            unit=unit,
            samples=options["samples"] or _samples(real.schema, options["protocol"]),
            minutes=options["minutes"],
            teacher_only=options["teacher_only"],
        )
        schema = real.schema.model_copy(update={"unit": unit})
        plan(request, schema)
        output = Output(options["folder"], document=options["json_path"])
        tried = output.count_configuration(real.digest, configuration_digest(request, schema))
    benchmark = Benchmark("utility", seed=options["seed"])
    is_small = len(np.unique(real.train.persons)) <= _SMALL
    parts = Parts(
        comparisons=not options["scores_only"],
        augmentation=_chosen(options["augmentation"], is_small, options["scores_only"]),
        shortcut=_chosen(options["shortcut"], is_small, options["scores_only"]),
        augmentation_seeds=options["augmentation_seeds"],
    )
    effort = Effort(classifiers, most_steps=options["most_steps"], epochs=options["epochs"])
    measuring = Measuring(
        benchmark,
        real,
        request,
        task=task,
        protocol=options["protocol"],
        effort=effort,
        device=device,
        output=output,
    )
    benchmark.extra.update(
        configs_tried_on_this_data=options["configs_tried"] + tried,
        configs_note=CHOICE,
        preset_asked=options["preset"],
        preset=request.preset,
        **(NO_PRESET if request.preset is None else {}),
        labels_are_ordered=task.is_ordinal,
        stays_inside=STAYS_INSIDE,
        notes=list(real.notes),
    )
    measuring.run(options["seeds"], parts)
    click.echo(f"{options['json_path']}: {len(benchmark.failures)} failures", err=True)
    if not benchmark.results:
        raise click.ClickException(
            f"No seed gave scores: {benchmark.failures[0]['reason']} All failures are in the document."
        )


def _chosen(wanted: bool | None, is_small: bool, scores_only: bool) -> str | None:  # noqa: FBT001
    """Return why a part is left out, or None where it is measured."""
    if scores_only:
        return "--scores-only"
    if wanted is None:
        return None if is_small else f"off by default above {_SMALL} units; ask for it"
    return None if wanted else "switched off"


def resolved_preset(asked: str, generator: str, device: torch.device) -> str | None:
    """Return the preset that `asked` stands for, or None for the generator's defaults."""
    if asked == "none":
        return None
    if asked != "auto":
        return asked
    return "balanced" if generator in _SLOW_ON_CPU and device.type == "cpu" else "best"


def _settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return configuration fields; a value is JSON, or else a word."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign:
            raise Refused(f"--set {pair} was refused: write FIELD=VALUE.")
        try:
            found[name] = json.loads(text)
        except json.JSONDecodeError:
            found[name] = text
    return found


def _classifiers(asked: str | None, protocol: Protocol) -> tuple[str, ...] | None:
    """Return the classifiers to teach, or None for all of the protocol.

    Raises: Refused for an unknown one, or where the headline would be missing.
    """
    if asked is None:
        return None
    module, named = PROTOCOLS[protocol], {name.strip() for name in asked.split(",")}
    known: tuple[str, ...] = module.CLASSIFIERS
    needed = {module.HEADLINE} & set(known)
    if not needed <= named <= set(known) or not named:
        raise Refused(
            f"--classifiers {asked} was refused: {protocol} has {', '.join(known)}, and its headline "
            f"is {module.HEADLINE}. Name some of them, the headline included."
        )
    return tuple(name for name in known if name in named)


def _samples(schema: DatasetSchema, protocol: Protocol) -> int:
    """Return how many images are drawn by default; what is declared is public, the true count is not."""
    if protocol == "dpimagebench":
        return _PUBLISHED_SAMPLES
    return min(max(schema.declared_count, _FEWEST_SAMPLES), _PUBLISHED_SAMPLES)


def _default_unit(data: str) -> str:
    """Return the unit that a set can have: the person where the set names persons."""
    return UnitOfPrivacy.PERSON.value if data.endswith(".zip") else UnitOfPrivacy.RECORD.value


def _device(name: str) -> torch.device:
    """Return the device that everything computes on, and tell the generators."""
    check_device(name)
    os.environ["KAIMA_DEVICE"] = name
    return torch.device(name)


if __name__ == "__main__":
    main()
