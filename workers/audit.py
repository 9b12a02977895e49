"""AUDIT: measure what a synthetic set gives away about who was trained on, and write the report.

The arms are drawn again from the keys, and the commitment made before the run must open to the
plan, keys and policy that are used here: a split chosen after training would make every attack
look weak. The battery, its self-test on a leaky specimen, and the verdict are `privacy.audits`'.
Evidence and report hold values measured on real records: they stay inside.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.audits import run_battery
from privacy.errors import DigestMismatch
from privacy.evidence import Evidence, JointEvidence
from privacy.manifests import GeneratorManifest
from privacy.modality import Modality
from privacy.policy import Depth
from privacy.report import AuditReport
from privacy.table_schema import TableSchema
from service.domain.jobs import Job, JobKind
from service.store.objects import Bucket
from workers.augmentation_curve import with_curve
from workers.context import JobContext
from workers.copy_network import with_copy_network
from workers.dataset_files import fetch_dataset
from workers.generator_files import fetch_generator, fetch_samples
from workers.ledger_run import Pace
from workers.modalities import modality_of
from workers.modalities.contract import Declared, StoredDataset, StoredSamples
from workers.modalities.joint import JointSamples, StoredJoint
from workers.modalities.tables import TableSamples
from workers.pool_scores import score_pool
from workers.provenance import check_chain, check_plan, load_job, seed_of
from workers.report.render import render_report
from workers.split import draw_split

Looked = Evidence | JointEvidence
Scores = dict[str, NDArray[np.floating]]

STAGE = "auditing"


def run(context: JobContext) -> dict[str, object]:
    """Gather the evidence, run the battery, store the report, and summarise it in the result."""
    job = context.job
    training = load_job(context, job.payload["train_job_id"])
    sampling = load_job(context, job.payload["sample_job_id"])
    context.report("fetching")
    dataset = fetch_dataset(context, training.version_id)
    generator, fitted = fetch_generator(context, training)
    samples = fetch_samples(context, sampling)
    problems = provenance_problems(context, training, dataset, generator=generator, samples=samples)
    context.report("scoring")
    evidence = gather_evidence(
        context, training, dataset, generator=generator, fitted=fitted, samples=samples
    )
    depth = Depth(job.payload.get("depth", context.application.policy.grid.depth))
    if depth is Depth.FULL:
        evidence = _with_copy_network(context, evidence)
    report = run_battery(
        evidence,
        policy=context.application.policy,
        tier=training.payload["tier"],
        attempt=job.payload["attempt"],
        rng=np.random.default_rng(seed_of(job)),
        progress=_progress(context),
        provenance={
            "dataset": dataset.manifest.digest(),
            "generator": generator.digest(),
            "samples": samples.manifest.digest(),
            "plan_commitment": training.payload["commitment"],
            "policy_at_training": training.payload["policy_digest"],
        },
        problems=problems,
        depth=depth,
    )
    useful = modality_of(dataset.schema).utility(
        evidence,
        stored=dataset,
        drawn=samples,
        fitted=fitted,
        progress=lambda step, total: context.report("measuring utility", step, total),
    )
    if depth is Depth.FULL:  # minutes, which a quick look is not worth
        useful = with_curve(
            useful,
            evidence,
            declared=dataset.schema,
            progress=lambda step, total: context.report("drawing the utility curve", step, total),
        )
    context.report("storing")
    shown = page_context(job, training, dataset=dataset)
    return _store(
        context,
        report,
        evidence=evidence,
        declared=dataset.schema,
        utility=useful,
        shown=shown,
    )


def _with_copy_network(context: JobContext, evidence: Looked) -> Looked:
    """Return the evidence with a copy embedding of its images, if it has any."""
    seed = seed_of(context.job)

    def show(step: int, total: int) -> None:
        context.report("learning to see copies", step, total)

    if isinstance(evidence, JointEvidence):
        images = with_copy_network(evidence.images, seed=seed, progress=show)
        return JointEvidence(evidence.table, images)
    return with_copy_network(evidence, seed=seed, progress=show)


def provenance_problems(
    context: JobContext,
    training: Job,
    dataset: StoredDataset,
    *,
    generator: GeneratorManifest,
    samples: StoredSamples,
) -> tuple[str, ...]:
    """Return what departs from the commitment made before the run; anything makes it INVALID."""
    try:
        is_again = context.job.kind is JobKind.REAUDIT
        check_plan(context, training, dataset, policy_may_differ=is_again)
        check_chain(training, dataset, generator=generator, samples=samples.manifest)
    except DigestMismatch as error:
        return (str(error),)
    if {len(array) for array in samples.arrays} != {samples.manifest.count}:
        return ("The samples are not as many as their manifest says.",)
    return ()


def _progress(context: JobContext) -> Callable[[str, int, int], None]:
    pace = Pace()

    def show(sentence: str, step: int, total: int) -> None:
        # One bar runs over the whole battery, so one pace does as well.
        eta_seconds = pace.eta_seconds(STAGE, step, total)
        context.report(f"{STAGE}: {sentence}", step, total, eta_seconds=eta_seconds)

    return show


def gather_evidence(
    context: JobContext,
    training: Job,
    dataset: StoredDataset,
    *,
    generator: GeneratorManifest,
    fitted: Any,
    samples: StoredSamples,
) -> Looked:
    """Return everything that the battery may look at, the generator's own scores included.

    Of rows with an image each, the generator's scores of a row are the table's evidence, those of an
    image the images', and those of both are either's.
    """
    split = draw_split(
        context.application,
        training,
        cohort_id=dataset.cohort_id,
        person_digests=dataset.person_digests,
    )
    asked = score_pool(context, dataset, split, fitted=fitted)

    def of(part: StoredDataset, drawn: StoredSamples, kind: Modality, scores: Scores) -> Evidence:
        declared = part.schema
        return Evidence(
            modality=kind,
            unit=declared.unit,
            records=part.evidence_records(context.scratch),
            labels=part.labels,
            persons=part.persons,
            arms=split.arms,
            folds=split.folds,
            # Their twin may stand in another arm; leaving them out looks at no coin.
            excluded=np.asarray(part.duplicated_persons),
            samples=drawn.records,
            sample_labels=drawn.labels,
            target=generator.target,
            mechanisms=generator.mechanisms,
            record_scores=scores,
            gradient_features=asked.gradient_features,
            targets=declared.targets if isinstance(declared, TableSchema) else (),
            quasi_identifiers=(
                declared.quasi_identifiers if isinstance(declared, TableSchema) else ()
            ),
            visits=drawn.visits if isinstance(drawn, TableSamples) else None,
        )

    scores = asked.record_scores
    if isinstance(dataset, StoredJoint) and isinstance(samples, JointSamples):
        rows = {name: each for name, each in scores.items() if not name.startswith("image_")}
        images = {name: each for name, each in scores.items() if not name.startswith("row_")}
        return JointEvidence(
            of(dataset.table_part, samples.table_part, "table", rows),
            of(dataset.images_part, samples.images_part, "image", images),
        )
    return of(dataset, samples, dataset.schema.modality, scores)


def _store(
    context: JobContext,
    report: AuditReport,
    *,
    evidence: Looked,
    declared: Declared,
    utility: Mapping[str, object],
    shown: Mapping[str, object],
) -> dict[str, object]:
    """Store report, page and utility; their keys and the summary are the job's result."""
    objects = context.application.objects
    json_key, html_key = context.candidate_key("report.json"), context.candidate_key("report.html")
    utility_key = context.candidate_key("utility.json")
    # Real records are looked at one by one in the service, which records each look.
    context_of_page = {**shown, "utility": utility, "real_records_apart": True}
    page = render_report(report, evidence=evidence, context=context_of_page)
    pairs_key = context.candidate_key("pairs.json")
    found = modality_of(declared).pairs(report, evidence, schema=declared)
    pairs = [asdict(pair) for pair in found]
    objects.put_bytes(Bucket.WORK, pairs_key, body=json.dumps(pairs).encode())
    objects.put_bytes(Bucket.WORK, utility_key, body=json.dumps(utility, indent=1).encode())
    digest = objects.put_bytes(Bucket.WORK, json_key, body=report.canonical())
    html_digest = objects.put_bytes(
        Bucket.WORK, html_key, body=page.encode(), content_type="text/html; charset=utf-8"
    )
    return {
        "report": json_key,
        "report_html": html_key,
        "digest": digest,
        "html_digest": html_digest,
        "utility": utility_key,
        "pairs": pairs_key,
        "pair_count": len(pairs),
        "verdict": report.verdict.value,
        "summary": summary(report),
    }


