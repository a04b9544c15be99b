"""The CA and the serving certificate: what becomes of every state of the Secret, and that no caller is let down."""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tests.loopback import eventually
from tests.memory_cluster import MemoryCluster
from tests.mounted import Mount
from tests.served import PATIENCE, post, review, served
from webhook.certs import (
    CLOCK_SKEW,
    Certificate,
    find_authority,
    load_certificate,
    make_authority,
    make_self_signed,
    parse_certificate,
    read_certificates,
    read_chain,
)
from webhook.config import Config, load_config
from webhook.controller import rotation
from webhook.controller.endpoints import Endpoint
from webhook.controller.rotation import Rotation, Sighting, next_step, service_names, settling
from webhook.errors import Conflict
from webhook.installation import LABELS
from webhook.policy import Object
from webhook.sections import Certificates

Secret = Mapping[str, bytes]

NAMESPACE = "forestall-system"
NAMES = service_names(NAMESPACE)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def config(ca_life: str = "3650d", serving_life: str = "90d", mode: str = "selfManaged") -> Config:
    return load_config(f"certificates: {{mode: {mode}, caLife: {ca_life}, servingLife: {serving_life}}}".encode(), "x")


CERTIFICATES = config().certificates


def der(chain: bytes) -> bytes:
    return read_certificates(chain)[0].der


def seen(
    secret: Secret,
    *,
    bundles: Collection[bytes] | None = None,
    served: Collection[bytes | None] | None = None,
    since: timedelta = DAY,
    now: datetime = NOW,
) -> list[Sighting]:
    """Hooks and two replicas that have long been as the Secret says, or as told."""
    bundles = (secret["ca.crt"],) * 2 if bundles is None else bundles
    served = (der(secret["tls.crt"]),) * 2 if served is None else served
    return [Sighting(now - since, tuple(bundles), tuple(served))]


def step(
    secret: Secret | None, history: list[Sighting], now: datetime = NOW, certificates: Certificates = CERTIFICATES
) -> Any:
    return next_step(secret, certificates, NAMES, now, history)


def first(now: datetime = NOW, certificates: Certificates = CERTIFICATES) -> dict[str, bytes]:
    made = next_step(None, certificates, NAMES, now, [Sighting(now, (), ())])
    assert made is not None
    assert made.reason == "there is no Secret: a new CA"
    return dict(made.data)


def issuer_of(secret: Secret) -> int:
    """The place in the bundle of the CA by which the serving certificate is."""
    leaf = read_certificates(secret["tls.crt"])[0]
    return [ca.has_issued(leaf) for ca in read_certificates(secret["ca.crt"])].index(True)


FIRST = first()
CA = read_certificates(FIRST["ca.crt"])[0]
FOREIGN = make_authority(DAY * 100, NOW)
FOREIGN_PAIR = FOREIGN.issue(NAMES, DAY * 90, NOW)
LATER = NOW + DAY * 2500
"""When the CA is due."""


def test_the_first() -> None:
    chain = load_certificate(FIRST["tls.crt"], FIRST["tls.key"], "pair")
    assert chain.expires == NOW + DAY * 90
    assert CA.ends == NOW + DAY * 3650
    leaf, below = read_certificates(FIRST["tls.crt"])
    assert below == CA
    assert leaf.names == {f"forestall.{NAMESPACE}{suffix}" for suffix in (".svc", "", ".svc.cluster.local")}
    assert leaf.begins == CA.begins == NOW - CLOCK_SKEW


