"""One decision of an auditor on a page: the fresh factor, the choice, the refusal shown in place."""

from collections.abc import Callable

from flask import redirect, request
from werkzeug.wrappers import Response as AnyResponse

from service.domain.errors import DomainError, InputRefused
from service.pages.step_up import require_fresh_factor
from service.store.unit_of_work import UnitOfWork
from service.web import application


def take_decision(
    *,
    page: str,
    approve: str,
    refuse: str,
    decide: Callable[[UnitOfWork, bool], object],
    render: Callable[[DomainError], str],
) -> AnyResponse | tuple[str, int]:
    """Take the form's `decision`, one of two words, and return to `page`.

    `decide` is told whether it is `approve`; a refusal is shown by `render`, except that nothing is
    there (404), which is raised.
    """
    try:
        require_fresh_factor(back=page)
        decision = request.form.get("decision", "")
        if decision not in {approve, refuse}:
            raise InputRefused(f"Your decision was refused: choose to {approve} or to {refuse}.")
        with application().uow() as uow:
            decide(uow, decision == approve)
    except DomainError as refusal:
        if refusal.status == 404:
            raise
        return render(refusal), refusal.status
    return redirect(page, code=303)
