"""The serving certificate: reading and checking it, and making one for trying things out."""

from __future__ import annotations

import ipaddress
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
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

LOCAL_NAMES = ("localhost", "127.0.0.1", "forestall.forestall-system.svc")


class ServingCertificate(NamedTuple):
    """A certificate, loaded and ready to serve."""

    context: ssl.SSLContext
    expires: datetime
    """When the first certificate of the chain ends (UTC)."""


def read_certificate(cert: Path, key: Path) -> ServingCertificate:
    """Load a certificate chain and its key from PEM files; raises BadCertificate if they can't serve together."""
    try:
        chain, private = cert.read_bytes(), key.read_bytes()
    except OSError as error:
        raise BadCertificate(f"{error.filename}: {error.strerror}") from error
    return load_certificate(chain, private, f"{cert} and {key}")


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


def new_context() -> ssl.SSLContext:
    """A server's TLS settings without a certificate: HTTP/1.1 only, no resumption."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The API server keeps its connections; tickets would only let clients go on with a certificate that was replaced.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def self_signed_certificate(names: tuple[str, ...] = LOCAL_NAMES) -> ServingCertificate:
    """A certificate that lives as long as this process: nobody trusts it, it is for trying things out."""
    chain, key = make_self_signed(names)
    return load_certificate(chain, key, "self-signed certificate")


def make_self_signed(names: tuple[str, ...] = LOCAL_NAMES, *, days: int = 90) -> tuple[bytes, bytes]:
    """A certificate for these DNS names and addresses, valid from an hour ago, and its key: both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "forestall, self-signed")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_san(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), private


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
