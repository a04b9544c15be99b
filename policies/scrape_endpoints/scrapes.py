"""One scrape as it is configured, in whatever resource or file: its interval, timeout, path and scheme."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from policies.scrape_endpoints.telling import violation
from webhook.objects.durations import parse_duration
from webhook.policy import Set, Violation


class Fields(NamedTuple):
    """What a scrape's fields are called."""

    interval: str = "interval"
    timeout: str = "scrapeTimeout"
    path: str = "path"
    scheme: str = "scheme"


class Scrape(NamedTuple):
    """A scrape's fields as they are written.

    place      where a field stands
    whose      what stands before a message, "job 'node': "; empty where the path says it
    is_object  whether the fields are those of the object, so that they can be set in it
    value      the Helm value of the timeout, where the chart is known
    """

    subject: str
    fields: Fields
    values: Mapping[str, Any]
    place: Callable[[str], str]
    whose: str = ""
    is_object: bool = True
    value: str | None = None

    def set(self, field: str, value: Any) -> Set | None:
        return Set(self.place(field), value) if self.is_object else None


def at(path: str) -> Callable[[str], str]:
    """The places of fields that stand in the object itself, below a path."""
    return lambda field: f"{path}.{field}"


def examine_times(scrape: Scrape, default: str = "") -> Iterator[Violation]:
    """What is wrong with interval and timeout; `default` is the interval where the scrape names none."""
    fields, values = scrape.fields, scrape.values
    is_well = True
    for field in (fields.interval, fields.timeout):
        written = values.get(field)
        if written not in (None, "") and parse_duration(written) is None:
            is_well = False
            yield violation(
                scrape.place(field),
                scrape.subject,
                f"{scrape.whose}{field} is {written!r}, which is no duration",
                "write it as 30s, 1m or 1m30s",
                at_most="deny",
                value=str(written),
            )
    interval, timeout = values.get(fields.interval) or default, values.get(fields.timeout)
    if not (is_well and interval and timeout and is_longer(timeout, interval)):
        return
    advised = scrape.set(fields.timeout, interval)
    counting = interval if values.get(fields.interval) else f"{interval}, which counts where it names none,"
    yield violation(
        scrape.place(fields.timeout),
        scrape.subject,
        f"{scrape.whose}{fields.timeout} {timeout} is longer than {fields.interval} {counting} and is refused",
        f"set {fields.timeout} to {interval} at most",
        at_most="deny",
        value=f"{timeout} of {interval}",
        advice=(advised,) if advised else (),
        hint=f"{scrape.value}: {interval}" if scrape.value else None,
    )


def is_longer(timeout: object, interval: object) -> bool:
    one, other = parse_duration(timeout), parse_duration(interval)
    return one is not None and other is not None and one > other


def examine_request(scrape: Scrape) -> Iterator[Violation]:
    """What is wrong with path and scheme."""
    field = scrape.fields.path
    path = scrape.values.get(field)
    if isinstance(path, str) and path and not path.startswith("/"):
        yield violation(
            scrape.place(field),
            scrape.subject,
            f"{scrape.whose}{field} is {path!r}, without its leading slash",
            f"set it to /{path}",
            at_most="deny",
            value=path,
            fix=scrape.set(field, f"/{path}"),
        )
    field = scrape.fields.scheme
    scheme = scrape.values.get(field)
    if scheme is not None and str(scheme).casefold() not in ("http", "https"):
        yield violation(
            scrape.place(field),
            scrape.subject,
            f"{scrape.whose}{field} is {scheme!r}, neither http nor https",
            "set it to http or https",
            at_most="deny",
            value=str(scheme),
        )
