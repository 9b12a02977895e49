"""A document has one byte form, whatever order it was written in, and reads back as itself."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from privacy.documents import Document
from privacy.errors import InvalidParameter
from privacy.manifests import (
    DatasetManifest,
    DatasetSchema,
    GeneratorManifest,
    ReleaseCertificate,
    SamplesManifest,
    read_declared,
)
from privacy.mechanisms import (
    GaussianMechanism,
    NeighbouringRelation,
    PoissonSubsampledGaussianMechanism,
    PrivacyTarget,
    UnitOfPrivacy,
)
from privacy.table_schema import TableSchema

DECLARED = DatasetSchema(
    declared_count=2500, height=64, width=64, label="kl_grade", labels=("0", "1", "2", "3", "4")
)
MECHANISMS = (
    GaussianMechanism(stage="statistics", noise_multiplier=3.5),
    PoissonSubsampledGaussianMechanism(
        stage="dp_sgd", noise_multiplier=2.25, sampling_rate=0.1, steps=100
    ),
)
DATASET = DatasetManifest(
    dataset_id="ds_1",
    version_number=1,
    declared=DECLARED,
    source_format="dicom-zip",
    record_count=5000,
    person_count=2500,
    duplicated_person_count=0,
    dropped=("PatientID", "file name"),
    blobs={"images.npy": "0" * 64},
)
GENERATOR = GeneratorManifest(
    job_id="job_1",
    dataset=DATASET.digest(),
    declared=DECLARED,
    generator="statistics",
    config={"steps": 100, "rate": 0.001, "nested": {"b": [1, 2.5], "a": None}},
    target=PrivacyTarget(epsilon=5, delta=1e-5),
    mechanisms=MECHANISMS,
    weights="1" * 64,
    versions={"torch": "2"},
    device="cpu",
)
SAMPLES = SamplesManifest(generator=GENERATOR.digest(), count=10, seed=7, blobs={})
CERTIFICATE = ReleaseCertificate(
    release_id="rel_1",
    name="knees é",
    version="1.0.0",
    publisher="A hospital",
    published_at="2026-01-01T00:00:00Z",
    unit=UnitOfPrivacy.PERSON,
    declared=DECLARED,
    generator="statistics",
    epsilon=4.99,
    delta=1e-5,
    mechanisms=MECHANISMS,
    cohort_epsilon=4.99,
    cohort_delta=1e-5,
    composition="basic",
    candidates_trained=1,
    audits_attempted=1,
    tier="registered",
    policy_version="1",
    policy_digest="0" * 64,
    verdict="PASS-EMPIRICAL",
    verdicts={},
    thresholds={"auc": 0.6, "near_copies": "none"},
    approvers_count=2,
    image_count=10,
    labels={"0": 10},
    commitments={},
    statements=(),
    signed_by="2" * 64,
)
TABLE = TableSchema.model_validate(
    {
        "declared_count": 2500,
        "person": "id",
        "columns": [
            {"name": "age", "kind": "integer", "edges": [40, 50, 100]},
            {"name": "died", "kind": "category", "levels": ["no", "yes"], "role": "target"},
        ],
    }
)
TABLE_DATASET = DATASET.model_copy(update={"declared": TABLE, "blobs": {"table.npy": "0" * 64}})
DOCUMENTS = [DECLARED, DATASET, GENERATOR, SAMPLES, CERTIFICATE, TABLE, TABLE_DATASET]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: type(d).__name__)
def test_a_document_reads_back_as_itself_with_the_same_digest(document):
    again = type(document).model_validate_json(document.canonical())
    assert again == document
    assert again.canonical() == document.canonical()
    assert again.digest() == hashlib.sha256(document.canonical()).hexdigest()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: type(d).__name__)
def test_the_canonical_bytes_are_sorted_without_spaces_and_do_not_depend_on_input_order(document):
    plain = json.loads(document.canonical())
    assert list(plain) == sorted(plain)
    backwards = json.dumps(dict(reversed(plain.items())), indent=4)
    assert type(document).model_validate_json(backwards).canonical() == document.canonical()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: type(d).__name__)
def test_an_unknown_field_a_missing_field_and_nan_are_refused(document):
    plain = json.loads(document.canonical())
    with pytest.raises(ValidationError):
        type(document).model_validate(plain | {"surprise": 1})
    for name, field in type(document).model_fields.items():
        if field.is_required():
            with pytest.raises(ValidationError):
                type(document).model_validate({k: v for k, v in plain.items() if k != name})
    numbers = [name for name, value in plain.items() if isinstance(value, float)]
    for name in numbers:
        with pytest.raises(ValidationError):
            type(document).model_validate(plain | {name: float("nan")})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: type(d).__name__)
def test_a_document_cannot_be_changed_after_it_was_made(document):
    with pytest.raises(ValidationError):
        document.kind = "another"


def test_documents_about_images_keep_the_bytes_that_they_had_before_there_were_tables():
    """Digests and signatures of published releases are taken over them."""
    assert [document.digest() for document in (DECLARED, DATASET, GENERATOR)] == [
        "a5e37cb51d6867c6c98acf8cf887f85542b9353aae5badd042cd51857383efd2",
        "3314e1b6759fe4984aa20dcd70940adb0a5b1d59abcc17472d5c56504f014933",
        "6af0f8910cfe67e67958f201e9abf99b6faf6075d928383ae54c41697bb337ec",
    ]
    assert CERTIFICATE.digest() == (
        "c6c6fd3061dbe12b4628328520397aaf8d07cdc30302eeedaba2931ba2653592"
    )


def test_what_is_declared_reads_back_as_images_or_as_a_table_without_a_tag():
    for declared in (DECLARED, TABLE):
        plain = json.loads(declared.canonical())
        assert "modality" not in plain
        assert read_declared(plain) == declared
        again = CERTIFICATE.model_copy(update={"declared": declared})
        assert ReleaseCertificate.model_validate_json(again.canonical()) == again
    assert (DECLARED.modality, TABLE.modality) == ("image", "table")


def test_a_broken_table_is_told_what_is_wrong_with_a_table():
    with pytest.raises(ValidationError) as caught:
        read_declared(json.loads(TABLE.canonical()) | {"columns": []})
    assert [error["loc"] for error in caught.value.errors()] == [("table", "columns")]


def test_every_field_reaches_the_digest():
    changes = {
        "epsilon": 4.98,
        "unit": UnitOfPrivacy.RECORD,
        "mechanisms": MECHANISMS[:1],
        "candidates_trained": 2,
        "verdict": "FAIL",
        "signed_by": "3" * 64,
        "statements": ("one",),
    }
    digests = {
        CERTIFICATE.model_copy(update={name: value}).digest() for name, value in changes.items()
    }
    assert len(digests | {CERTIFICATE.digest()}) == len(changes) + 1


def test_every_document_that_states_epsilon_states_the_relation_and_the_unit():
    plain = json.loads(CERTIFICATE.canonical())
    assert plain["neighbouring_relation"] == NeighbouringRelation.ADD_OR_REMOVE_ONE
    assert plain["unit"] == "person"
    assert json.loads(DATASET.canonical())["neighbouring_relation"] == "add_or_remove_one"


@pytest.mark.parametrize("value", [2**53, -(2**53), float("nan"), float("inf")])
def test_a_number_that_json_cannot_carry_is_refused_with_a_sentence(value):
    document = GENERATOR.model_copy(update={"config": {"seed": value}})
    with pytest.raises(InvalidParameter, match="GeneratorManifest was refused"):
        document.canonical()


@pytest.mark.parametrize(
    "change",
    [
        {"declared_count": 49},
        {"declared_count": 100_000_001},
        {"height": 7},
        {"width": 4097},
        {"bit_depth": 12},
        {"label": ""},
        {"labels": ()},
        {"labels": ("a", "a")},
        {"unit": "family"},
    ],
)
def test_a_declaration_out_of_range_is_refused(change):
    with pytest.raises(ValidationError):
        DatasetSchema(**(DECLARED.model_dump() | change))


class Anything(Document):
    value: dict[str, float | int | str | None]


@given(
    st.dictionaries(
        st.text(max_size=10),
        st.one_of(
            st.none(),
            st.text(max_size=10),
            st.integers(-(2**53) + 1, 2**53 - 1),
            # A larger float is written as a whole number, and read back as one.
            st.floats(-(2**53) + 1, 2**53 - 1),
        ),
        max_size=6,
    ).filter(lambda d: all(c < "\ud800" or c > "\udfff" for k in d for c in k))
)
def test_any_json_value_has_a_stable_byte_form(value):
    once = Anything(value=value).canonical()
    assert Anything.model_validate_json(once).canonical() == once
    assert json.loads(once) == {"value": value}


@pytest.mark.parametrize(
    "text",
    ["", " ", "=1+1", "+1", "-1", "@SUM", "a|b", "a\tb", "a\x1b[31m", "\u202eab", " a", "x" * 65],
)
def test_a_label_that_reads_as_something_else_is_refused(text):
    for change in ({"labels": ("0", text)}, {"label": text}):
        with pytest.raises(ValidationError):
            DatasetSchema.model_validate(DECLARED.model_dump() | change)


@pytest.mark.parametrize("name", ["file", "patient_id", "Split", "file_name"])
def test_a_label_column_is_not_a_column_that_means_something_else(name):
    with pytest.raises(ValidationError, match="means something else"):
        DatasetSchema.model_validate(DECLARED.model_dump() | {"label": name})


def test_labels_may_be_in_any_script():
    words = ("軽度", "Grad 2", "κ=3", "nan")
    assert DatasetSchema.model_validate(DECLARED.model_dump() | {"labels": words}).labels == words
