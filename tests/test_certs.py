"""Certificates: what is read, what is refused, what we issue, and what clients have to show."""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.loopback import eventually
from tests.served import PATIENCE, Server, post, review, served
from webhook.certs import (
    CLOCK_SKEW,
    Authority,
    Certificate,
    CertificateFiles,
    find_authority,
    load_certificate,
    make_authority,
    make_self_signed,
    parse_certificate,
    read_certificates,
    read_chain,
)
from webhook.errors import BadCertificate

CHAIN, KEY = make_self_signed(("forestall.example",), days=10)
OTHER_CHAIN, OTHER_KEY = make_self_signed(("forestall.example",))


def rsa_key(encryption: KeySerializationEncryption | None = None) -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def test_reads_the_pair_and_when_it_ends(tmp_path: Path) -> None:
    files = CertificateFiles(tmp_path / "tls.crt", tmp_path / "tls.key")
    files.cert.write_bytes(CHAIN)
    files.key.write_bytes(KEY)
    remaining = files.load(files.read()).expires - datetime.now(UTC)
    assert timedelta(days=9, hours=23) < remaining < timedelta(days=10, minutes=1)


def test_the_chain_may_hold_more_certificates() -> None:
    assert load_certificate(CHAIN + OTHER_CHAIN, KEY, "pair").expires == load_certificate(CHAIN, KEY, "pair").expires


