"""How fast is the service itself? Requests, transfers, lists and pages on an embedded stack.

Transfers through the service's protocol (presigned multipart, presigned GET) are compared with bare
boto3 calls of the same sizes against the same object store. Everything runs on this machine over
loopback, so this shows what the service adds, not what a network gives.
"""

import contextlib
import functools
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import click
import httpx
from boto3.s3.transfer import TransferConfig
from rich.console import Console

from benchmarks.envelope import Benchmark, quantile
from benchmarks.service_pages import EVENTS, RELEASES, time_pages
from privacy.manifests import DatasetSchema
from privacy.mechanisms import UnitOfPrivacy
from service.client import KaimaClient, ProblemError
from service.stack import Stack
from service.walkthrough.actors import Actors, make_actors
from service.walkthrough.declaration import declare
from service.walkthrough.display import Display
from service.walkthrough.stack import first_operator_key, running_stack
from service.walkthrough.steps import TERMS, Request, Walkthrough
from training.phantoms.cohort import make_cohort
from training.phantoms.upload import write_upload

MEBIBYTE = 1024 * 1024
PERSONS = 400
PART_BYTES = 16 * MEBIBYTE
_POLL_SECONDS = 0.02
_ITEM = re.compile(r'href="(/(?:releases|datasets|jobs)/[^"#?]+)"')
_ALL_RELEASES = {"limit": "50", "mine": "true"}


