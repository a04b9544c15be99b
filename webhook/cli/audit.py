"""`forestall audit`: what a cluster holds already."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from webhook.cli.clusters import reach_patiently
from webhook.cli.options import AS_IF, FILE, KUBECONFIG
from webhook.cli.terminal import note, put, style_of, tell_bugs, width
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.installation import HISTORY, NAMESPACE
from webhook.objects.names import is_object_name
from webhook.policy import MODES, Mode

if TYPE_CHECKING:
    from webhook.audit.audited import Audited


AuditFormat = Literal["text", "json", "csv", "sarif", "html"]


_AUDIT_FORMATS = ("text", "json", "csv", "sarif", "html")


_STRICT_AUDIT = (
    "Exit code 1 for any violation that is not exempted, and for what is broken now; 2 if anything could not be read."
)


def _namespaces(_context: click.Context, _option: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not is_object_name(name):
            raise click.BadParameter(f"{name!r} can be no namespace's name")
    return names


@click.command()
@KUBECONFIG
@click.option(
    "--context",
    "contexts",
    metavar="NAME",
    multiple=True,
    help="The kubeconfig's context to audit; may be repeated for several clusters.",
)
@click.option(
    "--namespace",
    "-n",
    "namespaces",
    metavar="NS",
    multiple=True,
    callback=_namespaces,
    help="Audit only this namespace; may be repeated.",
)
@click.option(
    "--config",
    metavar="FILE",
    type=FILE,
    help="The configuration to judge by; default: the cluster's ConfigMap forestall-config.",
)
@click.option("--as-if", metavar="MODE", type=click.Choice(MODES[1:]), help=AS_IF)
@click.option("--group-by", metavar="LABEL", default="", help="Label of workloads or namespaces that names their team.")
@click.option(
    "--output",
    "-o",
    "output",
    type=click.Choice(_AUDIT_FORMATS),
    default="text",
    show_default=True,
    help="The format of the result.",
)
@click.option("--strict", is_flag=True, help=_STRICT_AUDIT)
@click.option(
    "--history",
    "is_history",
    is_flag=True,
    help="Judge nothing: print how many findings the auditor has counted, day by day (text or csv).",
)
def audit(
    kubeconfig: Path | None,
    contexts: tuple[str, ...],
    namespaces: tuple[str, ...],
    config: Path | None,
    as_if: Mode | None,
    group_by: str,
    output: AuditFormat,
    strict: bool,
    is_history: bool,
) -> int:
    """Judge what a cluster stores as if it were created now; reads only.

    \b
    forestall audit
    forestall audit --as-if deny --output csv > findings.csv
    """
    from webhook.audit.judge import GC_THRESHOLDS  # noqa: PLC0415
    from webhook.audit.progress import Bar  # noqa: PLC0415
    from webhook.audit.run import AuditOptions, audit_cluster  # noqa: PLC0415

    if is_history:
        if output not in ("text", "csv"):
            raise click.UsageError("--history is printed as text or csv")
        if namespaces or config or as_if or group_by or strict:
            raise click.UsageError(
                "--history judges nothing: beside it --kubeconfig, --context and --output count alone"
            )
        return _print_history(kubeconfig, contexts, output)
    gc.set_threshold(*GC_THRESHOLDS)
    today = datetime.now(UTC).date()
    options = AuditOptions(config, as_if, group_by, namespaces)
    audits, code = [], 0
    for context in contexts or (None,):
        try:
            with Bar(context or "") as bar:
                cluster = reach_patiently(kubeconfig, context)
                audits.append(audit_cluster(cluster, context or "", options, today=today, progress=bar.show))
        except (ClusterRefused, FactsUnavailable) as error:
            code = _go_on_without(context, contexts, error)
    code = max([code, *(audited.exit_code(strict=strict) for audited in audits)])
    for audited in audits:
        tell_bugs(audited.found.bugs)
        for trouble in audited.troubles if output != "text" else ():
            note(" ".join(filter(None, (audited.name, trouble))))
    for part in _render_audit(audits, output, code, today):
        put(part, encoding=None if output == "text" else "utf-8")
    return code


def _go_on_without(context: str | None, contexts: Sequence[str], error: ClusterRefused | FactsUnavailable) -> int:
    """Name the cluster that can't be asked, of several, and return the exit code for that; raise the error of a single
    one."""
    if len(contexts) < 2:
        raise error
    click.echo(f"forestall: context {context}: {error}", err=True)
    return 2


def _print_history(kubeconfig: Path | None, contexts: tuple[str, ...], output: AuditFormat) -> int:
    """Print what the auditors of the clusters have counted; 2 if a history can't be read."""
    from webhook.audit.history import read_history  # noqa: PLC0415
    from webhook.audit.history_text import history_csv, history_lines  # noqa: PLC0415
    from webhook.cluster.paths import config_map_path  # noqa: PLC0415

    clusters, code = {}, 0
    for context in contexts or (None,):
        try:
            read = read_history(reach_patiently(kubeconfig, context).get(config_map_path(NAMESPACE, HISTORY)))
        except (ClusterRefused, FactsUnavailable) as error:
            code = _go_on_without(context, contexts, error)
            continue
        clusters[context or ""] = read.days
        if read.lost:
            where = f"context {context}: " if context else ""
            click.echo(f"forestall: {where}the history can't be read: {read.lost}", err=True)
            code = 2
    if output == "csv":
        put("".join(history_csv(clusters)), encoding="utf-8")
        return code
    for name, days in clusters.items():
        put("".join(f"{line}\n" for line in [*([f"Cluster {name}"] if name else ()), *history_lines(days)]))
    return code


def _render_audit(audits: Sequence[Audited], output: AuditFormat, code: int, today: date) -> Iterator[str]:
    from webhook.audit import documents, text  # noqa: PLC0415

    match output:
        case "json":
            return documents.render_json(audits, today)
        case "csv":
            return documents.render_csv(audits)
        case "sarif":
            return documents.render_sarif(audits, code)
        case "html":
            from webhook.audit.html import render_html  # noqa: PLC0415

            return render_html(audits, today)
        case _:
            return text.render_text(audits, today, width(), style_of(sys.stdout))
