"""The utility report of a candidate: what synthetic images teach, beside what real ones do.

The numbers were measured on real records without noise (`workers.owner_utility`): for the data owner
and the auditors, and on no page for anybody else.
"""

from dataclasses import dataclass
from typing import Any

from flask import render_template

from service import documents
from service.domain.datasets import Dataset
from service.domain.errors import NotFound
from service.domain.jobs import Job
from service.operations import jobs
from service.pages.plots import Chart, Whisker, line_chart, whisker
from service.pages.session import actor, blueprint
from service.pages.words import number
from service.store.unit_of_work import UnitOfWork
from service.web import application

METRICS = {
    "accuracy": ("Accuracy", "share of held-out images whose label is guessed"),
    "balanced_accuracy": ("Balanced accuracy", "the same, every label counting alike"),
    "qwk": ("Weighted kappa", "agreement of ordered grades, chance removed"),
    "auc": ("AUC", "how well a score tells labels apart; 0.5 is a coin"),
}
FIDELITY = {
    "fid": "Fréchet distance",
    "precision": "Precision: synthetic images that lie among real ones",
    "recall": "Recall: real images that lie among synthetic ones",
    "density": "Density: how thickly",
    "coverage": "Coverage: real neighbourhoods that hold a synthetic image",
    "diversity": "Diversity within labels, synthetic ÷ real",
}


@dataclass(frozen=True)
class Measure:
    """One score of what was taught on synthetic and on real images, each with its interval."""

    words: str
    means: str
    synthetic: str
    real: str
    place_synthetic: Whisker
    place_real: Whisker
    reason: str | None


@blueprint.get("/jobs/<string:job_id>/utility")
def show_utility(job_id: str) -> str:
    """Show what a candidate is good for, as its audit measured it."""
    with application().uow(read_only=True) as uow:
        audit = jobs.find_audit(uow, actor(), audit_job_id=job_id)
        dataset = uow.get(Dataset, audit.dataset_id)
        if dataset is None:
            raise NotFound(f"The dataset of job {job_id!r} was not found.")
        found = documents.read_utility(uow, audit)
        sample_job_id = audit.payload.get("sample_job_id")
        about: dict[str, Any] = {"nav": "jobs", "audit": audit, "dataset": dataset}
        if dataset.modality != "image":
            sample = uow.get(Job, str(sample_job_id))
            about["sample_rows"] = documents.read_sample_rows(uow, sample)
        if dataset.modality == "table":
            return render_template("table_utility.html", found=found, **about)
        about["sample_job_id"] = sample_job_id if _has_grid(uow, sample_job_id) else None
        if dataset.modality == "joint":
            images = _of_images(found.get("images") or {})
            return render_template("joint_utility.html", whole=found, **images, **about)
        return render_template("utility.html", found=found, **_of_images(found), **about)


def _of_images(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "measures": _measures(found.get("scores", {})),
        "fidelity": _fidelity(found.get("fidelity", {})),
        "augmentation": _augmentation(found.get("augmentation_curve", [])),
    }


def _measures(scores: dict[str, dict[str, Any]]) -> list[Measure]:
    synthetic, real = scores.get("synthetic", {}), scores.get("real", {})
    return [
        Measure(
            words=words,
            means=means,
            synthetic=_with_interval(synthetic, name),
            real=_with_interval(real, name),
            place_synthetic=whisker(synthetic.get(name), _interval(synthetic, name)),
            place_real=whisker(real.get(name), _interval(real, name)),
            reason=synthetic.get(f"{name}_reason"),
        )
        for name, (words, means) in METRICS.items()
        if name in synthetic or name in real
    ]


def _interval(scores: dict[str, Any], name: str) -> list[float] | None:
    found: list[float] | None = scores.get("ci_over_test_persons", {}).get(name)
    return found


def _with_interval(scores: dict[str, Any], name: str) -> str:
    if scores.get(name) is None:
        return "–"
    interval = _interval(scores, name)
    spread = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
    return f"{scores[name]:.3f}{spread}"


def _fidelity(found: dict[str, Any]) -> list[tuple[str, str]]:
    shown = [
        (words, number(found[name]))
        for name, words in FIDELITY.items()
        if found.get(name) is not None
    ]
    if found.get("fid_of_real") is not None:
        shown.insert(1, ("The same between two sets of real persons", number(found["fid_of_real"])))
    return shown


def _augmentation(rows: list[dict[str, Any]]) -> tuple[Chart, list[dict[str, Any]]] | None:
    """Return the curve of one metric: real persons alone, and with synthetic images added."""
    wanted = [
        row for row in rows if row.get("metric") == "balanced_accuracy" and row["real_persons"]
    ]
    alone = [(row["real_persons"], row["mean"]) for row in wanted if not row["synthetic_images"]]
    helped = [(row["real_persons"], row["mean"]) for row in wanted if row["synthetic_images"]]
    if len(alone) < 2 or len(helped) < 2:
        return None
    return line_chart([helped, alone], x_name="real persons"), wanted


def _has_grid(uow: UnitOfWork, job_id: str | None) -> bool:
    if job_id is None:
        return False
    job = jobs.get_job(uow, actor(), job_id=job_id)
    return documents.grid_key(uow, job) is not None
