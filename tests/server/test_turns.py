"""Who receives a large body next: addresses take turns, within one it is first come first served."""

from __future__ import annotations

import asyncio

from webhook.server.turns import Turns


class Taker:
    def __init__(self, client: str, log: list[str]) -> None:
        self.client = client
        self._log = log

    def go_on(self) -> None:
        self._log.append(self.client)

    def lose_turn(self) -> None:
        """Nothing is held here."""


def test_addresses_take_turns() -> None:
    async def run() -> list[str]:
        log: list[str] = []
        turns = Turns(asyncio.get_running_loop())
        takers = [Taker(client, log) for client in ("a", "a", "a", "a", "b", "b", "c")]
        assert [turns.take(taker) for taker in takers] == [True, *[False] * 6]
        for _ in takers:
            assert turns._taker
            turns.give_back(turns._taker)
        return log

    assert asyncio.run(run()) == ["b", "c", "a", "b", "a", "a"]
