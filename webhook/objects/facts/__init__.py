"""What policies may know of the cluster: slim records of the few fields that they read, in one frozen value.

A kind of cluster object has a module here, which declares it as a FactKind; a policy that needs another kind brings its
own declaration. `ClusterFacts.of(CLAIMS)` are the records of a kind.
"""

from __future__ import annotations

from webhook.objects.facts.claims import CLAIMS, Claim, claim_class
from webhook.objects.facts.decoding import Metadata, Wire, WirePart, decode_fact, read_fact, record_of
from webhook.objects.facts.limit_ranges import LIMIT_RANGES, LimitRange
from webhook.objects.facts.namespaces import NAMESPACES
from webhook.objects.facts.nodes import NODES, Node, Taint
from webhook.objects.facts.selectors import Requirement, Term, read_terms
from webhook.objects.facts.snapshot import NO_FACTS, ClusterFacts, Found, facts_of
from webhook.objects.facts.storage_classes import STORAGE_CLASSES, StorageClass
from webhook.objects.facts.volumes import VOLUMES, Volume
from webhook.objects.facts.zones import zone_of

__all__ = [
    "CLAIMS",
    "LIMIT_RANGES",
    "NAMESPACES",
    "NODES",
    "NO_FACTS",
    "STORAGE_CLASSES",
    "VOLUMES",
    "Claim",
    "ClusterFacts",
    "Found",
    "LimitRange",
    "Metadata",
    "Node",
    "Requirement",
    "StorageClass",
    "Taint",
    "Term",
    "Volume",
    "Wire",
    "WirePart",
    "claim_class",
    "decode_fact",
    "facts_of",
    "read_fact",
    "read_terms",
    "record_of",
    "zone_of",
]
