"""Certificates: reading and checking them, and issuing our own, with a CA or just for trying things out."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from webhook.errors import BadCertificate

CLOCK_SKEW = timedelta(hours=1)
"""How long before now a new certificate begins: clocks differ."""

LOCAL_NAMES = ("localhost", "127.0.0.1", "forestall.forestall-system.svc")


class ServingCertificate(NamedTuple):
    """A certificate, loaded and ready to serve."""

    context: ssl.SSLContext
    expires: datetime
    """When the first certificate of the chain ends (UTC)."""


class CertificateFiles(NamedTuple):
    """PEM files to serve by. With `client_ca`, whoever connects has to show a certificate by one of that file's CAs."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> list[Path]:
        return [path for path in self if path is not None]

    def read(self) -> tuple[bytes, ...]:
        """What the files hold; raises BadCertificate if one can't be read."""
        try:
            return tuple(path.read_bytes() for path in self.paths)
        except OSError as error:
            raise BadCertificate(f"{error.filename}: {error.strerror}") from error

    def load(self, contents: tuple[bytes, ...]) -> ServingCertificate:
        """What was read, ready to serve; raises BadCertificate if chain and key can't serve together."""
        chain, key, *clients = contents
        serving = load_certificate(chain, key, f"{self.cert} and {self.key}")
        for authorities in clients:
            _require_clients(serving.context, authorities, str(self.client_ca))
        return serving


def _require_clients(context: ssl.SSLContext, authorities: bytes, source: str) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(cadata=authorities.decode("ascii"))
    except (ValueError, ssl.SSLError) as error:
        raise BadCertificate(f"{source}: no certificate in PEM") from error


def load_certificate(chain: bytes, key: bytes, source: str) -> ServingCertificate:
    """Load a chain and its key, both PEM; `source` is what an error calls them."""
    try:
        certificate = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise BadCertificate(f"{source}: no certificate in PEM") from error
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = "the key is encrypted" if isinstance(error, TypeError) else "no private key in PEM"
        raise BadCertificate(f"{source}: {reason}") from error
    if private.public_key() != certificate.public_key():
        raise BadCertificate(f"{source}: the key belongs to another certificate")
    try:
        return ServingCertificate(_context(chain, key), certificate.not_valid_after_utc)
    except ssl.SSLError as error:  # a key too small, a signature too weak
        raise BadCertificate(f"{source}: {error.reason or error}") from error


