"""A data owner's day in a real browser: declare, upload over a broken line, plan, train, propose."""

import io
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from service.domain.accounts import Actor
from service.domain.errors import InputRefused
from service.domain.jobs import JobKind
from service.domain.releases import Decision, Release, ReleaseState
from service.operations import datasets, jobs
from service.store.objects import file_sha256
from tests.chromium import sign_in
from tests.factories import Walk
from workers import ingest
from workers.context import JobContext

pytestmark = pytest.mark.slow

PERSONS = 520
expect.set_options(timeout=30_000)  # the machine may be busy with other tests
TokenOf = Callable[[Actor], str]


@pytest.fixture
def page(chromium: Browser, live_url: str, people: Walk, token_of: TokenOf) -> Iterator[Page]:
    """Yield a page in which the data owner is signed in; whatever it complains of is a failure."""
    context = chromium.new_context(base_url=live_url)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda sent: None if sent.url.startswith(live_url) else wrong.append(sent.url)
    )
    sign_in(page, live_url, token_of(people.owner))
    yield page
    context.close()
    assert [text for text in wrong if not text.startswith("data:")] == []


def good_zip(path: Path) -> Path:
    """Write a zip that the declaration of `declared` allows: noise, a person an image."""
    draw = random.Random(1)
    with zipfile.ZipFile(path, "w") as archive:
        lines = ["file,patient_id,grade"]
        for number in range(PERSONS):
            picture = io.BytesIO()
            Image.frombytes("L", (8, 8), draw.randbytes(64)).save(picture, format="PNG")
            archive.writestr(f"{number}.png", picture.getvalue())
            lines.append(f"{number}.png,P{number},{number % 2}")
        archive.writestr("table.csv", "\n".join(lines))
    return path


