"""Classifiers that somebody hands over for one stress test, and the request for it.

A model is its owner's: it lies under their name until the test that runs it has ended, a day at most,
and nobody can fetch it. The bytes are never looked at here; a worker runs them apart from everything.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from service.config import MEBIBYTE
from service.domain.accounts import Actor
from service.domain.errors import InputRefused, NotFound, QuotaExceeded
from service.domain.identifiers import new_id
from service.domain.jobs import Job
from service.editing_resources import MOST_MODEL_MEBIBYTES
from service.operations.editing import MOST_AT_ONCE, check_may_edit, request_edit
from service.store.objects import Bucket
from service.store.unit_of_work import UnitOfWork

STRESS_REPORT, STRESS_NUMBERS = "stress.html", "stress.json"
MOST_MODELS = MOST_AT_ONCE + 1  # those of tests that wait, and the next one
KEPT_HOURS = 24
_PREFIX = "models/"


def put_model(uow: UnitOfWork, actor: Actor, *, release_id: str, chunks: Iterable[bytes]) -> str:
    """Store a classifier for a stress test of a release; return its identifier.

    Raises: as `check_may_edit`; QuotaExceeded; InputRefused for one that is empty or too large.
    """
    check_may_edit(uow, actor, release_id=release_id)
    waiting = len(list(uow.objects.list_keys(Bucket.WORK, f"{_PREFIX}{actor.user_id}/")))
    if waiting >= MOST_MODELS:
        raise QuotaExceeded(
            f"The model was refused: {waiting} of yours wait for their tests, the limit is "
            f"{MOST_MODELS}. They go when their tests end, and after {KEPT_HOURS} hours.",
            value=waiting,
            limit=MOST_MODELS,
        )
    model = new_id("mdl")
    try:
        size = uow.objects.put_stream(
            Bucket.WORK,
            model_key(actor.user_id, model),
            chunks=chunks,
            limit_bytes=MOST_MODEL_MEBIBYTES * MEBIBYTE,
        )
    except ValueError as error:
        raise InputRefused(
            f"The model was refused: it is larger than {MOST_MODEL_MEBIBYTES} MiB. Test a larger "
            "one on your own machine: kaima edit stress.",
            limit=MOST_MODEL_MEBIBYTES * MEBIBYTE,
        ) from error
    if size == 0:
        uow.objects.delete(Bucket.WORK, model_key(actor.user_id, model))
        raise InputRefused("The model was refused: the file is empty. Choose an ONNX file.")
    return model


def request(uow: UnitOfWork, actor: Actor, *, release_id: str, asked: dict[str, Any]) -> Job:
    """Queue an edit, or the stress test of a model that was put before.

    Raises: as `request_edit`; NotFound where the actor has no such model.
    """
    model = asked.get("model")
    if model is not None and not uow.objects.exists(Bucket.WORK, model_key(actor.user_id, model)):
        raise NotFound(
            f"No model {model!r} of yours was found. Upload it again: it is deleted when its test "
            f"has ended, and after {KEPT_HOURS} hours."
        )
    return request_edit(uow, actor, release_id=release_id, asked=asked)


def model_key(user_id: str, model: str) -> str:
    """Return where a model lies."""
    return f"{_PREFIX}{user_id}/{model}.onnx"


def sweep_models(uow: UnitOfWork) -> int:
    """Delete models that nobody came back for; return how many."""
    oldest = uow.now() - timedelta(hours=KEPT_HOURS)
    swept = 0
    for key in list(uow.objects.list_keys(Bucket.WORK, _PREFIX)):
        if uow.objects.head(Bucket.WORK, key).modified_at < oldest:
            uow.objects.delete(Bucket.WORK, key)
            swept += 1
    return swept
