"""Small release bundles of rows with images for tests: made-up rows, noise for images, a certificate."""

from pathlib import Path

import numpy as np

from privacy.table_schema import Column, ImagePart, TableSchema
from privacy.table_values import values_of
from service.domain.declarations import JOINT_FORMATS, ReleaseDeclaration
from tests.workers.bundle_material import KEY, certificate_of
from tests.workers.table_material import HOSTILE_LEVELS
from workers.bundling.joint_rows import SyntheticJoint
from workers.bundling.writer import write_bundle

IMAGES = ImagePart(height=9, width=11, condition_on=("sex", "grade"))
SCHEMA = TableSchema(
    declared_count=100,
    person="patient",
    columns=(
        Column(name="age", kind="integer", edges=(0, 40, 65, 110), unit="years"),
        Column(name="change", kind="number", edges=(-40, -1, 0, 40), decimals=3, missing=True),
        Column(name="sex", kind="category", levels=("f", "m"), role="quasi_identifier"),
        Column(name="grade", kind="ordinal", levels=("0", "1", "2"), role="target", missing=True),
    ),
    images=IMAGES,
)
HOSTILE = TableSchema(
    declared_count=100,
    person="patient",
    columns=(
        Column(
            name="\uff1dcmd", kind="category", levels=HOSTILE_LEVELS, other=True,
            missing=True, description='<script>"it\'s"</script> | * _',
        ),
        Column(name="a, b/c", kind="number", edges=(-1e9, 0, 1e-7, 1e9), unit="µmol/l"),
        Column(name="split", kind="ordinal", levels=("tëst", "0", "00")),
    ),
    images=ImagePart(height=8, width=8, bit_depth=16, condition_on=("\uff1dcmd", "split")),
)  # fmt: skip


def synthetic_joint(
    count: int = 30, *, schema: TableSchema = SCHEMA, test_share: float = 0.0
) -> SyntheticJoint:
    """Return rows of random codes in which every level occurs, each with noise for an image."""
    rng = np.random.default_rng(0)
    codes = np.stack([np.arange(count) % size for size in schema.sizes], axis=1).astype(np.int16)
    values = values_of(rng.permuted(codes, axis=0), schema, rng)
    depth, shape = schema.images.bit_depth, (count, schema.images.height, schema.images.width)
    images = rng.integers(0, 2**depth, shape).astype(np.uint8 if depth == 8 else np.uint16)
    return SyntheticJoint(values, images, schema, test_share=test_share)


def make_joint_bundle(
    folder: Path, synthetic: SyntheticJoint, *, declared: ReleaseDeclaration | None = None
) -> Path:
    """Write and sign a whole bundle."""
    declared = declared or ReleaseDeclaration(
        formats=JOINT_FORMATS, test_share=synthetic.test_share
    )
    folder.mkdir(parents=True)
    write_bundle(
        folder, synthetic, certificate=certificate_of(synthetic, declared), declared=declared,
        terms="Ask before you share.", key=KEY, progress=lambda *_: None,
    )  # fmt: skip
    return folder
