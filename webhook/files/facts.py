"""Facts of a cluster, from a file that kubectl printed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from webhook.errors import UNREADABLE, BadManifest, FactsUnavailable
from webhook.files.manifests import read_file
from webhook.objects.facts import ClusterFacts, facts_of, read_fact
from webhook.policy import FactKind


def kubectl_get(kinds: Iterable[FactKind[Any, Any]]) -> str:
    """The command that prints the objects of those of these kinds that are watched, as `read_facts` takes them."""
    return f"kubectl get {','.join(kind.full_resource for kind in kinds if kind.is_watched)} -A -o yaml"


def read_facts(file: Path, kinds: Iterable[FactKind[Any, Any]]) -> ClusterFacts:
    """The facts of these kinds that `kubectl_get`'s command has printed to a file; they are as old as the file.

    Raises FactsUnavailable, also where it holds no object of these kinds, as after a failed `kubectl get`: nothing
    would be in the cluster then.
    """
    kinds = tuple(kinds)
    watched = [kind for kind in kinds if kind.is_watched]
    manifests, errors = read_file(str(file))
    try:
        if errors:
            raise errors[0]
        read_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        objects = [manifest.object for manifest in manifests]
        if any(read_fact(obj, watched) for obj in objects):
            return facts_of(objects, kinds, read_at=read_at)
    except BadManifest as error:
        raise FactsUnavailable(str(error)) from error
    except (OSError, *UNREADABLE) as error:
        raise FactsUnavailable(f"{file}: {error}") from error
    raise FactsUnavailable(f"{file}: holds no {', '.join(map(str, watched))}: did `{kubectl_get(kinds)}` fail?")
