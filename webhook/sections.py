"""The sections of the configuration file: their fields, what these mean, and which values are refused.

The descriptions are those of the JSON Schema, which editors and the chart's values show.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from webhook.files.typed_yaml import Duration, suggest
from webhook.loader import load_policies
from webhook.objects.facts.limit_ranges import read_items
from webhook.objects.limit_range_validation import wrong_with
from webhook.objects.names import FieldPath, Group, KindName, NamespaceGlob, ObjectName, Plural, ResourceName
from webhook.objects.pods import WORKLOADS
from webhook.objects.quantities import Quantity
from webhook.policy import Mode

Otherwise = Literal["warn", "deny"]
OnError = Literal["ignore", "deny"]
OperatorMade = Literal["warn", "patch", "deny"]


class _Installed:
    """What names an installed policy."""

    @staticmethod
    def parse(text: str) -> str:
        if text not in load_policies():
            raise ValueError(f"there is no policy {text!r}{suggest(text, load_policies())}")
        return text


PolicyId = Annotated[str, _Installed]


class Section(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A map of the file: its keys are in camelCase, and a key that it doesn't know is refused."""


class Match(Section, frozen=True):
    """Which requests an override or exemption is about: `namespaces`, and whatever else is given narrows it."""

    namespaces: Annotated[
        tuple[NamespaceGlob, ...],
        Meta(min_length=1, description="Globs over the namespace's name; '*' alone is every namespace."),
    ]
    kinds: Annotated[
        tuple[str, ...],
        Meta(description="Kinds of the top-level workload, such as Deployment for the pods of a Deployment."),
    ] = ()
    names: Annotated[tuple[str, ...], Meta(description="Globs over the name of the top-level workload.")] = ()
    labels: Annotated[
        dict[str, str], Meta(description="Labels that the object itself must carry, with these values.")
    ] = msgspec.field(default_factory=dict)
    images: Annotated[
        tuple[str, ...],
        Meta(
            description="Patterns of images. An exemption covers violations of the containers whose image matches one; "
            "an override holds for objects of which every container's image does."
        ),
    ] = ()
    groups: Annotated[
        tuple[str, ...],
        Meta(description="Groups one of which the requesting user must belong to, for access in an emergency."),
    ] = ()

    def __post_init__(self) -> None:
        if not self.namespaces:
            raise ValueError("namespaces is empty: name at least one ('*' is all)")


class PolicySection(Section, frozen=True):
    """How one policy is enforced; what is not given is the policy's own default."""

    mode: Annotated[
        Mode | None,
        Meta(description="What becomes of this policy's violations, unless the configuration's own mode is weaker."),
    ] = None
    otherwise: Annotated[
        Otherwise | None, Meta(description="What becomes of violations that have no fix, where the mode is patch.")
    ] = None
    on_error: Annotated[
        OnError | None,
        Meta(
            description="What becomes of an object that this policy could not decide about; where it isn't given, the "
            "configuration's own onError holds."
        ),
    ] = None


class OverrideSection(Section, frozen=True):
    """How one policy is enforced where an override matches; what is not given stays as it is elsewhere."""

    mode: Annotated[Mode | None, Meta(description="What becomes of the policy's violations there.")] = None
    otherwise: Annotated[
        Otherwise | None, Meta(description="What becomes of violations without a fix there, where the mode is patch.")
    ] = None


class Override(Section, frozen=True):
    """Other modes of policies for some requests."""

    match: Match
    policies: Annotated[
        dict[PolicyId, OverrideSection], Meta(description="The policies by id, and how they are enforced.")
    ]


