"""Plan a training and request it: what it costs, what it takes, what to know beforehand."""

import json
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from privacy.mechanisms import PrivacyTarget
from service import resources as r
from service.operations import (
    catalogue,
    datasets,
    idempotency,
    jobs,
    plan_approving,
    plan_requirement,
)
from service.pages.budget_picture import budget_picture
from service.pages.rules import count_in, number_in
from service.pages.session import actor, blueprint
from service.pages.training_fields import config_in, settings_of
from service.plan_view import training_plan
from service.plan_words import mechanism_words, memory_words, time_words
from service.store.unit_of_work import UnitOfWork
from service.web import application

_FIELDS = ("generator", "preset", "epsilon", "delta", "tier", "samples")
TIERS = (
    ("public", "Public", "Anybody may have it."),
    ("registered", "Registered", "Whoever accepts the terms."),
    ("enclave", "Enclave", "It stays inside a guarded place."),
)


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
            return _form(uow, about)
        asked = _asked(uow, request.args)
        plan = _plan(uow, version_id, asked)
        found = None
        if plan.planned is not None:
            found = jobs.find_estimate(uow, actor(), plan.planned)
        shown = training_plan(plan, found)
        budget = datasets.get_budget(uow, actor(), dataset_id=version.dataset_id)
        return render_template(
            "training_plan.html",
            plan=shown,
            asked=asked,
            chosen=_chosen(uow, request.args),
            needs_approval=plan_requirement.needs_approval(uow, version.tenant_id),
            budget=budget,
            planned=shown.epsilon,
            picture=budget_picture(budget, planned=plan.epsilon),
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
    with application().uow(read_only=True) as uow:
        asked, chosen = _asked(uow, request.form), _chosen(uow, request.form)
        plan = _plan(uow, version_id, asked)
    if plan.planned is not None:
        with application().uow() as uow:
            jobs.request_estimate(uow, actor(), version_id=version_id, planned=plan.planned)
    return redirect(_plan_address(version_id, chosen), code=303)


@blueprint.post("/versions/<string:version_id>/training/approval")
def request_plan_approval(version_id: str) -> Response:
    """Ask an auditor to approve a plan, where the tenant wants that before anything is spent."""
    with application().uow() as uow:
        asked = _asked(uow, request.form)
        plan_approving.request_plan_approval(
            uow,
            actor(),
            version_id=version_id,
            purpose=request.form.get("purpose", ""),
            generator=asked.generator,
            config=asked.config,
            target=_target(uow, version_id, asked),
            tier=asked.tier,
            samples=asked.samples,
            preset=asked.preset,
        )
        chosen = _chosen(uow, request.form)
    return redirect(_plan_address(version_id, chosen), code=303)


@blueprint.post("/versions/<string:version_id>/training/request")
def request_training(version_id: str) -> Response:
    """Reserve the budget and queue the training; sending the form twice queues it once."""
    with application().uow(read_only=True) as uow:
        asked = _asked(uow, request.form)
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


def _form(uow: UnitOfWork, about: dict[str, Any]) -> str:
    generators = catalogue.list_generators(uow, about["dataset"].modality)
    budget = datasets.get_budget(uow, actor(), dataset_id=about["dataset"].id)
    limits = {name: tier.epsilon for name, tier in uow.policy.tiers.items()}
    return render_template(
        "training_form.html",
        generators=generators,
        settings={name: settings_of(name, found) for name, found in generators.items()},
        given=request.args,
        tiers=[(*tier, limits[tier[0]]) for tier in TIERS if tier[0] in limits],
        budget=budget,
        picture=budget_picture(budget),
        **about,
    )


def _asked(uow: UnitOfWork, given: Mapping[str, str]) -> r.NewTraining:
    """Return what a form asks for.  Raises: ValidationError, shown as the field that is wrong."""
    generator = given.get("generator", "")
    found = catalogue.list_generators(uow).get(generator)
    return r.NewTraining.model_validate(
        {
            "generator": generator,
            "preset": given.get("preset") or None,
            "config": {} if found is None else config_in(given, generator, found),
            "target": {"epsilon": number_in(given, "epsilon"), "delta": number_in(given, "delta")},
            "tier": given.get("tier") or "registered",
            "samples": count_in(given, "samples") or 8000,
        }
    )


def _chosen(uow: UnitOfWork, given: Mapping[str, str]) -> dict[str, str]:
    """Return what was typed, the settings of the chosen generator included, to type it again."""
    generator = given.get("generator", "")
    found = catalogue.list_generators(uow).get(generator, {"schema": {}})
    names = [f"{generator}.{name}" for name in found["schema"].get("properties", {})]
    typed = {name: given.get(name, "")[:100] for name in (*_FIELDS, *names)}
    return {name: value for name, value in typed.items() if value or name in _FIELDS}


def _plan_address(version_id: str, chosen: dict[str, str]) -> str:
    address = url_for("pages.plan_training", version_id=version_id)
    return f"{address}?{urlencode(chosen)}"


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
