"""An audit twin: a training job whose product is a bound on epsilon, and nothing else.

It is requested, planned, committed to, reserved and charged like any training; canaries take part by coins
that follow from the run's key. The weights are never stored, no sample job follows, and no release can be
made of it. Its numbers are measured and stay inside.
"""

import numpy as np

from privacy import accounting
from privacy.canaries import TwinFinding, measure_twin, toss_canary_coins
from service.domain.errors import Conflict
from training.audit_twin import score_twin
from training.checkpoints import ReleaseLost
from training.generators import GeneratorModule
from training.joint_records import Records
from workers.context import JobContext
from workers.ledger_run import LedgerRun
from workers.modalities import modality_of
from workers.modalities.contract import StoredDataset
from workers.provenance import seed_of


def run_twin(
    context: JobContext,
    records: Records,
    *,
    module: GeneratorModule,
    ledger_run: LedgerRun,
    dataset: StoredDataset,
) -> dict[str, object]:
    """Train with canaries, measure them, and return what they showed as the job's result."""
    job, policy = context.job, context.application.policy
    count, seed = int(job.payload["canaries"]), seed_of(job)
    coins = toss_canary_coins(count, key=context.application.keys.run_key(job.id))
    schema = dataset.schema
    canaries = modality_of(schema).canaries(count, schema=schema, rng=np.random.default_rng(seed))
    try:
        scores = score_twin(
            module,
            records,
            module.Config.model_validate(job.payload["config"]),
            schema=schema,
            run=ledger_run,
            seed=seed,
            canaries=canaries,
            coins=coins,
        )
    except ReleaseLost as error:
        raise Conflict(str(error)) from error
    mechanisms, delta = ledger_run.charged_mechanisms(), job.payload["delta"]
    finding = measure_twin(
        scores,
        coins,
        epsilon_claimed=accounting.epsilon(mechanisms, delta),
        delta=delta,
        guesses=policy.grid.guesses,
        error=policy.errors.epsilon,
        rng=np.random.default_rng([seed, count]),
    )
    return {
        "steps": [mechanism.steps for mechanism in mechanisms],
        "verdict": "FAIL" if finding.refutes_claim else "INCONCLUSIVE",
        "summary": summary(finding),
    }


def summary(finding: TwinFinding) -> dict[str, object]:
    """Return what a twin showed, for data owners and auditors only."""
    return {
        "epsilon_claimed": finding.epsilon_claimed,
        "epsilon_lower_bound": finding.epsilon_lower_bound,
        "epsilon_max_certifiable": finding.epsilon_max_certifiable,
        "attack": finding.attack,
        "canaries": finding.canaries,
        "refutes_claim": finding.refutes_claim,
        "auc": {name: area.value for name, area in finding.auc.items()},
    }