@pytest.mark.parametrize(
    ("days", "reason"),
    [
        pytest.param(0, None, id="new"),
        pytest.param(59.99, None, id="not-yet"),
        pytest.param(60.01, "the serving certificate is due", id="two-thirds"),
        pytest.param(95, "the serving certificate is missing or of no use", id="nobody-looked-in-time"),
    ],
)
def test_the_serving_certificate_is_renewed_at_two_thirds(days: float, reason: str | None) -> None:
    now = NOW + DAY * days
    made = step(FIRST, seen(FIRST, now=now), now)
    assert (made and made.reason) == reason
    if made:
        assert made.data["ca.crt"] == FIRST["ca.crt"]
        assert made.data["ca.key"] == FIRST["ca.key"]
        assert read_certificates(made.data["tls.crt"])[0].ends == now + DAY * 90
        assert step(made.data, seen(made.data, now=now), now) is None


@pytest.mark.parametrize(
    ("ca_life", "serving_life", "reason"),
    [
        pytest.param("3650d", "30d", "the serving certificate is due", id="shorter"),
        pytest.param("3650d", "400d", "the serving certificate is due", id="longer"),
        pytest.param("365d", "90d", "the CA is due: a new CA", id="shorter-CA"),
        pytest.param("2800d", "80d", None, id="hardly-shorter"),
    ],
)
def test_other_lives_count_at_once(ca_life: str, serving_life: str, reason: str | None) -> None:
    made = step(FIRST, seen(FIRST), certificates=config(ca_life, serving_life).certificates)
    assert (made and made.reason) == reason


def test_a_new_authority_step_by_step() -> None:
    # Just before it is due, and with a serving certificate of that day.
    old = {**FIRST, **dict(zip(("tls.crt", "tls.key"), _issue(FIRST, LATER - DAY * 80), strict=True))}
    added = step(old, seen(old, now=LATER), LATER)
    assert added.reason == "the CA is due: a new CA"
    assert len(read_certificates(added.data["ca.crt"])) == 2
    assert issuer_of(added.data) == 1
    assert read_certificates(added.data["tls.crt"])[0].ends == LATER + DAY * 90  # one more by the old one
    assert added.data["ca.key"] != old["ca.key"]

    served = (der(added.data["tls.crt"]),) * 2
    half = (added.data["ca.crt"], old["ca.crt"])
    for history in (
        seen(added.data, bundles=half, served=served, now=LATER),
        seen(added.data, bundles=(added.data["ca.crt"], b""), served=served, now=LATER),
        seen(added.data, served=served, now=LATER, since=timedelta(minutes=1.9)),
        [*seen(added.data, bundles=half, now=LATER), *seen(added.data, now=LATER, since=timedelta(minutes=1.9))],
    ):
        assert step(added.data, history, LATER) is None

    used = step(added.data, seen(added.data, now=LATER), LATER)
    assert used.reason == "the hooks trust the new CA"
    assert issuer_of(used.data) == 0
    assert used.data["ca.crt"] == added.data["ca.crt"]

    new = der(used.data["tls.crt"])
    for history in (
        seen(used.data, served=(new, served[0]), now=LATER),
        seen(used.data, served=(new, None), now=LATER),
        seen(used.data, served=(new, b"nonsense"), now=LATER),
        seen(used.data, bundles=half, now=LATER),
        seen(used.data, now=LATER, since=timedelta(minutes=1.9)),
        [*seen(used.data, served=(new, served[0]), now=LATER), *seen(used.data, now=LATER, since=timedelta(0))],
    ):
        assert step(used.data, history, LATER) is None

    dropped = step(used.data, seen(used.data, now=LATER), LATER)
    assert dropped.reason == "every replica serves by the newest CA: older ones go"
    assert read_certificates(dropped.data["ca.crt"]) == read_certificates(used.data["ca.crt"])[:1]
    assert dropped.data["tls.crt"] == used.data["tls.crt"]
    # The hooks are written a little later.
    assert step(dropped.data, seen(dropped.data, bundles=(used.data["ca.crt"],), now=LATER), LATER) is None


def _issue(secret: Secret, now: datetime) -> tuple[bytes, bytes]:
    authority = find_authority(secret["ca.key"], read_certificates(secret["ca.crt"]))
    assert authority is not None
    return authority.issue(NAMES, DAY * 90, now)


