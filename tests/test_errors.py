"""Errors pass between processes: `forestall check` reads half of its files in a second one."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from webhook import errors
from webhook.errors import BadManifest, ClusterRefused, Conflict, ForestallError

GIVEN = {BadManifest: ("web.yaml", 3, "no mapping")} | dict.fromkeys(
    (ClusterRefused, Conflict), (409, "Conflict", "a\nb")
)
EVERY = [error for _, error in inspect.getmembers(errors, inspect.isclass) if issubclass(error, ForestallError)]


@pytest.mark.parametrize("type_", EVERY)
def test_errors_survive_pickling(type_: type[ForestallError]) -> None:
    error = type_(*GIVEN.get(type_, ("what is wrong",)))
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type_
        assert str(again) == str(error)
        assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        pytest.param(BadManifest("web.yaml", 3, "no mapping"), "web.yaml:3: no mapping", id="manifest"),
        pytest.param(ClusterRefused(403, "Forbidden", "not\nyou"), "not you (403)", id="refused"),
        pytest.param(Conflict(409, "Conflict", "late", retry_after=2), "late (409)", id="conflict"),
    ],
)
def test_errors_are_one_line(error: ForestallError, text: str) -> None:
    assert str(error) == text
