"""Singling out, linkability, inference: does being in a table cost a person anything of the three?

What is attacked: identity and attributes, in tables. European guidance asks of anonymous data that nobody
can be singled out, linked, or have values inferred (Article 29 Working Party, WP216). Each is an attack
that succeeds or fails for one person; it is run on persons who were trained on and on persons who were
not, and what counts is the *gain*: the rate among the former minus the rate among the latter. What
follows from the statistics of everybody alike succeeds on both and is no gain.

*Singling out*: of fixed sets of three to five columns, some combination of the person's values is found in
one row of the release and in no other real person's. *Linkability*: an attacker who holds two halves of a
person's columns is led by each half to the same row. *Inference*: the row nearest in all columns but a
secret one has the person's value there; and by quasi-identifiers alone, where any are declared, what
most of the ten nearest rows have. Secret columns are the declared targets, up to three.

Sources: the criteria of WP216; Giomi et al. 2023 (doi:10.56553/popets-2023-0055) for measuring them on
control persons. The attacks are our own and simpler: no code or algorithm of Anonymeter is used.

Metrics: for each criterion NAME, NAME_gain with its interval (Clopper and Pearson's bounds joined by
the rule of Zou and Donner 2008; the error is shared by all gains), NAME_members and NAME_non_members.

Inference may accuse and never clears (`privacy.gains`); the other two gate.

What a pass does not mean: other sets of columns, other knowledge and cleverer inference may gain more.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from privacy.copies import Detector
from privacy.evidence import Evidence, Finding, Goal, Knowledge, ThreatModel
from privacy.gains import gain_metrics
from privacy.membership import Pool, Settings, pool_of
from privacy.neighbourhoods import Population, Survey
from privacy.table_codes import Coder, cells_of, coder_of, column_sets, counts_at, nearest_points

THREAT_MODEL = ThreatModel(
    goal=Goal.DISCLOSURE,
    generator=Knowledge.SAMPLES,
    reference=False,
    description="Somebody who knows some columns of a person and holds the released rows.",
)
NEEDS = ("samples",)
MODALITIES = ("table",)
AUDIT = "disclosure"
CRITERIA = ("singling_out", "linkability", "inference")

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]
_MOST_SECRETS = 3
_NEAREST = 10


class Config(BaseModel):
    """What may be set; fixed by the policy before a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bins: int = Field(default=20, ge=2, le=64, description="codes of a column at most")
    sets: int = Field(default=20, ge=1, description="sets of columns of each size at most")


def run(
    evidence: Evidence,
    survey: Survey,
    *,
    settings: Settings,
    detector: Detector,  # noqa: ARG001 - part of the contract
    rng: np.random.Generator,  # noqa: ARG001 - nothing here is drawn
    config: Config | None = None,
) -> Finding:
    """Run the three attacks on the audit pool, and compare members with non-members."""
    config = config or Config()
    population, pool = survey.population, pool_of(survey.population)
    reason = pool.too_small()
    if not reason and population.records.shape[1] < 3:
        reason = "a table of fewer than three columns leaves nothing to link or to infer"
    succeeded: dict[str, Bools] = {}
    if not reason:
        coder = coder_of(population.records, most=config.bins)
        rows = _one_row_each(population, pool)
        succeeded = {
            "singling_out": _singled_out(evidence, population, rows, coder=coder, config=config),
            **dict(_led(evidence, population, rows, coder=coder)),
        }
    metrics = gain_metrics(
        succeeded, pool.coins, error=settings.bound_error, reason=reason, expected=CRITERIA
    )
    return Finding(audit=AUDIT, metrics=metrics)


def _one_row_each(population: Population, pool: Pool) -> Ints:
    """Return (pool,) the first record of every person."""
    _, first = np.unique(population.persons, return_index=True)
    return np.asarray(first[pool.persons])


def _singled_out(
    evidence: Evidence, population: Population, rows: Ints, *, coder: Coder, config: Config
) -> Bools:
    """Return who has a combination that one synthetic row has, and no other real row."""
    real, samples = coder.codes(population.records), coder.codes(evidence.samples)
    found = np.zeros(len(rows), dtype=bool)
    columns = real.shape[1]
    for size in range(3, min(5, columns) + 1):
        for chosen in column_sets(columns, size=size, most=config.sets):
            cells = cells_of(real, chosen, coder.sizes)
            mine = cells[rows]
            among = cells_of(samples, chosen, coder.sizes)
            found |= (counts_at(mine, cells) == 1) & (counts_at(mine, among) == 1)
    return found


def _led(
    evidence: Evidence, population: Population, rows: Ints, *, coder: Coder
) -> Iterator[tuple[str, Bools]]:
    """Yield who is linked, and whose secret values are inferred, by nearest rows of the release."""
    records = population.records.astype(np.float64)
    spread = records.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    targets, points = records[rows] / spread, evidence.samples.astype(np.float64) / spread
    columns = np.arange(records.shape[1])
    by_even = nearest_points(targets[:, ::2], points[:, ::2], count=1)[:, 0]
    by_odd = nearest_points(targets[:, 1::2], points[:, 1::2], count=1)[:, 0]
    yield "linkability", by_even == by_odd
    own, released = coder.codes(population.records[rows]), coder.codes(evidence.samples)
    for secret in secrets(evidence, coder):
        name = "inference" if len(secrets(evidence, coder)) == 1 else f"inference_{secret}"
        known = np.setdiff1d(columns, [secret])
        nearest = nearest_points(targets[:, known], points[:, known], count=1)[:, 0]
        yield name, released[nearest, secret] == own[:, secret]
        known = np.setdiff1d(evidence.quasi_identifiers, [secret]).astype(int)
        if len(known):
            nearest = nearest_points(targets[:, known], points[:, known], count=_NEAREST)
            guessed = _most_common(released[nearest, secret], size=coder.sizes[secret])
            yield f"{name}_by_quasi_identifiers", guessed == own[:, secret]


def secrets(evidence: Evidence, coder: Coder) -> tuple[int, ...]:
    """Return the columns to infer: declared targets, or else those of the fewest values above one."""
    if evidence.targets:
        return evidence.targets[:_MOST_SECRETS]
    sizes = np.asarray(coder.sizes)
    order = np.argsort(np.where(sizes > 1, sizes, sizes.max() + 1), kind="stable")
    return tuple(int(column) for column in order[:_MOST_SECRETS])


def _most_common(codes: Ints, *, size: int) -> Ints:
    """Return (rows,) the code that most columns of `codes` (rows, votes) have; the first of equals."""
    votes = np.zeros((len(codes), size), dtype=np.int32)
    for column in codes.T:
        votes[np.arange(len(codes)), column] += 1
    return np.asarray(votes.argmax(axis=1))
