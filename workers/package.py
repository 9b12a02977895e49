"""PACKAGE: an approved synthetic set becomes a signed bundle, published if that is still wanted.

The worker only ever writes to quarantine, under its attempt's own key; what is released is decided
by the release's state, and moved by `operations.withholding.settle_bundle`.

What enters the bundle is a whitelist (`workers.bundling.contents`). Documents that stay inside
appear only as commitments salted with a secret of their own, derived from the master key: an
unsalted digest of anything private would be a membership oracle. Equal inputs give an equal bundle,
but for the fresh identifiers of DICOM files and what is computed over them.
"""

from dataclasses import replace
from datetime import UTC

from privacy import bundle, inclusion, signing
from privacy.errors import DigestMismatch
from privacy.manifests import DatasetManifest, GeneratorManifest, ReleaseCertificate
from privacy.policy import Policy
from privacy.report import AuditReport
from service.domain.datasets import StoredReservation
from service.domain.declarations import ReleaseDeclaration
from service.operations import jobs, releases
from service.operations.releases import PublicationFacts
from service.store.objects import Bucket
from workers.bundling.marginals import kept_by
from workers.bundling.table_rows import SyntheticTable
from workers.bundling.writer import write_bundle
from workers.context import JobContext
from workers.generator_files import fetch_generator, fetch_generator_manifest, fetch_samples
from workers.ledger_run import Pace
from workers.modalities.contract import StoredSamples
from workers.statements import statements
from workers.workspace import fetch_document

STAGE = "writing records"


def run(context: JobContext) -> dict[str, object]:
    """Write, sign and store the bundle, and make the release published."""
    with context.application.uow() as uow:
        facts = releases.publication_facts(uow, context.job.id, token=context.token)
        spent = jobs.load_reservation(uow, facts.train.id)
    context.report("fetching")
    samples = fetch_samples(context, facts.sample)
    declared = ReleaseDeclaration.model_validate(facts.release.declared or {})
    certificate = certify(context, facts, samples, spent=spent, declared=declared)
    folder = context.scratch / "bundle"
    folder.mkdir(mode=0o755)
    pace = Pace()

    def show(step: int, total: int) -> None:
        context.report(STAGE, step, total, eta_seconds=pace.eta_seconds(STAGE, step, total))

    synthetic = samples.synthetic_set(test_share=declared.test_share)
    if declared.marginals and isinstance(synthetic, SyntheticTable):
        _, fitted = fetch_generator(context, facts.train)
        synthetic = replace(synthetic, marginals=kept_by(fitted))
    write_bundle(
        folder,
        synthetic,
        certificate=certificate,
        declared=declared,
        terms=facts.release.effective_terms,
        key=context.application.signing_key(),
        progress=show,
    )
    context.report("storing")
    archive = context.scratch / "bundle.zip"
    bundle.write_zip(folder, archive)
    sha256 = context.application.objects.put_file(
        Bucket.QUARANTINE, facts.bundle_key, path=archive, content_type="application/zip"
    )
    size = archive.stat().st_size
    preview_key = facts.bundle_key.rpartition("/")[0] + "/preview.png"
    context.application.objects.put_bytes(
        Bucket.WORK, preview_key, body=samples.preview(synthetic), content_type="image/png"
    )
    with context.application.uow() as uow:
        release = releases.finish_publication(
            uow,
            context.job.id,
            token=context.token,
            bundle_key=facts.bundle_key,
            sha256=sha256,
            size=size,
            certificate=certificate.model_dump(mode="json"),
            preview_key=preview_key,
        )
    if release.bundle_key != facts.bundle_key:  # an earlier attempt had published its own
        context.application.objects.delete(Bucket.QUARANTINE, facts.bundle_key)
    return {
        "bundle_key": release.bundle_key,
        "sha256": release.bundle_sha256,
        "size": release.bundle_bytes,
        "certificate": release.certificate,
    }


def certify(
    context: JobContext,
    facts: PublicationFacts,
    samples: StoredSamples,
    *,
    spent: StoredReservation,
    declared: ReleaseDeclaration,
) -> ReleaseCertificate:
    """Return the certificate: what is declared, charged, decided and committed to."""
    generator = fetch_generator_manifest(context, facts.train)
    report = fetch_document(
        context, facts.audit.result["report"], kind=AuditReport, digest=facts.audit.result["digest"]
    )
    schema = generator.declared
    return ReleaseCertificate(
        release_id=facts.release.id,
        name=facts.release.name,
        version=facts.release.version,
        publisher=facts.publisher,
        # When publication was asked for: a second attempt must state the same moment.
        published_at=context.job.created_at.astimezone(UTC).isoformat(timespec="seconds"),
        unit=schema.unit,
        declared=schema,
        generator=generator.generator,
        epsilon=float(spent.epsilon),
        delta=float(spent.delta),
        mechanisms=generator.mechanisms,
        cohort_epsilon=float(facts.cohort_epsilon),
        cohort_delta=float(facts.cohort_delta),
        composition=facts.composition,
        candidates_trained=facts.candidates_trained,
        audits_attempted=facts.audits_attempted,
        tier=facts.release.tier,  # as the conditions of the approval left it
        policy_version=report.policy_version,
        policy_digest=report.policy_digest,
        verdict=report.verdict.value,
        verdicts={name: verdict.value for name, verdict in report.verdicts.items()},
        thresholds=thresholds(context.application.policy, report),
        approvers_count=facts.approvers_count,
        image_count=len(samples),
        labels=samples.label_counts(),
        commitments=commitments(
            context, facts, generator=generator, samples=samples, report=report
        ),
        statements=statements(schema.unit, modality=schema.modality),
        signed_by=signing.fingerprint(context.application.signing_key()),
        layout=2,
        formats=tuple(dict.fromkeys(declared.formats)),
        splits=samples.synthetic_set(test_share=declared.test_share).splits,
    )


def thresholds(policy: Policy, report: AuditReport) -> dict[str, float | str]:
    """Return the tolerances that the tier had fixed before the run; nothing measured.

    Raises: DigestMismatch if another policy is in force than the one that judged the candidate.
    """
    if policy.digest != report.policy_digest:
        raise DigestMismatch(
            "Packaging was refused: the policy in force is not the one that judged this candidate. "
            "Train and audit a candidate under the policy in force."
        )
    tier = policy.tier(report.tier)
    return {
        "epsilon": tier.epsilon,
        "auc": tier.auc,
        "copy_rate": tier.copy_rate,
        "limit_of_detection": tier.limit_of_detection,
        **{f"tpr_at_fpr_{fpr}": tolerance for fpr, tolerance in tier.tpr.items()},
    }


def commitments(
    context: JobContext,
    facts: PublicationFacts,
    *,
    generator: GeneratorManifest,
    samples: StoredSamples,
    report: AuditReport,
) -> dict[str, str]:
    """Return a commitment to each document that stays inside, each under a salt of its own."""
    dataset = DatasetManifest.model_validate(facts.version.manifest)
    inside = {
        "dataset": dataset,
        "generator": generator,
        "samples": samples.manifest,
        "audit_report": report,
    }
    made = {
        name: inclusion.commit_bytes(
            document.canonical(),
            salt=context.application.keys.commitment_salt(f"{facts.release.id}/{name}"),
        )
        for name, document in inside.items()
    }
    return {**made, "plan": facts.train.payload["commitment"]}