def make_pair_of_weak_key() -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    return (
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


@pytest.mark.parametrize(
    ("chain", "key", "reason"),
    [
        pytest.param(CHAIN, OTHER_KEY, "the key belongs to another certificate", id="another-certificate's-key"),
        pytest.param(CHAIN, rsa_key(), "the key belongs to another certificate", id="a-key-of-another-type"),
        pytest.param(CHAIN, b"", "no private key in PEM", id="no-key"),
        pytest.param(CHAIN, rsa_key(BestAvailableEncryption(b"secret")), "the key is encrypted", id="encrypted"),
        pytest.param(b"", KEY, "no certificate in PEM", id="no-certificate"),
        pytest.param(CHAIN[: len(CHAIN) // 2], KEY, "no certificate in PEM", id="half-a-certificate"),
        pytest.param(KEY, CHAIN, "no certificate in PEM", id="exchanged"),
        pytest.param(*make_pair_of_weak_key(), "EE_KEY_TOO_SMALL", id="a-key-that-OpenSSL-refuses"),
    ],
)
def test_refuses(chain: bytes, key: bytes, reason: str) -> None:
    with pytest.raises(BadCertificate) as refused:
        load_certificate(chain, key, "pair")
    assert str(refused.value) == f"pair: {reason}"


def test_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadCertificate, match=r"absent\.crt: No such file or directory$"):
        CertificateFiles(tmp_path / "absent.crt", tmp_path / "absent.key").read()


def test_self_signed_names() -> None:
    chain, _ = make_self_signed()
    names = x509.load_pem_x509_certificate(chain).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "forestall.forestall-system.svc"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_self_signed_certificate_serves() -> None:
    assert load_certificate(*make_self_signed(), "self-signed").expires > datetime.now(UTC) + timedelta(days=89)


# Our own -------------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NAMES = ("forestall.example.svc", "forestall.example")
AUTHORITY = make_authority(timedelta(days=3650), NOW)
FOREIGN = make_authority(timedelta(days=3650), NOW)
LEAF, LEAF_KEY = AUTHORITY.issue(NAMES, timedelta(days=90), NOW)


def extensions(pem: bytes) -> dict[str, tuple[Any, bool]]:
    parsed = x509.load_pem_x509_certificate(pem)
    return {type(extension.value).__name__: (extension.value, extension.critical) for extension in parsed.extensions}


def usages(usage: x509.KeyUsage) -> list[str]:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    return [name for name in (*names, "key_cert_sign", "crl_sign") if getattr(usage, name)]


def test_authority() -> None:
    pem = AUTHORITY.certificate.pem
    parsed, found = x509.load_pem_x509_certificate(pem), extensions(pem)
    assert found["BasicConstraints"] == (x509.BasicConstraints(ca=True, path_length=0), True)
    usage, is_critical = found["KeyUsage"]
    assert (usages(usage), is_critical) == (["key_cert_sign", "crl_sign"], True)
    assert found["AuthorityKeyIdentifier"][0].key_identifier == found["SubjectKeyIdentifier"][0].digest
    assert parsed.not_valid_before_utc == NOW - CLOCK_SKEW
    assert parsed.not_valid_after_utc == NOW + timedelta(days=3650)
    key = parsed.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert parsed.subject == parsed.issuer != x509.load_pem_x509_certificate(FOREIGN.certificate.pem).subject
    assert parsed.serial_number.bit_length() > 64


def test_serving_certificate() -> None:
    parsed, found = x509.load_pem_x509_certificate(LEAF), extensions(LEAF)
    assert found["BasicConstraints"] == (x509.BasicConstraints(ca=False, path_length=None), True)
    usage, is_critical = found["KeyUsage"]
    assert (usages(usage), is_critical) == (["digital_signature"], True)
    assert found["ExtendedKeyUsage"] == (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    assert found["SubjectAlternativeName"][0].get_values_for_type(x509.DNSName) == list(NAMES)
    above = extensions(AUTHORITY.certificate.pem)["SubjectKeyIdentifier"][0].digest
    assert found["AuthorityKeyIdentifier"][0].key_identifier == above
    assert "SubjectKeyIdentifier" in found
    assert parsed.not_valid_before_utc == NOW - CLOCK_SKEW
    assert parsed.not_valid_after_utc == NOW + timedelta(days=90)
    assert load_certificate(LEAF, LEAF_KEY, "pair").expires == parsed.not_valid_after_utc
    assert LEAF.endswith(AUTHORITY.certificate.pem)


def test_no_certificate_outlives_its_authority() -> None:
    late = NOW + timedelta(days=3649)
    leaf, *_ = read_certificates(AUTHORITY.issue(NAMES, timedelta(days=90), late)[0])
    assert leaf.ends == AUTHORITY.certificate.ends


def test_a_namespace_of_the_longest_name() -> None:
    name = f"forestall.{'n' * 63}.svc.cluster.local"
    assert read_certificates(AUTHORITY.issue([name], timedelta(days=1), NOW)[0])[0].names == {name}


@pytest.mark.parametrize(
    ("pem", "count"),
    [
        pytest.param(b"", 0, id="nothing"),
        pytest.param(b"\xff\x00", 0, id="bytes"),
        pytest.param(LEAF, 2, id="chain"),
        pytest.param(LEAF + LEAF, 2, id="each-once"),
        pytest.param(b"# a comment\n" + LEAF.replace(b"\n", b"\r\n"), 2, id="as-others-write-it"),
        pytest.param(LEAF.replace(b"MII", b"MIJ", 1), 1, id="one-is-broken"),
        pytest.param(LEAF_KEY, 0, id="a-key"),
    ],
)
def test_read_certificates(pem: bytes, count: int) -> None:
    assert len(read_certificates(pem)) == count


@pytest.mark.parametrize(
    ("key", "candidates", "is_found"),
    [
        pytest.param(AUTHORITY.key_pem, [FOREIGN, AUTHORITY], True, id="among-others"),
        pytest.param(AUTHORITY.key_pem, [FOREIGN], False, id="of-none"),
        pytest.param(b"", [AUTHORITY], False, id="no-key"),
        pytest.param(rsa_key(), [AUTHORITY], False, id="of-another-type"),
        pytest.param(rsa_key(BestAvailableEncryption(b"x")), [AUTHORITY], False, id="encrypted"),
    ],
)
def test_find_authority(key: bytes, candidates: list[Authority], is_found: bool) -> None:
    found = find_authority(key, [candidate.certificate for candidate in candidates])
    assert (found and found.certificate) == (AUTHORITY.certificate if is_found else None)


def test_a_serving_certificate_is_no_authority() -> None:
    assert find_authority(LEAF_KEY, read_certificates(LEAF)) is None
    assert not read_certificates(LEAF)[0].has_issued(read_certificates(LEAF)[0])


@pytest.mark.parametrize(
    ("roots", "is_trusted"),
    [
        pytest.param([AUTHORITY.certificate], True, id="by-its-ca"),
        pytest.param([FOREIGN.certificate], False, id="by-another-ca"),
        pytest.param(read_certificates(LEAF)[:1], True, id="by-itself"),
        pytest.param([], False, id="by-none"),
    ],
)
def test_is_trusted_by(roots: list[Certificate], is_trusted: bool) -> None:
    assert read_certificates(LEAF)[0].is_trusted_by(roots, ()) is is_trusted


def test_read_chain() -> None:
    assert read_chain(LEAF, LEAF_KEY) == read_certificates(LEAF)
    assert read_chain(LEAF, AUTHORITY.key_pem) == read_chain(b"", b"") == ()
    assert parse_certificate(read_certificates(LEAF)[0].der) == read_certificates(LEAF)[0]
    assert parse_certificate(b"nonsense") is None


# Clients' ------------------------------------------------------------------------------------------------------------


def client_pair(authority: Authority, usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH) -> bytes:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    above, name = x509.load_pem_x509_certificate(authority.certificate.pem), x509.Name([])
    public, ends = key.public_key(), now + timedelta(days=1)
    builder = x509.CertificateBuilder(above.subject, name, public, 9, now - CLOCK_SKEW, ends)
    certificate = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False).sign(
        authority.key, hashes.SHA256()
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM) + private


def ask(server: Server, pair: Path | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bool:
    """Whether a review by this client is answered; if not, the connection must end before anything is."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = version
    if pair:
        context.load_cert_chain(pair)
    try:
        with context.wrap_socket(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)) as connection:
            connection.sendall(post(review()))
            return connection.recv(12) == b"HTTP/1.1 200"
    except (ssl.SSLError, ConnectionError):
        return False


def test_clients_have_to_show_their_certificate(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    one, two = make_authority(timedelta(days=9), now), make_authority(timedelta(days=9), now)
    authorities = tmp_path / "client-ca.crt"
    authorities.write_bytes(one.certificate.pem)
    pairs = {
        "one": client_pair(one),
        "two": client_pair(two),
        "no client's": client_pair(one, ExtendedKeyUsageOID.SERVER_AUTH),
    }
    files = {name: tmp_path / name for name in pairs}
    for name, pair in pairs.items():
        files[name].write_bytes(pair)
    with served(tmp_path, client_ca=authorities, drain_delay=0) as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            assert ask(server, files["one"], version)
            for refused in (None, files["two"], files["no client's"]):
                assert not ask(server, refused, version)
        assert server.get("/readyz")[0] == 200  # probes show none
        authorities.write_bytes(two.certificate.pem)
        eventually(lambda: len(server.logged("certificate reloaded")) == 1)
        eventually(lambda: all(ask(server, files["two"]) for _ in range(10)))
        assert not ask(server, files["one"])
        authorities.write_bytes(b"nonsense")
        eventually(lambda: server.logged("certificate refused, the last good one stays"))
        assert server.logged("certificate refused, the last good one stays")[0]["error"].endswith(
            "client-ca.crt: no certificate in PEM"
        )
        assert ask(server, files["two"])
        assert not ask(server, None)


def test_clients_are_refused_before_there_is_a_certificate(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    cert, key, authorities = tmp_path / "tls/tls.crt", tmp_path / "tls/tls.key", tmp_path / "client-ca.crt"
    authority = make_authority(timedelta(days=9), datetime.now(UTC))
    authorities.write_bytes(authority.certificate.pem)
    pair = tmp_path / "pair"
    pair.write_bytes(client_pair(authority))
    # As a Secret's keys are while a lost CA is being replaced.
    cert.touch()
    key.touch()
    with served(tmp_path, ready=503, tls_cert=cert, tls_key=key, client_ca=authorities, drain_delay=0) as server:
        assert not ask(server, pair)
        chain, private = make_self_signed()
        key.write_bytes(private)
        cert.write_bytes(chain)
        eventually(lambda: server.get("/readyz")[0] == 200)
        assert ask(server, pair)
        assert not ask(server, None)
