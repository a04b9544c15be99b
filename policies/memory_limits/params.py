"""The parameters of memory-limits."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from webhook.objects.quantities import Memory

_Sizes = dict[str, Memory]
_REQUEST = Memory.parse("256Mi")


class Params(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    default_limit: Annotated[
        Memory,
        Meta(description="The memory limit for containers that have none and that no pattern below names."),
    ] = Memory.parse("512Mi")
    default_request: Annotated[
        Memory,
        Meta(
            description="The memory request that is set together with a limit where a container has none: left out, "
            "Kubernetes would reserve the whole limit."
        ),
    ] = _REQUEST
    images: Annotated[
        _Sizes,
        Meta(
            description="Memory limits by pattern of images, for containers that no pattern of `containers` names; the "
            "first pattern that matches counts."
        ),
    ] = msgspec.field(default_factory=dict)
    containers: Annotated[
        _Sizes,
        Meta(description="Memory limits by pattern of containers' names; the first pattern that matches counts."),
    ] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, size in {"defaultLimit": self.default_limit, **self.images, **self.containers}.items():
            if not size:
                raise ValueError(f"{name}: 0 is no limit: name an amount, such as 512Mi")
        # A configured limit below the default request lowers that request, too.
        if self.default_request > self.default_limit and self.default_request != _REQUEST:
            raise ValueError(f"defaultRequest {self.default_request} is above defaultLimit {self.default_limit}")
