"""Where the replicas of `forestall serve` are, by the EndpointSlices of their Service."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from webhook.cluster.lists import Reader
from webhook.cluster.stored import read_objects, readable
from webhook.errors import BadConfig
from webhook.installation import NAME


class Endpoint(NamedTuple):
    host: str
    port: int


@dataclass(frozen=True)
class ServerEndpoint:
    """An endpoint of the servers' Service; `served` is the certificate (DER) that it presents, where one was seen."""

    endpoint: Endpoint
    is_ready: bool = True
    node: str = ""
    served: bytes | None = None


def list_endpoints(cluster: Reader, namespace: str) -> Iterator[ServerEndpoint]:
    """What the Service's EndpointSlices name, one for each port. Raises ClusterRefused or FactsUnavailable."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    slices = read_objects(cluster, path, "EndpointSlice", labels=f"kubernetes.io/service-name={NAME}")
    for endpoint_slice in readable(slices):
        for endpoint in endpoint_slice.get("endpoints") or ():
            # An endpoint without the condition `ready` counts as ready (the API's reference, EndpointConditions).
            is_ready = (endpoint.get("conditions") or {}).get("ready") is not False
            for port in endpoint_slice.get("ports") or ():
                if port.get("port"):
                    # The API says that the addresses of one endpoint are interchangeable.
                    address = Endpoint(endpoint["addresses"][0], port["port"])
                    yield ServerEndpoint(address, is_ready, endpoint.get("nodeName") or "")


class Endpoints:
    """The replicas' addresses; `given` ones stand for what the Service would name, where no pod network exists."""

    def __init__(self, cluster: Reader, namespace: str, given: Sequence[Endpoint] = ()) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._given = given

    def all(self) -> list[Endpoint]:
        """Every server's endpoint, ready or not."""
        return list(self._given) or [listed.endpoint for listed in list_endpoints(self._cluster, self._namespace)]

    def is_any_ready(self) -> bool:
        """Whether any server would answer: by the EndpointSlices, or, of the given addresses, if one is listened on."""
        if self._given:
            return any(map(_is_listening, self._given))
        return any(listed.is_ready for listed in list_endpoints(self._cluster, self._namespace))


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
