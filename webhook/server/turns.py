"""Large bodies come one after the other: a worker has memory for one of them, and for many small ones."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

TURN_SECONDS = 1.0
"""Seconds for which a turn is kept while others wait: the API server sends 20 MiB in a fraction of a second."""


class Taker(Protocol):
    """A connection that receives a large body."""

    @property
    def client(self) -> str:
        """The address at the other end."""

    def go_on(self) -> None:
        """Called when the connection's turn has come."""

    def lose_turn(self) -> None:
        """Called when the connection's turn has ended although its body is not complete."""


class Turns:
    """The connection that may receive a large body now, and those that wait: in order of arrival, one of each address
    in turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._taker: Taker | None = None
        self._waiting: deque[Taker] = deque()
        self._turns = 0
        self._last_turns: dict[str, int] = {}
        """Address -> number of its last turn, while anybody waits."""
        self._end = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def take(self, taker: Taker) -> bool:
        """Whether it is this connection's turn; if not, its go_on is called when it is."""
        if self._taker is None:
            self._begin(taker)
        elif self._taker is not taker:
            self._waiting.append(taker)
            self._watch()
        return self._taker is taker

    def give_back(self, taker: Taker) -> None:
        """End the connection's turn, or its waiting for one, if there is either."""
        if taker in self._waiting:
            self._waiting.remove(taker)
        if self._taker is not taker:
            return
        self._taker = None
        if self._waiting:
            following = min(self._waiting, key=lambda waiting: self._last_turns.get(waiting.client, 0))
            self._waiting.remove(following)
            self._begin(following)
            following.go_on()

    def _begin(self, taker: Taker) -> None:
        self._taker = taker
        if not self._waiting:
            self._last_turns.clear()
        self._turns += 1
        self._last_turns[taker.client] = self._turns
        self._end = self._loop.time() + TURN_SECONDS
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            self._watch()

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_at(self._end, self._end_turn)

    def _end_turn(self) -> None:
        self._timer = None
        if self._taker and self._waiting:
            taker = self._taker
            taker.lose_turn()
            self.give_back(taker)
