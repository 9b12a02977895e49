"""Refusals by the domain. Each carries the sentence a user reads; `api` maps them to HTTP."""


class DomainError(Exception):
    """Parent of every refusal. `remedy` and `detail` keys reach problem+json as extensions."""

    status = 400
    slug = "refused"

    def __init__(self, sentence: str, **extensions: object) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.extensions = extensions


class NotFound(DomainError):
    """No such thing, or not yours to see: the two are told apart nowhere."""

    status = 404
    slug = "not-found"


class PermissionDenied(DomainError):
    """The thing is visible to the actor, the action is not theirs."""

    status = 403
    slug = "permission-denied"


class IllegalTransition(DomainError):
    """The thing is in a state from which this move is not allowed."""

    status = 409
    slug = "illegal-transition"


class Conflict(DomainError):
    """Another write came first, or the name is taken."""

    status = 409
    slug = "conflict"


class PreconditionFailed(DomainError):
    """If-Match names a revision that is no longer the current one."""

    status = 412
    slug = "precondition-failed"


class BudgetRefused(DomainError):
    """The budget cannot carry the request."""

    status = 409
    slug = "budget-refused"


class QuotaExceeded(DomainError):
    """A tenant's quota is used up."""

    status = 429
    slug = "quota-exceeded"


class InputRefused(DomainError):
    """An upload or a request body was refused: names file, value, limit and remedy."""

    status = 422
    slug = "input-refused"


class LeaseLost(DomainError):
    """A worker that no longer owns its job tried to write."""

    status = 409
    slug = "lease-lost"


class JournalBehind(DomainError):
    """The database is older than the journal head kept in object storage."""

    status = 503
    slug = "journal-behind"
