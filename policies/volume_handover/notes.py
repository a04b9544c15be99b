"""What becomes of a volume whose node is lost: a note for those who can't do without such a volume."""

from __future__ import annotations

from collections.abc import Iterator

from policies.volume_handover.access import access_of_template
from policies.volume_handover.databases import HUB, Database
from policies.volume_handover.lost_nodes import FREED
from webhook.objects.facts import ClusterFacts
from webhook.objects.fields import mapping
from webhook.objects.helm_values import helm_value
from webhook.objects.pods import Workload
from webhook.objects.volumes import claim_templates
from webhook.policy import Violation

ELSEWHERE = (
    "to be free of that, have the hub keep its data elsewhere: set hub.db.type to postgres or mysql, and hub.db.url"
)


def note_on_database(workload: Workload, volume: str, claim: str, path: str, database: Database) -> Violation:
    """For a Deployment's database on a volume that one node holds at a time."""
    message = (
        f"if its node is lost, the pod in place of the lost one waits for claim {claim!r}, the data of "
        f"{database.name}: until six minutes after the lost pod was to be gone at best, or {FREED}"
    )
    hint = None
    if database is HUB:
        message += f"; {ELSEWHERE}"
        value = helm_value(workload.object, volume, "database")
        hint = f"{value}: postgres" if value else None
    return Violation(path, volume, message, hint=hint, at_most="audit")


def notes_on_set(workload: Workload, facts: ClusterFacts) -> Iterator[Violation]:
    """For a StatefulSet, or an operator's resource that becomes one, whose pods have claims of their own."""
    if mapping(workload.object, "spec", "").get("replicas") == 0:
        return
    for template in claim_templates(workload):
        access = access_of_template(template.template, template.path, facts, is_operated=workload.is_operated)
        if access is not None and access.holder:
            yield Violation(
                template.path,
                template.name,
                f"if a node is lost, no other pod takes the place of its pod, which holds a claim of "
                f"{template.name!r}: until the node is back, or {FREED}",
                at_most="audit",
            )
            return
