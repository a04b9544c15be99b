"""Facts as kubectl prints them to a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from webhook.errors import UNREADABLE, BadManifest, FactsUnavailable
from webhook.files.manifests import read_file
from webhook.objects.facts import FACT_KINDS, ClusterFacts, facts_of, read_fact


def read_facts(file: Path) -> ClusterFacts:
    """The facts that `kubectl get storageclass,pv,pvc,nodes,limitranges,namespaces -A -o yaml` has printed to a file.

    They are as old as the file. Raises FactsUnavailable, also where it holds nothing of the kind, as after a failed
    `kubectl get`: nothing would be in the cluster then.
    """
    manifests, errors = read_file(str(file))
    try:
        if errors:
            raise errors[0]
        read_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        objects = [manifest.object for manifest in manifests]
        if any(read_fact(each) for each in objects):
            return facts_of(objects, read_at=read_at)
    except BadManifest as error:
        raise FactsUnavailable(str(error)) from error
    except (OSError, *UNREADABLE) as error:
        raise FactsUnavailable(f"{file}: {error}") from error
    raise FactsUnavailable(f"{file}: holds no {', '.join(FACT_KINDS)}: did `kubectl get` fail?")
