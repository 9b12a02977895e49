"""Plan a training and request it: what it costs, what it takes, what to know beforehand."""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from privacy.mechanisms import PrivacyTarget
from service import resources as r
from service.operations import catalogue, datasets, idempotency, jobs
from service.pages.session import actor, blueprint
from service.plan_view import training_plan
from service.plan_words import mechanism_words, memory_words, time_words
from service.store.unit_of_work import UnitOfWork
from service.web import application

_FIELDS = ("generator", "preset", "epsilon", "tier", "samples")


@blueprint.get("/versions/<string:version_id>/training")
def plan_training(version_id: str) -> str:
    """Show the form; once it is filled in, the plan, which renews itself while a dry run is made."""
    with application().uow(read_only=True) as uow:
        version = datasets.get_version(uow, actor(), version_id=version_id)
        about = {
            "nav": "datasets",
            "version": version,
            "dataset": datasets.get_dataset(uow, actor(), dataset_id=version.dataset_id),
        }
        if "generator" not in request.args or "change" in request.args:
            generators = catalogue.list_generators(uow)
            return render_template(
                "training_form.html", generators=generators, given=request.args, **about
            )
        asked = _asked(request.args)
        plan = _plan(uow, version_id, asked)
        found = None
        if plan.planned is not None:
            found = jobs.find_estimate(uow, actor(), plan.planned)
        shown = training_plan(plan, found)
        return render_template(
            "training_plan.html",
            plan=shown,
            asked=asked,
            chosen={name: request.args.get(name, "") for name in _FIELDS},
            mechanisms=[mechanism_words(mechanism) for mechanism in shown.mechanisms],
            time=None if shown.estimate is None else time_words(shown.estimate),
            memory=None if shown.estimate is None else memory_words(shown.estimate),
            is_live=shown.estimate is not None and shown.estimate.state == "pending",
            once=secrets.token_urlsafe(18),
            **about,
        )


@blueprint.post("/versions/<string:version_id>/training")
def make_plan(version_id: str) -> Response:
    """Find out time and memory of what the form says, then show the plan."""
    asked = _asked(request.form)
    with application().uow(read_only=True) as uow:
        plan = _plan(uow, version_id, asked)
    if plan.planned is not None:
        with application().uow() as uow:
            jobs.request_estimate(uow, actor(), version_id=version_id, planned=plan.planned)
    chosen: dict[str, Any] = {name: request.form.get(name, "") for name in _FIELDS}
    return redirect(url_for("pages.plan_training", version_id=version_id, **chosen), code=303)


@blueprint.post("/versions/<string:version_id>/training/request")
def request_training(version_id: str) -> Response:
    """Reserve the budget and queue the training; sending the form twice queues it once."""
    asked = _asked(request.form)
    with application().uow(read_only=True) as uow:
        _plan(uow, version_id, asked)  # seconds of accounting, remembered before anything is locked
    told = {"key": request.form.get("once", ""), "method": "POST", "path": request.path}
    with application().uow() as uow:
        body = json.dumps(asked.model_dump(mode="json"), sort_keys=True).encode()
        replay = idempotency.begin(uow, actor(), request=body, **told)
        if replay is not None:
            return redirect(replay.headers["Location"], code=303)
        job = jobs.request_training(
            uow,
            actor(),
            version_id=version_id,
            generator=asked.generator,
            config=asked.config,
            target=_target(uow, version_id, asked),
            tier=asked.tier,
            samples=asked.samples,
            preset=asked.preset,
        )
        headers = {"Location": url_for("pages.show_job", job_id=job.id)}
        idempotency.finish(uow, actor(), status=303, headers=headers, body=None, **told)
    return redirect(headers["Location"], code=303)


def _asked(given: Mapping[str, str]) -> r.NewTraining:
    """Return what a form asks for.  Raises: ValidationError, shown as the field that is wrong."""
    return r.NewTraining.model_validate(
        {
            "generator": given.get("generator", ""),
            "preset": given.get("preset") or None,
            "target": {"epsilon": _number(given.get("epsilon", ""))},
            "tier": given.get("tier") or "registered",
            "samples": _count(given.get("samples") or "8000"),
        }
    )


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # refused by the model, in its words


def _count(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else text


def _plan(uow: UnitOfWork, version_id: str, asked: r.NewTraining) -> jobs.TrainingPlan:
    return jobs.plan_training(
        uow,
        actor(),
        version_id=version_id,
        generator=asked.generator,
        config=asked.config,
        target=_target(uow, version_id, asked),
        tier=asked.tier,
        samples=asked.samples,
        preset=asked.preset,
    )


def _target(uow: UnitOfWork, version_id: str, asked: r.NewTraining) -> PrivacyTarget:
    wanted = asked.target
    return jobs.target_for(
        uow, actor(), version_id=version_id, epsilon=wanted.epsilon, delta=wanted.delta
    )
