"""Declare licence, data use terms and citation of a release while it may still be revised."""

from service.domain import permissions
from service.domain.accounts import Actor
from service.domain.datasets import Dataset
from service.domain.declarations import FORMATS_OF, IMAGE_FORMATS, ReleaseDeclaration
from service.domain.errors import IllegalTransition, InputRefused
from service.domain.releases import Release, ReleaseState
from service.domain.trail import TrailEvent
from service.operations.reviewing import check_revision
from service.store.unit_of_work import UnitOfWork

_HOLDS = {"image": "images", "table": "a table", "joint": "rows with an image each"}

REVISABLE = frozenset({ReleaseState.DRAFT, ReleaseState.RETURNED})


def declare_release(
    uow: UnitOfWork,
    actor: Actor,
    *,
    release_id: str,
    declaration: ReleaseDeclaration,
    if_match: str | None,
) -> Release:
    """Replace what is declared about a DRAFT or RETURNED release: auditors vote on it as well.

    Raises: NotFound, PermissionDenied, IllegalTransition, PreconditionFailed; InputRefused for a
    format that the records cannot have.
    """
    release = permissions.check_may_change_release(
        actor, uow.get(Release, release_id, lock=True), asked=release_id
    )
    check_revision(release, if_match)
    if release.state not in REVISABLE:
        raise IllegalTransition(
            f"Declaring was refused: release {release.id} is {release.state.value}. Licence, uses "
            "and citation are part of what auditors approve; only a draft or a returned release "
            "may be changed.",
            state=release.state.value,
        )
    dataset = uow.get(Dataset, release.dataset_id)
    if dataset is not None:
        declaration = fit_formats(declaration, dataset)
    release.declared = declaration.model_dump(mode="json", exclude_defaults=True)
    uow.trail(
        actor,
        TrailEvent.RELEASE_DECLARE,
        release.id,
        licence=declaration.licence,
        duo=list(declaration.duo),
    )
    return release


def fit_formats(declaration: ReleaseDeclaration, dataset: Dataset) -> ReleaseDeclaration:
    """Return a declaration with formats that its records can have: a table has no pictures.

    Rows whose formats are left out get all that such records have.
    Raises: InputRefused naming the formats that do not fit, and those that do.
    """
    modality = dataset.modality
    fitting = FORMATS_OF[modality]
    if modality != "image" and declaration.formats == IMAGE_FORMATS:
        imitates = {"modality": "OT"} if modality == "table" else {}
        declaration = declaration.model_copy(update={"formats": fitting, **imitates})
    wrong = [name for name in declaration.formats if name not in fitting]
    if wrong:
        raise InputRefused(
            f"The format {', '.join(wrong)} was refused: this dataset holds "
            f"{_HOLDS[modality]}. Choose from: {', '.join(fitting)}.",
            value=wrong[0],
            limit=list(fitting),
        )
    if declaration.marginals and modality != "table":
        raise InputRefused(
            f"Noisy marginals were refused: this dataset holds {_HOLDS[modality]}, and a release "
            "carries what was counted of a table alone. Leave marginals out.",
            value="marginals",
        )
    return declaration


def declaration_of(release: Release) -> ReleaseDeclaration:
    """Return what is declared about a release; defaults where nothing is."""
    return ReleaseDeclaration.model_validate(release.declared or {})
