"""Commands to type: whatever is in an object, they do no more than they say."""

from __future__ import annotations

import shlex

import pytest

from webhook.objects.commands import kubectl


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param(kubectl("get", "nodes"), "kubectl get nodes", id="plain"),
        pytest.param(
            kubectl("delete", "pod/web-0", namespace="shop", why="another is made"),
            "kubectl -n shop delete pod/web-0  # another is made",
            id="namespace-and-comment",
        ),
        pytest.param(
            kubectl("get", "pods", "-l", "app=web,tier in (a,b)"),
            "kubectl get pods -l 'app=web,tier in (a,b)'",
            id="selector",
        ),
        pytest.param(
            kubectl("describe", "x; rm -rf ~/web", namespace="$(id)"),
            "kubectl -n '$(id)' describe 'x; rm -rf ~/web'",
            id="an-owner-of-any-name",
        ),
        pytest.param(
            kubectl("describe", "pod/it's"), "kubectl describe 'pod/it'\"'\"'s'", id="a-quote-ends-no-argument"
        ),
        pytest.param(
            kubectl("get", "nodes", why="one\nrm -rf ~"),
            "kubectl get nodes  # one rm -rf ~",
            id="a-comment-has-one-line",
        ),
    ],
)
def test_each_argument_stays_one(command: str, expected: str) -> None:
    assert command == expected


@pytest.mark.parametrize("name", ["a\nb", "a`id`", "\\", "a#b", "--all", "*"])
def test_a_shell_reads_what_was_meant(name: str) -> None:
    assert shlex.split(kubectl("describe", f"pod/{name}"), comments=True) == ["kubectl", "describe", f"pod/{name}"]
