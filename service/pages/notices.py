"""What waits for one: notices, which of them come by e-mail, and the tenant's webhooks."""

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from service.domain.errors import DomainError
from service.domain.notifications import SUBJECTS
from service.domain.review_permissions import check_may_manage_webhooks
from service.operations import notifying, webhooks
from service.pages.rules import reason
from service.pages.session import actor, blueprint
from service.pages.step_up import require_fresh_factor
from service.store.unit_of_work import UnitOfWork
from service.web import application

Answer = AnyResponse | tuple[str, int] | str


@blueprint.context_processor
def add_unread() -> dict[str, object]:
    """Give every page the number of notices that were not read."""
    return {"unread_count": unread_count}


def unread_count() -> int:
    """Return how many notices whoever is signed in has not read."""
    with application().uow(read_only=True) as uow:
        return notifying.count_unread(uow, actor())


@blueprint.get("/notices")
def list_notices() -> str:
    """List one's own notices, the newest first."""
    unread_only = request.args.get("show") == "unread"
    with application().uow(read_only=True) as uow:
        page = notifying.list_notifications(
            uow, actor(), unread_only=unread_only, cursor=request.args.get("cursor")
        )
    return render_template(
        "notices.html",
        nav="notices",
        here="unread" if unread_only else "all",
        notices=page.items,
        next_cursor=page.next_cursor,
    )


@blueprint.post("/notices/read")
def read_notices() -> AnyResponse:
    """Mark one notice as read and go where it leads, or mark all of them."""
    named = request.form.get("notice", "")
    with application().uow() as uow:
        notifying.mark_read(uow, actor(), notification_ids=[named] if named else [])
        found = notifying.find_own(uow, actor(), named) if named else None
    return redirect(found.link if found else url_for("pages.list_notices"), code=303)


@blueprint.route("/notices/email", methods=["GET", "POST"])
def choose_email() -> Answer:
    """Say where notices go by e-mail, and which."""
    problem, said = None, None
    if request.method == "POST":
        wanted = set(request.form.getlist("subjects"))
        try:
            with application().uow() as uow:
                webhooks.choose_email(
                    uow,
                    actor(),
                    address=request.form.get("address", ""),
                    is_on=request.form.get("on") == "yes",
                    muted=[subject for subject in SUBJECTS if subject not in wanted],
                )
            said = "Your choice is kept."
        except DomainError as error:
            problem = error
    with application().uow(read_only=True) as uow:
        choice = webhooks.email_choice(uow, actor())
    text = render_template(
        "notices_email.html",
        nav="notices",
        here="email",
        choice=choice,
        subjects=SUBJECTS,
        has_mail=bool(application().settings.smtp_host and application().settings.smtp_from),
        problem=problem,
        said=said,
        given=request.form,
    )
    return (text, problem.status) if problem else text


@blueprint.get("/notices/webhooks")
def list_webhooks() -> str:
    """List where the tenant's notices are sent."""
    return _all_webhooks()


@blueprint.post("/notices/webhooks")
def create_webhook() -> Answer:
    """Add a webhook; its secret is on this page and nowhere else."""
    check_may_manage_webhooks(actor())
    try:
        require_fresh_factor(back=url_for("pages.list_webhooks"))
        with application().uow() as uow:
            made = webhooks.create_webhook(
                uow, actor(), url=request.form.get("url", "").strip(), kinds=_kinds()
            )
    except DomainError as error:
        return _all_webhooks(problem=error), error.status
    return _webhook(made.endpoint.id, secret=made.secret)


@blueprint.get("/notices/webhooks/<string:webhook_id>")
def show_webhook(webhook_id: str) -> str:
    """Show one webhook and what was sent to it last."""
    return _webhook(webhook_id)


@blueprint.post("/notices/webhooks/<string:webhook_id>/<string:act>")
def act_on_webhook(webhook_id: str, act: str) -> Answer:
    """Test, rotate the secret, stop, start, change or delete a webhook."""
    secret = None
    try:
        with application().uow(read_only=True) as uow:
            webhooks.get_webhook(uow, actor(), webhook_id=webhook_id)
        if act == "rotate":
            require_fresh_factor(back=url_for("pages.show_webhook", webhook_id=webhook_id))
        with application().uow() as uow:
            secret = _do(uow, webhook_id, act)
    except DomainError as error:
        if error.status == 404:
            raise
        return _webhook(webhook_id, problem=error), error.status
    if secret is not None:
        return _webhook(webhook_id, secret=secret)
    if act == "delete":
        return redirect(url_for("pages.list_webhooks"), code=303)
    return redirect(url_for("pages.show_webhook", webhook_id=webhook_id), code=303)


@blueprint.post("/notices/webhooks/<string:webhook_id>/messages/<string:message_id>/retry")
def retry_message(webhook_id: str, message_id: str) -> AnyResponse:
    """Give a dead message all its tries again."""
    with application().uow() as uow:
        webhooks.retry_message(uow, actor(), webhook_id=webhook_id, message_id=message_id)
    return redirect(url_for("pages.show_webhook", webhook_id=webhook_id), code=303)


def _do(uow: UnitOfWork, webhook_id: str, act: str) -> str | None:
    """Do one act; return the new secret if there is one.  Raises: DomainError for an unknown act."""
    who = actor()
    if act == "test":
        webhooks.send_test(uow, who, webhook_id=webhook_id)
    elif act == "rotate":
        return webhooks.rotate_secret(uow, who, webhook_id=webhook_id).secret
    elif act in {"stop", "start"}:
        webhooks.change_webhook(uow, who, webhook_id=webhook_id, enabled=act == "start")
    elif act == "change":
        url = request.form.get("url", "").strip()
        webhooks.change_webhook(uow, who, webhook_id=webhook_id, url=url, kinds=_kinds())
    elif act == "delete":
        webhooks.delete_webhook(uow, who, webhook_id=webhook_id)
    else:
        raise DomainError(f"Nothing was done: {act[:40]!r} is no act on this page.")
    return None


def _kinds() -> list[str]:
    return request.form.get("kinds", "").replace(",", " ").split()


def _all_webhooks(*, problem: DomainError | None = None) -> str:
    with application().uow(read_only=True) as uow:
        found = webhooks.list_webhooks(uow, actor())
    return render_template(
        "webhooks.html",
        nav="notices",
        here="webhooks",
        webhooks=found,
        problem=problem,
        given=request.form,
    )


def _webhook(
    webhook_id: str, *, secret: str | None = None, problem: DomainError | None = None
) -> str:
    with application().uow(read_only=True) as uow:
        endpoint = webhooks.get_webhook(uow, actor(), webhook_id=webhook_id)
        page = webhooks.list_messages(
            uow,
            actor(),
            webhook_id=webhook_id,
            cursor=request.args.get("cursor"),
            limit=20,
        )
    return render_template(
        "webhook.html",
        nav="notices",
        here="webhooks",
        webhook=endpoint,
        messages=page.items,
        next_cursor=page.next_cursor,
        secret=secret,
        problem=problem,
    )


@blueprint.context_processor
def add_tabs() -> dict[str, object]:
    """Tell the tabs whether webhooks concern whoever is signed in."""
    return {"why_no_webhooks": lambda: reason(lambda: check_may_manage_webhooks(actor()))}
