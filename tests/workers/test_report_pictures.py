"""The report in a real browser: nothing cut at desktop and phone width, nobody asked, and it prints."""

import shutil

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from privacy.audits import run_battery
from privacy.policy import load_policy
from tests.privacy.audit_material import innocent, one_record_each, quick, with_samples
from workers.report.render import render_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    rng = np.random.default_rng(1)
    evidence = innocent(rng, persons=500, samples=300, scores=True)
    evidence = with_samples(evidence, evidence.records[one_record_each(evidence, 9, rng)])
    report = run_battery(
        evidence, policy=quick(load_policy()), tier="registered", attempt=1, rng=rng
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    context = {"title": "An audit", "labels": ["a", "b", "c"], "generator": "copycat"}
    path.write_text(render_report(report, evidence=evidence, context=context), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-sync"]
        options += ["--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


def opened(chromium, page_file, width, scheme="light"):
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    page.on("console", lambda message: asked.append(message.text))
    page.on(
        "request",
        lambda sent: (
            asked.append(sent.url) if not sent.url.startswith(("file:", "data:")) else None
        ),
    )
    page.goto(page_file.as_uri())
    return page, asked


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_width_and_asks_nobody(chromium, page_file, width, scheme):
    page, asked = opened(chromium, page_file, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = page.evaluate(
        """() => [...document.querySelectorAll('main *')]
        .filter(e => !e.closest('svg') && e.getBoundingClientRect().right > innerWidth + 1)
        .map(e => e.tagName + ' ' + e.className)"""
    )
    assert cut == []
    assert asked == []
    assert len(page.screenshot(full_page=True)) > 50_000
    page.context.close()


def test_a_pair_is_blurred_until_it_is_clicked(chromium, page_file):
    page, _ = opened(chromium, page_file, 1280)
    picture = page.locator(".pair img").first
    assert "blur" in picture.evaluate("e => getComputedStyle(e).filter")
    page.locator(".pair").first.click()
    assert picture.evaluate("e => getComputedStyle(e).filter") == "none"
    assert "blur" in page.locator(".pair img").nth(3).evaluate("e => getComputedStyle(e).filter")
    page.context.close()


def test_it_prints_to_pdf_without_the_real_records_that_were_not_opened(chromium, page_file):
    page, _ = opened(chromium, page_file, 1280)
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="print")
    assert not page.locator("details.evidence-only").is_visible()
    assert page.locator("section.verdict").is_visible()
    page.context.close()
