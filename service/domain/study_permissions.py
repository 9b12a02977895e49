"""Who may do what to a reader study; each refusal is a sentence that pages show beside the control.

Studies are evidence about private records: data owners plan and run them, auditors consent, invite, read.
Readers have no role at all: `service.operations.study_reading` knows them by a session of one study.
"""

from service.domain.accounts import Actor, Role, Scope
from service.domain.errors import IllegalTransition, NotFound, PermissionDenied
from service.domain.permissions import ROLE_WORDS, check_scope
from service.domain.studies import CONSENTS_NEEDED, Study, StudyState


def check_may_plan_study(actor: Actor) -> None:
    """Data owners plan studies of their candidates."""
    _check_role(actor, "Planning a reader study", Role.DATA_OWNER)
    check_scope(actor, "Planning a reader study", Scope.RELEASES)


def check_may_list_studies(actor: Actor) -> None:
    """Studies concern data owners and auditors."""
    _check_role(actor, "Listing reader studies", Role.DATA_OWNER, Role.AUDITOR)
    check_scope(actor, "Listing reader studies", Scope.READ)


def check_may_see_study(actor: Actor, study: Study | None, *, asked: str) -> Study:
    """Return the study if the actor is a data owner or auditor of its tenant."""
    found = _own(actor, study, asked=asked)
    _check_role(actor, "Reading a reader study", Role.DATA_OWNER, Role.AUDITOR)
    check_scope(actor, "Reading a reader study", Scope.READ)
    return found


def check_may_change_study(actor: Actor, study: Study | None, *, asked: str) -> Study:
    """Return the study if the actor is a data owner of its tenant."""
    found = _own(actor, study, asked=asked)
    _check_role(actor, "Changing a reader study", Role.DATA_OWNER)
    check_scope(actor, "Changing a reader study", Scope.RELEASES)
    return found


def check_may_consent(actor: Actor, study: Study | None, *, asked: str) -> Study:
    """Return the study if the actor is an auditor of its tenant who did not plan it."""
    found = _own(actor, study, asked=asked)
    action = "Consenting to a reader study"
    _check_role(actor, action, Role.AUDITOR)
    check_scope(actor, action, Scope.REVIEWS)
    if found.created_by == actor.user_id:
        raise PermissionDenied(
            f"{action} was refused: you planned it. {CONSENTS_NEEDED} other auditors must consent."
        )
    return found


def check_may_hand_out_links(actor: Actor, study: Study | None, *, asked: str) -> Study:
    """Return the study if the actor is an auditor of its tenant.

    Whoever holds a link can answer as its reader, so it never passes through the hands of those who
    want a result.
    """
    found = _own(actor, study, asked=asked)
    action = "Inviting readers"
    _check_role(actor, action, Role.AUDITOR)
    check_scope(actor, action, Scope.REVIEWS)
    return found


def check_may_read_result(actor: Actor, study: Study | None, *, asked: str) -> Study:
    """Return the study if its result may be read: by insiders, once it is closed."""
    found = check_may_see_study(actor, study, asked=asked)
    if found.state is not StudyState.CLOSED:
        raise IllegalTransition(
            f"Reading the result was refused: the study is {found.state.value}. Nobody sees answers "
            "before it is closed, or they could be waited for until they please.",
            state=found.state.value,
        )
    return found


def _own(actor: Actor, study: Study | None, *, asked: str) -> Study:
    if study is None or study.tenant_id != actor.tenant_id:
        raise NotFound(f"No reader study {asked!r} was found. Check the identifier.")
    return study


def _check_role(actor: Actor, action: str, *roles: Role) -> None:
    if not actor.roles & set(roles):
        needed = " or ".join(ROLE_WORDS[role] for role in roles)
        raise PermissionDenied(f"{action} was refused: only {needed} may. Ask an operator.")
