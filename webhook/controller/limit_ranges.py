"""LimitRange defaults: made and kept in the namespaces that the configuration selects, where they do no harm.

limit_plan.py decides, from what is there to what is to be done; `Limits` reads, asks it, and does that.

Which LimitRanges are ours is recorded by UID in a ConfigMap of our own namespace. A label or annotation on the
LimitRange itself would be a claim that anybody who may edit it can make or take away, and so have us overwrite or
delete what somebody else made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from operator import is_
from typing import TYPE_CHECKING, Protocol

import structlog

from webhook.cluster.lists import Reader
from webhook.cluster.record import Record, Recorded
from webhook.cluster.stored import read_objects, readable
from webhook.cluster.unseen import Unreadable
from webhook.config import Config
from webhook.controller.contents import Contents, ContentsReader, Objects
from webhook.controller.events import event
from webhook.controller.limit_plan import (
    Action,
    Create,
    Delete,
    Later,
    Made,
    NamespacedName,
    Note,
    Replace,
    Skip,
    is_ours,
    plan,
)
from webhook.errors import ClusterRefused, Conflict, FactsUnavailable
from webhook.installation import LABELS, LIMIT_RANGES_RECORD
from webhook.objects.facts import LIMIT_RANGES, NAMESPACES, ClusterFacts
from webhook.policy import Object

if TYPE_CHECKING:
    from webhook.cluster.client import Written

log = structlog.get_logger()

_LOOK_AGAIN = timedelta(minutes=5)
"""Time after which workloads that kept a LimitRange away are looked at again: they may have been mended."""
_READ_AGAIN = timedelta(minutes=1)
"""Time after which all namespaces and LimitRanges are read again, although the watch told of no change."""
_LOOKS_AT_ONCE = 10
"""Namespaces whose workloads are listed in one pass; each takes about ten calls, and the loop has other work."""
_TOLD_AT_ONCE = 20
"""Events that one pass writes at most; the rest follow in the next passes."""
_REPORTED = 100
_NAMED = 5


class _Api(Reader, Protocol):
    """The methods of webhook.cluster.client.Cluster that are needed here."""

    def create(self, path: str, obj: Object) -> Written: ...
    def replace(self, path: str, obj: Object) -> Object: ...
    def delete(self, path: str, uid: str = "") -> None: ...


class _Watched(Protocol):
    """The members of webhook.cluster.facts.Watch that are needed here."""

    facts: ClusterFacts


class Limits:
    """Keeps the LimitRanges. With a `watch` of namespaces and limitranges they are only read again after a change."""

    def __init__(self, cluster: _Api, namespace: str, watch: _Watched | None = None) -> None:
        self.skips: tuple[Skip, ...] = ()
        """The LimitRanges that the last pass did not make or change, and why."""
        self._cluster = cluster
        self._namespace = namespace
        self._watch = watch
        self._record: Record[dict[str, Made]] = Record(cluster, namespace, LIMIT_RANGES_RECORD, "made", dict[str, Made])
        self._contents = ContentsReader(cluster)
        self._config: Config | None = None
        self._heard: tuple[object, object] | None = None
        self._again: datetime | None = None
        self._waits: dict[str, datetime] = {}
        """UID of a namespace -> when to look at its workloads again."""
        self._told: dict[NamespacedName, str] = {}

    def reconcile(self, config: Config, now: datetime) -> None:
        """Make, change and remove LimitRanges as the configuration asks.

        Raises FactsUnavailable or ClusterRefused; another pass mends what it left.
        """
        if config is not self._config:
            self._config, self._heard = config, None
            self._waits.clear()
        heard = self._listen()
        if self._heard and heard and self._again and now < self._again and all(map(is_, heard, self._heard)):
            return
        self._heard = None  # in case this pass ends early
        state = self._read_state()
        self._again = now + _READ_AGAIN
        if config.limit_ranges or state.value or self.skips:
            self._keep(config, state, now)
        self._again = min([self._again, *self._waits.values()])
        self._heard = heard

    def _listen(self) -> tuple[object, object] | None:
        """The watch's records of namespaces and LimitRanges: other objects after a change. None without a watch."""
        facts = self._watch.facts if self._watch else None
        if facts is None or not facts.known >= {NAMESPACES, LIMIT_RANGES}:
            return None
        return facts.of(NAMESPACES), facts.of(LIMIT_RANGES)

    def _keep(self, config: Config, state: Recorded[dict[str, Made]], now: datetime) -> None:
        recorded = _keys(state)
        namespaces = list(readable(read_objects(self._cluster, "/api/v1/namespaces", "Namespace")))
        limit_ranges, odd = self._read_limit_ranges()
        uids = {namespace["metadata"]["name"]: str(namespace["metadata"]["uid"]) for namespace in namespaces}
        present = set(uids.values())
        self._waits = {uid: again for uid, again in self._waits.items() if uid in present}
        looked: dict[str, Contents] = {}

        def look(namespace: str) -> Contents | None:
            uid = uids[namespace]
            if namespace not in looked:
                if now < self._waits.get(uid, now):
                    return None
                if len(looked) >= _LOOKS_AT_ONCE:
                    self._again = now
                    return None
                looked[namespace] = self._contents.look(namespace, config, now)
                self._waits[uid] = now + (_READ_AGAIN if looked[namespace].unseen else _LOOK_AGAIN)
            return looked[namespace]

        actions = plan(config, self._namespace, namespaces, limit_ranges, recorded, look, odd)
        made = {_key(obj): _made(obj, recorded) for obj in limit_ranges if is_ours(obj, recorded)}
        made |= {key: known for key, known in recorded.items() if key[0] in odd}
        if intended := {
            _key(action.limit_range): Made("", action.digest) for action in actions if isinstance(action, Create)
        }:
            # Written before the first one is made, so that each of ours is on record.
            state = self._write_state(state, {**made, **intended})
        skips: dict[NamespacedName, Skip] = {}
        for action in actions:
            if isinstance(action, Later):
                skips |= {_key(skip): skip for skip in self.skips if _key(skip) == _key(action)}
            elif skip := action if isinstance(action, Skip) else self._do(action, made, now):
                skips[_key(skip)] = skip
            else:
                self._waits.pop(uids[action.namespace], None)
        self.skips = tuple(skips.values())
        self._tell_skips(now)
        self._write_state(state, made)

    def _read_limit_ranges(self) -> tuple[Objects, dict[str, Unreadable]]:
        """The LimitRanges that can be read; and by namespace, one of those that can't."""
        limit_ranges: Objects = []
        odd: dict[str, Unreadable] = {}
        for obj in read_objects(self._cluster, "/api/v1/limitranges", "LimitRange"):
            if isinstance(obj, Unreadable):
                odd[obj.reference.namespace] = obj
            else:
                limit_ranges.append(obj)
        return limit_ranges, odd

    def _do(
        self, action: Create | Replace | Note | Delete, made: dict[NamespacedName, Made], now: datetime
    ) -> Skip | None:
        """Carry the action out and note it in `made`; a Skip if the API server refuses it."""
        try:
            match action:
                case Create(namespace, limit_range, digest):
                    written = self._cluster.create(_path(namespace, "limitranges"), limit_range)
                    made[_key(action)] = Made(str(written.object["metadata"]["uid"]), digest)
                case Replace(namespace, limit_range, digest, edited):
                    name = limit_range["metadata"]["name"]
                    self._cluster.replace(_path(namespace, "limitranges", name), limit_range)
                    made[_key(action)] = made[_key(action)]._replace(digest=digest)
                    if edited:
                        text = f"{name} was edited by hand: restored. It had {edited}. Change it in limitRanges of "
                        text += "Forestall's configuration instead."
                        version = str(limit_range["metadata"]["resourceVersion"])
                        self._tell(namespace, name, "LimitRangeRestored", text, version, now)
                case Note(_, _, digest):
                    made[_key(action)] = made[_key(action)]._replace(digest=digest)
                case Delete(namespace, name, uid, why):
                    self._cluster.delete(_path(namespace, "limitranges", name), uid)
                    made.pop((namespace, name), None)
                    self._tell(namespace, name, "LimitRangeRemoved", f"{name} was removed: {why}.", uid, now)
        except ClusterRefused as answer:
            if _is_race(answer):
                return None  # somebody was faster, and the next pass sees what they left
            log.warning("refused", limit_range="/".join(_key(action)), error=str(answer))
            return Skip(*_key(action), f"the API server refuses it: {answer}")
        return None

    def _tell_skips(self, now: datetime) -> None:
        """Write an Event for every skipped LimitRange that is new, some at a time."""
        keys = {_key(skip) for skip in self.skips}
        self._told = {key: occasion for key, occasion in self._told.items() if key in keys}
        new = [skip for skip in self.skips if self._told.get(_key(skip)) != _occasion(skip)]
        for skip in new[:_TOLD_AT_ONCE]:
            self._tell(
                skip.namespace, skip.name, "LimitRangeNotMade", _message(skip, self._namespace), _occasion(skip), now
            )
            self._told[_key(skip)] = _occasion(skip)
        if new[_TOLD_AT_ONCE:]:
            self._again = now

    def _tell(self, namespace: str, name: str, reason: str, note: str, occasion: str, now: datetime) -> None:
        """Write an Event whose name follows from its occasion, so that the same occasion makes no second one."""
        regarding = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"namespace": namespace, "name": name}}
        made = event(regarding, reason, note, now, action="Reconcile", kind="Warning")
        digest = hashlib.sha256(f"{reason} {occasion}".encode()).hexdigest()[:16]
        made["metadata"] = {"name": f"{name}.{digest}", "namespace": namespace, "labels": dict(LABELS)}
        log.warning(note, limit_range=f"{namespace}/{name}", reason=reason)
        try:
            self._cluster.create(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", made)
        except Conflict:
            pass
        # The LimitRanges are kept, whether or not Events can be written.
        except (ClusterRefused, FactsUnavailable) as error:
            log.warning("no event", reason=reason, error=str(error))

    def _read_state(self) -> Recorded[dict[str, Made]]:
        kept = self._record.read()
        if kept.lost:  # LimitRanges that the controller made stay then, and count as made by others
            log.warning("record can't be read", config_map=f"{self._namespace}/{LIMIT_RANGES_RECORD}", error=kept.lost)
        return kept

    def _write_state(
        self, kept: Recorded[dict[str, Made]], made: dict[NamespacedName, Made]
    ) -> Recorded[dict[str, Made]]:
        """Write which LimitRanges are ours, and the report. Raises Conflict if somebody wrote in between."""
        if kept.object is None and not made and not self.skips:
            return kept
        value = {"/".join(key): entry for key, entry in made.items()}
        return self._record.write(kept, value, beside={"report": json.dumps(report_skips(self.skips), indent=1)})


def _keys(kept: Recorded[dict[str, Made]]) -> dict[NamespacedName, Made]:
    return {(key.partition("/")[0], key.partition("/")[2]): entry for key, entry in kept.value.items()}


def report_skips(skips: Sequence[Skip]) -> Object:
    """The LimitRanges that were not made and why, as JSON for people, of bounded size."""
    return {
        "notMade": len(skips),
        "limitRanges": [
            {
                "namespace": skip.namespace,
                "name": skip.name,
                "why": skip.why,
                **({"workloads": [str(danger)[:500] for danger in skip.dangers[:_NAMED]]} if skip.dangers else {}),
                **({"more": len(skip.dangers) - _NAMED} if len(skip.dangers) > _NAMED else {}),
            }
            for skip in sorted(skips, key=_key)[:_REPORTED]
        ],
    }


def _occasion(skip: Skip) -> str:
    """A skip's occasion: the same text while the same workloads stand in the way, however much memory they use."""
    return json.dumps([skip.why, sorted({danger.owner for danger in skip.dangers})])


def _message(skip: Skip, own_namespace: str) -> str:
    lines = [f"{skip.name} is not made: {skip.why}."]
    lines += [f"{danger}." for danger in skip.dangers[:_NAMED]]
    if len(skip.dangers) > _NAMED:
        lines.append(f"And {len(skip.dangers) - _NAMED} more.")
    if skip.dangers:
        lines.append(f"See ConfigMap {own_namespace}/{LIMIT_RANGES_RECORD}; force: true makes it nevertheless.")
    return " ".join(lines)


def _key(of: Object | Action) -> NamespacedName:
    if isinstance(of, dict):
        return of["metadata"]["namespace"], of["metadata"]["name"]
    if isinstance(of, Create | Replace):
        return _key(of.limit_range)
    return of.namespace, of.name


def _made(obj: Object, made: Mapping[NamespacedName, Made]) -> Made:
    return Made(str(obj["metadata"]["uid"]), made[_key(obj)].digest)


def _is_race(answer: ClusterRefused) -> bool:
    """Whether the refusal only says that somebody else was first, or that the namespace is going or gone."""
    return isinstance(answer, Conflict) or answer.is_gone


def _path(namespace: str, plural: str, name: str = "") -> str:
    path = f"/api/v1/namespaces/{namespace}/{plural}"
    return f"{path}/{name}" if name else path
