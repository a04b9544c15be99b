"""Which connection is closed when there is no room for all: one of the client address that has most.

Clients are told apart by address alone. An API server has few connections. An attacker with one address, or a handful,
has many, so that the attacker's are closed first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Protocol, TypeVar


class FromClient(Protocol):
    @property
    def client(self) -> str:
        """The address at the other end."""


class Holder(FromClient, Protocol):
    @property
    def held_bytes(self) -> int:
        """Bytes that the connection holds of a body that has not arrived as a whole; they can be freed."""

    @property
    def reading_since(self) -> float | None:
        """When the request began to arrive; None between two requests."""


C = TypeVar("C", bound=FromClient)
H = TypeVar("H", bound=Holder)


def greediest(all_of_them: Collection[C]) -> list[C]:
    """Those connections, in their order, whose address has the most of them."""
    shares = count_shares(all_of_them)
    address = max(shares, key=lambda client: shares[client], default="")
    return [one for one in all_of_them if one.client == address]


def greediest_holder(connections: Iterable[H]) -> H | None:
    """The connection that has held bytes for the longest time, among those of the address that holds the most."""
    holders = [connection for connection in connections if connection.held_bytes]
    shares: Counter[str] = Counter()
    for holder in holders:
        shares[holder.client] += holder.held_bytes
    return min(holders, key=lambda holder: (-shares[holder.client], holder.reading_since or 0), default=None)


def count_shares(all_of_them: Iterable[FromClient]) -> Counter[str]:
    """Address -> how many of the connections it has."""
    return Counter(one.client for one in all_of_them)
