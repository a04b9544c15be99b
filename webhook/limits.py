"""LimitRange defaults: made and kept in the namespaces that the configuration selects, where they do no harm.

`plan` decides, from what is there to what is to be done; `Limits` reads, asks it, and does that.

Which LimitRanges are ours is recorded by UID in a ConfigMap of our own namespace. A label or annotation on the
LimitRange itself would be a claim that anybody who may edit it can make or take away, and so have us overwrite or
delete what somebody else made.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from webhook.config import ALWAYS_EXCLUDED, Config, LimitRangeDefaults
from webhook.contents import Contents, Lister, Objects, Workloads
from webhook.errors import BadObject, BadQuantity, ClusterRefused, Conflict, FactsUnavailable
from webhook.events import event
from webhook.facts import ClusterFacts
from webhook.limitranger import Amounts, Item, Refusal, read_items, refusals, show_amount
from webhook.pods import Workload
from webhook.policy import Object
from webhook.quantities import format_memory

if TYPE_CHECKING:
    from webhook.cluster import Written

_log = logging.getLogger(__name__)

STATE = "forestall-limitranges"
"""The ConfigMap: `made` holds what is ours, `report` what was not made and why."""

_LABELS = {"app.kubernetes.io/name": "forestall", "app.kubernetes.io/managed-by": "forestall"}
_PARTS = ("default", "defaultRequest", "max", "min", "maxLimitRequestRatio")

_LOOK_AGAIN = timedelta(minutes=5)
"""At workloads that kept a LimitRange away, to see whether they were mended."""
_READ_AGAIN = timedelta(minutes=1)
"""All namespaces and LimitRanges, although nothing was heard of a change."""
_LOOKS_AT_ONCE = 10
"""Namespaces whose workloads are listed in one pass; each takes about ten calls, and the loop has other work."""
_TOLD_AT_ONCE = 20
"""Events; the rest in the passes that follow."""
_REPORTED = 100
_NAMED = 5

Key = tuple[str, str]
"""Namespace and name."""


class Made(NamedTuple):
    """A LimitRange of ours: its UID, empty until it is there, and what it was made from."""

    uid: str
    digest: str


class Danger(NamedTuple):
    """What would become of a workload's pods at their next start, and what to set to prevent it."""

    owner: str
    text: str

    def __str__(self) -> str:
        return f"{self.owner}: {self.text}"


@dataclass(frozen=True, slots=True)
class Create:
    namespace: str
    limit_range: Object
    digest: str


@dataclass(frozen=True, slots=True)
class Replace:
    namespace: str
    limit_range: Object
    digest: str
    edited: str
    """What somebody has changed by hand; empty if it is the configuration that has changed."""


@dataclass(frozen=True, slots=True)
class Delete:
    namespace: str
    name: str
    uid: str
    why: str


@dataclass(frozen=True, slots=True)
class Skip:
    """Not made, or not changed."""

    namespace: str
    name: str
    why: str
    dangers: tuple[Danger, ...] = ()


@dataclass(frozen=True, slots=True)
class Later:
    """Not decided in this pass: the namespace's workloads were seen a moment ago, or are not to be seen yet."""

    namespace: str
    name: str


Action = Create | Replace | Delete | Skip | Later


def plan(
    config: Config,
    own_namespace: str,
    namespaces: Iterable[Object],
    limit_ranges: Iterable[Object],
    made: Mapping[Key, Made],
    look: Callable[[str], Contents | None],
) -> list[Action]:
    """What is to be done; `look` is asked only about namespaces that need a decision, and may say "not now" (None)."""
    present: dict[str, Objects] = {}
    for obj in limit_ranges:
        present.setdefault(obj["metadata"]["namespace"], []).append(obj)
    actions: list[Action] = []
    for namespace in namespaces:
        name = namespace["metadata"]["name"]
        if not _is_going(namespace):
            rules = [] if _is_excluded(name, own_namespace, config) else list(_rules_for(namespace, config))
            there = sorted(present.get(name, ()), key=lambda obj: str(obj["metadata"]["name"]))
            actions += _Namespace(name, there, made, look).plan(rules)
    return actions


def _is_going(namespace: Object) -> bool:
    return bool(namespace["metadata"].get("deletionTimestamp"))


