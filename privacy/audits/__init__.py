"""The audit contract, and the battery that runs every audit on one candidate.

An audit is one module here: a docstring (what is attacked, threat model, source, what a pass does
not mean), `THREAT_MODEL`, `NEEDS` (fields of the evidence), `Config`, and `run`, which returns a
`Finding`. Audits measure; `privacy.policy` judges; every report runs against planted specimens.
"""

import sys
from collections.abc import Callable, Mapping
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike

from privacy import battery, discovery, joint_battery
from privacy.evidence import Evidence, JointEvidence, SplitOrigin
from privacy.given_sets import RecordSet, evidence_of_sets, record_set
from privacy.mechanisms import PrivacyTarget
from privacy.policy import Depth, Policy, load_policy
from privacy.report import AuditReport

Records = RecordSet | ArrayLike

REQUIRED = ("THREAT_MODEL", "NEEDS", "Config", "run")


def available() -> tuple[str, ...]:
    """Return the names of the audits."""
    return discovery.available(sys.modules[__name__])


def load(name: str) -> ModuleType:
    """Return the audit `name`; refuse an unknown one, or one that breaks the contract."""
    return discovery.load(sys.modules[__name__], name, required=REQUIRED)


def run_battery(  # noqa: PLR0913 - everything that may be asked for
    evidence: Evidence | JointEvidence,
    *,
    policy: Policy,
    tier: str,
    attempt: int,
    rng: np.random.Generator,
    progress: Callable[[str, int, int], None] | None = None,
    provenance: Mapping[str, str] | None = None,
    problems: tuple[str, ...] = (),
    depth: Depth = Depth.QUICK,
    seed: int | None = None,
) -> AuditReport:
    """Run every audit that the evidence allows, and the self-test, on one candidate.

    `attempt` counts audits of the same candidate data from 1; `progress` gets a sentence, work
    done and total (always 1000). `provenance` names digests that the report is about. `problems`
    are sentences about broken provenance found by the caller; any makes the verdict INVALID.
    `depth` leaves out what takes long, or not. `seed` is what `rng` was made from, where whoever
    asks chose it: the report then says so.

    Raises: EvidenceMissing where arrays disagree; InvalidParameter for an unknown tier.
    """
    order = battery.Order(policy, tier, attempt, provenance or {}, problems, depth, seed)
    modules = {name: load(name) for name in available()}
    if isinstance(evidence, JointEvidence):
        return joint_battery.run(modules, evidence, order=order, rng=rng, progress=progress)
    return battery.run(modules, evidence, order=order, rng=rng, progress=progress).report


def audit(  # noqa: PLR0913 - everything that may be said of a release
    *,
    members: Records,
    non_members: Records,
    samples: Records,
    reference: Records | None = None,
    split: SplitOrigin | str = SplitOrigin.UNKNOWN,
    target: PrivacyTarget | None = None,
    order: int | None = None,
    tier: str = "registered",
    depth: Depth | str = Depth.QUICK,
    attempt: int = 1,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> AuditReport:
    """Audit what any generator made, from arrays: the same battery and policy as for our releases.

    `members` were trained on, `non_members` and `reference` were not, `samples` is what was made:
    arrays of images (records, height, width) or rows (records, columns), or `record_set(...)`, which
    also holds persons, labels and the generator's own scores. `split` says how members were told
    from non-members ("coins", "random" or "unknown"): what the report can claim depends on it.
    `target` is the guarantee that the release claims, if it claims one. `order` is the column of a table by
    which a person's rows follow one another: whole persons are then looked at as well, and samples
    name theirs (`record_set(..., persons=)`). `depth` is "quick" or "full".
    `attempt` counts the audits of this release and of what it was chosen from; later ones have stricter
    upper bounds. Retries must be counted, also those with another `seed`, which draws folds, specimens
    and permutations; the report names both. Without a `target` no claim is tested, and it says so.

    Raises: InvalidParameter or EvidenceMissing, naming what was refused.
    """
    rng = np.random.default_rng(seed)
    origin, how_much = SplitOrigin(split), Depth(depth)
    evidence = evidence_of_sets(
        _as_set(members, "members"),
        _as_set(non_members, "non_members"),
        _as_set(samples, "samples"),
        reference=None if reference is None else _as_set(reference, "reference"),
        rng=rng,
        split=origin,
        target=target,
        order=order,
    )
    return run_battery(
        evidence,
        policy=load_policy(),
        tier=tier,
        attempt=attempt,
        rng=rng,
        progress=progress,
        depth=how_much,
        seed=seed,
    )


def _as_set(records: Records, name: str) -> RecordSet:
    return records if isinstance(records, RecordSet) else record_set(records, name=name)