def test_an_old_authority_goes_when_it_has_expired_whoever_cannot_be_reached() -> None:
    other = make_authority(DAY, NOW - DAY * 2)
    secret = {**FIRST, "ca.crt": FIRST["ca.crt"] + other.certificate.pem}
    assert step(secret, seen(secret, served=(None,))).data["ca.crt"] == FIRST["ca.crt"]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        pytest.param({"ca.key": b""}, "the CA's key is missing or of no use: a new CA", id="no-CA-key"),
        pytest.param(
            {"ca.key": b"nonsense"}, "the CA's key is missing or of no use: a new CA", id="CA-key-is-nonsense"
        ),
        pytest.param({"ca.key": FIRST["tls.key"]}, "the CA's key is missing or of no use: a new CA", id="another-key"),
        pytest.param({"ca.key": FOREIGN.key_pem}, "the CA's key is missing or of no use: a new CA", id="foreign-key"),
        pytest.param({"tls.key": b""}, "the serving certificate is missing or of no use", id="no-key"),
        pytest.param({"tls.key": FIRST["ca.key"]}, "the serving certificate is missing or of no use", id="mismatch"),
        pytest.param({"tls.crt": b""}, "the serving certificate is missing or of no use", id="no-certificate"),
        pytest.param(
            {"tls.crt": FIRST["ca.crt"]}, "the serving certificate is missing or of no use", id="the-CA-serves"
        ),
        pytest.param(
            dict(zip(("tls.crt", "tls.key"), FOREIGN_PAIR, strict=True)),
            "the serving certificate is missing or of no use",
            id="foreign-pair",
        ),
        pytest.param(
            dict(zip(("tls.crt", "tls.key"), make_self_signed(NAMES), strict=True)),
            "the serving certificate is missing or of no use",
            id="self-signed",
        ),
        pytest.param({"ca.crt": b""}, "the bundle was incomplete or not in order", id="no-bundle"),
        pytest.param({"ca.crt": b"nonsense"}, "the bundle was incomplete or not in order", id="bundle-is-nonsense"),
        pytest.param(
            {"ca.crt": b"x" + FIRST["ca.crt"] + FIRST["ca.crt"]},
            "the bundle was incomplete or not in order",
            id="bundle-has-more",
        ),
        pytest.param(
            {"ca.crt": FOREIGN.certificate.pem},
            "every replica serves by the newest CA: older ones go",
            id="bundle-is-foreign",
        ),
        pytest.param(
            {"ca.crt": FIRST["ca.crt"] + FOREIGN.certificate.pem},
            "every replica serves by the newest CA: older ones go",
            id="bundle-with-a-foreign-one",
        ),
    ],
)
def test_edited_by_hand(edit: Secret, reason: str) -> None:
    """Whatever is edited, what hooks trust and replicas present stays trusted, and in the end all is in order."""
    edited = {**FIRST, **edit}
    history = seen(FIRST)
    made = step(edited, history)
    assert made.reason == reason
    assert CA in read_certificates(made.data["ca.crt"])
    if "new CA" in reason:
        assert made.data["tls.crt"] == FIRST["tls.crt"]
    steps = 1
    while (after := step(made.data, seen(made.data))) is not None:
        made, steps = after, steps + 1
        assert steps < 5
    assert len(read_certificates(made.data["ca.crt"])) == 1
    assert issuer_of(made.data) == 0
    load_certificate(made.data["tls.crt"], made.data["tls.key"], "pair")


