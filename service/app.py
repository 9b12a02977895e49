"""Build the Flask app: blueprints, error mapping, security headers, request ids, limits.

gunicorn's entry is `service.app:create_app()`. Importing this module imports no torch, opens no
connection and reads no environment; `create_app` does the last two.
"""

import secrets
import time

import structlog
from flask import Response, g, jsonify, request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from werkzeug.middleware.proxy_fix import ProxyFix

from service import refusals
from service.api import (
    access,
    accounts,
    datasets,
    health,
    jobs,
    journal,
    notifications,
    people,
    plans,
    releases,
    reviews,
    studies,
)
from service.api import catalogue as catalogue_api
from service.api import editing as editing_api
from service.api import policies as policies_api
from service.api.problems import problem, refuse_validation
from service.config import Settings
from service.logs import configure_logging, describe_error
from service.pages import access as access_pages
from service.pages import (
    access_owner,
    account,
    catalogue,
    compare,
    invitation,
    notices,
    oidc,
    operator,
    operator_users,
    plan_approval,
    policies,
    proposals,
    reading,
    release,
    review,
    review_queue,
    review_release,
    review_talk,
    session,
    sign_in,
    step_up,
    story,
    training,
    uploads,
    utility,
    words,
)
from service.pages import datasets as dataset_pages
from service.pages import editing as editing_pages
from service.pages import jobs as job_pages
from service.pages import studies as study_pages
from service.web import EXTENSION, limiter
from service.wiring import Application, build

MAX_BODY_BYTES = 2**20
"""Of every request but the streamed upload, which has its own limit."""

_PROGRAM_PATHS = ("/v1/", "/openapi", "/healthz", "/readyz")

PAGES = (
    access_owner,
    access_pages,
    account,
    catalogue,
    compare,
    dataset_pages,
    invitation,
    job_pages,
    notices,
    oidc,
    operator,
    operator_users,
    plan_approval,
    policies,
    proposals,
    release,
    review,
    review_queue,
    review_release,
    review_talk,
    sign_in,
    step_up,
    story,
    study_pages,
    editing_pages,
    training,
    uploads,
    utility,
    words,
)
"""Modules whose import adds their views and filters to the pages' blueprint."""

_LOG = structlog.get_logger("kaima.web")

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'self'"
    ),
}


def create_app(application: Application | None = None) -> OpenAPI:
    """Return the web app for `application`; without one, for what the environment describes."""
    if application is None:
        configure_logging()
        application = build(Settings.from_environment())
    app = OpenAPI(
        "service",
        info=Info(
            title="Kaima",
            version="1",
            description="Privacy-audited sharing of synthetic radiographs.",
        ),
        security_schemes={"apiKey": {"type": "http", "scheme": "bearer"}},
        validation_error_callback=refuse_validation,
        doc_ui=False,  # its pages would load scripts from elsewhere
        template_folder="templates",
        static_folder="static",
    )
    secure = application.settings.public_url.startswith("https://")
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        MAX_FORM_PARTS=50,
        SECRET_KEY=session.session_secret(application),
        SESSION_COOKIE_NAME="__Host-kaima" if secure else "kaima",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_SECURE=secure,
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=application.settings.session_seconds,
        RATELIMIT_STORAGE_URI=_rate_storage(application.settings),
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions[EXTENSION] = application
    # One reverse proxy is expected in front of a public address, none on loopback.
    if secure:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)  # type: ignore[method-assign]
        app.after_request(_demand_tls)
    app.before_request(_start_request)
    app.after_request(_finish_request)
    limiter.init_app(app)
    app.register_error_handler(Exception, _refuse)
    for blueprint in (
        access.blueprint,
        catalogue_api.blueprint,
        accounts.blueprint,
        people.blueprint,
        datasets.blueprint,
        jobs.blueprint,
        releases.blueprint,
        reviews.blueprint,
        plans.blueprint,
        notifications.blueprint,
        policies_api.blueprint,
        studies.blueprint,
        editing_api.blueprint,
        journal.blueprint,
        health.blueprint,
    ):
        app.register_api(blueprint)
    app.register_blueprint(session.blueprint)
    app.register_blueprint(reading.blueprint)
    app.add_url_rule("/openapi.json", "openapi", lambda: jsonify(app.api_doc))
    return app


def _rate_storage(settings: Settings) -> str:
    url = settings.redis_url
    return url if url.startswith(("redis://", "rediss://")) else "memory://"


def _refuse(error: Exception) -> Response:
    """Answer an exception as problem+json to programs, as a page to people."""
    refusal = refusals.from_exception(error)
    if refusal.status >= 500:
        _LOG.error("A request failed.", request_id=g.get("request_id"), **describe_error(error))
    if request.path.startswith(_PROGRAM_PATHS) or not _wants_page():
        return problem(refusal)
    return session.render_refusal(refusal)


def _wants_page() -> bool:
    best = request.accept_mimetypes.best_match(["application/json", "text/html"])
    return best == "text/html"


def _start_request() -> None:
    g.request_id = secrets.token_hex(8)
    g.started = time.monotonic()


def _demand_tls(response: Response) -> Response:
    response.headers["Strict-Transport-Security"] = "max-age=31536000"
    return response


def _finish_request(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-Id"] = g.get("request_id", "")
    if request.endpoint != "static":
        # Pages and answers hold what only this actor may see.
        response.headers.setdefault("Cache-Control", "no-store")
    # The route, not the path or query: ids are opaque, but a query may hold what a user typed.
    _LOG.info(
        "Request answered.",
        request_id=g.get("request_id"),
        method=request.method,
        route=str(request.url_rule) if request.url_rule else None,
        status=response.status_code,
        milliseconds=round(1000 * (time.monotonic() - g.get("started", time.monotonic())), 1),
    )
    return response
