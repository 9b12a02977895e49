"""A real Chromium for the browser tests: the one on PATH, or the distribution's package.

A browser test is never skipped for want of a browser: it fails with the command to run instead.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends", "chromium")
_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
)


class ChromiumMissing(RuntimeError):
    """There is no browser; the text says which command installs one."""


def find_chromium() -> str:
    """Return the path of a Chromium, installing the distribution's package where that is possible.

    Raises: ChromiumMissing.
    """
    found = _on_path()
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        with _one_at_a_time():
            found = _on_path() or _install()
    if found is None:
        raise ChromiumMissing(
            "The browser tests need Chromium, and none of "
            f"{', '.join(NAMES)} is on PATH. Install it: sudo {' '.join(INSTALL)}"
        )
    return found


@contextlib.contextmanager
def running_chromium() -> Iterator[Browser]:
    """Run a browser."""
    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_OPTIONS))
        try:
            yield browser
        finally:
            browser.close()


def sign_in(page: Page, url: str, token: str) -> None:
    """Sign in with an API key; leaves the page where signing in leads to."""
    page.goto(f"{url}/sign-in?with=key")
    page.get_by_label("API key").fill(token)
    page.locator("main form button").first.click()
    page.wait_for_url(lambda address: "/sign-in" not in address)


def _on_path() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def _install() -> str | None:
    print(f"Installing a browser: {' '.join(INSTALL)}", file=sys.stderr)  # noqa: T201
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (("apt-get", "update"), INSTALL):
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ChromiumMissing(
                f"`{' '.join(command)}` failed: {done.stderr.strip()[-500:]} "
                "Install Chromium by hand and run the tests again."
            )
    return _on_path()


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Hold a lock: several test processes start at once, and packages are installed once."""
    with (Path(tempfile.gettempdir()) / "kaima-chromium.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
