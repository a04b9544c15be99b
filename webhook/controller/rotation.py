"""Our own CA and serving certificate: made, renewed, and replaced so that callers always trust what servers present.

`next_step` decides, Rotation reads and writes. Only the Secret is stored. What the webhook configurations trust and
what the replicas present is read each time, never assumed.

A new CA is first added to the bundle, which the hooks' writer copies to the configurations. When they have carried it
for a while, a serving certificate is issued by it; when every replica has presented that for a while, the old CA goes.
"""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from webhook.certs import (
    Authority,
    Certificate,
    find_authority,
    make_authority,
    parse_certificate,
    read_certificates,
    read_chain,
    write_certificates,
)
from webhook.config import Config
from webhook.controller.endpoints import Endpoint
from webhook.controller.registration import STAGES, configuration_path
from webhook.errors import Conflict
from webhook.installation import LABELS, NAME, SECRET
from webhook.policy import Object
from webhook.sections import Certificates

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

_DIAL_SECONDS = 2.0
_DIALS_SECONDS = 5.0
_DIALS_AT_ONCE = 16

_LONGEST_SETTLING = timedelta(minutes=2)


log = structlog.get_logger()


class Sighting(NamedTuple):
    """What callers trust and what replicas present, at one moment."""

    at: datetime
    bundles: tuple[bytes, ...]
    """The caBundle of every webhook in the configurations that exist; empty bytes where it is not set."""
    served: tuple[bytes | None, ...]
    """The certificate, as DER, that each endpoint presents; None for one that doesn't answer."""

    def trusts(self, authority: Certificate) -> bool:
        """Whether all hooks would take certificates by this CA."""
        return all(authority in read_certificates(bundle) for bundle in self.bundles)

    def presents(self, authority: Certificate) -> bool:
        """Whether all endpoints answer with certificates by this CA."""
        leaves = self.leaves()
        return len(leaves) == len(self.served) and all(authority.has_issued(leaf) for leaf in leaves)

    def leaves(self) -> list[Certificate]:
        """The certificates that endpoints present, as far as they can be parsed."""
        parsed = [parse_certificate(der) for der in self.served if der is not None]
        return [leaf for leaf in parsed if leaf is not None]

    def trusted(self) -> list[Certificate]:
        """Every CA that some hook trusts."""
        return [certificate for bundle in self.bundles for certificate in read_certificates(bundle)]


class Step(NamedTuple):
    data: dict[str, bytes]
    """The Secret's data from now on."""
    reason: str


def settling(certificates: Certificates) -> timedelta:
    """How long a state has to be seen before it counts as true everywhere. Other API servers' caches, the kubelet's
    cache for pods that start just now, and the workers of each replica follow a write late.
    """
    return min(_LONGEST_SETTLING, timedelta(seconds=certificates.serving_life / 4))


def service_names(namespace: str) -> tuple[str, ...]:
    """The DNS names of the serving certificate; the API server asks for the first."""
    return (f"{NAME}.{namespace}.svc", f"{NAME}.{namespace}", f"{NAME}.{namespace}.svc.cluster.local")


def next_step(
    secret: Mapping[str, bytes] | None,
    certificates: Certificates,
    names: Collection[str],
    now: datetime,
    history: Sequence[Sighting],
) -> Step | None:
    """What the Secret has to hold next, or None if it is right.

    `history` is what was seen, oldest first: each entry was true until the next one, and the last one is true now. A
    step that could break something waits until it reaches as far back as settling().
    """
    if certificates.mode != "selfManaged":
        return None
    held = _Held(secret or {}, names, now, history, settling(certificates))
    ca_life, serving_life = timedelta(seconds=certificates.ca_life), timedelta(seconds=certificates.serving_life)
    authority = held.authority
    if authority is None or _is_due(authority.certificate, ca_life, now):
        return _replace_authority(held, make_authority(ca_life, now), serving_life)
    issue = partial(authority.issue, names, serving_life, now)
    if held.is_served_by(authority):
        if _is_due(held.chain[0], serving_life, now):
            return held.step(authority, "the serving certificate is due", pair=issue())
        if held.may_forget_all_but(authority):
            return held.step(authority, "every replica serves by the newest CA: older ones go", only=True)
    elif held.may_serve_by(authority):
        reason = "the hooks trust the new CA" if held.chain else "the serving certificate is missing or of no use"
        return held.step(authority, reason, pair=issue())
    return held.step(authority, "the bundle was incomplete or not in order")