def _is_excluded(namespace: str, own_namespace: str, config: Config) -> bool:
    return (
        namespace in ALWAYS_EXCLUDED
        or namespace == own_namespace
        or any(fnmatchcase(namespace, glob) for glob in config.exclude_namespaces)
    )


def _rules_for(namespace: Object, config: Config) -> Iterator[LimitRangeDefaults]:
    metadata = namespace["metadata"]
    labels = metadata.get("labels") or {}
    for rule in config.limit_ranges:
        selector = rule.namespace_selector
        if any(fnmatchcase(metadata["name"], glob) for glob in rule.namespaces) or (
            selector and all(labels.get(key) == value for key, value in selector.items())
        ):
            yield rule


def wanted(rule: LimitRangeDefaults, namespace: str) -> Object:
    """The LimitRange that a rule asks for."""
    amounts = (rule.default, rule.default_request, rule.max, rule.min, rule.max_limit_request_ratio)
    given = {part: dict(amount) for part, amount in zip(_PARTS, amounts, strict=True) if amount}
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": rule.name, "namespace": namespace, "labels": dict(_LABELS)},
        "spec": {"limits": [{"type": "Container", **given}]},
    }


def digest_of(limit_range: Object) -> str:
    """The same before and after the API server has stored it."""
    items = [
        (item.type, [sorted((key, f"{amount.normalize():f}") for key, amount in part.items()) for part in _parts(item)])
        for item in read_items(limit_range["spec"])
    ]
    return hashlib.sha256(json.dumps(items).encode()).hexdigest()[:8]


def differences(limit_range: Object, wanted: Object) -> str:
    """What is not as wanted, amount by amount; empty if all that counts is the same."""
    have, want = read_items(limit_range.get("spec") or {}), read_items(wanted["spec"])
    found = [f"{len(have)} items, not 1"] if len(have) != len(want) else []
    for one, other in zip(have, want, strict=False):
        if one.type != other.type:
            found.append(f"type {one.type}, not {other.type}")
        for part, is_now, should in zip(_PARTS, _parts(one), _parts(other), strict=True):
            for resource in sorted({*is_now, *should}):
                if is_now.get(resource) != should.get(resource):
                    shown = [
                        "none" if amounts.get(resource) is None else show_amount(resource, amounts[resource])
                        for amounts in (is_now, should)
                    ]
                    found.append(f"{part}.{resource} {shown[0]}, not {shown[1]}")
    labels = limit_range["metadata"].get("labels") or {}
    found += [
        f"label {key} {labels.get(key)}, not {value}" for key, value in _LABELS.items() if labels.get(key) != value
    ]
    return "; ".join(found)


def _parts(item: Item) -> Sequence[Amounts]:
    return item.default, item.default_request, item.max, item.min, item.max_ratio


def is_ours(obj: Object, made: Mapping[Key, Made]) -> bool:
    metadata = obj["metadata"]
    recorded = made.get((metadata["namespace"], metadata["name"]))
    if recorded is None:
        return False
    if recorded.uid:
        return recorded.uid == str(metadata["uid"])
    # Somebody ended us as we were about to make it: it is ours if it is exactly what we would have made.
    return (metadata.get("labels") or {}).items() >= _LABELS.items() and digest_of(obj) == recorded.digest


