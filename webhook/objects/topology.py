"""The labels that say where a node is, and node selector terms asked of a node, as the scheduler asks them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

from webhook.objects.facts import Node, Term
from webhook.objects.facts.selectors import holds

ZONE_LABEL = "topology.kubernetes.io/zone"
HOST_LABEL = "kubernetes.io/hostname"
NAME_FIELD = "metadata.name"

_OLD_ZONE_LABEL = "failure-domain.beta.kubernetes.io/zone"
REGION_LABELS = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
ZONE_KEYS = frozenset(
    {
        ZONE_LABEL,
        _OLD_ZONE_LABEL,
        "topology.cinder.csi.openstack.org/zone",
        "topology.disk.csi.azure.com/zone",
        "topology.ebs.csi.aws.com/zone",
        "topology.gke.io/zone",
    }
)
"""The labels whose values are those of ZONE_LABEL, as a rule: where a node lacks one, that one answers."""
PINNING_KEYS = ZONE_KEYS | {"csi.hetzner.cloud/location", "topology.csi.vmware.com/k8s-zone"}
"""Labels that bind a pod to the zone that they name. Another label may end in "zone" and mean something else."""
_NODE_KEYS = frozenset({HOST_LABEL, NAME_FIELD, "openebs.io/nodeid", "openebs.io/nodename", "linbit.com/hostname"})


# Text that YAML 1.1 or 1.2 may read as a number, a boolean or null; with other letters it is text, such as 512Mi.
_NO_TEXT = re.compile(
    r"|[-+.]?[0-9][0-9_.:eE+-]*|[-+]?0[xob][0-9a-f_]+|[-+]?\.(?:inf|nan)|y|n|yes|no|on|off|true|false|null|~",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"[\w./+-][\w ./:+@-]*(?<![\s:])", re.ASCII)


class Pin(NamedTuple):
    """A nodeSelector's label, which keeps pods on the nodes that carry it."""

    key: str
    value: str

    def __str__(self) -> str:
        return f"nodeSelector {self.key}: {as_yaml(self.value)}" if self.value else f"nodeSelector {self.key}"


def is_node_key(key: str) -> bool:
    """Whether a label names one node: the well-known ones, and those that drivers of local volumes bring."""
    return key in _NODE_KEYS or key.endswith("/node")


def is_zone_key(key: str) -> bool:
    """Whether a label's name says that it names a zone: drivers bring their own, "openshift-zone" and the like."""
    return key.endswith("zone") or key == "csi.hetzner.cloud/location"


def is_region_key(key: str) -> bool:
    """Whether a label's name says that it names a region, which holds zones: they are told apart by zone."""
    return key.endswith("region")


def label_of(node: Node, key: str) -> str | None:
    """A node's label; None if it has none.

    The scheduler, too, lets the present zone and region labels answer for the old ones. A driver's name for the zone,
    and the labels that name the node itself, are put on it a moment after it has come, and may lack in a file.
    """
    value = node.labels.get(key)
    if value is not None:
        return value
    if key in ZONE_KEYS:
        return _first(node, (ZONE_LABEL, _OLD_ZONE_LABEL))
    if key in REGION_LABELS:
        return _first(node, REGION_LABELS)
    return node.name if is_node_key(key) else None


def carried_key(key: str, nodes: Iterable[Node]) -> str:
    """The label by which these nodes tell a place: the old name for the zone where none carries the present one."""
    is_old = key == ZONE_LABEL and not any(ZONE_LABEL in node.labels for node in nodes)
    return _OLD_ZONE_LABEL if is_old and any(_OLD_ZONE_LABEL in node.labels for node in nodes) else key


def _first(node: Node, keys: Iterable[str]) -> str | None:
    return next((node.labels[key] for key in keys if key in node.labels), None)


def admits(terms: Iterable[Term], node: Node) -> bool:
    """Whether one of these alternatives holds for a node; a term without expressions holds for none."""
    return any(
        term and all(holds(requirement, label_of(node, requirement.key)) for requirement in term) for term in terms
    )


def as_yaml(text: str) -> str:
    """The text as it has to be typed into a manifest: in quotes where YAML would take it for something else."""
    is_plain = _PLAIN.fullmatch(text) and ": " not in text and not text.startswith(("-", "..."))
    return text if is_plain and not _NO_TEXT.fullmatch(text) else json.dumps(text, ensure_ascii=False)


_VALUE_LENGTH = 63


def called(key: str, count: int) -> str:
    """The word for `count` values of a label in messages: "zone", "nodes"; for an unknown label the label's name."""
    word = "node" if is_node_key(key) else "zone" if is_zone_key(key) else key
    return f"{word}s" if count != 1 and word != key else word


def shown(value: str) -> str:
    """A label's value in a message: no longer than the API lets it be; an empty one is written as YAML does."""
    return value[:_VALUE_LENGTH] or '""'