def hostile_zip(path: Path) -> Path:
    """Write a zip of three parts that leads out of itself."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("../outside.png", random.Random(2).randbytes(11 * 2**20))
        archive.writestr("table.csv", "file,patient_id,grade\n../outside.png,P1,0\n")
    return path


def work_through(people: Walk, dataset_id: str, scratch: Path) -> None:
    """Do what the worker of an ingest does, on the bytes that the browser has sent."""
    with people.application.uow(read_only=True) as uow:
        page = jobs.list_jobs(uow, people.owner, dataset_id=dataset_id, kind=JobKind.INGEST)
        job = page.items[0]
    token = people.claim(job)
    scratch.mkdir()
    context = JobContext(people.application, job, token, scratch, lambda *_a, **_k: None)
    try:
        result = ingest.run(context)
    except InputRefused as error:
        problem = {"type": error.slug, "detail": error.sentence, **error.extensions}
        with people.application.uow() as uow:
            datasets.refuse_ingest(uow, job.id, token=token, problem=problem)
        with people.application.uow() as uow:
            jobs.fail_job(uow, job.id, token=token, problem=problem)
    else:
        people.succeed(job, token, result)


def declare(page: Page, name: str) -> str:
    """Declare a dataset on its form, wrongly first; return its id."""
    page.goto("/datasets/new")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Purpose").fill("Teaching")
    page.get_by_label("About how many").fill("1 003")
    for label in ("Height", "Width"):
        page.get_by_label(label).fill("8")
    page.get_by_label("Column of the label").fill("grade")
    page.get_by_role("textbox", name="All labels").fill("0, 1")
    page.get_by_label("ε", exact=True).fill("3")
    page.get_by_role("button", name="Declare this dataset").click()
    expect(page.get_by_role("alert")).to_contain_text("only a rounded count hides who is in it")
    page.get_by_label("About how many").fill("1000")
    page.get_by_role("button", name="Declare this dataset").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    return page.url.rsplit("/", 1)[1]


def test_an_upload_survives_a_broken_line_and_a_reload_and_a_hostile_file_is_refused_by_name(
    page: Page, people: Walk, tmp_path: Path
) -> None:
    dataset_id = declare(page, "Knees with a bad export")
    file = hostile_zip(tmp_path / "export.zip")
    page.get_by_role("link", name="Upload images").click()
    page.locator("#file").set_input_files(tmp_path / "export.zip")
    expect(page.locator("#digest")).to_have_text(file_sha256(file))

    def break_line(route: Route) -> None:
        route.abort() if route.request.url.endswith("/2") else route.continue_()

    page.route("**/upload/parts/*", break_line)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#status")).to_contain_text("the line is broken")
    page.unroute("**/upload/parts/*")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Go on uploading")
    sent: list[str] = []
    page.on("request", lambda one: sent.append(one.url) if one.method == "PUT" else None)
    page.locator("#file").set_input_files(file)
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url("**/versions/*", timeout=60_000)
    assert [address.rsplit("/", 1)[1] for address in sent] == ["2", "3"]
    work_through(people, dataset_id, tmp_path / "scratch")
    expect(page.get_by_role("alert")).to_contain_text("../outside.png was refused")
    expect(page.get_by_text("Upload another file")).to_be_visible()


def test_a_training_over_budget_is_refused_and_a_cancelled_one_returns_what_it_reserved(
    page: Page, people: Walk, tmp_path: Path
) -> None:
    dataset_id = declare(page, "Knees for a training")
    page.goto(f"/datasets/{dataset_id}/upload")
    page.locator("#file").set_input_files(good_zip(tmp_path / "good.zip"))
    page.get_by_role("button", name="Send").click()
    page.wait_for_url("**/versions/*", timeout=60_000)
    work_through(people, dataset_id, tmp_path / "scratch")
    expect(page.get_by_text("What the check found")).to_be_visible(timeout=30_000)
    expect(page.get_by_role("table")).to_contain_text("260")  # images of each label
    page.get_by_role("link", name="Plan a training").click()
    page.get_by_label("ε of this run").fill("4")
    expect(page.locator("#after")).to_contain_text("more than the 3 that is left")
    page.get_by_label("Quick").check()
    page.get_by_label("A little DP-SGD").check()
    page.get_by_role("button", name="Show the plan").click()
    expect(page.get_by_role("alert")).to_contain_text("refused")
    expect(page.get_by_role("button", name="Reserve it")).to_have_attribute("aria-disabled", "true")
    page.get_by_role("link", name="Change it").click()
    page.get_by_label("ε of this run").fill("1")
    page.get_by_role("button", name="Show the plan").click()
    page.get_by_role("button", name="and train").click()
    expect(page.locator(".loading")).to_be_visible()
    page.get_by_role("button", name="Cancel this job").click()
    expect(page.locator(".state").first).to_have_text("cancelled")
    page.goto(f"/datasets/{dataset_id}")
    expect(page.get_by_text("ε 3 of 3 is left")).to_be_visible()


def test_a_returned_release_shows_what_the_auditors_said_and_goes_back_to_them(
    page: Page, people: Walk
) -> None:
    audit = people.audited(people.version(people.dataset()))
    page.goto(f"/jobs/{audit.id}")
    page.get_by_role("link", name="Propose a release").click()
    page.get_by_label("Name", exact=True).fill("knees-of-the-day")
    page.get_by_role("button", name="Make a draft").click()
    publish = page.get_by_role("button", name="Publish")
    expect(publish).to_have_attribute("aria-disabled", "true")
    expect(page.get_by_text("Two auditors must approve first").first).to_be_visible()
    page.get_by_role("button", name="Submit to the auditors").click()
    release_id = page.url.split("/releases/")[1].split("/")[0]
    with people.application.uow(read_only=True) as uow:
        release = uow.get(Release, release_id)
    assert release is not None
    for auditor in people.auditors[:2]:
        people.voted(release, auditor, Decision.RETURN, reason="Say how long copies are kept.")
    page.reload()
    expect(page.get_by_text("Say how long copies are kept.").first).to_be_visible()
    page.get_by_label("Terms of use").fill("Copies are kept for one year.")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Submit to the auditors").click()
    expect(page.locator(".state").first).to_have_text("waiting for its auditors")
    assert people.current(release).state is ReleaseState.SUBMITTED


def test_a_job_page_renews_itself_without_being_loaded_again(page: Page, people: Walk) -> None:
    job = people.training(people.version(people.dataset()))
    page.goto(f"/jobs/{job.id}")
    expect(page.locator(".loading")).to_be_visible()
    people.claim(job)
    expect(page.locator(".state", has_text="running")).to_be_visible(timeout=15_000)
