"""`forestall check`: judges manifests."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from webhook.cli.options import AS_IF, CONTEXT, FILE
from webhook.cli.terminal import Bar, note, put, style_of, tell_bugs, width
from webhook.policy import MODES, FactKind, Mode

if TYPE_CHECKING:
    from webhook.check import Report
    from webhook.cluster.lookups import LookUps
    from webhook.cluster.view import ClusterView
    from webhook.config import Config
    from webhook.formats import Format
    from webhook.objects.facts import ClusterFacts


_FORMATS = ("text", "json", "sarif", "junit", "github")


@click.command()
@click.argument("paths", metavar="PATH… | -", nargs=-1, required=True, type=click.Path(readable=False))
@click.option(
    "--config",
    metavar="FILE",
    type=FILE,
    help="The configuration file; default: with --cluster the one in force there, else the file that FORESTALL_CONFIG "
    "names, or the nearest .forestall.yaml in the working directory or above it.",
)
@click.option("--as-if", metavar="MODE", type=click.Choice(MODES[1:]), help=AS_IF)
@click.option(
    "--facts",
    metavar="FILE",
    type=FILE,
    help="The cluster objects that policies read, as kubectl printed them; a check that lacks some prints the command.",
)
@click.option(
    "--cluster", is_flag=True, help="Take facts and configuration from the cluster of the current kubectl context."
)
@click.option(
    "--kubeconfig", metavar="FILE", type=FILE, help="With --cluster: the kubeconfig to use in place of kubectl's own."
)
@CONTEXT
@click.option("--namespace", "-n", metavar="NS", default="default", help="The namespace of objects that name none.")
@click.option(
    "--output",
    "-o",
    "output",
    type=click.Choice(_FORMATS),
    default="text",
    show_default=True,
    help="The format of the result.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Any violation that is not exempted makes the exit code 1; with --cluster, anything unseen there makes it 2.",
)
@click.option(
    "--exclude",
    metavar="GLOB",
    multiple=True,
    help="Leave out files and folders with a name or path like this; may be repeated.",
)
@click.option(
    "--unknown",
    type=click.Choice(("error", "skip")),
    help="Whether a file without Kubernetes objects is an error; by default only if it was named, not in a folder.",
)
@click.option(
    "--stdin-name", metavar="PATH", default="<stdin>", help="The file that results name for what standard input holds."
)
def check(
    paths: tuple[str, ...],
    config: Path | None,
    as_if: Mode | None,
    facts: Path | None,
    cluster: bool,
    kubeconfig: Path | None,
    context: str | None,
    namespace: str,
    output: Format,
    strict: bool,
    exclude: tuple[str, ...],
    unknown: str | None,
    stdin_name: str,
) -> int:
    """Judge manifests: files, folders, globs or standard input (-).

    \b
    forestall check deploy/
    helm template my-release my-chart | forestall check -
    kustomize build overlays/prod | forestall check --output sarif -
    """
    if facts and cluster:
        raise click.UsageError("--facts and --cluster exclude each other: facts come from one place")
    if (kubeconfig or context) and not cluster:
        option = "--kubeconfig" if kubeconfig else "--context"
        raise click.UsageError(f"{option} says which cluster --cluster reads: give both")
    # The process is short and makes no cycles: collecting them costs a sixth of its time.
    gc.disable()
    from webhook.check import check_files  # noqa: PLC0415
    from webhook.files.folders import find_files  # noqa: PLC0415

    view = _view(config, kubeconfig, context, namespace) if cluster else None
    loaded, source = _config_for_check(config, view)
    if as_if:
        loaded = replace(loaded, mode=as_if)
    meant = find_files(paths, exclude)
    with Bar("Reading manifests") as bar:
        report = check_files(
            list(meant.files),
            loaded,
            view.facts if view else _facts(facts),
            today=datetime.now(UTC).date(),
            namespace=namespace,
            only_in=view.only_in if view else {},
            look_up=partial(_look_ups, kubeconfig, context) if view else None,
            may_be_foreign={"error": (), "skip": (*meant.files, stdin_name)}.get(unknown or "", meant.found),
            stdin_name=stdin_name,
            progress=bar.show,
        )
    report.errors[:0] = meant.errors
    code = 2 if strict and view and view.unseen else report.exit_code(strict=strict)
    _tell_exemptions(loaded, source, report)
    for told in meant.notes:
        note(told)
    _tell_foreign(report)
    tell_bugs(report.bugs)
    if output == "text":
        for error in report.errors:
            click.echo(f"{style_of(sys.stderr)('error', 'red')}: {error}", err=True)
    # Output for programs is UTF-8, whatever the terminal's encoding.
    put(_render(report, output, code, loaded.pages, strict=strict), encoding=None if output == "text" else "utf-8")
    from webhook.formats import unjudged_lines  # noqa: PLC0415

    for line in unjudged_lines(report):
        note(line)
    if report.count("unknown") and not facts and not cluster:
        from webhook.files.facts import kubectl_get  # noqa: PLC0415
        from webhook.loader import fact_kinds  # noqa: PLC0415

        line = kubectl_get(fact_kinds())
        note(f"what is unknown depends on the cluster: give --cluster, or --facts FILE, with what this prints: {line}")
    return code


def _found_config() -> Path | None:
    """The configuration where --config names none: FORESTALL_CONFIG, or .forestall.yaml in the working directory or
    above it. A note names the file, since the author of the manifests may have written it, too."""
    if named := os.environ.get("FORESTALL_CONFIG"):
        note(f"configuration: {named} (FORESTALL_CONFIG)")
        return Path(named)
    here = Path.cwd()
    for folder in (here, *here.parents):
        found = folder / ".forestall.yaml"
        if os.path.isfile(found):  # noqa: PTH113 - unlike pathlib's it is false where a folder may not be read
            note(f"configuration: {found}")
            return found
    return None


def _config_for_check(file: Path | None, view: ClusterView | None) -> tuple[Config, str]:
    """The configuration to check by, and where it is from: the file that --config names, else the one in force in the
    cluster, else a file that is found, else the defaults."""
    from webhook.config import load_config, read_config  # noqa: PLC0415
    from webhook.installation import CONFIG, NAMESPACE  # noqa: PLC0415
    from webhook.scope import exclude_own_namespace  # noqa: PLC0415

    if file is None and view and view.config:
        source = f"ConfigMap {NAMESPACE}/{CONFIG}"
        note(f"configuration: {source}, which is in force in the cluster")
        return exclude_own_namespace(view.config, NAMESPACE), source
    if file := file or _found_config():
        return read_config(str(file)), str(file)
    return load_config(b"", "defaults"), "defaults"


def _view(config: Path | None, kubeconfig: Path | None, context: str | None, namespace: str) -> ClusterView:
    from webhook import log  # noqa: PLC0415
    from webhook.cluster.client import Cluster  # noqa: PLC0415
    from webhook.cluster.view import view_cluster  # noqa: PLC0415
    from webhook.config import read_config  # noqa: PLC0415
    from webhook.loader import watched_kinds  # noqa: PLC0415
    from webhook.scope import facts_of  # noqa: PLC0415

    def kinds_for(in_force: Config | None) -> Collection[FactKind[Any, Any]]:
        counting = read_config(str(config)) if config else in_force
        return [kind for kind in facts_of(counting) if kind.is_watched] if counting else watched_kinds()

    log.silence()
    cluster = Cluster.from_kubeconfig(kubeconfig, context)
    view = view_cluster(cluster, kinds_for, namespace)
    for text in view.unseen:
        note(text)
    return view


def _look_ups(kubeconfig: Path | None, context: str | None) -> LookUps:
    from webhook.cluster.client import Cluster  # noqa: PLC0415
    from webhook.cluster.lookups import LookUps  # noqa: PLC0415
    from webhook.cluster.unseen import Unseen  # noqa: PLC0415

    # What can't be read is told by the verdict that needed it.
    return LookUps(Cluster.from_kubeconfig(kubeconfig, context), Unseen())


def _facts(file: Path | None) -> ClusterFacts:
    if file:
        from webhook.files.facts import read_facts  # noqa: PLC0415
        from webhook.loader import fact_kinds  # noqa: PLC0415

        return read_facts(file, fact_kinds())
    from webhook.objects.facts import NO_FACTS  # noqa: PLC0415

    return NO_FACTS


def _render(report: Report, output: Format, code: int, pages: str, *, strict: bool) -> str:
    from webhook import formats as reports  # noqa: PLC0415

    match output:
        case "json":
            return reports.render_json(report)
        case "sarif":
            return reports.render_sarif(report, code, pages)
        case "junit":
            return reports.render_junit(report, strict=strict)
        case "github":
            return reports.render_github(report)
        case _:
            return reports.render_text(report, width(), style_of(sys.stdout))


def _tell_exemptions(config: Config, file: str, report: Report) -> None:
    """Print a note for each exemption that has expired or covers nothing: both should be deleted."""
    from webhook.config import iter_expired  # noqa: PLC0415

    expired = dict(iter_expired(config, datetime.now(UTC).date()))
    for index, exemption in enumerate(config.exemptions):
        name = f"{file}: exemptions[{index}] ({exemption.policy}, owner {exemption.owner})"
        if index in expired:
            note(f"{name} expired on {exemption.until} and no longer counts")
        elif index not in report.used_exemptions:
            note(f"{name} covers nothing in these files")


_MOST_NAMES = 5


def _tell_foreign(report: Report) -> None:
    if files := list(dict.fromkeys(error.file for error in report.foreign)):
        shown = ", ".join(files[:_MOST_NAMES]) + (", …" if len(files) > _MOST_NAMES else "")
        note(f"{len(files)} of the files hold no Kubernetes object, or not only such: {shown}")