@pytest.mark.parametrize(
    ("secret", "bundles", "served", "is_served"),
    [
        pytest.param({}, [FIRST["ca.crt"]], [FIRST["tls.crt"]], False, id="deleted-while-replicas-serve"),
        pytest.param({}, [FIRST["ca.crt"]], [], True, id="deleted-and-nobody-serves"),
        pytest.param({}, [FIRST["ca.crt"], b""], [FIRST["tls.crt"]], True, id="deleted-and-a-hook-trusts-nobody"),
        pytest.param({}, [FIRST["ca.crt"]], [FOREIGN_PAIR[0]], True, id="deleted-and-nothing-works"),
    ],
)
def test_lost(secret: Secret, bundles: list[bytes], served: list[bytes], is_served: bool) -> None:
    """Without a Secret, what hooks trust stays trusted; the new CA is used at once if that breaks nothing."""
    made = step(secret, [Sighting(NOW - DAY, tuple(bundles), tuple(map(der, served)))])
    assert read_certificates(made.data["ca.crt"])[1:] == (CA,)
    if is_served:
        assert issuer_of(made.data) == 0
    else:
        assert (made.data["tls.crt"], made.data["tls.key"]) == (b"", b"")
        after = step(made.data, seen(made.data, served=tuple(map(der, served))))
        assert issuer_of(after.data) == 0


def test_an_older_secret_put_back_is_trusted_beside_what_is_served() -> None:
    old = first(NOW - DAY)
    made = step(old, seen(FIRST))
    assert made.reason == "the bundle was incomplete or not in order"
    assert read_certificates(made.data["ca.crt"]) == (*read_certificates(old["ca.crt"]), CA)
    assert made.data["tls.crt"] == old["tls.crt"]


@pytest.mark.parametrize("mode", ["certManager", "provided"])
def test_others_certificates_are_left_alone(mode: str) -> None:
    assert step({}, seen(FIRST), certificates=config(mode=mode).certificates) is None


def test_from_somebody_elses_certificates_to_our_own() -> None:
    secret = {"ca.crt": FOREIGN.certificate.pem, "tls.crt": FOREIGN_PAIR[0], "tls.key": FOREIGN_PAIR[1]}
    made = step(secret, seen(secret))
    assert made.data["tls.crt"] == secret["tls.crt"]
    assert len(read_certificates(made.data["ca.crt"])) == 2
    made = step(made.data, seen(made.data))
    assert made.reason == "the hooks trust the new CA"
    assert len(read_certificates(step(made.data, seen(made.data)).data["ca.crt"])) == 1


def test_somebody_elses_certificate_by_way_of_an_intermediate_is_in_use() -> None:
    pair = _through_an_intermediate()
    secret = {"ca.crt": FOREIGN.certificate.pem, "tls.crt": pair[0], "tls.key": pair[1]}
    assert step(secret, seen(secret)).data["tls.crt"] == secret["tls.crt"]


def _through_an_intermediate() -> tuple[bytes, bytes]:
    below = make_authority(DAY * 50, NOW)
    issuer, subject = (x509.load_der_x509_certificate(issuer.certificate.der) for issuer in (FOREIGN, below))
    name, issuer_name, public = subject.subject, issuer.subject, subject.public_key()
    builder = x509.CertificateBuilder(issuer_name, name, public, 7, NOW, NOW + DAY * 50, list(subject.extensions))
    signed = builder.sign(FOREIGN.key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return below._replace(certificate=read_certificates(signed)[0]).issue(NAMES, DAY * 50, NOW)


def test_the_authority_is_found_below_the_serving_certificate() -> None:
    made = step({**FIRST, "ca.crt": b""}, seen(FIRST, bundles=()))
    assert made.data == FIRST


def test_other_keys_of_the_secret_stay() -> None:
    now = NOW + DAY * 61
    assert step({**FIRST, "note": b"mine"}, seen(FIRST, now=now), now).data["note"] == b"mine"


@pytest.mark.parametrize(("life", "seconds"), [("90d", 120), ("12s", 3), ("8m", 120), ("60s", 15)])
def test_settling(life: str, seconds: int) -> None:
    assert settling(config(serving_life=life).certificates) == timedelta(seconds=seconds)


# At random ----------------------------------------------------------------------------------------------------------


def encoded(data: Secret) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in data.items()}


def decoded(obj: Object) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in obj["data"].items()}


SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/forestall-tls"
HOOKS = [
    f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/forestall"
    for kind in ("mutating", "validating")
]


def test_reconcile_makes_a_secret_and_leaves_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = MemoryCluster()
    monkeypatch.setattr(rotation, "read_served", lambda *_: [])
    keeper = Rotation(cluster, NAMESPACE, list)
    for _ in range(3):
        keeper.reconcile(config(), NOW)
    assert cluster.writes == 1
    obj = cluster.objects[SECRET]
    assert obj["type"] == "kubernetes.io/tls"
    assert obj["metadata"]["labels"] == LABELS
    load_certificate(decoded(obj)["tls.crt"], decoded(obj)["tls.key"], "pair")


def test_reconcile_keeps_what_others_say_of_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = MemoryCluster()
    monkeypatch.setattr(rotation, "read_served", lambda *_: [])
    metadata = {"name": "forestall-tls", "labels": {"team": "a"}, "annotations": {"b": "c"}, "resourceVersion": "0"}
    cluster.objects[SECRET] = {"type": "Opaque", "metadata": metadata, "data": None}
    Rotation(cluster, NAMESPACE, list).reconcile(config(), NOW)
    obj = cluster.objects[SECRET]
    assert obj["type"] == "Opaque"
    assert obj["metadata"] == {
        **metadata,
        "labels": {"team": "a", **LABELS},
        "resourceVersion": "1",
    }


def test_reconcile_of_who_came_second_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = MemoryCluster()
    first = Rotation(cluster, NAMESPACE, list)

    def dial(*_: object) -> list[bytes | None]:
        monkeypatch.setattr(rotation, "read_served", lambda *_: [])
        first.reconcile(config(), NOW)
        return []

    monkeypatch.setattr(rotation, "read_served", dial)
    Rotation(cluster, NAMESPACE, list).reconcile(config(), NOW)
    assert cluster.writes == 1


@pytest.mark.parametrize("mode", ["certManager", "provided"])
def test_reconcile_asks_nothing_where_others_make_certificates(mode: str) -> None:
    def refuse() -> NoReturn:
        raise AssertionError

    cluster = MemoryCluster()
    cluster.pause = refuse
    Rotation(cluster, NAMESPACE, refuse).reconcile(config(mode=mode), NOW)


