"""Look at every page as every role: `python -m tests.screens` writes build/screens/index.html.

The pages are those of the app's own routes, and their addresses are found as a person finds them: by
following links from the start page. A page that no link leads to is a finding, and so are a console
error, a request to elsewhere, content wider than a phone, and what axe calls serious or critical.
Without --url, a filled instance is made for the purpose (`tests.filled`).
"""

import argparse
import html
import json
import re
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from playwright.sync_api import Browser, BrowserContext, Page
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

import service.app  # noqa: F401 - its import adds every page to the blueprint
from service.pages.session import blueprint
from tests.chromium import running_chromium, sign_in
from tests.filled import filled_instance

OUT = Path("build/screens")
WIDTHS = (1280, 360)
SCHEMES = ("light", "dark")
PER_ROUTE = 2
MORE = {
    "pages.manage_release": 5,
    "pages.show_job": 8,
    "pages.show_release": 6,
    "pages.show_version": 3,
}
"""Pages that look different from state to state."""

MOST_VISITS = 400
NOBODY = "signed out"
ROLES = ("Data owner", "First auditor", "Collaborator", "operator")
STARTS = ("/", "/sign-in", "/sign-in?with=key", "/problems/budget-refused")
ASKED = "?generator=statistics&preset=&epsilon=0.5&tier=registered&samples=200"
VARIANTS = {"pages.plan_training": ASKED}
"""Addresses that a form leads to rather than a link."""

WITHOUT_A_LINK = {
    "pages.add_own_factor": "a step of enrolling, after a password",
    "pages.confirm_factor": "a step of signing in, after a password",
    "pages.give_factor": "a step of signing in, after a password",
    "pages.set_up_factor": "a step of enrolling, after a password",
    "pages.use_invitation": "only a one-time link leads to it",
    "pages.start_oidc": "another server answers",
    "pages.finish_oidc": "another server leads to it",
    "pages.list_upload_parts": "an answer for a script",
    "pages.download_bundle": "a file",
    "pages.download_log_file": "a file",
    "pages.edit_teaching_set": "a file",
    "pages.export_decided": "a file",
    "pages.export_policy": "a file",
    "pages.show_preview": "a picture, of what a worker has packaged",
    "pages.show_plan": "no tenant here asks for approvals of plans",
    "pages.show_policy": "no tenant here has a policy of its own",
}
"""Routes that following links does not reach, each with its reason."""

_HREF = re.compile(r"""<(?:a|iframe|img)\b[^>]*?\s(?:href|src)=["']([^"'#]+)""")
_IMPACTS = {"serious", "critical"}


@dataclass
class Findings:
    """What was seen, and what is wrong with it."""

    shots: list[tuple[str, str, str]] = field(default_factory=list)  # role, address, stem
    wrong: list[str] = field(default_factory=list)
    covered: set[str] = field(default_factory=set)


def page_routes() -> MapAdapter:
    """Return what matches addresses to the pages' routes."""
    app = Flask("screens")
    app.register_blueprint(blueprint)
    return app.url_map.bind("screens.invalid")


def get_endpoints(routes: MapAdapter) -> set[str]:
    """Return every page that can be asked for with GET."""
    rules = routes.map.iter_rules()
    return {rule.endpoint for rule in rules if "GET" in (rule.methods or ())} - {"static"}


def look(
    browser: Browser, url: str, keys: dict[str, str], out: Path, *, roles: tuple[str, ...]
) -> Findings:
    """Visit every page as every role; return what was found."""
    findings, routes = Findings(), page_routes()
    for role in roles:
        context = browser.new_context(viewport={"width": WIDTHS[0], "height": 900})
        page = context.new_page()
        if role != NOBODY:
            sign_in(page, url, keys[role])
        _watch(page, url, findings, role)
        for address in _addresses(context, url, routes, findings):
            _photograph(page, url + address, findings, role=role, out=out)
        context.close()
    if len(roles) == 1:
        return findings
    missing = get_endpoints(routes) - findings.covered - set(WITHOUT_A_LINK)
    findings.wrong += [f"no link leads to the page {name}" for name in sorted(missing)]
    return findings


def _addresses(
    context: BrowserContext, url: str, routes: MapAdapter, findings: Findings
) -> Iterator[str]:
    """Yield the addresses of pages that links lead to, a few of each route."""
    waiting, seen = deque(STARTS), set(STARTS)
    per_route: dict[str, int] = {}
    visits = 0
    while waiting and visits < MOST_VISITS:
        address = waiting.popleft()
        endpoint = _endpoint(routes, address)
        if endpoint is None or per_route.get(endpoint, 0) >= MORE.get(endpoint, PER_ROUTE):
            continue
        per_route[endpoint] = per_route.get(endpoint, 0) + 1
        visits += 1
        answer = context.request.get(url + address, headers={"Accept": "text/html"})
        findings.covered.add(endpoint)
        if answer.status >= 500:
            findings.wrong.append(f"{address} answered {answer.status}")
        is_sandboxed = "sandbox" in answer.headers.get("content-security-policy", "")
        if is_sandboxed or "text/html" not in answer.headers.get("content-type", ""):
            continue  # a document of its own, in which no script runs, axe's neither
        for link in _links(answer.text()):
            found = _endpoint(routes, link)
            more = [link, link + VARIANTS[found]] if found in VARIANTS else [link]
            waiting.extend(one for one in more if one not in seen)
            seen.update(more)
        landed = urlsplit(answer.url)
        yield landed.path + (f"?{landed.query}" if landed.query else "")