class Exemption(Section, frozen=True):
    """Who answers for letting a violation pass, why, and until which day (the last on which it counts, UTC)."""

    policy: Annotated[PolicyId, Meta(description="The id of the policy whose violations pass.")]
    match: Match
    owner: Annotated[str, Meta(min_length=1, description="Who answers for it; verdicts and reports name this owner.")]
    reason: Annotated[str, Meta(min_length=1, description="Why the violations may pass; verdicts quote it.")]
    until: Annotated[
        date,
        Meta(description="The last day (UTC) on which it counts; after that check and doctor report it as expired."),
    ]

    @property
    def ends(self) -> datetime:
        """The last moment at which it counts."""
        return datetime.combine(self.until, time.max, UTC)

    def __post_init__(self) -> None:
        for name in ("owner", "reason"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is empty")


class Kind(Section, frozen=True):
    """A further kind that holds a pod spec, at the path `podSpec`."""

    kind: Annotated[KindName, Meta(description="The kind, as in `kind:` of its manifests: Rollout.")]
    resource: Annotated[Plural, Meta(description="The plural that the kind has in the API's paths: rollouts.")]
    group: Annotated[Group, Meta(description="The kind's API group, without a version; empty for the core API.")] = ""
    pod_spec: Annotated[
        FieldPath,
        Meta(
            description="The path of the pod spec in objects of this kind; [*] in it is every item of a list. A kind "
            "with several is named once for each."
        ),
    ] = "spec.template.spec"

    def __post_init__(self) -> None:
        if any((self.group, self.kind) == (known.group, known.kind) for known in WORKLOADS):
            raise ValueError(f"{self.kind} is judged without being named here")


class Webhooks(Section, frozen=True):
    """How the API server calls Forestall's webhooks."""

    failure_policy: Annotated[
        Literal["Ignore", "Fail"],
        Meta(
            description="What the API server does with a request when the validating webhook does not answer: Ignore "
            "admits it unchecked, Fail refuses it. The mutating webhook is always ignored then."
        ),
    ] = "Ignore"
    timeout_seconds: Annotated[
        int, Meta(ge=1, le=5, description="Seconds that the API server waits for the answer to one call.")
    ] = 3

    def __post_init__(self) -> None:
        if not 1 <= self.timeout_seconds <= 5:
            raise ValueError(f"timeoutSeconds {self.timeout_seconds} is not between 1 and 5")


URL = r"https?://[^\s/?#]+\S*"
"""The form of a URL that something is sent to."""


class UrlSecret(Section, frozen=True):
    """Where a URL is kept that only Forestall may know."""

    name: Annotated[ObjectName, Meta(description="The name of a Secret in Forestall's own namespace.")]
    key: Annotated[
        str,
        Meta(
            title="a Secret's key, such as url",
            pattern="^[-._a-zA-Z0-9]+$",
            description="The key of the Secret whose value is the URL.",
        ),
    ] = "url"


class Notifications(Section, frozen=True):
    """Whom the auditor tells what is new and mended, which exemptions end soon, and what is broken now."""

    url: Annotated[
        str,
        Meta(
            title="an address: it begins with https:// or http:// and holds no spaces",
            pattern=f"^({URL})?$",
            description="The URL that notifications are sent to. One that nobody may know belongs into a Secret.",
        ),
    ] = ""
    secret: Annotated[
        UrlSecret | None,
        Meta(description="The Secret that holds the URL, in place of `url`; it is read at each sending."),
    ] = None
    form: Annotated[
        Literal["json", "slack"],
        Meta(description="What is sent: 'json' is a document for programs, 'slack' what Slack and Mattermost take."),
    ] = "json"
    when: Annotated[
        Literal["daily", "change"],
        Meta(
            description="When what is new and mended is summed up: once a day, or within minutes of each change. What "
            "is broken is told at once in either case."
        ),
    ] = "daily"

    def __post_init__(self) -> None:
        if bool(self.url) == (self.secret is not None):
            raise ValueError("name either a url or a secret that holds it")


# Looked at every 5 to 6 s, a certificate is renewed when less than a third is left: the second look has to be in time.
_SHORTEST_LIFE = Duration.parse("12s")
# The dates of certificates end with the year 9999.
_LONGEST_LIFE = Duration.parse("1000000d")


class Certificates(Section, frozen=True):
    """Who makes the serving certificate, and how long certificates live that the controller makes (selfManaged)."""

    mode: Annotated[
        Literal["selfManaged", "certManager", "provided"],
        Meta(
            description="Who makes the serving certificate: the controller (selfManaged), cert-manager (certManager), "
            "or somebody who fills the Secret (provided)."
        ),
    ] = "selfManaged"
    ca_life: Annotated[
        Duration, Meta(description="How long a CA that the controller makes is valid; 3650d where nothing is given.")
    ] = msgspec.field(default_factory=lambda: Duration.parse("3650d"))
    serving_life: Annotated[
        Duration,
        Meta(
            description="How long a serving certificate that the controller makes is valid; 90d where nothing is "
            "given. It is renewed when two thirds of that are over."
        ),
    ] = msgspec.field(default_factory=lambda: Duration.parse("90d"))

    def __post_init__(self) -> None:
        if self.serving_life < _SHORTEST_LIFE:
            raise ValueError(
                f"servingLife {self.serving_life} is too short to be renewed in time: {_SHORTEST_LIFE} or more"
            )
        if self.ca_life > _LONGEST_LIFE:
            raise ValueError(f"caLife {self.ca_life} is more than certificates can say: {_LONGEST_LIFE} or less")
        if self.serving_life > self.ca_life:
            raise ValueError(f"servingLife {self.serving_life} is above caLife {self.ca_life}")


_Amounts = dict[ResourceName, Quantity]


class LimitRangeDefaults(Section, frozen=True):
    """A LimitRange of type Container that the controller keeps in namespaces, chosen by globs or by their labels."""

    name: Annotated[ObjectName, Meta(description="The name of the LimitRange in every one of the namespaces.")] = (
        "forestall-defaults"
    )
    namespaces: Annotated[
        tuple[NamespaceGlob, ...], Meta(description="Globs over the names of the namespaces that get it.")
    ] = ()
    namespace_selector: Annotated[
        dict[str, str], Meta(description="Labels, with values, of the namespaces that get it.")
    ] = msgspec.field(default_factory=dict)
    default: Annotated[_Amounts, Meta(description="Limits of containers that name none, by resource.")] = msgspec.field(
        default_factory=dict
    )
    default_request: Annotated[_Amounts, Meta(description="Requests of containers that name none, by resource.")] = (
        msgspec.field(default_factory=dict)
    )
    max: Annotated[_Amounts, Meta(description="The most that a container's limit may be, by resource.")] = (
        msgspec.field(default_factory=dict)
    )
    min: Annotated[_Amounts, Meta(description="The least that a container's request may be, by resource.")] = (
        msgspec.field(default_factory=dict)
    )
    max_limit_request_ratio: Annotated[
        _Amounts, Meta(description="How many times its request a container's limit may be, by resource.")
    ] = msgspec.field(default_factory=dict)
    force: Annotated[
        bool,
        Meta(description="Whether it is created even where pods that run in the namespace would be refused or killed."),
    ] = False

    def __post_init__(self) -> None:
        if bool(self.namespaces) == bool(self.namespace_selector):
            raise ValueError("name either namespaces or a namespaceSelector")
        if not any((self.default, self.default_request, self.max, self.min)):
            raise ValueError("names no amounts: give at least a default")
        if wrong := "".join(map(wrong_with, read_items({"limits": [self.item]}))):
            raise ValueError(wrong)

    @property
    def item(self) -> dict[str, Any]:
        """The LimitRange's one item."""
        parts = {
            "default": self.default,
            "defaultRequest": self.default_request,
            "max": self.max,
            "min": self.min,
            "maxLimitRequestRatio": self.max_limit_request_ratio,
        }
        amounts = {
            part: {name: str(amount) for name, amount in given.items()} for part, given in parts.items() if given
        }
        return {"type": "Container", **amounts}
