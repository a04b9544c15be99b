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
    """The command that prints the objects of those of these kinds that are watched, as `read_facts` takes them.

    kubectl prints nothing at all where the cluster doesn't serve one of the kinds that it is asked for, so that each
    custom one is asked for by itself.
    """
    watched = [kind for kind in kinds if kind.is_watched]
    everywhere = ",".join(kind.full_resource for kind in watched if not kind.is_custom)
    custom = " ".join(kind.full_resource for kind in watched if kind.is_custom)
    command = f"kubectl get {everywhere} -A -o yaml"
    if not custom:
        return command
    return f"({command}; for kind in {custom}; do echo ---; kubectl get $kind -A -o yaml 2> /dev/null; done)"


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
        # Workloads alone are somebody's manifests.
        if any(read_fact(obj, [kind for kind in watched if kind.on_servers]) for obj in objects):
            return facts_of(objects, kinds, read_at=read_at)
    except BadManifest as error:
        raise FactsUnavailable(str(error)) from error
    except (OSError, *UNREADABLE) as error:
        raise FactsUnavailable(f"{file}: {error}") from error
    raise FactsUnavailable(f"{file}: holds no {', '.join(map(str, watched))}: did `{kubectl_get(kinds)}` fail?")
