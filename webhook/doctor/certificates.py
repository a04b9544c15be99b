"""The servers' certificates: whether the API server trusts them, and how long they are valid."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta

from webhook.certs import Certificate, parse_certificate, read_certificates
from webhook.config import Config
from webhook.controller.registration import STAGES
from webhook.controller.rotation import service_names
from webhook.doctor.remark import Remark, Remarks, listed
from webhook.doctor.survey import Survey, seen
from webhook.errors import ForestallError
from webhook.installation import SECRET
from webhook.policy import Object


def check_certificate(survey: Survey) -> Remarks:
    """Whether the API server, by the caBundles of our webhooks, trusts the certificates that servers present."""
    leaves, between, source = _presented(survey)
    if not leaves:
        yield Remark("fail", f"{source}: no certificate", "see the controller's log; with certManager its Certificate")
        return
    names = set(service_names(survey.namespace)[:1])
    webhooks = _registered(survey)
    bundles: dict[str, list[str]] = defaultdict(list)
    for webhook in webhooks:
        bundles[webhook["clientConfig"].get("caBundle") or ""].append(webhook["name"])
    is_fine = True
    for leaf in dict.fromkeys(leaves):
        if not leaf.is_valid(survey.now) or not leaf.names >= names:
            is_fine = False
            what = f"valid {leaf.begins:%Y-%m-%d %H:%M} to {leaf.ends:%Y-%m-%d %H:%M} UTC for {listed(leaf.names)}"
            yield Remark("fail", f"{source}: a certificate {what}", f"renew it, for {listed(names)}")
        for bundle, whose in bundles.items():
            roots = [certificate for certificate in _decode(bundle) if certificate.is_valid(survey.now)]
            if not leaf.is_trusted_by(roots, between):
                is_fine = False
                wrong = "doesn't trust" if bundle else "is empty: it can't trust"
                text = f"caBundle of {listed(whose)} {wrong} what is presented ({source})"
                yield Remark("fail", text, "see why the controller doesn't set it right: its log")
    if is_fine and not webhooks:
        yield Remark("unknown", f"cannot tell whom it is trusted by: no webhook is registered ({source})", "see hooks")
    elif is_fine:
        yield Remark("ok", f"{len(webhooks)} webhooks trust it ({source})")


def _registered(survey: Survey) -> list[Object]:
    """The webhooks of both of our configurations, as far as these exist."""
    configurations = filter(None, map(survey.registered, STAGES))
    return [webhook for configuration in configurations for webhook in configuration.get("webhooks") or ()]


def _presented(survey: Survey) -> tuple[list[Certificate], Sequence[Certificate], str]:
    """The certificates that servers present, the intermediate ones, and where they were seen."""
    replicas = seen(survey.replicas)
    chain = () if isinstance(survey.secret, ForestallError) else _chain(survey.secret)
    served = [endpoint.served for endpoint in replicas if endpoint.served is not None]
    if served:
        leaves = [leaf for der in served if (leaf := parse_certificate(der)) is not None]
        return leaves, chain[1:], f"as {len(served)} of {len(replicas)} endpoints present it"
    chain = _chain(seen(survey.secret))
    return list(chain[:1]), chain[1:], f"by Secret {SECRET}, since no endpoint can be reached from here"


def _chain(secret: Mapping[str, bytes] | None) -> Sequence[Certificate]:
    return read_certificates((secret or {}).get("tls.crt", b""))


def _decode(bundle: str) -> tuple[Certificate, ...]:
    return read_certificates(base64.b64decode(bundle))


def check_expiry(survey: Survey) -> Remarks:
    """How long certificates are still valid; our own are renewed with a third of their life left: a quarter is late."""
    leaves, between, source = _presented(survey)
    bundles = {webhook["clientConfig"].get("caBundle") or "" for webhook in _registered(survey)}
    roots = dict.fromkeys(root for bundle in bundles for root in _decode(bundle))
    # Where there are several CAs, only those that a server's certificate depends on.
    used = [certificate for certificate in roots if any(leaf.is_trusted_by([certificate], between) for leaf in leaves)]
    if not leaves:
        yield Remark("fail", f"{source}: no certificate", "see certificate")
    for what, certificates in (("the serving certificate", dict.fromkeys(leaves)), ("its CA", dict.fromkeys(used))):
        for certificate in certificates:
            yield _expiry(what, certificate, survey)


def _expiry(what: str, certificate: Certificate, survey: Survey) -> Remark:
    left, life = certificate.ends - survey.now, certificate.ends - certificate.begins
    is_own = isinstance(survey.config, Config) and survey.config.certificates.mode == "selfManaged"
    late = life / 4 if is_own else min(life / 4, timedelta(days=30))
    text = f"{what} ends in {_show(left)}, on {certificate.ends:%Y-%m-%d}"
    if left <= timedelta(0):
        return Remark("fail", f"{what} ended on {certificate.ends:%Y-%m-%d}", _RENEW)
    if left < life / 20:
        return Remark("fail", text, _RENEW)
    return Remark("warn", text, _RENEW) if left < late else Remark("ok", text)


_RENEW = "see why it isn't renewed: the controller's log, cert-manager's Certificate, or whoever provides it"


def _show(span: timedelta) -> str:
    return f"{span.days} days" if span.days >= 2 else f"{span.total_seconds() / 3600:.3g} hours"
