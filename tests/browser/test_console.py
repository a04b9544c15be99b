"""The landing page, as a browser shows it to a person."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.loopback import eventually
from tests.served import Server, served
from webhook import __version__

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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def browse(server: Server, tmp_path: Path) -> Callable[..., str]:
    """Opens a page of the console; what Chromium prints about it."""

    def browse(path: str, *options: str) -> str:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *QUIET]
        url = f"http://127.0.0.1:{server.metrics_port}{path}"
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
    page = text_of(browse("/", "--dump-dom"))
    assert f"Forestall {__version__}" in page
    assert "Ready." in page
    assert "memory-limits patch Every container, init container and sidecar has a memory limit." in page
    assert "prometheus-memory deny" in page
    assert "zonal-volumes deny" in page


def test_a_ceiling_is_seen(browse: Callable[..., str], server: Server) -> None:
    server.config.write_text("mode: audit\n")
    try:
        eventually(lambda: "nothing acts more strongly" in server.get("/")[1])
        page = text_of(browse("/", "--dump-dom"))
    finally:
        server.config.write_text("mode: deny\n")
    assert "The whole installation is in mode audit : nothing acts more strongly." in page
    assert "memory-limits audit" in page


def test_links_lead_somewhere(browse: Callable[..., str], server: Server) -> None:
    links = re.findall(r'href="([^"]+)"', browse("/", "--dump-dom"))
    assert links == ["metrics", "readyz", "healthz"]
    assert [server.get(f"/{link}")[0] for link in links] == [200, 200, 200]


@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_painted(browse: Callable[..., str], tmp_path: Path, width: int) -> None:
    picture = tmp_path / "console.png"
    browse("/", f"--screenshot={picture}", f"--window-size={width},800")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 5000, "an empty page"