def _is_due(certificate: Certificate, life: timedelta, now: datetime) -> bool:
    """Whether two thirds of the certificate's life are over, or its life is far longer than configured."""
    return not life / 3 < certificate.ends - now <= life * 4 / 3


def _replace_authority(held: _Held, new: Authority, serving_life: timedelta) -> Step | None:
    old = held.authority
    if old is not None:
        reason = "the CA is due"
    else:
        reason = "the CA's key is missing or of no use" if held.data else "there is no Secret"
    pair = None
    if old is not None and held.is_served_by(old):
        # The old key signs a last time, so that callers have a serving certificate's whole life to trust the new CA.
        pair = old.issue(held.names, serving_life, held.now)
    elif not held.is_in_use():
        pair = new.issue(held.names, serving_life, held.now)
    return held.step(new, f"{reason}: a new CA", pair=pair)


class _Held:
    """The Secret's content; anybody may have edited it."""

    def __init__(
        self,
        data: Mapping[str, bytes],
        names: Collection[str],
        now: datetime,
        history: Sequence[Sighting],
        long: timedelta,
    ) -> None:
        self.data = data
        self.names = names
        self.now = now
        self.history = history
        self.has_settled = history[0].at <= now - long
        seen = history[-1]
        bundle, trusted = self._valid(read_certificates(data.get("ca.crt", b""))), self._valid(seen.trusted())
        chain = read_chain(data.get("tls.crt", b""), data.get("tls.key", b""))
        self.authority = find_authority(data.get("ca.key", b""), self._valid([*bundle, *chain[1:], *trusted]))
        roots = [*bundle, *trusted, *([self.authority.certificate] if self.authority else [])]
        self.chain = chain if chain and self._is_good(chain[0], roots, chain[1:]) else ()
        """The serving certificate and what stands between it and its CA; empty if it can't be used."""
        # What hooks trust, and somebody took out of the Secret, is needed for as long as replicas serve by it. Without
        # the CA's key nothing in the Secret says how things were, and what is trusted stays so.
        leaves = [*seen.leaves(), *self.chain[:1]]
        served = [ca for ca in trusted if self.authority is None or any(map(ca.has_issued, leaves))]
        self.bundle = self._valid([*bundle, *served])

    def _valid(self, certificates: Iterable[Certificate]) -> list[Certificate]:
        return [
            certificate
            for certificate in dict.fromkeys(certificates)
            if certificate.is_ca and certificate.ends > self.now
        ]

    def _is_good(self, leaf: Certificate, roots: Collection[Certificate], between: Collection[Certificate]) -> bool:
        return leaf.ends > self.now and leaf.names.issuperset(self.names) and leaf.is_trusted_by(roots, between)

    def is_served_by(self, authority: Authority) -> bool:
        return bool(self.chain) and authority.certificate.has_issued(self.chain[0])

    def is_in_use(self) -> bool:
        """Whether calls work now: a serving certificate that the webhook configurations don't trust yet would break
        them."""
        if self.chain:
            return True
        seen = self.history[-1]
        pools = [read_certificates(bundle) for bundle in seen.bundles]
        return bool(pools) and any(all(self._is_good(leaf, pool, ()) for pool in pools) for leaf in seen.leaves())

    def may_serve_by(self, authority: Authority) -> bool:
        is_trusted = self.has_settled and all(seen.trusts(authority.certificate) for seen in self.history)
        return is_trusted or not self.is_in_use()

    def may_forget_all_but(self, authority: Authority) -> bool:
        only = authority.certificate
        return (
            any(certificate != only for certificate in self.bundle)
            and self.has_settled
            and all(seen.trusts(only) and seen.presents(only) for seen in self.history)
        )

    def step(
        self, authority: Authority, reason: str, *, pair: tuple[bytes, bytes] | None = None, only: bool = False
    ) -> Step | None:
        """The Secret with this CA, with `only` this one, and this serving pair; None if it holds just that already."""
        bundle = dict.fromkeys([authority.certificate, *([] if only else self.bundle)])
        chain, key = pair or (self.data.get("tls.crt", b""), self.data.get("tls.key", b""))
        changed = {
            "tls.crt": chain,
            "tls.key": key,
            "ca.crt": write_certificates(bundle),
            "ca.key": authority.key_pem,
        }
        data = {**self.data, **changed}
        return None if data == self.data else Step(data, reason)