@click.command()
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="cpu", help="Not used: the service computes nothing.")
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True)
@click.option("--upload-mebibytes", type=click.IntRange(1), default=96, show_default=True)
@click.option("--releases", type=click.IntRange(1), default=50, show_default=True)
@click.option("--requests", type=click.IntRange(1), default=200, show_default=True)
@click.option("--large-releases", type=click.IntRange(1), default=RELEASES, show_default=True)
@click.option("--large-events", type=click.IntRange(1), default=EVENTS, show_default=True)
@click.option(
    "--large",
    "large_databases",
    type=click.Choice(["sqlite", "postgresql"]),
    multiple=True,
    default=("sqlite", "postgresql"),
    show_default=True,
    help="Which databases are filled for the pages of a large instance.",
)
def main(  # noqa: PLR0913, PLR0917 - click passes options by name
    out: Path,
    seed: int,
    device: str,
    runs: int,
    upload_mebibytes: int,
    releases: int,
    requests: int,
    large_releases: int,
    large_events: int,
    large_databases: tuple[str, ...],
) -> None:
    """Measure the service and write OUT."""
    del device
    benchmark = Benchmark("service", seed=seed)
    with tempfile.TemporaryDirectory(prefix="kaima-bench-") as name:
        folder = Path(name)
        with running_stack(folder / "state", keep=False) as stack:
            actors = make_actors(stack.web_url, first_operator_key(stack))
            bench = _Bench(benchmark, stack, actors, folder)
            steps: dict[str, Callable[[], None]] = {
                "upload": lambda: bench.upload(upload_mebibytes * MEBIBYTE),
                "walkthrough": lambda: bench.walk(seed),
                "post_to_training": lambda: bench.post_to_training(runs),
                "download": bench.download,
                "release_list": lambda: bench.release_list(releases, requests),
                "pages": lambda: bench.pages(max(requests // 10, 5)),
                **{
                    f"pages of a large instance on {database}": functools.partial(
                        time_pages,
                        benchmark,
                        stack.environment(),
                        folder / database,
                        database=database,
                        releases=large_releases,
                        events=large_events,
                        repeats=max(requests // 10, 5),
                    )
                    for database in large_databases
                },
            }
            for what, step in steps.items():
                click.echo(f"measuring {what} ...", err=True)
                benchmark.attempt(what, step)
            actors.close()
    benchmark.write(out)
    click.echo(f"{out}: {len(benchmark.failures)} failures", err=True)


class _Bench:
    """The measurements, in an order in which each finds what it needs."""

    def __init__(self, benchmark: Benchmark, stack: Stack, actors: Actors, folder: Path) -> None:
        self.extra = benchmark.extra
        self.stack = stack
        self.actors = actors
        self.folder = folder
        self.walkthrough: Walkthrough | None = None

    def upload(self, size: int) -> None:
        """Upload random bytes (intake refuses them later, which is not timed)."""
        content = self.folder / "random.zip"
        content.write_bytes(os.urandom(size))
        dataset = self._dataset("Transfer")
        with _timed() as took:
            self.actors.owner.upload(dataset, content)
        with self._bucket() as (s3, bucket):
            parts = TransferConfig(multipart_chunksize=PART_BYTES, use_threads=False)
            with _timed() as raw:
                s3.upload_file(str(content), bucket, "raw", Config=parts)
        content.unlink()
        self.extra["upload"] = _rates(size, took(), raw())

    def walk(self, seed: int) -> None:
        """Share a small set, so that there is something to train on, list and download."""
        upload = self.folder / "phantoms.zip"
        write_upload(
            make_cohort(PERSONS, pixels=32, seed=seed), upload, upload_format="png", seed=seed
        )
        labels = tuple(str(grade) for grade in range(5))
        declaration = declare(upload, label="kl_grade", labels=labels, unit=UnitOfPrivacy.PERSON)
        request = Request(
            upload=upload,
            declaration=declaration,
            epsilon=8.0,
            delta=1e-5,
            tier="enclave",
            generator="statistics",
            config={},
            samples=1000,
        )
        display = Display(Console(stderr=True, quiet=True))
        walk = Walkthrough(self.actors, request, display, self.folder)
        walk.upload()
        walk.train()
        self.walkthrough = walk
        walk.check_verdict()
        walk.review()
        walk.publish()

    def post_to_training(self, runs: int) -> None:
        """Time from POST /v1/jobs to the moment a worker has the job."""
        owner = self.actors.owner
        upload = self.folder / "others.zip"
        write_upload(make_cohort(60, pixels=16, seed=99), upload, upload_format="png", seed=99)
        hospital = make_actors(self.stack.web_url, self.actors.keys["operator"], name="Second")
        owner = hospital.owner
        dataset = self._dataset("Latency", owner=owner, pixels=16)
        version_id = owner.wait(owner.upload(dataset, upload).id, poll_seconds=0.2).version_id
        seconds = []
        for _ in range(runs):
            with _timed() as took:
                job = owner.request_training(
                    str(version_id),
                    generator="statistics",
                    epsilon=0.5,
                    delta=1e-6,
                    tier="enclave",
                    samples=10,
                )
                while job.state == "queued":
                    time.sleep(_POLL_SECONDS)
                    job = owner.job(job.id)
            seconds.append(took())
            _let_end(owner, job.id)
        hospital.close()
        self.extra["post_to_training_seconds"] = {
            "median": quantile(seconds, 0.5),
            "p95": quantile(seconds, 0.95),
            "n": len(seconds),
        }

    def download(self) -> None:
        """Download the published bundle, and the same bytes with bare boto3."""
        release = self._released()
        collaborator = self.actors.collaborator
        self._walked().ask_for_access(release)
        collaborator.accept_terms(release)
        with _timed() as took:
            bundle = collaborator.download(release, self.folder / "download")
        size = bundle.stat().st_size
        with self._bucket() as (s3, bucket):
            s3.upload_file(str(bundle), bucket, "bundle")
            with _timed() as raw:
                s3.download_file(bucket, "bundle", str(self.folder / "raw"))
        self.extra["download"] = _rates(size, took(), raw())

    def release_list(self, releases: int, requests: int) -> None:
        """List every release of the tenant from four connections at once."""
        walk = self._walked()
        if walk.record.dataset is None or walk.record.audit is None:
            raise RuntimeError("The walkthrough made no candidate.")
        for number in range(releases - 1):
            self.actors.owner.create_release(
                walk.record.dataset.id,
                audit_job_id=walk.record.audit.id,
                name=f"draft-{number}",
                terms=TERMS,
            )
        seconds: list[float] = []
        with _timed() as took:
            threads = [
                threading.Thread(target=self._list_releases, args=(requests // 4, seconds))
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        with self._http("Data owner") as http:
            listed = http.get("/v1/releases", params=_ALL_RELEASES).json()["items"]
        self.extra["release_list"] = {
            "releases": len(listed),
            "requests_per_second": len(seconds) / took(),
            "median_seconds": quantile(seconds, 0.5),
            "p95_seconds": quantile(seconds, 0.95),
        }

    def pages(self, repeats: int) -> None:
        """Time the pages that each role reaches after signing in, and the lists of the API."""
        self.extra["pages"] = []
        people = {
            "data_owner": "Data owner",
            "auditor": "First auditor",
            "collaborator": "Collaborator",
        }
        for role, name in people.items():
            for route in ("/releases", "/datasets", "/jobs", "/v1/releases", "/v1/jobs"):
                self._time_page(name, role=role, route=route, repeats=repeats)

    def _time_page(self, name: str, *, role: str, route: str, repeats: int) -> None:
        seconds, answer = [], None
        with self._http(name) as http:
            self._sign_in(http, name)
            for _ in range(repeats):
                with _timed() as took:
                    answer = http.get(route)
                seconds.append(took())
        if answer is None or not answer.is_success:
            return  # not a page of this role
        rows = len(answer.json()["items"]) if "json" in answer.headers["Content-Type"] else None
        self.extra["pages"].append(
            {
                "route": route,
                "role": role,
                "rows": len(set(_ITEM.findall(answer.text))) if rows is None else rows,
                "median_seconds": quantile(seconds, 0.5),
                "p95_seconds": quantile(seconds, 0.95),
            }
        )

    def _sign_in(self, http: httpx.Client, name: str) -> None:
        """Open a session as a browser does; the pages know no other credential."""
        form = re.search(r'name="csrf" value="([^"]+)"', http.get("/sign-in").text)
        if form is None:
            raise RuntimeError("The sign-in page holds no form.")
        answer = http.post("/sign-in", data={"csrf": form[1], "api_key": self.actors.keys[name]})
        if not answer.is_redirect:
            raise RuntimeError(f"{name} could not sign in: {answer.status_code}.")

    def _list_releases(self, requests: int, seconds: list[float]) -> None:
        with self._http("Data owner") as http:
            for _ in range(requests):
                with _timed() as took:
                    http.get("/v1/releases", params=_ALL_RELEASES).raise_for_status()
                seconds.append(took())

    def _http(self, name: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.actors.keys[name]}"}
        return httpx.Client(base_url=self.stack.web_url, headers=headers, timeout=60)

    def _walked(self) -> Walkthrough:
        if self.walkthrough is None:
            raise RuntimeError("The walkthrough failed, so there is nothing to measure.")
        return self.walkthrough

    def _released(self) -> str:
        release = self._walked().record.release
        if release is None or release.state != "published":
            raise RuntimeError("The walkthrough published nothing.")
        return release.id

    def _dataset(self, name: str, *, owner: KaimaClient | None = None, pixels: int = 64) -> str:
        schema = DatasetSchema(
            declared_count=60,
            height=pixels,
            width=pixels,
            label="kl_grade",
            labels=("0", "1", "2", "3", "4"),
        )
        made = (owner or self.actors.owner).create_dataset(
            name, purpose="Benchmark.", declared=schema, epsilon=100.0, delta=1e-3
        )
        return made.id

    @contextlib.contextmanager
    def _bucket(self) -> Iterator[tuple[Any, str]]:
        """Yield a bare S3 client and a bucket of its own."""
        environment = self.stack.environment()
        s3 = boto3.client(
            "s3",
            endpoint_url=environment["S3_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id=environment["S3_ACCESS_KEY"],
            aws_secret_access_key=environment["S3_SECRET_KEY"],
        )
        s3.create_bucket(Bucket="bench-raw")
        try:
            yield s3, "bench-raw"
        finally:
            for key in ("raw", "bundle"):
                s3.delete_object(Bucket="bench-raw", Key=key)
            s3.delete_bucket(Bucket="bench-raw")


def _let_end(owner: KaimaClient, job_id: str) -> None:
    """Cancel a run if that is still possible, and wait for its end."""
    with contextlib.suppress(ProblemError):  # it has ended already
        owner.cancel_job(job_id)
    owner.wait(job_id, poll_seconds=0.1, check=False)


def _rates(size: int, service_seconds: float, raw_seconds: float) -> dict[str, float]:
    return {
        "bytes": size,
        "service_bytes_per_second": size / service_seconds,
        "raw_bytes_per_second": size / raw_seconds,
        "ratio": raw_seconds / service_seconds,
    }


@contextlib.contextmanager
def _timed() -> Iterator[Callable[[], float]]:
    """Yield a function that tells how long the block took."""
    started = time.perf_counter()
    ended: list[float] = []
    yield lambda: ended[0]
    ended.append(time.perf_counter() - started)


if __name__ == "__main__":
    main()