def _context(chain: bytes, key: bytes) -> ssl.SSLContext:
    context = new_context()
    # OpenSSL reads only files. This one has no name, is never on a disk, and holds exactly the bytes that were
    # checked: the files may be swapped between two looks.
    descriptor = os.memfd_create("certificate")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(key + b"\n" + chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context


def new_context(clients: ssl.VerifyMode = ssl.CERT_NONE) -> ssl.SSLContext:
    """A server's TLS settings without a certificate: HTTP/1.1 only, no resumption."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = clients
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The API server keeps its connections; tickets would only let clients go on with a certificate that was replaced.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def make_self_signed(names: tuple[str, ...] = LOCAL_NAMES, *, days: int = 90) -> tuple[bytes, bytes]:
    """A certificate for these DNS names and addresses, valid from an hour ago, and its key: both PEM.

    No client trusts it: it is for trying things out.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name("forestall, self-signed")
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_san(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM), _private_pem(key)


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass(frozen=True)
class Certificate:
    """One certificate; equal to another if it is the same to the byte."""

    der: bytes = field(repr=False)
    begins: datetime = field(compare=False)
    ends: datetime = field(compare=False)
    is_ca: bool = field(compare=False)
    names: frozenset[str] = field(compare=False)
    """The DNS names that it is for."""
    _parsed: x509.Certificate = field(compare=False, repr=False)

    @property
    def pem(self) -> bytes:
        return self._parsed.public_bytes(Encoding.PEM)

    @property
    def subject(self) -> str:
        return self._parsed.subject.rfc4514_string()

    def is_valid(self, now: datetime) -> bool:
        return self.begins <= now < self.ends

    def has_issued(self, other: Certificate) -> bool:
        """Whether the other one names this one as its issuer and bears its signature."""
        try:
            other._parsed.verify_directly_issued_by(self._parsed)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return self.is_ca

    def is_trusted_by(self, roots: Collection[Certificate], between: Collection[Certificate]) -> bool:
        """Whether a chain of certificates `between` leads from this one to a root; as in Go, every certificate among
        the roots is trusted, whether it is a CA or not."""
        if self in roots or any(root.has_issued(self) for root in roots):
            return True
        issuers = [certificate for certificate in between if certificate.has_issued(self)]
        rest = [certificate for certificate in between if certificate not in issuers]
        return any(issuer.is_trusted_by(roots, rest) for issuer in issuers)


def read_certificates(pem: bytes) -> tuple[Certificate, ...]:
    """The certificates among the PEM blocks, each once; what cannot be read is left out."""
    found = (_parse(block, is_pem=True) for block in _PEM_BLOCK.findall(pem))
    return tuple(dict.fromkeys(certificate for certificate in found if certificate is not None))


def parse_certificate(der: bytes) -> Certificate | None:
    """A certificate as it goes over the wire; None if it cannot be read."""
    return _parse(der, is_pem=False)


T = TypeVar("T", bound=x509.ExtensionType)

_PEM_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def _parse(data: bytes, *, is_pem: bool) -> Certificate | None:
    try:
        parsed = x509.load_pem_x509_certificate(data) if is_pem else x509.load_der_x509_certificate(data)
        parsed.public_key()
        constraints = _extension(parsed, x509.BasicConstraints)
        names = _extension(parsed, x509.SubjectAlternativeName)
        return Certificate(
            der=parsed.public_bytes(Encoding.DER),
            begins=parsed.not_valid_before_utc,
            ends=parsed.not_valid_after_utc,
            is_ca=constraints is not None and constraints.ca,
            names=frozenset(names.get_values_for_type(x509.DNSName) if names else ()),
            _parsed=parsed,
        )
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


def _extension(certificate: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def write_certificates(certificates: Iterable[Certificate]) -> bytes:
    return b"".join(certificate.pem for certificate in certificates)


def read_chain(chain: bytes, key: bytes) -> tuple[Certificate, ...]:
    """The certificates of a chain that a server would take together with this key; empty if it would not."""
    try:
        load_certificate(chain, key, "")
    except BadCertificate:
        return ()
    return read_certificates(chain)


class Authority(NamedTuple):
    """A CA of our own: ECDSA P-256, for servers' certificates and nothing else."""

    certificate: Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def key_pem(self) -> bytes:
        return _private_pem(self.key)

    def issue(self, names: Collection[str], life: timedelta, now: datetime) -> tuple[bytes, bytes]:
        """A server's certificate for these DNS names, with the CA's below it, and its key: both PEM.

        It ends no later than the CA does.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        authority = self.certificate._parsed  # noqa: SLF001 - the same module
        identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        leaf = (
            _builder(_name("forestall"), key, now, min(now + life, self.certificate.ends))
            .issuer_name(authority.subject)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_san(name) for name in names]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return leaf.public_bytes(Encoding.PEM) + self.certificate.pem, _private_pem(key)


def make_authority(life: timedelta, now: datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # Every CA gets a name of its own: some verifiers look no further than the first CA of the issuer's name.
    name = _name(f"forestall CA {identifier.digest[:4].hex()}")
    certificate = (
        _builder(name, key, now, now + life)
        .issuer_name(name)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    (parsed,) = read_certificates(certificate.public_bytes(Encoding.PEM))
    return Authority(parsed, key)


def find_authority(key: bytes, candidates: Iterable[Certificate]) -> Authority | None:
    """The CA whose key this is (PEM), of several the one that ends last; None without a usable key that fits."""
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        return None
    fitting = [candidate for candidate in candidates if _is_authority(candidate, private.public_key())]
    return Authority(max(fitting, key=lambda authority: authority.ends), private) if fitting else None


def _is_authority(certificate: Certificate, key: ec.EllipticCurvePublicKey) -> bool:
    parsed = certificate._parsed  # noqa: SLF001 - the same module
    has_identifier = _extension(parsed, x509.SubjectKeyIdentifier) is not None
    return certificate.has_issued(certificate) and has_identifier and parsed.public_key() == key


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