class Rotation:
    """Keeps the Secret right. `endpoints` says where the replicas are, all of them, ready or not."""

    def __init__(self, cluster: Cluster, namespace: str, endpoints: Callable[[], Collection[Endpoint]]) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._endpoints = endpoints
        self._names = service_names(namespace)
        self._secrets = f"/api/v1/namespaces/{namespace}/secrets"
        self._history: list[Sighting] = []

    def reconcile(self, config: Config, now: datetime) -> None:
        certificates = config.certificates
        if certificates.mode != "selfManaged":
            return
        # The Secret first: a write is refused if it changed after this, so what is seen now belongs to it.
        secret = self._cluster.get(f"{self._secrets}/{SECRET}")
        self._remember(self._look(now), settling(certificates))
        data = None if secret is None else _decoded(secret)
        step = next_step(data, certificates, self._names, now, self._history)
        if step is None:
            return
        try:
            self._write(secret, step.data)
        except Conflict:
            return  # somebody else has written: the next round decides anew
        log.info("certificates written", reason=step.reason)

    def _look(self, now: datetime) -> Sighting:
        hooks = [hook for stage in STAGES if (hook := self._cluster.get(configuration_path(stage))) is not None]
        bundles = [
            base64.b64decode(webhook["clientConfig"].get("caBundle") or "")
            for hook in hooks
            for webhook in hook.get("webhooks") or ()
        ]
        served = read_served(self._endpoints(), self._names[0])
        # Sorted, so that the order doesn't count as a change.
        return Sighting(now, tuple(sorted(set(bundles))), tuple(sorted(served, key=lambda leaf: leaf or b"")))

    def _remember(self, seen: Sighting, long: timedelta) -> None:
        """Add the sighting if it differs from the last one, and drop those that ended longer than `long` ago."""
        if not self._history or self._history[-1][1:] != seen[1:]:
            self._history.append(seen)
        while len(self._history) > 1 and self._history[1].at <= seen.at - long:
            del self._history[0]

    def _write(self, secret: Object | None, data: Mapping[str, bytes]) -> None:
        encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
        if secret is None:
            made = {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/tls",
                "metadata": {"name": SECRET, "namespace": self._namespace, "labels": dict(LABELS)},
                "data": encoded,
            }
            self._cluster.create(self._secrets, made)
        else:
            metadata = secret["metadata"]
            labelled = {**metadata, "labels": {**LABELS, **(metadata.get("labels") or {})}}
            self._cluster.replace(f"{self._secrets}/{SECRET}", {**secret, "metadata": labelled, "data": encoded})


def _decoded(secret: Object) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in (secret.get("data") or {}).items()}


def read_served(endpoints: Collection[Endpoint], name: str) -> list[bytes | None]:
    """The certificate (DER) that each endpoint presents to who asks for `name`; None where no answer comes in time."""
    if not endpoints:
        return []
    threads = ThreadPoolExecutor(min(len(endpoints), _DIALS_AT_ONCE), thread_name_prefix="dial")
    try:
        dials = [threads.submit(_dial, endpoint, name) for endpoint in endpoints]
        done, _ = wait(dials, _DIALS_SECONDS)
        return [dial.result() if dial in done else None for dial in dials]
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _dial(endpoint: Endpoint, name: str) -> bytes | None:
    # Not verified: the certificate itself is what is asked for, and nothing is sent.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(endpoint, timeout=_DIAL_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=name) as secured,
        ):
            return secured.getpeercert(binary_form=True)
    except OSError:
        return None
