"""Where the replicas of `forestall serve` are, by the EndpointSlices of their Service."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from webhook.errors import BadConfig
from webhook.stored import read_objects, readable

if TYPE_CHECKING:
    from webhook.cluster import Cluster

SERVICE = "forestall"
_OURS = f"kubernetes.io/service-name={SERVICE}"


class Endpoint(NamedTuple):
    host: str
    port: int


class Endpoints:
    """The replicas' addresses; `given` ones stand for what the Service would name, where no pod network exists."""

    def __init__(self, cluster: Cluster, namespace: str, given: Sequence[Endpoint] = ()) -> None:
        self._cluster = cluster
        self._path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._given = given

    def all(self) -> list[Endpoint]:
        """All of them, ready or not."""
        return list(self._given) or [endpoint for endpoint, _ in self._listed()]

    def is_any_ready(self) -> bool:
        """Whether one would answer; a given one does if it listens."""
        if self._given:
            return any(map(_is_listening, self._given))
        return any(is_ready for _, is_ready in self._listed())

    def _listed(self) -> list[tuple[Endpoint, bool]]:
        return [
            # Absent means that it is not known, which counts as ready (the API's reference, EndpointConditions).
            (Endpoint(address, port["port"]), (endpoint.get("conditions") or {}).get("ready") is not False)
            for each in readable(read_objects(self._cluster, self._path, "EndpointSlice", labels=_OURS))
            for endpoint in each.get("endpoints") or ()
            for address in endpoint["addresses"]
            for port in each.get("ports") or ()
            if port.get("port")
        ]


def parse_endpoints(text: str) -> tuple[Endpoint, ...]:
    """ "10.0.0.1:8443,[::1]:8443" -> both; raises BadConfig."""
    return tuple(map(_parse_endpoint, filter(None, text.split(","))))


def _parse_endpoint(text: str) -> Endpoint:
    host, _, port = text.strip().rpartition(":")
    if not host or not port.isdecimal():
        raise BadConfig(f"{text!r} is not HOST:PORT")
    return Endpoint(host.strip("[]"), int(port))


def _is_listening(endpoint: Endpoint) -> bool:
    try:
        with socket.create_connection(endpoint, timeout=1):
            return True
    except OSError:
        return False
