"""The console as HTTP: what it says, and that it is served apart from probes."""

from __future__ import annotations

import socket

import pytest

from tests.builders import config
from webhook.controller.console import create_console
from webhook.controller.pages import serve_pages
from webhook.errors import SystemRefused


@pytest.mark.parametrize(
    ("text", "is_leading", "said"),
    [
        pytest.param("", True, "This controller leads", id="leads"),
        pytest.param("", False, "stands by: another one leads", id="stands-by"),
        pytest.param("mode: warn", True, "in mode <b>warn</b>", id="a-ceiling"),
        pytest.param("", True, "<td>zonal-volumes<td>deny", id="a-policy"),
    ],
)
def test_page(text: str, is_leading: bool, said: str) -> None:
    answer = create_console(lambda: config(text), lambda: is_leading, dict).test_client().get("/")
    assert (answer.status_code, said in answer.text, "://" in answer.text) == (200, True, False)


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemRefused, match=f"^port {port}: Address already in use$"):
            serve_pages(lambda *_: [b""], port, "console")


def test_what_the_controller_can_not_read_is_said() -> None:
    unread = {"limitranges": "limitranges is <forbidden> (403)"}
    answer = create_console(lambda: config(""), lambda: True, lambda: unread).test_client().get("/")
    assert "<b>limitranges can't be read</b>: limitranges is &lt;forbidden&gt; (403)" in answer.text