@contextlib.contextmanager
def listening(context: ssl.SSLContext | None = None) -> Iterator[Endpoint]:
    """A port on which nobody answers, or with TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(client, server_side=True) as secured:
                        secured.recv(1)

        if context:
            threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


def test_what_endpoints_present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "_DIAL_SECONDS", 0.3)
    context = load_certificate(FIRST["tls.crt"], FIRST["tls.key"], "pair").context
    asked: list[str] = []
    context.sni_callback = lambda _connection, name, _context: asked.append(name)
    with listening(context) as good, listening() as silent, socket.create_server(("127.0.0.1", 0)) as gone:
        endpoints = [silent, good, gone.getsockname(), good]
        gone.close()
        presented = rotation.read_served(endpoints, NAMES[0])
    assert presented == [None, der(FIRST["tls.crt"]), None, der(FIRST["tls.crt"])]
    assert asked == [NAMES[0]] * 2
    assert rotation.read_served([], NAMES[0]) == []


class Server:
    """A replica: what the kubelet has mounted, and the certificate that each of its two workers presents."""

    def __init__(self, mounted: Secret, now: datetime) -> None:
        self.mounted, self.at = mounted, now
        self.chains: list[tuple[Certificate, ...] | None] = [None, None]
        for worker in range(2):
            self.reload(worker)

    def reload(self, worker: int) -> None:
        self.chains[worker] = _loaded(self.mounted["tls.crt"], self.mounted["tls.key"]) or self.chains[worker]


@functools.cache
def _loaded(chain: bytes, key: bytes) -> tuple[Certificate, ...]:
    return read_chain(chain, key)


_read = functools.cache(read_certificates)


class World:
    """Two controllers that both believe they lead, two servers, two API servers; each acts when it happens to.

    What moves between two calls of a controller may be anything, the other controller included.
    """

    RELOAD, KUBELET, API_SERVER, LOOP, START = 2.0, 240.0, 25.0, 8.0, 20.0
    """The longest that things take, in seconds."""

    def __init__(
        self, seed: int, monkeypatch: pytest.MonkeyPatch, lives: tuple[str, str], trouble: bool = True
    ) -> None:
        self.random = random.Random(seed)
        self.has_trouble = trouble
        self.now = NOW
        self.depth = 3  # nothing moves before all is there
        self.problems: list[tuple[timedelta, int, str, timedelta]] = []
        self.cluster = MemoryCluster()
        self.cluster.pause = self.pause
        self.config = config(*lives)
        self.servers: list[Server] = []
        self.rotations = [Rotation(self.cluster, NAMESPACE, self.endpoints) for _ in range(2)]
        monkeypatch.setattr(rotation, "read_served", self.dial)
        self.rotations[0].reconcile(self.config, self.now)
        self.past = [(self.now, self.secret)]
        self.servers = [Server(self.secret, self.now) for _ in range(2)]
        for path in HOOKS:
            self.cluster.objects[path] = {"metadata": {"resourceVersion": "0"}, "webhooks": [_webhook(self.secret)] * 2}
        self.trusted = [dict(self._bundles()) for _ in range(2)]
        self.acts = [
            (self.rotate, self.LOOP),
            (self.write_hooks, self.LOOP),
            (self.sync, self.KUBELET),
            (lambda index: self.servers[index].reload(0), self.RELOAD),
            (lambda index: self.servers[index].reload(1), self.RELOAD),
            (self.learn, self.API_SERVER),
        ]
        self.due: dict[tuple[Callable[[int], None], int], datetime] = {}
        self.leaves: set[bytes] = set()
        self.depth = 0

    @property
    def secret(self) -> Secret:
        obj = self.cluster.objects.get(SECRET)
        return decoded(obj) if obj else self.past[-1][1]  # a kubelet keeps what it has

    def endpoints(self) -> list[Endpoint]:
        return [("server", index) for index in range(len(self.servers))]

    def _bundles(self) -> list[tuple[str, str]]:
        return [(path, self.cluster.objects[path]["webhooks"][0]["clientConfig"]["caBundle"]) for path in HOOKS]

    def pause(self) -> None:
        """Called within every call of a controller."""
        while self.depth < 3 and self.random.random() < 0.4:
            self.move()

    def dial(self, endpoints: Collection[Endpoint], name: str) -> list[bytes | None]:
        self.pause()
        assert name == NAMES[0]
        chains = [self.random.choice(self.servers[index].chains) for _, index in endpoints]
        served: list[bytes | None] = [chain[0].der if chain else None for chain in chains]
        if served and self.has_trouble and self.random.random() < 0.02:
            served[self.random.randrange(2)] = None
        return served

    def move(self) -> None:
        self.depth += 1
        self.now += timedelta(seconds=self.random.expovariate(1))
        for (act, longest), index in itertools.product(self.random.sample(self.acts, len(self.acts)), range(2)):
            due = self.due.setdefault(
                (act, index), self.now + timedelta(seconds=longest * self.random.choice((0.05, 0.5, 1)))
            )
            if self.now >= due:
                del self.due[act, index]
                act(index)
        if self.has_trouble and self.random.random() < 0.002:
            self.replace_pod(self.random.randrange(2))
        if self.past[-1][1] != self.secret:
            self.past.append((self.now, self.secret))
        self.check()
        self.depth -= 1

    def rotate(self, index: int) -> None:
        if self.depth < 3:
            self.rotations[index].reconcile(self.config, self.now)

    def write_hooks(self, _index: int) -> None:
        """The writer of webhook configurations: reads one, then the Secret, then writes by the version it has read."""
        for path in HOOKS:
            hook = self.cluster.get(path)
            secret = self.cluster.get(SECRET)
            bundle = (secret or {"data": {}})["data"].get("ca.crt")
            if bundle and _read(base64.b64decode(bundle)):
                hook["webhooks"] = [{"clientConfig": {"caBundle": bundle}}] * 2
                with contextlib.suppress(Conflict):
                    self.cluster.replace(path, hook)

    def sync(self, index: int) -> None:
        self.servers[index].mounted = self.secret

    def learn(self, index: int) -> None:
        self.trusted[index] = dict(self._bundles())

    def replace_pod(self, index: int) -> None:
        """By one that starts with what its kubelet still has in its cache."""
        cached = [secret for at, secret in self.past if self.now - at < timedelta(seconds=self.START)]
        self.servers[index] = Server((cached or [self.secret])[0], self.now)

    def edit(self) -> None:
        """Somebody's mistake that rotation can make good before anybody notices."""
        obj = self.cluster.objects.get(SECRET)
        if obj is None:
            return
        key = self.random.choice(["ca.key", "tls.key", "tls.crt", "ca.crt", "", "both"])
        if not key:
            del self.cluster.objects[SECRET]
            return
        emptied = dict.fromkeys(["ca.key", "tls.key"] if key == "both" else [key], "")
        self.cluster.put({**obj, "apiVersion": "v1", "kind": "Secret", "data": {**obj["data"], **emptied}})

    def check(self) -> None:
        """Every replica is trusted by every hook in every API server."""
        chains = [chain for server in self.servers for chain in server.chains if chain]
        for server, trusted in enumerate(self.trusted):
            for path, bundle in trusted.items():
                roots = [ca for ca in _read(base64.b64decode(bundle)) if ca.is_valid(self.now)]
                for leaf, *_ in chains:
                    self.leaves.add(leaf.der)
                    if not leaf.is_valid(self.now) or not _is_issued(leaf, tuple(roots)):
                        self.problems.append((self.now - NOW, server, path, leaf.ends - NOW))