@dataclass
class _Namespace:
    """One namespace, with the LimitRanges that are in it."""

    name: str
    present: Objects
    made: Mapping[Key, Made]
    look: Callable[[str], Contents | None]

    def plan(self, rules: Sequence[LimitRangeDefaults]) -> Iterator[Action]:
        keep: dict[str, str] = {}
        """Name -> why it is not kept, or nothing."""
        given = next((why for obj in self.present if not self._is_ours(obj) and (why := _given_by(obj))), "")
        for rule in rules:
            target = wanted(rule, self.name)
            if keep.get(rule.name) == "":
                continue  # of two rules of one name, the first counts
            if given and _given_by(target):
                keep[rule.name] = given
                yield Skip(self.name, rule.name, given)
                continue
            keep[rule.name] = ""
            given = given or _given_by(target)
            yield from self._keep(rule, target)
        for obj in self.present:
            name = obj["metadata"]["name"]
            if self._is_ours(obj) and (why := keep.get(name, "no rule of limitRanges selects the namespace any more")):
                yield Delete(self.name, name, obj["metadata"]["uid"], why)

    def _is_ours(self, obj: Object) -> bool:
        return is_ours(obj, self.made)

    def _keep(self, rule: LimitRangeDefaults, target: Object) -> Iterator[Action]:
        there = next((obj for obj in self.present if obj["metadata"]["name"] == rule.name), None)
        digest = digest_of(target)
        if there is None:
            yield self._if_safe(rule, target, None, Create(self.name, target, digest))
        elif not self._is_ours(there):
            yield Skip(self.name, rule.name, "there is a LimitRange of this name that Forestall didn't make")
        elif edited := differences(there, target):
            labels = {**(there["metadata"].get("labels") or {}), **_LABELS}
            restored = {**there, "metadata": {**there["metadata"], "labels": labels}, "spec": target["spec"]}
            restored = {"apiVersion": "v1", "kind": "LimitRange", **restored}
            if self.made[self.name, rule.name].digest == digest:
                yield Replace(self.name, restored, digest, edited)
            else:
                yield self._if_safe(rule, target, there, Replace(self.name, restored, digest, ""))

    def _if_safe(self, rule: LimitRangeDefaults, target: Object, there: Object | None, action: Action) -> Action:
        if rule.force:
            return action
        contents = self.look(self.name)
        if contents is None:
            return Later(self.name, rule.name)
        if contents.unseen:
            return Skip(self.name, rule.name, f"cannot tell whether pods could start: {contents.unseen}")
        others = [item for obj in self.present if obj is not there for item in read_items(obj["spec"])]
        before = [*others, *(read_items(there["spec"]) if there else ())]
        if found := dangers(contents, before, [*others, *read_items(target["spec"])]):
            return Skip(self.name, rule.name, "pods would be refused or killed at their next start", found)
        return action


def _given_by(obj: Object) -> str:
    """Why no other may give containers a memory default beside this one; empty if one may."""
    name = obj["metadata"]["name"]
    try:
        defaults = _defaults(read_items(obj["spec"]))
    except BadQuantity:
        defaults = [Decimal(1)]  # not of this world; whatever it is, somebody has thought of memory
    if defaults and not any(defaults):
        return f"LimitRange {name} gives a memory default of 0, which means none, and of two Kubernetes takes either"
    return f"LimitRange {name} already gives a memory default" if defaults else ""


def _defaults(items: Iterable[Item]) -> list[Decimal]:
    return [item.default["memory"] for item in items if item.type == "Container" and "memory" in item.default]


def dangers(contents: Contents, before: Sequence[Item], after: Sequence[Item]) -> tuple[Danger, ...]:
    """What the change from these LimitRanges to those does to the pods that the workloads make next."""
    limit = _given_limit(after)
    found: dict[tuple[str, str], Danger] = {}
    known: dict[str, set[str]] = {}
    for owner, workload in contents.seen:
        names = known.setdefault(owner, set())
        # Of a pod only what was put into it on its way counts: it may come from an older template.
        new = {each.name for each in workload.containers} - names
        is_all = not names
        for refusal in _new_refusals(workload, before, after):
            if is_all or refusal.container in new:
                danger = Danger(owner, f"would be refused: {refusal}")
                found.setdefault((owner, refusal.path), danger)
        for container in workload.containers:
            use = contents.use.get((owner, container.name), 0)
            if container.name in new and container.memory("limits") is None and limit is not None and use > limit:
                path = container.memory_path("limits")
                text = (
                    f"would be killed: container {container.name!r} uses {_show_use(use)}, above the default limit "
                    f"{format_memory(limit)}: set {path} to {format_memory(_roomy(use))}, and more if it grows"
                )
                found.setdefault((owner, path), Danger(owner, text))
        names |= new
    return tuple(found.values())


def _new_refusals(workload: Workload, before: Sequence[Item], after: Sequence[Item]) -> list[Refusal]:
    """Those that are not there today."""
    try:
        today = {(each.path, each.resource) for each in refusals(workload, before)}
        return [each for each in refusals(workload, after) if (each.path, each.resource) not in today]
    except (BadObject, BadQuantity) as error:  # a custom resource that its operator doesn't take, either
        _log.warning("passed over: %s %s/%s: %s", workload.kind, workload.namespace, workload.name, error)
        return []


