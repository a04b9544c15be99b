"""The audit's page, as a browser shows it to whoever got it by mail: from its file, with nothing else to load."""

from __future__ import annotations

import html
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.browser.test_console import CHROMIUM, QUIET
from tests.builders import container, every_policy, sized, workload
from tests.fake_api import FakeApi
from webhook.cli import main
from webhook.policy import Object

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

HOSTILE = """<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>"""

# Beside the page, from the same server: it does what a person would, and tells what is to be seen.
VISITOR = """<!doctype html><iframe src="audit.html" width="1280" height="800"></iframe><script>
const frame = document.querySelector("iframe");
frame.addEventListener("load", () => {
  const page = frame.contentDocument, found = {};
  const names = () => [...page.querySelectorAll(".findings tbody tr")].filter(row => row.checkVisibility())
    .map(row => row.cells[2].textContent.trim());
  const click = () => [...page.querySelectorAll(".findings button")].find(one => one.textContent === "Object").click();
  found.title = page.title;
  found.images = page.images.length;
  found.back = frame.contentWindow.getComputedStyle(page.body).backgroundColor;
  found.first = names(); click();
  found.ascending = names(); click();
  found.descending = names();
  const search = page.querySelector("input[type=search]");
  search.value = "PAYMENTS no memory";
  search.dispatchEvent(new frame.contentWindow.Event("input"));
  found.searched = names();
  found.shown = page.querySelector("output").value;
  document.body.innerHTML = "<output></output>";
  document.querySelector("output").textContent = JSON.stringify(found);
});
</script>"""


def deployment(name: str, team: str, of: str = "web", limit: str | None = None) -> Object:
    obj = workload("Deployment", container(of, **sized(limit)), name=name)
    obj["metadata"] |= {"uid": f"u-{name}", "labels": {"team": team}}
    return obj


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page is, of a cluster with hostile names."""
    folder = tmp_path_factory.mktemp("page")
    api = FakeApi()
    api.objects["configmaps"] = []
    api.objects["deployments"] = [
        *(deployment("beta-10", "payments"), deployment("beta-9", "payments"), deployment("alpha", HOSTILE, HOSTILE)),
        deployment("in-order", "payments", limit="1Gi"),
    ]
    (folder / "config.yaml").write_text(every_policy(memory_limits="mode: deny"))
    config = f"--config={folder / 'config.yaml'}"
    with (folder / "audit.html").open("w") as page, pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.stdout", page)
        code = main(["audit", "--kubeconfig", api.kubeconfig(folder), config, "--group-by=team", "--output=html"])
    api.close()
    assert code == 1
    (folder / "visitor.html").write_text(VISITOR)
    return folder


class Server(ThreadingHTTPServer):
    asked: list[str]


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        self.server.asked.append(self.path)


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def chromium(url: str, tmp_path: Path, *options: str) -> str:
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *QUIET]
    return subprocess.run(
        [*command, f"--user-data-dir={tmp_path}/profile", *options, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def visit(server: Server, tmp_path: Path, *options: str) -> dict[str, Any]:
    url = f"http://127.0.0.1:{server.server_address[1]}/visitor.html"
    dumped = chromium(url, tmp_path, "--dump-dom", "--virtual-time-budget=10000", *options)
    told = re.search("<output>(.*)</output>", dumped)
    assert told, dumped
    found: dict[str, Any] = json.loads(html.unescape(told[1]))
    return found


def test_a_person_sorts_and_searches(server: Server, tmp_path: Path) -> None:
    found = visit(server, tmp_path)
    alpha, nine, ten = (f"Deployment shop/{name}" for name in ("alpha", "beta-9", "beta-10"))
    assert found["first"] == [ten, nine, alpha], "the team with most denials first"
    assert found["ascending"] == [alpha, nine, ten]
    assert found["descending"] == [ten, nine, alpha]
    assert (found["searched"], found["shown"]) == ([ten, nine], "2 of 3 shown")


def test_hostile_names_stay_text_and_nothing_else_is_loaded(server: Server, folder: Path, tmp_path: Path) -> None:
    found = visit(server, tmp_path)
    assert (found["title"].startswith("Forestall audit, "), found["images"]) == (True, 0)
    assert (
        html.escape(HOSTILE, quote=False).replace('"', "&#34;").replace("'", "&#39;")
        in (folder / "audit.html").read_text()
    )
    assert {path for path in server.asked if path != "/favicon.ico"} == {"/visitor.html", "/audit.html"}


@pytest.mark.parametrize(
    ("options", "back"),
    [
        pytest.param((), "rgb(255, 255, 255)", id="light"),
        pytest.param(("--blink-settings=preferredColorScheme=0",), "rgb(13, 17, 23)", id="dark"),
    ],
)
def test_light_and_dark(server: Server, tmp_path: Path, options: tuple[str, ...], back: str) -> None:
    assert visit(server, tmp_path, *options)["back"] == back


@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_painted_from_its_file(folder: Path, tmp_path: Path, width: int) -> None:
    picture = tmp_path / "audit.png"
    chromium((folder / "audit.html").as_uri(), tmp_path, f"--screenshot={picture}", f"--window-size={width},800")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 5000, "an empty page"


def test_it_is_printed(folder: Path, tmp_path: Path) -> None:
    paper = tmp_path / "audit.pdf"
    chromium((folder / "audit.html").as_uri(), tmp_path, f"--print-to-pdf={paper}")
    assert paper.read_bytes().startswith(b"%PDF")
