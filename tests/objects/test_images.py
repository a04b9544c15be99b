"""Image references and the patterns that mean them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.errors import BadImage
from webhook.objects.images import Image, match_image, parse_image

SHA256 = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "image", "base"),
    [
        pytest.param("nginx", Image(None, "nginx"), "nginx", id="bare"),
        pytest.param("nginx:1.27", Image(None, "nginx", "1.27"), "nginx", id="tag"),
        pytest.param("prom/prometheus:v3", Image(None, "prom/prometheus", "v3"), "prometheus", id="docker-hub-user"),
        pytest.param(
            "quay.io:5000/prometheus/prometheus:v3",
            Image("quay.io:5000", "prometheus/prometheus", "v3"),
            "prometheus",
            id="registry-with-port",
        ),
        pytest.param("registry:5000/app", Image("registry:5000", "app"), "app", id="a-port-is-not-a-tag"),
        pytest.param("registry:5000", Image(None, "registry", "5000"), "registry", id="a-tag-is-not-a-port"),
        pytest.param("localhost/app", Image("localhost", "app"), "app", id="localhost"),
        pytest.param("localhost", Image(None, "localhost"), "localhost", id="an-image-named-localhost"),
        pytest.param("registry/app", Image(None, "registry/app"), "app", id="a-user-is-not-a-registry"),
        pytest.param("MyMirror/app", Image("MyMirror", "app"), "app", id="a-capital-makes-a-registry"),
        pytest.param("Quay.io/app", Image("Quay.io", "app"), "app", id="a-registry-may-be-upper-case"),
        pytest.param("10.0.0.1:5000/a", Image("10.0.0.1:5000", "a"), "a", id="ipv4"),
        pytest.param("[fd00::1]:5000/a", Image("[fd00::1]:5000", "a"), "a", id="ipv6"),
        pytest.param("app.v1", Image(None, "app.v1"), "app.v1", id="a-dot-without-a-path-is-no-registry"),
        pytest.param(f"app@{SHA256}", Image(None, "app", None, SHA256), "app", id="digest"),
        pytest.param(f"r.io/a:1@{SHA256}", Image("r.io", "a", "1", SHA256), "a", id="tag-and-digest"),
        pytest.param("a__b/c-d--e_f.g:A_.-", Image(None, "a__b/c-d--e_f.g", "A_.-"), "c-d--e_f.g", id="separators"),
        pytest.param("a:" + "t" * 128, Image(None, "a", "t" * 128), "a", id="longest-tag"),
        pytest.param("a" * 255, Image(None, "a" * 255), "a" * 255, id="longest-name"),
    ],
)
def test_parse_image(text: str, image: Image, base: str) -> None:
    parsed = parse_image(text)
    assert parsed == image
    assert parsed.base == base
    assert str(parsed) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        (" nginx", "it has a space in it"),
        ("nginx:1.27\n", "it has a space in it"),
        ("Nginx", "a repository is lower-case"),
        ("quay.io/Prom/Prometheus:v3", "a repository is lower-case"),
        ("0" * 64, "it is an image ID; write a repository"),
        ("app@sha256:abc", "a digest is sha256: and 64 digits of lower-case hex"),
        ("app@sha256:" + "A" * 64, "a digest is sha256: and 64 digits of lower-case hex"),
        ("app@md5:" + "0" * 64, "a digest is sha256: and 64 digits of lower-case hex"),
        ("app@", "a digest is sha256: and 64 digits of lower-case hex"),
        ("app:", "write [registry/]repository[:tag][@digest]"),
        ("app:1:2", "write [registry/]repository[:tag][@digest]"),
        ("app:-1", "write [registry/]repository[:tag][@digest]"),
        ("quay.io/", "write [registry/]repository[:tag][@digest]"),
        ("/app", "write [registry/]repository[:tag][@digest]"),
        ("a//b", "write [registry/]repository[:tag][@digest]"),
        ("a___b", "write [registry/]repository[:tag][@digest]"),
        ("-a", "write [registry/]repository[:tag][@digest]"),
        ("https://quay.io/app", "write [registry/]repository[:tag][@digest]"),
        ("{{ .Values.image }}", "it has a space in it"),
        ("\u00fcber/app", "write [registry/]repository[:tag][@digest]"),
    ],
)
def test_unreadable(text: str, reason: str) -> None:
    with pytest.raises(BadImage) as caught:
        parse_image(text)
    assert str(caught.value) == f"{text!r} is not an image reference: {reason}"


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("a" * 256, "its name is longer than 255 characters"),
        ("a" * 120 + ":" + "t" * 129, "write [registry/]repository[:tag][@digest]"),
        ("a" * 100_000, "it is longer than 520 characters"),
    ],
)
def test_too_long(text: str, end: str) -> None:
    with pytest.raises(BadImage) as caught:
        parse_image(text)
    assert str(caught.value) == f"'{'a' * 120}'… is not an image reference: {end}"


@given(
    st.from_regex(
        r"([a-z]+(\.[a-z]+|:[0-9]+)/)?[a-z]+([._-][a-z]+)?(:[a-z0-9]+)?(@sha256:[0-9a-f]{64})?", fullmatch=True
    )
)
def test_text_comes_back(text: str) -> None:
    assert str(parse_image(text)) == text


@given(st.text(alphabet="aA0.:/@-_ []{", max_size=30) | st.text(), st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str, pattern: str) -> None:
    with suppress(BadImage):
        assert str(parse_image(text)) == text
    assert match_image("*", text)
    assert match_image(pattern, text) in (True, False)


FLUENT = "quay.io/fluent/fluent-bit:3.2"
PINNED = f"{FLUENT}@{SHA256}"


@pytest.mark.parametrize(
    ("pattern", "image", "expected"),
    [
        pytest.param(FLUENT, FLUENT, True, id="as-written"),
        pytest.param("fluent-bit", FLUENT, True, id="base"),
        pytest.param("fluent/fluent-bit", FLUENT, True, id="repository"),
        pytest.param("quay.io/fluent/fluent-bit", FLUENT, True, id="registry-and-repository"),
        pytest.param("*/fluent-bit", FLUENT, True, id="any-registry"),
        pytest.param("*/fluent-bit", "fluent-bit:3.2", True, id="any-registry-is-docker-hub-too"),
        pytest.param("quay.io/*", FLUENT, True, id="all-of-a-registry"),
        pytest.param("fluent-bit:3.2", FLUENT, True, id="base-and-tag"),
        pytest.param("fluent-bit:3.*", FLUENT, True, id="base-and-glob-tag"),
        pytest.param("fluent/fluent-bit:3.?", FLUENT, True, id="question-mark"),
        pytest.param("fluent-bit:[34].*", FLUENT, True, id="set"),
        pytest.param("*:3.2", FLUENT, True, id="any-name"),
        pytest.param("*", FLUENT, True, id="anything"),
        pytest.param("fluent", FLUENT, False, id="a-folder-is-not-an-image"),
        pytest.param("bit", FLUENT, False, id="a-part-is-not-an-image"),
        pytest.param("fluent-bit", "fluent/fluent-bit-exporter:1", False, id="look-alike"),
        pytest.param("fluent-bit", "fluent-bit/reloader", False, id="folder-of-that-name"),
        pytest.param("bit/fluent-bit", "orbit/fluent-bit", False, id="whole-segments"),
        pytest.param("docker.io/fluent/fluent-bit", FLUENT, False, id="other-registry"),
        pytest.param("Fluent-bit", FLUENT, False, id="case"),
        pytest.param("fluent-bit:latest", FLUENT, False, id="other-tag"),
        pytest.param("fluent-bit:*", "fluent-bit", False, id="a-tag-is-needed"),
        pytest.param("fluent-bit:latest", "fluent-bit", False, id="latest-is-not-made-up"),
        pytest.param("fluent-bit", PINNED, True, id="pinned"),
        pytest.param("fluent-bit:3.2", PINNED, True, id="pinned-and-tag"),
        pytest.param(f"fluent-bit@{SHA256}", PINNED, True, id="digest"),
        pytest.param(PINNED, PINNED, True, id="pinned-as-written"),
        pytest.param("fluent-bit@*", FLUENT, False, id="a-digest-is-needed"),
        pytest.param(PINNED, FLUENT, False, id="digest-and-no-digest"),
        pytest.param("docker.io/istio/proxyv2:*", "docker.io/istio/proxyv2:1.24", True, id="sidecar"),
        pytest.param("docker.io/istio/proxyv2:*", "istio/proxyv2:1.24", True, id="docker-hub-is-implied"),
        pytest.param("istio/proxyv2", "docker.io/istio/proxyv2:1.24", True, id="sidecar-without-registry"),
        pytest.param("docker.io/library/nginx", "nginx:1", True, id="docker-hub-library-is-implied"),
        pytest.param("docker.io/library/*", "prom/prometheus", False, id="a-user-is-not-in-the-library"),
        pytest.param("registry:5000/app", "registry:5000/app:1", True, id="port"),
        pytest.param("registry:*", "registry:5000/app", True, id="a-star-crosses-slashes"),
        pytest.param("registry", "registry:5000/app", False, id="a-registry-is-not-an-image"),
        pytest.param(".*", "nginx", False, id="not-a-regex"),
        pytest.param("(nginx|redis)", "nginx", False, id="no-alternatives"),
        pytest.param("ngin+x", "nginx", False, id="no-repetition"),
        pytest.param("nginx.", "nginxa", False, id="a-dot-is-a-dot"),
        pytest.param("[", "nginx", False, id="an-open-bracket"),
        pytest.param("BAD IMAGE", "BAD IMAGE", True, id="unreadable-as-written"),
        pytest.param("BAD *", "BAD IMAGE", True, id="unreadable-glob"),
        pytest.param("image", "bad_/image", False, id="unreadable-has-no-base"),
        pytest.param("", "", True, id="empty"),
        pytest.param("nginx", "", False, id="no-image"),
        pytest.param("a*", "a" * 10_000, True, id="too-long-glob"),
    ],
)
def test_match_image(pattern: str, image: str, expected: bool) -> None:
    assert match_image(pattern, image) is expected
