"""Image references, read as container runtimes read them.

Source: github.com/distribution/reference, regexp.go (the grammar) and normalize.go (what is a registry).
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

from webhook.errors import BadImage

_HOST_PART = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_PATH_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    # A first component is a registry only if it couldn't be a user on Docker Hub: it has a dot, a port or a capital.
    rf"(?:((?=[^/]*[.:A-Z]|localhost/){_REGISTRY})/)?"
    rf"({_PATH_PART}(?:/{_PATH_PART})*)"
    r"(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}))?"
)
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 255
_LONGEST = _LONGEST_NAME + len(":") + 128 + len("@sha512:") + 128


@dataclass(frozen=True, slots=True)
class Image:
    """A reference in its parts, as written: no registry, tag or digest is made up. As text it is what was parsed."""

    registry: str | None
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def base(self) -> str:
        """The repository's last segment, which survives mirroring: "prometheus" in "quay.io/prometheus/prometheus"."""
        return self.repository.rpartition("/")[2]

    @property
    def name(self) -> str:
        """Registry and repository."""
        return self.repository if self.registry is None else f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        return f"{self.name}{_version(self.tag, self.digest)}"


def parse_image(text: str) -> Image:
    """Read an image reference: "quay.io:5000/prometheus/prometheus:v3", "nginx", "app@sha256:…".

    Raises BadImage for what no runtime would pull.
    """
    if len(text) > _LONGEST:
        raise BadImage(f"{_shown(text)} is not an image reference: it is longer than {_LONGEST} characters")
    return _parse_image(text)


@lru_cache(maxsize=4096)
def _parse_image(text: str) -> Image:
    match = _REFERENCE.fullmatch(text)
    if match is None or _IMAGE_ID.fullmatch(text):
        raise BadImage(f"{_shown(text)} is not an image reference: {_reason(text)}")
    image = Image(*match.groups())
    if len(image.name) > _LONGEST_NAME:
        raise BadImage(f"{_shown(text)} is not an image reference: its name is longer than {_LONGEST_NAME} characters")
    return image


def base_of(image: str) -> str:
    """The last segment of the image's repository, by which it is known wherever it is mirrored; empty for what no
    runtime would pull."""
    try:
        return parse_image(image).base
    except BadImage:
        return ""


def match_image(pattern: str, image: str) -> bool:
    """Return whether a configuration's pattern means this image.

    Patterns are globs as in fnmatch, with case: "*" is any text, slashes and colons too, "?" one character, "[ab]" one
    of them. A pattern is compared with the whole reference, with registry/repository, with the repository alone and
    with its last segment, each bare and with tag, digest or both. For quay.io/fluent/fluent-bit:3.2 all of these match:

        fluent-bit   fluent/fluent-bit   */fluent-bit   quay.io/fluent/*   fluent-bit:3.*   *:3.2

    while "fluent", "bit" and "fluent-bit:latest" don't. A pattern with a tag or a digest needs it in the image:
    "nginx:*" isn't "nginx". An image without a registry goes by Docker Hub's full names too: docker.io/istio/proxyv2,
    docker.io/library/nginx. An image that can't be read is only compared as a whole.
    """
    if len(image) > _LONGEST:
        return fnmatchcase(image, pattern)
    return _match_image(pattern, image)


@lru_cache(maxsize=4096)
def _match_image(pattern: str, image: str) -> bool:
    return any(fnmatchcase(form, pattern) for form in _forms(image))


def _forms(text: str) -> set[str]:
    """The texts that a pattern is compared with, for this image."""
    try:
        image = parse_image(text)
    except BadImage:
        return {text}
    names = {image.name, image.repository, image.base}
    if image.registry is None:
        names |= {f"docker.io/{image.repository}"}
        if "/" not in image.repository:
            names |= {f"docker.io/library/{image.repository}"}
    versions = {_version(tag, digest) for tag in (None, image.tag) for digest in (None, image.digest)}
    return {f"{name}{version}" for name in names for version in versions}


def _version(tag: str | None, digest: str | None) -> str:
    return (f":{tag}" if tag is not None else "") + (f"@{digest}" if digest is not None else "")


def _reason(text: str) -> str:
    if not text:
        return "it is empty"
    if any(character.isspace() for character in text):
        return "it has a space in it"
    if _IMAGE_ID.fullmatch(text):
        return "it is an image ID; write a repository"
    name, at, _ = text.partition("@")
    if at and _REFERENCE.fullmatch(name):
        return "a digest is sha256: and 64 digits of lower-case hex"
    if name != name.lower() and _REFERENCE.fullmatch(text.lower()):
        return "a repository is lower-case"
    return "write [registry/]repository[:tag][@digest]"


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 120 else f"{text[:120]!r}…"