def page_context(job: Job, training: Job, *, dataset: StoredDataset) -> dict[str, object]:
    """Return what the page shows beside the report: which run it is about."""
    payload = training.payload
    return {
        "title": f"Privacy audit of {payload['generator']}",
        "labels": dataset.label_names,
        "declared": dataset.schema,
        "job_id": job.id,
        "training_id": training.id,
        "dataset_id": job.dataset_id,
        "generator": payload["generator"],
        "config": payload["config"],
        "tier": payload["tier"],
        "created_at": job.created_at.isoformat(timespec="seconds"),
    }


def summary(report: AuditReport) -> dict[str, object]:
    """Return the lines of a report that lists show, to data owners and auditors only."""
    leaky = report.leaky_specimen
    return {
        "verdict": report.verdict.value,
        "verdict_reason": report.verdict_reason,
        "verdicts": {name: verdict.value for name, verdict in report.verdicts.items()},
        "tier": report.tier,
        "attempt": report.attempt,
        "epsilon_claimed": report.epsilon_claimed,
        "epsilon_lower_bound": report.epsilon_lower_bound,
        "epsilon_max_certifiable": report.epsilon_max_certifiable,
        "self_test_passed": report.self_test_passed,
        "leaky_specimen": None if leaky is None else leaky.verdict.value,
    }