def _given_limit(items: Sequence[Item]) -> int | None:
    limit = next(iter(_defaults(items)), None)
    return int(limit) if limit else None  # 0 is no limit


def _show_use(use: int) -> str:
    return f"{-(-use // 2**20)}Mi"


def _roomy(use: int) -> int:
    """Half as much again, in steps of 64Mi: what is in use now is not the peak."""
    step = 64 * 2**20
    return -(-use * 3 // (2 * step)) * step


class _Api(Lister, Protocol):
    """What of webhook.cluster.Cluster is needed here."""

    def create(self, path: str, obj: Object) -> Written: ...
    def replace(self, path: str, obj: Object) -> Object: ...
    def delete(self, path: str, uid: str = "") -> None: ...


class _Watched(Protocol):
    """What of webhook.cluster.Watch is needed here."""

    facts: ClusterFacts


class _State(NamedTuple):
    """The ConfigMap, None where there is none yet, and what is ours by it."""

    object: Object | None
    made: dict[Key, Made]


class Limits:
    """Keeps the LimitRanges; a `watch` of namespaces and limitranges, where given, spares reading them in vain."""

    def __init__(self, cluster: _Api, namespace: str, watch: _Watched | None = None) -> None:
        self.skips: tuple[Skip, ...] = ()
        """What was not made or not changed, as of the last pass."""
        self._cluster = cluster
        self._namespace = namespace
        self._watch = watch
        self._workloads = Workloads(cluster)
        self._config: Config | None = None
        self._heard: tuple[object, object] | None = None
        self._again: datetime | None = None
        self._waits: dict[str, datetime] = {}
        """UID of a namespace -> when to look at its workloads again."""
        self._told: dict[Key, str] = {}

    def reconcile(self, config: Config, now: datetime) -> None:
        """Do what is to be done now. Raises FactsUnavailable or ClusterRefused; another pass mends what it left."""
        if config is not self._config:
            self._config, self._heard = config, None
            self._waits.clear()
        heard = self._listen()
        if self._heard and heard and self._again and now < self._again and all(map(_is, heard, self._heard)):
            return
        self._heard = None  # this pass may end early
        state = self._read_state()
        self._again = now + _READ_AGAIN
        if config.limit_ranges or state.made or self.skips:
            self._keep(config, state, now)
        self._again = min([self._again, *self._waits.values()])
        self._heard = heard

    def _listen(self) -> tuple[object, object] | None:
        """Two objects that are others once there is news; None while all has to be read to know."""
        facts = self._watch.facts if self._watch else None
        if facts is None or not facts.known >= {"namespaces", "limitranges"}:
            return None
        return facts.namespaces, facts.limit_ranges

    def _keep(self, config: Config, state: _State, now: datetime) -> None:
        namespaces = self._cluster.list("/api/v1/namespaces")
        limit_ranges = self._cluster.list("/api/v1/limitranges")
        uids = {each["metadata"]["name"]: str(each["metadata"]["uid"]) for each in namespaces}
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
                looked[namespace] = self._workloads.look(namespace, config, now)
                self._waits[uid] = now + (_READ_AGAIN if looked[namespace].unseen else _LOOK_AGAIN)
            return looked[namespace]

        actions = plan(config, self._namespace, namespaces, limit_ranges, state.made, look)
        made = {_key(obj): _made(obj, state.made) for obj in limit_ranges if is_ours(obj, state.made)}
        if intended := {_key(each.limit_range): Made("", each.digest) for each in actions if isinstance(each, Create)}:
            # Before the first of them exists, so that none is ever ours without being known to be.
            state = self._write_state(state, {**made, **intended})
        skips: dict[Key, Skip] = {}
        for action in actions:
            if isinstance(action, Later):
                skips |= {_key(each): each for each in self.skips if _key(each) == _key(action)}
            elif skip := action if isinstance(action, Skip) else self._do(action, made, now):
                skips[_key(skip)] = skip
            else:
                self._waits.pop(uids[action.namespace], None)
        self.skips = tuple(skips.values())
        self._tell_skips(now)
        self._write_state(state, made)

    def _do(self, action: Create | Replace | Delete, made: dict[Key, Made], now: datetime) -> Skip | None:
        """Do it and take it into `made`; a Skip if the API server doesn't want it."""
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
                case Delete(namespace, name, uid, why):
                    self._cluster.delete(_path(namespace, "limitranges", name), uid)
                    made.pop((namespace, name), None)
                    self._tell(namespace, name, "LimitRangeRemoved", f"{name} was removed: {why}.", uid, now)
        except ClusterRefused as answer:
            if _is_race(answer):
                return None  # somebody was faster, and the next pass sees what they left
            _log.warning("LimitRange %s: %s", "/".join(_key(action)), answer)
            return Skip(*_key(action), f"the API server refuses it: {answer}")
        return None

    def _tell_skips(self, now: datetime) -> None:
        """An event for each that is new, some at a time."""
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
        """Say it in an Event, whose name comes from the occasion: told again, it is the same one."""
        regarding = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"namespace": namespace, "name": name}}
        made = event(regarding, reason, note, now, action="Reconcile", kind="Warning")
        digest = hashlib.sha256(f"{reason} {occasion}".encode()).hexdigest()[:16]
        made["metadata"] = {"name": f"{name}.{digest}", "namespace": namespace, "labels": dict(_LABELS)}
        _log.warning("%s/%s: %s", namespace, name, note)
        try:
            self._cluster.create(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", made)
        except Conflict:
            pass
        except (ClusterRefused, FactsUnavailable) as error:  # what there is to do matters more than telling it
            _log.info("no event: %s", error)

    def _read_state(self) -> _State:
        obj = self._cluster.get(_path(self._namespace, "configmaps", STATE))
        text = ((obj or {}).get("data") or {}).get("made") or "{}"
        try:
            entries = msgspec.json.decode(text, type=dict[str, Made])
        except msgspec.DecodeError as error:
            # What we made stays then, as if others had made it.
            _log.error("ConfigMap %s/%s: made: %s", self._namespace, STATE, error)
            entries = {}
        return _State(obj, {(key.partition("/")[0], key.partition("/")[2]): made for key, made in entries.items()})

    def _write_state(self, state: _State, made: dict[Key, Made]) -> _State:
        """Write it if it is not what is there. Raises Conflict if somebody else has written it since."""
        data = {
            "made": json.dumps({"/".join(key): each for key, each in sorted(made.items())}, separators=(",", ":")),
            "report": json.dumps(report(self.skips), indent=1),
        }
        if data == ((state.object or {}).get("data") or {}) or (state.object is None and not made and not self.skips):
            return state._replace(made=made)
        path = _path(self._namespace, "configmaps")
        if state.object is None:
            metadata = {"name": STATE, "namespace": self._namespace, "labels": dict(_LABELS)}
            new = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            return _State(self._cluster.create(path, new).object, made)
        return _State(self._cluster.replace(f"{path}/{STATE}", {**state.object, "data": data}), made)


def report(skips: Sequence[Skip]) -> Object:
    """What was not made and why, of bounded size."""
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
    """The same while the same workloads stand in the way, whatever they use at the moment."""
    return json.dumps([skip.why, sorted({danger.owner for danger in skip.dangers})])


def _message(skip: Skip, own_namespace: str) -> str:
    lines = [f"{skip.name} is not made: {skip.why}."]
    lines += [f"{danger}." for danger in skip.dangers[:_NAMED]]
    if len(skip.dangers) > _NAMED:
        lines.append(f"And {len(skip.dangers) - _NAMED} more.")
    if skip.dangers:
        lines.append(f"See ConfigMap {own_namespace}/{STATE}; force: true makes it nevertheless.")
    return " ".join(lines)


def _is(one: object, other: object) -> bool:
    return one is other


def _key(of: Object | Action) -> Key:
    if isinstance(of, dict):
        return of["metadata"]["namespace"], of["metadata"]["name"]
    if isinstance(of, Create | Replace):
        return _key(of.limit_range)
    return of.namespace, of.name


def _made(obj: Object, made: Mapping[Key, Made]) -> Made:
    return Made(str(obj["metadata"]["uid"]), made[_key(obj)].digest)


def _is_race(answer: ClusterRefused) -> bool:
    """Somebody else was first, or the namespace is going or gone."""
    return isinstance(answer, Conflict) or answer.status == 404 or "being terminated" in answer.message


def _path(namespace: str, plural: str, name: str = "") -> str:
    path = f"/api/v1/namespaces/{namespace}/{plural}"
    return f"{path}/{name}" if name else path
