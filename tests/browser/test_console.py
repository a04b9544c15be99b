"""The console, as a browser shows it to a person."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import config
from webhook import __version__
from webhook.controller.console import create_console
from webhook.controller.pages import serve_pages

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

# What Chromium would do besides: ask its makers for updates and experiments, and look for proxies.
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)


class Shown:
    """A console, and what it is to show."""

    def __init__(self) -> None:
        self.config = config("")
        self.is_leading = True
        self.port = serve_pages(create_console(lambda: self.config, lambda: self.is_leading, dict), 0, "console")


@pytest.fixture(scope="module")
def shown() -> Shown:
    return Shown()


@pytest.fixture
def browse(shown: Shown, tmp_path: Path) -> Callable[..., str]:
    """Opens the console; what Chromium prints about it."""

    def browse(*options: str) -> str:
        command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *QUIET]
        url = f"http://127.0.0.1:{shown.port}/"
        done = subprocess.run(
            [*command, f"--user-data-dir={tmp_path}/profile", *options, url],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    return browse


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<style.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL).split())


def test_the_page_says_what_is_enforced(browse: Callable[..., str]) -> None:
    html = browse("--dump-dom")
    page = text_of(html)
    assert f"Forestall {__version__}" in page
    assert "This controller leads" in page
    assert "memory-limits patch Every container, init container and sidecar has a memory limit." in page
    assert "prometheus-memory deny" in page
    assert "zonal-volumes deny" in page
    assert "://" not in html  # nothing is loaded from elsewhere


def test_a_ceiling_and_a_standby_are_seen(browse: Callable[..., str], shown: Shown) -> None:
    shown.config, shown.is_leading = config("mode: audit"), False
    page = text_of(browse("--dump-dom"))
    shown.config, shown.is_leading = config(""), True
    assert "This controller stands by: another one leads." in page
    assert "The whole installation is in mode audit : nothing acts more strongly." in page
    assert "memory-limits audit" in page


@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_painted(browse: Callable[..., str], tmp_path: Path, width: int) -> None:
    picture = tmp_path / "console.png"
    browse(f"--screenshot={picture}", f"--window-size={width},800")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 5000, "an empty page"
