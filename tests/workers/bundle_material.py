"""Small release bundles for tests: made-up images, a certificate, a key."""

from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy import accounting, signing
from privacy.manifests import DatasetSchema, ReleaseCertificate
from privacy.mechanisms import GaussianMechanism
from service.domain.declarations import ReleaseDeclaration
from workers.bundling.joint_rows import SyntheticJoint
from workers.bundling.records import SyntheticSet
from workers.bundling.table_rows import SyntheticTable
from workers.bundling.writer import write_bundle

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
HOSTILE_LABELS = (
    "../x",
    "CON",
    "a/b",
    "Überbein ≥ 2",
    "no",
    "No",
    'say "so", or',
    "<b>bold</b>",
    "01",
)


def synthetic_set(
    count: int = 12,
    *,
    labels: tuple[str, ...] = ("0", "1", "2"),
    bit_depth: int = 8,
    height: int = 9,
    width: int = 11,
    used: int | None = None,
    test_share: float = 0.0,
) -> SyntheticSet:
    """Return noise with labels in turn, of which only the first `used` occur."""
    schema = DatasetSchema(
        declared_count=100, height=height, width=width, bit_depth=bit_depth, label="grade",
        labels=labels,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    images = rng.integers(0, 2**bit_depth, (count, height, width)).astype(dtype)
    kinds = (np.arange(count) % (used or len(labels))).astype(np.int16)
    return SyntheticSet(images=images, labels=kinds, schema=schema, test_share=test_share)


def certificate_of(
    synthetic: SyntheticSet | SyntheticTable | SyntheticJoint, declared: ReleaseDeclaration
) -> ReleaseCertificate:
    """Return a certificate that fits the set."""
    mechanisms = (GaussianMechanism(stage="statistics", noise_multiplier=6.0),)
    epsilon = accounting.epsilon(mechanisms, 1e-5)
    is_table = isinstance(synthetic, SyntheticTable | SyntheticJoint)
    labels: dict[str, int] = {}
    if not is_table:
        counts = np.bincount(synthetic.labels, minlength=len(synthetic.schema.labels))
        labels = dict(zip(synthetic.schema.labels, counts.tolist(), strict=True))
    return ReleaseCertificate(
        release_id="rel_1a2b3c",
        name="knees",
        version="1.0.0",
        publisher="A hospital & sons",
        published_at="2026-01-01T00:00:00+00:00",
        unit=synthetic.schema.unit,
        declared=synthetic.schema,
        generator="statistics",
        epsilon=epsilon,
        delta=1e-5,
        mechanisms=mechanisms,
        cohort_epsilon=epsilon,
        cohort_delta=1e-5,
        composition="basic",
        candidates_trained=1,
        audits_attempted=1,
        tier="registered",
        policy_version="1",
        policy_digest="0" * 64,
        verdict="PASS-EMPIRICAL",
        verdicts={"near_copies": "PASS-EMPIRICAL"},
        thresholds={"auc": 0.6},
        approvers_count=2,
        image_count=len(synthetic if is_table else synthetic.labels),
        labels=labels,
        commitments={"dataset": "1" * 64, "generator": "2" * 64},
        statements=("Stated per person.",),
        signed_by=signing.fingerprint(KEY),
        layout=2,
        formats=declared.formats,
        splits=synthetic.splits,
    )


def make_bundle(
    folder: Path, synthetic: SyntheticSet, *, declared: ReleaseDeclaration | None = None
) -> Path:
    """Write and sign a whole bundle."""
    declared = declared or ReleaseDeclaration(test_share=synthetic.test_share)
    folder.mkdir(parents=True)
    write_bundle(
        folder,
        synthetic,
        certificate=certificate_of(synthetic, declared),
        declared=declared,
        terms="Ask before you share.",
        key=KEY,
        progress=lambda *_: None,
    )
    return folder
