"""What is typed into a manifest is read as the text that was meant."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from webhook.files.manifests import read_manifests
from webhook.objects.topology import ZONE_LABEL, Pin, as_yaml


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        pytest.param("eu-west-1a", "eu-west-1a", id="a-zone"),
        pytest.param("512Mi", "512Mi", id="an-amount"),
        pytest.param("rook-ceph.rbd.csi.ceph.com", "rook-ceph.rbd.csi.ceph.com", id="a-name"),
        pytest.param("160001", '"160001"', id="digits"),
        pytest.param("1e3", '"1e3"', id="an-exponent"),
        pytest.param("0x1f", '"0x1f"', id="hexadecimal"),
        pytest.param("1_000", '"1_000"', id="underscores"),
        pytest.param("12:30", '"12:30"', id="sexagesimal"),
        pytest.param("2026-11-21", '"2026-11-21"', id="a-date"),
        pytest.param("No", '"No"', id="no"),
        pytest.param("null", '"null"', id="null"),
        pytest.param("", '""', id="empty"),
        pytest.param("a: b", '"a: b"', id="a-map"),
        pytest.param("-", '"-"', id="an-item"),
        pytest.param("𖠀", '"𖠀"', id="beyond-the-basic-plane"),
    ],
)
def test_text_is_quoted_where_yaml_would_take_it_for_something_else(text: str, typed: str) -> None:
    assert as_yaml(text) == typed


@given(st.one_of(st.text(max_size=12), st.from_regex(r"[-+.0-9A-Za-z_:eExo ]{1,8}", fullmatch=True)))
def test_what_is_typed_is_the_text(text: str) -> None:
    if not text.isprintable():
        return
    (manifest,), errors = read_manifests(f"kind: A\napiVersion: v1\ntyped: {as_yaml(text)}".encode(), "a.yaml")
    assert (manifest.object["typed"], errors) == (text, [])
    assert yaml.safe_load(as_yaml(text)) == text


def test_a_pin_is_typed_as_it_is_told() -> None:
    assert str(Pin(ZONE_LABEL, "160001")) == f'nodeSelector {ZONE_LABEL}: "160001"'
