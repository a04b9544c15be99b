"""The serving certificate: what is read, what is refused, and what the self-signed one says."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from webhook.certs import load_certificate, make_self_signed, read_certificate, self_signed_certificate
from webhook.errors import BadCertificate

CHAIN, KEY = make_self_signed(("forestall.example",), days=10)
OTHER_CHAIN, OTHER_KEY = make_self_signed(("forestall.example",))


def rsa_key(encryption=None):
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def test_reads_the_pair_and_when_it_ends(tmp_path):
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    cert.write_bytes(CHAIN)
    key.write_bytes(KEY)
    remaining = read_certificate(cert, key).expires - datetime.now(UTC)
    assert timedelta(days=9, hours=23) < remaining < timedelta(days=10, minutes=1)


def test_the_chain_may_hold_more_certificates():
    assert load_certificate(CHAIN + OTHER_CHAIN, KEY, "pair").expires == load_certificate(CHAIN, KEY, "pair").expires


def make_pair_of_weak_key():
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
def test_refuses(chain, key, reason):
    with pytest.raises(BadCertificate) as refused:
        load_certificate(chain, key, "pair")
    assert str(refused.value) == f"pair: {reason}"


def test_says_which_file_is_missing(tmp_path):
    with pytest.raises(BadCertificate, match=r"absent\.crt: No such file or directory$"):
        read_certificate(tmp_path / "absent.crt", tmp_path / "absent.key")


def test_self_signed_names():
    chain, _ = make_self_signed()
    names = x509.load_pem_x509_certificate(chain).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "forestall.forestall-system.svc"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_self_signed_certificate_serves():
    assert self_signed_certificate().expires > datetime.now(UTC) + timedelta(days=89)
