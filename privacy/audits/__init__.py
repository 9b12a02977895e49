"""The audit contract, and the battery that runs every audit on one candidate.

An audit is one module here: a docstring (what is attacked, threat model, source, what a pass does
not mean), `THREAT_MODEL`, `NEEDS` (fields of the evidence), `Config`, and `run`, which returns a
`Finding`. Audits measure; `privacy.policy` judges; every report runs against planted specimens.
"""

import sys
from collections.abc import Callable, Mapping
from types import ModuleType

import numpy as np

from privacy import battery, discovery
from privacy.evidence import Evidence
from privacy.policy import Depth, Policy
from privacy.report import AuditReport

REQUIRED = ("THREAT_MODEL", "NEEDS", "Config", "run")


def available() -> tuple[str, ...]:
    """Return the names of the audits."""
    return discovery.available(sys.modules[__name__])


def load(name: str) -> ModuleType:
    """Return the audit `name`; refuse an unknown one, or one that breaks the contract."""
    return discovery.load(sys.modules[__name__], name, required=REQUIRED)


def run_battery(  # noqa: PLR0913 - everything that may be asked for
    evidence: Evidence,
    *,
    policy: Policy,
    tier: str,
    attempt: int,
    rng: np.random.Generator,
    progress: Callable[[str, int, int], None] | None = None,
    provenance: Mapping[str, str] | None = None,
    problems: tuple[str, ...] = (),
    depth: Depth = Depth.QUICK,
) -> AuditReport:
    """Run every audit that the evidence allows, and the self-test, on one candidate.

    `attempt` counts audits of the same candidate data from 1; `progress` gets a sentence, work
    done and total (always 1000). `provenance` names digests that the report is about. `problems`
    are sentences about broken provenance found by the caller; any makes the verdict INVALID.
    `depth` leaves out what takes long, or not.

    Raises: EvidenceMissing where arrays disagree; InvalidParameter for an unknown tier.
    """
    order = battery.Order(policy, tier, attempt, provenance or {}, problems, depth)
    modules = {name: load(name) for name in available()}
    return battery.run(modules, evidence, order=order, rng=rng, progress=progress)