def _links(text: str) -> Iterator[str]:
    for found in _HREF.findall(text):
        address = html.unescape(found)
        if address.startswith("/") and not address.startswith(("//", "/static/")):
            yield address.split("?")[0]


def _endpoint(routes: MapAdapter, address: str) -> str | None:
    try:
        endpoint, _ = routes.match(urlsplit(address).path, method="GET")
    except HTTPException:
        return None
    return str(endpoint)


def _watch(page: Page, url: str, findings: Findings, role: str) -> None:
    def note(text: str) -> None:
        findings.wrong.append(f"{role}, {urlsplit(page.url).path}: {text}")

    page.on("console", lambda said: note(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: note(str(error)))
    page.on(
        "request",
        lambda sent: (
            None if sent.url.startswith((url, "data:", "blob:")) else note(f"asked for {sent.url}")
        ),
    )


def _photograph(page: Page, address: str, findings: Findings, *, role: str, out: Path) -> None:
    """Write a page in every width and scheme, and let axe look at it."""
    answer = page.goto(address)
    path = address.split("://", 1)[1].partition("/")[2]
    if answer is None or answer.status >= 500:
        findings.wrong.append(f"{role}: /{path} was not answered")
        return
    stem = f"{role.replace(' ', '-')}-{re.sub(r'[^A-Za-z0-9]+', '-', path) or 'start'}"[:120]
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=out / f"{stem}.{width}.{scheme}.png", full_page=True)
            if (width, scheme) in {(1280, "light"), (360, "dark")}:
                _ask_axe(page, f"{role}: /{path} at {width} {scheme}", findings)
        if width == min(WIDTHS):
            _measure(page, f"{role}: /{path}", findings)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.emulate_media(color_scheme="light")
    findings.shots.append((role, f"/{path}", stem))


def _measure(page: Page, where: str, findings: Findings) -> None:
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    if wide > 0:
        findings.wrong.append(f"{where} is {wide} pixels wider than a phone")
    if page.locator("h1").count() != 1:
        findings.wrong.append(
            f"{where} has {page.locator('h1').count()} headings of the first level"
        )


def _ask_axe(page: Page, where: str, findings: Findings) -> None:
    found = Axe().run(page, options={"iframes": False, "resultTypes": ["violations"]})
    for violation in found.response["violations"]:
        if violation["impact"] in _IMPACTS:
            first = violation["nodes"][0]
            findings.wrong.append(
                f"{where}: {violation['id']}, {violation['help']}: {first['html'][:160]}"
            )


def write_index(findings: Findings, out: Path) -> None:
    """Write a page that shows all screenshots."""
    rows = "".join(
        f"<h2>{html.escape(role)}: {html.escape(address)}</h2><p>"
        + "".join(
            f'<a href="{stem}.{width}.{scheme}.png"><img loading="lazy" alt="{width} {scheme}" '
            f'src="{stem}.{width}.{scheme}.png"></a> '
            for width in WIDTHS
            for scheme in SCHEMES
        )
        for role, address, stem in findings.shots
    )
    wrong = "".join(f"<li>{html.escape(text)}</li>" for text in findings.wrong)
    style = "body{font:16px sans-serif;margin:2rem}img{height:18rem;border:1px solid #999}"
    title = f"{len(findings.shots)} pages, {len(findings.wrong)} findings"
    text = f"<!doctype html><meta charset=utf-8><title>Screens</title><style>{style}</style>"
    (out / "index.html").write_text(f"{text}<h1>{title}</h1><ol>{wrong}</ol>{rows}", "utf-8")


def take_screens(
    url: str,
    keys: dict[str, str],
    out: Path = OUT,
    *,
    roles: tuple[str, ...] = (*ROLES, NOBODY),
) -> Findings:
    """Photograph an instance; return what was found."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.png"):
        old.unlink()
    with running_chromium() as browser:
        findings = look(browser, url.rstrip("/"), keys, out, roles=roles)
    write_index(findings, out)
    return findings


def main() -> int:
    """Run the command; 0 without findings, 1 with some."""
    parser = argparse.ArgumentParser(prog="python -m tests.screens", description=__doc__)
    parser.add_argument("--url", help="an instance that runs, `make demo KEEP=1` for one")
    parser.add_argument("--keys", type=Path, default=Path("build/demo/api_keys.json"))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--role", help=f"one of {', '.join(ROLES)} alone")
    given = parser.parse_args()
    roles = (given.role,) if given.role else (*ROLES, NOBODY)
    if given.url:
        keys = json.loads(given.keys.read_text(encoding="utf-8"))
        findings = take_screens(given.url, keys, given.out, roles=roles)
    else:
        with filled_instance() as (url, keys, _):
            findings = take_screens(url, keys, given.out, roles=roles)
    for text in findings.wrong:
        print(text)  # noqa: T201
    print(  # noqa: T201
        f"{len(findings.shots)} pages, {len(findings.wrong)} findings: {given.out / 'index.html'}"
    )
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
