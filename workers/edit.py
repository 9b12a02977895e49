"""EDIT: a released set edited to a specification: a series, a teaching set, a stress test.

Reads the synthetic set of the release and phantoms, no record: free under differential privacy.
"""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from privacy.errors import InvalidParameter, PrivacyError
from privacy.manifests import DatasetSchema
from service.operations.editing import SHEET, TEACHING_SET
from service.operations.editing_models import STRESS_NUMBERS, STRESS_REPORT, model_key
from service.store.objects import Bucket, ObjectMissing
from training.editing.editor import Editor, Specification
from training.editing.series import Axis, Series, make_series
from workers.context import JobContext
from workers.editing.apart import ModelApart
from workers.editing.source import ReleasedSet
from workers.editing.stress import run_stress_test
from workers.editing.stress_report import render_stress_report
from workers.editing.teaching import png, write_teaching_set
from workers.generator_files import fetch_generator_manifest, fetch_samples
from workers.modalities.images import ImageSamples
from workers.provenance import load_job, seed_of

_EPOCH = (1980, 1, 1, 0, 0, 0)


def run(context: JobContext) -> dict[str, object]:
    """Edit, and store the sheet and what else was asked for; a model goes when its test has ended."""
    model = context.job.payload["asked"].get("model")
    key = model_key(context.job.requested_by, str(model)) if model is not None else None
    try:
        result = _edited(context, key)
    except PrivacyError:  # another error may be this attempt's alone, and the next needs the model
        _forget(context, key)
        raise
    _forget(context, key)
    return result


def _forget(context: JobContext, key: str | None) -> None:
    """Delete the model of a test that has ended."""
    if key is not None:
        context.application.objects.delete(Bucket.WORK, key)


def _edited(context: JobContext, model: str | None) -> dict[str, object]:
    asked: dict[str, Any] = context.job.payload["asked"]
    seed = seed_of(context.job)
    context.report("fetching")
    source = _released(context)
    context.report("learning what labels and attributes add")
    editor = source.editor(knees=asked.get("knees"))
    label = asked.get("label")
    if label is not None and label not in source.names:
        raise InvalidParameter(
            f"The label {label!r} was refused: the set has {', '.join(source.names)}."
        )
    rest = Specification(
        label=None if label is None else source.names.index(label),
        wanted=asked.get("wanted") or {},
        held=tuple(asked.get("held") or ()),
    )
    axis = Axis(asked["vary"], asked.get("low"), asked.get("high"), asked.get("steps") or 7)
    rng = np.random.default_rng(seed)
    count = min(int(asked["images"]), len(source.images))
    chosen = np.sort(rng.choice(len(source.images), count, replace=False))
    context.report("editing")
    made = make_series(editor, source.images, source.labels, sources=chosen, axis=axis, rest=rest)
    context.report("storing")
    objects = context.application.objects
    sheet = context.candidate_key(SHEET)
    rows = np.vstack([np.hstack(list(row)) for row in made.images])
    objects.put_bytes(Bucket.WORK, sheet, body=png(rows), content_type="image/png")
    result = _told(made) | {SHEET: sheet}
    if asked["form"] == "teaching_set":
        folder = context.scratch / "teaching-set"
        result["cases"] = write_teaching_set(
            folder, made, editor=editor, source=source, specification=asked, seed=seed
        )
        packed = context.scratch / TEACHING_SET
        _pack(folder, packed)
        result[TEACHING_SET] = context.candidate_key(TEACHING_SET)
        objects.put_file(Bucket.WORK, context.candidate_key(TEACHING_SET), path=packed)
    if model is not None:
        result |= _stress_test(context, made, editor=editor, source=source, model=model)
    return result


def _stress_test(
    context: JobContext, made: Series, *, editor: Editor, source: ReleasedSet, model: str
) -> dict[str, object]:
    """Run the model over the series, apart; store numbers and page."""
    asked, objects = context.job.payload["asked"], context.application.objects
    folder = context.scratch / "model"
    folder.mkdir()
    path = folder / "model.onnx"
    try:
        objects.get_to_file(Bucket.WORK, model, path=path)
    except ObjectMissing:
        raise InvalidParameter(
            "The stress test was refused: its model is gone. Upload it again."
        ) from None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    context.report("asking the classifier")
    classifier = ModelApart(folder, kinds=len(editor.labels), white=float(asked["white"]))
    test = run_stress_test(made, classifier)
    name = f"model {digest[:12]}"
    told = {
        "asked": asked,
        "model_sha256": digest,
        **test.document(editor, seed=seed_of(context.job)),
    }
    page = render_stress_report(test, told, editor=editor, title=source.name, model=name)
    keys = {name: context.candidate_key(name) for name in (STRESS_NUMBERS, STRESS_REPORT)}
    objects.put_bytes(Bucket.WORK, keys[STRESS_NUMBERS], body=json.dumps(told).encode())
    objects.put_bytes(
        Bucket.WORK, keys[STRESS_REPORT], body=page.encode(), content_type="text/html"
    )
    return {
        **keys,
        "model_sha256": digest,
        "changed_their_answer": told["changed_their_answer"],
    }


def _released(context: JobContext) -> ReleasedSet:
    sampling = load_job(context, context.job.payload["sample_job_id"])
    training = load_job(context, sampling.payload["train_job_id"])
    samples = fetch_samples(context, sampling)
    declared = fetch_generator_manifest(context, training).declared
    if not isinstance(declared, DatasetSchema) or not isinstance(samples, ImageSamples):
        raise InvalidParameter("The edit was refused: this release is a table; images are edited.")
    return ReleasedSet(
        name=str(context.job.release_id),
        label=declared.label,
        names=tuple(declared.labels),
        images=samples.images,
        labels=np.asarray(samples.labels, dtype=np.int64),
    )


def _told(made: Series) -> dict[str, object]:
    return {
        "values": [round(float(value), 6) for value in made.values],
        "images": int(made.is_met.size),
        "met": float(made.is_met.mean()),
        "sources": [int(source) for source in made.sources],
        "attributes": list(made.attributes),
        "mean_measured": np.round(made.measured.mean(axis=0), 4).tolist(),
    }


def _pack(folder: Path, target: Path) -> None:
    """Zip a folder; equal content gives equal bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            info = zipfile.ZipInfo(f"teaching-set/{path.relative_to(folder)}", _EPOCH)
            info.external_attr, info.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, path.read_bytes())