@functools.cache
def _is_issued(leaf: Certificate, roots: tuple[Certificate, ...]) -> bool:
    return any(root.has_issued(leaf) for root in roots)


def _webhook(secret: Secret) -> Object:
    return {"clientConfig": {"caBundle": encoded(secret)["ca.crt"]}}


@pytest.mark.parametrize("seed", range(3))
def test_nobody_meets_a_certificate_that_they_do_not_trust(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(seed, monkeypatch, ("2400s", "900s"))
    authorities = set()
    while world.now < NOW + timedelta(seconds=7200):
        world.move()
        assert not world.problems
        authorities |= set(_read(world.secret["ca.crt"]))
    assert len(authorities) == 5
    assert len(world.leaves) >= 10
    assert len(_read(world.secret["ca.crt"])) <= 2


@pytest.mark.parametrize("seed", range(3))
def test_nor_when_the_secret_is_edited(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With longer lives: whoever loses the CA's key late in a certificate's life needs time to replace both."""
    world = World(seed, monkeypatch, ("5000s", "2000s"), trouble=False)
    edited = world.now
    while world.now < NOW + timedelta(seconds=6000):
        world.move()
        assert not world.problems
        if world.now > edited + timedelta(seconds=400) and world.random.random() < 0.01:
            world.edit()
            edited = world.now
    assert len(_read(world.secret["ca.crt"])) <= 3


# Real servers --------------------------------------------------------------------------------------------------------


class Caller(threading.Thread):
    """Asks a server for verdicts as the API server does, with the bundle that the hooks carry; counts what fails."""

    def __init__(self, port: int, bundle: Callable[[], bytes], calls: int) -> None:
        """So many calls are sent over one connection."""
        super().__init__()
        self.port, self.bundle, self.calls = port, bundle, calls
        self.answered = 0
        self.failed: list[str] = []
        self.leaves: set[bytes] = set()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                self.call()
            except (OSError, AssertionError) as error:
                self.failed.append(repr(error))

    def call(self) -> None:
        context = ssl.create_default_context(cadata=self.bundle().decode())
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        with context.wrap_socket(connection, server_hostname=NAMES[0]) as secured, secured.makefile("rb") as answers:
            self.leaves.add(secured.getpeercert(binary_form=True))
            for _ in range(self.calls):
                secured.sendall(post(review()))
                assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
                (length,) = [
                    line for line in iter(answers.readline, b"\r\n") if line.lower().startswith(b"content-length")
                ]
                answers.read(int(length.split()[1]))
                self.answered += 1
                self.ended.wait(0.02)


def test_no_call_fails_while_everything_is_replaced(tmp_path: Path) -> None:
    """Two servers, lives of seconds: a serving certificate renewed, then the CA replaced, both under load."""
    lives = config("30s", "12s")
    cluster = MemoryCluster()
    with contextlib.ExitStack() as stack:
        mounts = [Mount(tmp_path / name / "tls") for name in ("one", "two")]
        servers = [
            stack.enter_context(
                served(
                    mount.folder.parent,
                    ready=503,
                    drain_delay=0,
                    tls_cert=mount.folder / "tls.crt",
                    tls_key=mount.folder / "tls.key",
                )
            )
            for mount in mounts
        ]
        # Both in the middle of their lives, so that it doesn't take as long.
        now = datetime.now(UTC)
        old = make_authority(timedelta(seconds=30), now - timedelta(seconds=10))
        chain, key = old.issue(NAMES, timedelta(seconds=12), now - timedelta(seconds=3))
        data = {"tls.crt": chain, "tls.key": key, "ca.crt": old.certificate.pem, "ca.key": old.key_pem}
        metadata = {"name": "forestall-tls", "resourceVersion": "0"}
        cluster.objects[SECRET] = {"metadata": metadata, "data": encoded(data)}
        for mount in mounts:
            mount.sync(data)
        _write_hooks(cluster, data)
        eventually(lambda: all(server.get("/readyz")[0] == 200 for server in servers))

        keeper = Rotation(cluster, NAMESPACE, lambda: [("127.0.0.1", server.port) for server in servers])
        bundles = [data["ca.crt"]]

        def go_on() -> bool:
            keeper.reconcile(lives, datetime.now(UTC))
            secret = decoded(cluster.objects[SECRET])
            _write_hooks(cluster, secret)
            for mount in mounts:
                mount.sync(secret)
            if secret["ca.crt"] != bundles[-1]:
                bundles.append(secret["ca.crt"])
            time.sleep(0.1)
            return len(bundles) == 3

        callers = [Caller(server.port, partial(_carried, cluster), calls) for server in servers for calls in (1, 20)]
        for caller in callers:
            caller.start()
        try:
            eventually(go_on)
        finally:
            for caller in callers:
                caller.ended.set()
            for caller in callers:
                caller.join()
    (new,) = read_certificates(bundles[2])
    assert [read_certificates(bundle) for bundle in bundles] == [(old.certificate,), (new, old.certificate), (new,)]
    assert [caller.failed for caller in callers] == [[]] * 4
    for caller in callers:
        assert caller.answered > 50
        assert {new.has_issued(parse_certificate(leaf)) for leaf in caller.leaves} == {True, False}
    assert len(set().union(*(caller.leaves for caller in callers))) >= 3


def _write_hooks(cluster: MemoryCluster, secret: Secret) -> None:
    for path in HOOKS:
        cluster.objects[path] = {"metadata": {"resourceVersion": "0"}, "webhooks": [_webhook(secret)]}


def _carried(cluster: MemoryCluster) -> bytes:
    hook = cluster.objects[random.choice(HOOKS)]
    return base64.b64decode(hook["webhooks"][0]["clientConfig"]["caBundle"])
