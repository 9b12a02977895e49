"""The release list and a release's page; the tombstone of one that was taken away."""

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from service.domain.accounts import Role
from service.domain.datasets import Dataset
from service.domain.errors import DomainError, NotFound
from service.domain.releases import Release
from service.operations import reaudits, releases
from service.pages.session import actor, blueprint
from service.refusals import HTTP_STATUSES, PRIVACY_ERRORS, title_of
from service.store.unit_of_work import UnitOfWork
from service.web import application

_INSIDE = frozenset({Role.DATA_OWNER, Role.AUDITOR})


@blueprint.get("/")
def start() -> Response:
    """Start at the release list."""
    return redirect(url_for("pages.list_releases"))


@blueprint.get("/releases")
def list_releases() -> str:
    """List the catalogue; for data owners and auditors, their tenant's releases before it."""
    cursor = request.args.get("cursor")
    with application().uow(read_only=True) as uow:
        page = releases.list_releases(uow, actor(), cursor=cursor)
        mine: list[Release] = []
        if actor().roles & _INSIDE and cursor is None:
            mine = releases.list_releases(uow, actor(), catalogue=False).items
            mine = [found for found in mine if found not in page.items]
        return render_template(
            "releases.html",
            nav="releases",
            mine=[(found, _unit(uow, found)) for found in mine],
            releases=[(found, _unit(uow, found)) for found in page.items],
            next_cursor=page.next_cursor,
        )


@blueprint.get("/releases/<string:release_id>")
def show_release(release_id: str) -> str:
    """Show a release: its guarantee first."""
    with application().uow(read_only=True) as uow:
        view = releases.get_release(uow, actor(), release_id=release_id)
        inside = view.is_insider
        return render_template(
            "release.html",
            nav="releases",
            release=view.release,
            view=view,
            certificate=view.release.certificate,
            unit=_unit(uow, view.release),
            reaudits=reaudits.list_reaudits(uow, view.release) if inside else [],
            downloaders=(
                reaudits.list_downloaders(uow, actor(), release_id=release_id) if inside else []
            ),
            trail=releases.list_trail(uow, actor(), release_id=release_id, limit=200),
        )


@blueprint.get("/problems/<string:slug>")
def explain_problem(slug: str) -> str:
    """Say what a problem type means; the address is the `type` of problem+json."""
    meanings = {
        found: (status, f"{title_of(found)}. {remedy}")
        for status, (found, remedy) in HTTP_STATUSES.items()
    }
    meanings |= {
        kind.slug: (kind.status, (kind.__doc__ or "").strip()) for kind in _kinds(DomainError)
    }
    meanings |= {
        found: (status, (kind.__doc__ or "").strip()) for kind, status, found in PRIVACY_ERRORS
    }
    if slug not in meanings:
        raise NotFound(f"No problem type {slug[:60]!r} was found.")
    status, meaning = meanings[slug]
    return render_template("problem.html", title=title_of(slug), status=status, meaning=meaning)


def _unit(uow: UnitOfWork, release: Release) -> str | None:
    """Return whose presence is hidden: stated by the certificate, before it by the dataset."""
    if release.certificate:
        return str(release.certificate["unit"])
    dataset = uow.get(Dataset, release.dataset_id)
    return dataset.schema.unit.value if dataset else None


def _kinds(parent: type[DomainError]) -> list[type[DomainError]]:
    found = parent.__subclasses__()
    return [parent, *(kind for child in found for kind in _kinds(child))]
