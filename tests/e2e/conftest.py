"""One guarded cluster for a whole session (with xdist: for each of its processes), a namespace for each test."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.e2e.guarded import Guarded, guarded_plane, has_helm


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e/" in item.path.as_posix():
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded_plane(tmp_path_factory.mktemp("plane")) as guarded:
        yield guarded


@pytest.fixture
def namespace(cluster: Guarded, request: pytest.FixtureRequest) -> str:
    """A guarded namespace of the test's own."""
    name = _namespace_of(request)
    cluster.make_namespace(name)
    return name


@pytest.fixture
def old_namespace(cluster: Guarded, request: pytest.FixtureRequest) -> str:
    """A namespace that isn't judged until cluster.guard() is called: for objects older than Forestall."""
    name = _namespace_of(request)
    cluster.make_namespace(name, guarded=False)
    return name


def _namespace_of(request: pytest.FixtureRequest) -> str:
    return re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower()).strip("-")[:60]


@pytest.fixture
def helm(cluster: Guarded) -> Guarded:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    return cluster
