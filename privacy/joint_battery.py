"""Audit rows with an image each: a battery of each part, and one test of what belongs together.

Both parts are about the same persons, arms, folds and coins. Each battery is the one that a table or a
set of images gets, on that part alone; `privacy.pairing` looks at both; one report holds all three.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType

import numpy as np

from privacy import battery, pairing
from privacy.battery import Battery, Order
from privacy.copies import Config as CopyConfig
from privacy.copies import Detector
from privacy.distances import Gallery
from privacy.errors import EvidenceMissing
from privacy.evidence import JointEvidence
from privacy.joint_report import Paired, joint_report
from privacy.looked_at import drawn_units, in_all, of_units
from privacy.meter import Progress
from privacy.policy import Policy
from privacy.report import AuditReport, SpecimenResult, Verdict
from privacy.self_test import INNOCENT_LEVEL
from privacy.specimens import Materials

PARTS = 2
_ROWS, _IMAGES, _PAIRS = 0.45, 0.45, 0.1  # rough shares of the time


def run(
    audits: Mapping[str, ModuleType],
    evidence: JointEvidence,
    *,
    order: Order,
    rng: np.random.Generator,
    progress: Progress | None,
) -> AuditReport:
    """Audit rows with an image each; see `privacy.audits.run_battery`.

    Raises: EvidenceMissing where the two parts are not about the same records.
    """
    check_parts(evidence)
    given = evidence.table
    chosen = drawn_units(given, rng=rng)
    if chosen is not None:
        evidence = JointEvidence(
            of_units(evidence.table, chosen), of_units(evidence.images, chosen)
        )
    halved = replace(order, policy=halved_epsilon(order.policy), problems=())
    parts = [
        battery.run(
            audits,
            part,
            order=halved,
            rng=rng,
            progress=_within(progress, before=before, share=share),
        )
        for part, before, share in (
            (evidence.table, 0.0, _ROWS),
            (evidence.images, _ROWS, _IMAGES),
        )
    ]
    paired = _paired(evidence, parts, policy=order.policy, rng=rng)
    if progress is not None:
        progress("images and rows of one person", 1000, 1000)
    rows, images = parts
    return joint_report(
        rows.report,
        images.report,
        paired,
        order=order,
        given=given,
        looked_at=len(rows.survey.population.arms),
    )


def check_parts(evidence: JointEvidence) -> None:
    """Refuse rows and images that are not the same records of the same persons in the same arms."""
    table, images = evidence.table, evidence.images
    wrong = [
        name
        for name in ("persons", "arms", "folds", "excluded")
        if not np.array_equal(getattr(table, name), getattr(images, name))
    ]
    if len(table.samples) != len(images.samples):
        wrong.append("number of samples")
    if (table.modality, images.modality) != ("table", "image"):
        wrong.append("modality")
    if wrong:
        raise EvidenceMissing(
            f"The evidence was refused: rows and images differ in their {', '.join(wrong)}. A row and "
            "its image are one record of one person: give both in the same order."
        )


def halved_epsilon(policy: Policy) -> Policy:
    """Return the policy of one part: both together may err about epsilon as often as it allows."""
    errors = policy.errors.model_copy(update={"epsilon": policy.errors.epsilon / PARTS})
    return policy.model_copy(update={"errors": errors})


def _within(progress: Progress | None, *, before: float, share: float) -> Progress | None:
    if progress is None:
        return None

    def report(text: str, done: int, total: int) -> None:
        progress(text, int(1000 * (before + share * done / total)), 1000)

    return report


def _paired(
    evidence: JointEvidence, parts: list[Battery], *, policy: Policy, rng: np.random.Generator
) -> Paired:
    """Return what the pairing test says of the candidate and of its specimens."""
    rows, images = parts
    population = rows.survey.population
    galleries = pairing.Galleries(_first(rows), _first(images))
    found = pairing.find_pairs(
        galleries, evidence.table.samples, evidence.images.samples, present=population.present
    )
    unit = "images" if evidence.unit == "record" else "persons"
    finding = in_all(pairing.finding_of(found, rows.detector, unit=unit), evidence.table)
    materials = rows.materials
    if isinstance(materials, str):
        return Paired(finding, ())
    return Paired(finding, _specimens(parts, materials, galleries, policy=policy, rng=rng))


def _first(of: Battery) -> Gallery:
    return of.survey.galleries[of.survey.spaces[0].name]


def _specimens(
    parts: list[Battery],
    materials: Materials,
    galleries: pairing.Galleries,
    *,
    policy: Policy,
    rng: np.random.Generator,
) -> tuple[SpecimenResult, ...]:
    """Return how the test judged copies of rows with their images, and real rows of others."""
    rows, images = (part.survey.population for part in parts)
    population = rows.without(materials.base_persons)
    detector = Detector(
        population,
        {},
        sample_count=len(materials.base) + len(materials.planted),
        config=CopyConfig(permutations=policy.grid.permutations),
        rng=rng,
    )
    level = policy.errors.pairing
    results: list[SpecimenResult] = []
    for name, title, planted in (
        ("copies", "{count} trained-on units copied, rows with their images", materials.planted),
        ("held_out", "real rows of units not trained on, with their images", materials.planted[:0]),
    ):
        chosen = np.concatenate([materials.base, planted])
        found = pairing.find_pairs(
            galleries, rows.records[chosen], images.records[chosen], present=population.present
        )
        value = pairing.chance_of(found, detector)
        is_leak = len(planted) > 0
        accused = value is not None and value < (level if is_leak else INNOCENT_LEVEL)
        able = pairing.could_show(len(planted), detector, level=level)
        results.append(
            SpecimenResult(
                name=f"{pairing.NAME}.{name}",
                title=title.format(count=len(planted)),
                kind="leaky" if is_leak else "innocent",
                verdict=Verdict.FAIL if accused else Verdict.INCONCLUSIVE,
                named_audits=(pairing.NAME,) if accused else (),
                expected=f"FAIL, naming {pairing.NAME}" if is_leak else "anything but FAIL",
                passed=accused is is_leak,
                sample_count=len(chosen),
                copied_count=len(planted) if is_leak else None,
                excuse=_TOO_FEW if is_leak and not accused and not able else None,
            )
        )
    return tuple(results)


_TOO_FEW = "too few units are held out: copies of trained-on ones alone are nothing rare by chance"
