"""The containers of a workload matched with those that it had before an update: a renamed container is no new one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from webhook.errors import BadImage
from webhook.objects.containers import Container
from webhook.objects.images import parse_image
from webhook.objects.pods import read_workload
from webhook.policy import AdmissionRequest


def predecessors(request: AdmissionRequest) -> Mapping[str, Container]:
    """The containers of the old object, each under the path that it has now.

    A container's predecessor has its name, whatever list it stood in, or else its image, if just one container has it.
    Raises BadObject if the fields of an object are of the wrong kind.
    """
    if request.before is None:
        return {}
    kept: dict[str, Mapping[str, Container]] = request.__dict__
    if "predecessors" not in kept:
        now, before = read_workload(request), read_workload(request.before)
        kept["predecessors"] = _matched(now.containers, before.containers) if now and before else {}
    return kept["predecessors"]


def _matched(now: Sequence[Container], before: Sequence[Container]) -> Mapping[str, Container]:
    names = {container.name: container for container in before}
    matched = {container.path: names[container.name] for container in now if container.name in names}
    kept = {container.name for container in now}
    for same in (lambda container: container.image, _repository):
        new = _alone([container for container in now if container.path not in matched], same)
        gone = _alone([container for container in before if container.name not in kept], same)
        matched |= {new[image].path: gone[image] for image in new.keys() & gone.keys()}
        kept |= {container.name for container in matched.values()}
    return matched


def _alone(containers: Sequence[Container], key: Callable[[Container], str]) -> dict[str, Container]:
    """Image -> container, for the containers whose image none of the others has."""
    images = [key(container) for container in containers]
    counts = Counter(images)
    return {
        image: container for image, container in zip(images, containers, strict=True) if image and counts[image] == 1
    }


def _repository(container: Container) -> str:
    try:
        return parse_image(container.image).name
    except BadImage:
        return ""
