"""Small rows with an image each, for tests: bright images where the grade is high."""

import numpy as np

from privacy.table_schema import TableSchema
from training.joint_records import JointRecords

DECLARED = 600


def joint_schema(**images):
    """Three columns; images of 12 × 10 pixels for the grade and the sex, four cells."""
    return TableSchema.model_validate(
        {
            "declared_count": DECLARED,
            "person": "id",
            "columns": [
                {"name": "grade", "kind": "ordinal", "levels": ["low", "high"], "role": "target"},
                {"name": "sex", "kind": "category", "levels": ["f", "m"]},
                {"name": "age", "kind": "number", "edges": [0, 30, 60, 90]},
            ],
            "images": {"height": 12, "width": 10, "condition_on": ["grade", "sex"]} | images,
        }
    )


def joint_records(persons=300, *, rows=2, seed=0, schema=None):
    """Return `rows` rows a person; age follows the grade, brightness the grade, slope the sex."""
    rng = np.random.default_rng(seed)
    schema = schema or joint_schema()
    count = persons * rows
    grade, sex = rng.integers(2, size=(2, count))
    age = np.clip(grade + rng.integers(2, size=count), 0, 2)
    codes = np.stack([grade, sex, age], axis=1).astype(np.int16)
    owners = np.repeat(np.arange(persons), rows).astype(np.int32)
    return JointRecords.of(codes, pictures(codes, rng, schema), owners, schema=schema)


def pictures(codes, rng, schema):
    """Return images whose brightness is the grade's, and which are brighter at the sex's side."""
    height, width = schema.images.height, schema.images.width
    slope = np.linspace(-0.15, 0.15, width) * (2 * codes[:, 1] - 1)[:, None]
    values = 0.35 + 0.3 * codes[:, 0][:, None, None] + slope[:, None, :]
    values = values + 0.04 * rng.standard_normal((len(codes), height, width))
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)
