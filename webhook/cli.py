"""The command line: arguments, printed text, exit codes.

Imports what a command needs when it runs: `forestall version` answers before the policies would be loaded.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import click

from webhook import __version__
from webhook.errors import BadConfig, ClusterRefused, FactsUnavailable, ForestallError, SystemRefused
from webhook.installation import CONSOLE_PORT, NAMESPACE, PROBES_PORT, REVIEWS_PORT
from webhook.policy import MODES, Mode

if TYPE_CHECKING:
    from webhook.audit.look import Audited
    from webhook.audit.patient import PatientCluster
    from webhook.check import Report
    from webhook.cluster import Cluster
    from webhook.cluster_view import ClusterView
    from webhook.config import Config
    from webhook.formats import Format, Style
    from webhook.objects.facts import ClusterFacts

AuditFormat = Literal["text", "json", "csv", "sarif", "html"]
_FORMATS = ("text", "json", "sarif", "junit", "github")
_AUDIT_FORMATS = ("text", "json", "csv", "sarif", "html")
_AS_IF = f"Judge as if the configuration's own mode were this one: {', '.join(MODES[1:])}."
_STRICT_AUDIT = (
    "Exit code 1 for any violation that is not exempted, and for what is broken now; 2 if anything could not be read."
)
_SHELLS = ("bash", "zsh", "fish", "kubectl")
_NARROW, _WIDE = 60, 120
_PATIENCE = 1.0
"""Seconds after which a progress bar is shown."""

# click doesn't check that the file can be read: the code that reads it says in one line what is wrong.
_FILE = click.Path(path_type=Path, readable=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    2 stands for anything that could not be read or understood, 3 for a failure of our own, so that a bug never looks
    like a denial.
    """
    if sys.stdout is None:
        click.echo("forestall: standard output is closed", err=True)
        return 2
    try:
        return _run(argv)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        return 130
    except click.ClickException as error:
        error.show()
    except BadConfig as error:
        for text in error.errors:
            click.echo(f"forestall: {text}", err=True)
    except ForestallError as error:
        click.echo(f"forestall: {error}", err=True)
    except Exception:
        click.echo(f"forestall failed, which is our bug; please report it\n{traceback.format_exc()}", err=True)
        return 3
    return 2


def _run(argv: Sequence[str] | None) -> int:
    # Run as a kubectl plugin, the usage names the command that was typed: "kubectl forestall".
    is_plugin = Path(sys.argv[0]).name.startswith("kubectl-")
    code = cli.main(argv, prog_name="kubectl forestall" if is_plugin else "forestall", standalone_mode=False)
    return code if isinstance(code, int) else 0


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "--version", message="forestall %(version)s")
def cli() -> None:
    """Stops Kubernetes outages that other teams have already had.

    Exit codes: 0 nothing would be denied, 1 something would, 2 unreadable input or configuration, 3 our own failure.
    """


_KUBECONFIG = click.option(
    "--kubeconfig", metavar="FILE", type=_FILE, help="The kubeconfig to use in place of kubectl's own."
)
_CONTEXT = click.option(
    "--context", metavar="NAME", help="The kubeconfig's context to use in place of its current one."
)


@cli.command()
@click.argument("paths", metavar="PATH… | -", nargs=-1, required=True, type=click.Path(readable=False))
@click.option(
    "--config",
    metavar="FILE",
    type=_FILE,
    help="The configuration file; without it, --cluster takes the one in force there.",
)
@click.option("--as-if", metavar="MODE", type=click.Choice(MODES[1:]), help=_AS_IF)
@click.option(
    "--facts", metavar="FILE", type=_FILE, help="The cluster objects that policies read, as kubectl printed them."
)
@click.option(
    "--cluster", is_flag=True, help="Take facts and configuration from the cluster of the current kubectl context."
)
@click.option(
    "--kubeconfig", metavar="FILE", type=_FILE, help="With --cluster: the kubeconfig to use in place of kubectl's own."
)
@_CONTEXT
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

    view = _view(kubeconfig, context, namespace) if cluster else None
    loaded, source = _config_for_check(config, view)
    if as_if:
        loaded = replace(loaded, mode=as_if)
    meant = find_files(paths, exclude)
    with _Bar("Reading manifests") as bar:
        report = check_files(
            list(meant.files),
            loaded,
            view.facts if view else _facts(facts),
            today=datetime.now(UTC).date(),
            namespace=namespace,
            only_in=view.only_in if view else {},
            may_be_foreign={"error": (), "skip": (*meant.files, stdin_name)}.get(unknown or "", meant.found),
            stdin_name=stdin_name,
            progress=bar.show,
        )
    report.errors[:0] = meant.errors
    code = 2 if strict and view and view.unseen else report.exit_code(strict=strict)
    _tell_exemptions(loaded, source, report)
    for note in meant.notes:
        _note(note)
    _tell_foreign(report)
    _tell_bugs(report.bugs)
    if output == "text":
        for error in report.errors:
            click.echo(f"{_style(sys.stderr)('error', 'red')}: {error}", err=True)
    # Output for programs is UTF-8, whatever the terminal's encoding.
    _print(_render(report, output, code, loaded.pages, strict=strict), encoding=None if output == "text" else "utf-8")
    from webhook.formats import unjudged_lines  # noqa: PLC0415

    for line in unjudged_lines(report):
        _note(line)
    if report.count("unknown") and not facts and not cluster:
        from webhook.files.facts import kubectl_get  # noqa: PLC0415
        from webhook.loader import fact_kinds  # noqa: PLC0415

        line = kubectl_get(fact_kinds())
        _note(f"what is unknown depends on the cluster: give --cluster, or --facts FILE, with what this prints: {line}")
    return code


def _found_config() -> Path | None:
    """The configuration where --config names none: FORESTALL_CONFIG, or .forestall.yaml in the working directory or
    above it. A note names the file, since the author of the manifests may have written it, too."""
    if named := os.environ.get("FORESTALL_CONFIG"):
        _note(f"configuration: {named} (FORESTALL_CONFIG)")
        return Path(named)
    here = Path.cwd()
    for folder in (here, *here.parents):
        found = folder / ".forestall.yaml"
        if os.path.isfile(found):  # noqa: PTH113 - unlike pathlib's it is false where a folder may not be read
            _note(f"configuration: {found}")
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
        _note(f"configuration: {source}, which is in force in the cluster")
        return exclude_own_namespace(view.config, NAMESPACE), source
    if file := file or _found_config():
        return read_config(str(file)), str(file)
    return load_config(b"", "defaults"), "defaults"


def _view(kubeconfig: Path | None, context: str | None, namespace: str) -> ClusterView:
    from webhook import log  # noqa: PLC0415
    from webhook.cluster import Cluster  # noqa: PLC0415
    from webhook.cluster_view import view_cluster  # noqa: PLC0415
    from webhook.loader import fact_kinds  # noqa: PLC0415

    log.silence()
    cluster = Cluster.from_kubeconfig(str(kubeconfig) if kubeconfig else None, context)
    view = view_cluster(cluster, fact_kinds(), namespace)
    for text in view.unseen:
        _note(text)
    return view


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
            return reports.render_text(report, _width(), _style(sys.stdout))


def _width() -> int:
    import shutil  # noqa: PLC0415

    return min(max(shutil.get_terminal_size((100, 24)).columns, _NARROW), _WIDE)


def _style(stream: TextIO) -> Style:
    """Colours for a person at a terminal who doesn't mind them (no-color.org, force-color.org)."""
    if os.environ.get("NO_COLOR") or not (os.environ.get("FORCE_COLOR") or stream.isatty()):
        return lambda text, _style: text

    def styled(text: str, style: str) -> str:
        return click.style(text, **({style: True} if style in ("bold", "dim") else {"fg": style}))

    return styled


def _print(text: str, *, encoding: str | None = None) -> None:
    """Write the text to standard output. A pipe that is closed early (`| head`) is no error.

    Raises SystemRefused for any other failure, such as a full disk.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding=encoding, errors="replace")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Python flushes standard output once more at its end, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise SystemRefused(f"standard output: {error.strerror}") from error


class _Bar:
    """A progress bar on a terminal's standard error, once the work takes longer than _PATIENCE."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.began = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> _Bar:
        return self

    def show(self, done: float) -> None:
        if self.bar is None and sys.stderr.isatty() and time.monotonic() - self.began > _PATIENCE:
            self.bar = click.progressbar(length=100, label=self.label, file=sys.stderr)
            self.bar.__enter__()
        if self.bar is not None:
            self.bar.update(int(done * 100) - self.bar.pos)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.render_finish()


def _tell_exemptions(config: Config, file: str, report: Report) -> None:
    """Print a note for each exemption that has expired or covers nothing: both should be deleted."""
    from webhook.engine import iter_expired  # noqa: PLC0415

    expired = dict(iter_expired(config, datetime.now(UTC).date()))
    for index, exemption in enumerate(config.exemptions):
        name = f"{file}: exemptions[{index}] ({exemption.policy}, owner {exemption.owner})"
        if index in expired:
            _note(f"{name} expired on {exemption.until} and no longer counts")
        elif index not in report.used_exemptions:
            _note(f"{name} covers nothing in these files")


_MOST_NAMES = 5


def _tell_foreign(report: Report) -> None:
    if files := list(dict.fromkeys(error.file for error in report.foreign)):
        shown = ", ".join(files[:_MOST_NAMES]) + (", …" if len(files) > _MOST_NAMES else "")
        _note(f"{len(files)} of the files hold no Kubernetes object, or not only such: {shown}")


def _note(text: str) -> None:
    click.echo(f"{_style(sys.stderr)('note', 'yellow')}: {text}", err=True)


def _tell_bugs(bugs: Mapping[str, str]) -> None:
    for policy, text in bugs.items():
        click.echo(f"forestall: policy {policy} failed, which is our bug; please report it\n{text}", err=True)


@cli.command()
@click.argument("policy", required=False, shell_complete=lambda _ctx, _param, word: _policy_names(word))
def explain(policy: str | None) -> None:
    """Print a policy's page: the incident, what is checked, how to fix it; without POLICY, list them."""
    from webhook.loader import load_policies  # noqa: PLC0415

    policies = load_policies()
    if policy is None:
        width = max(map(len, policies), default=0)
        _print("".join(f"{name:<{width}}  {loaded.policy.summary}\n" for name, loaded in policies.items()))
        return
    if policy not in policies:
        from webhook.files.typed_yaml import suggest  # noqa: PLC0415

        raise BadConfig(f"there is no policy {policy!r}{suggest(policy, policies)}")
    _print(policies[policy].page)


def _policy_names(word: str) -> list[str]:
    from webhook.loader import load_policies  # noqa: PLC0415

    return [name for name in load_policies() if name.startswith(word)]


@cli.command()
def version() -> None:
    """Print the version."""
    _print(f"forestall {__version__}\n")


_LOG_LEVEL = click.option(
    "--log-level",
    type=click.Choice(("debug", "info", "warning", "error")),
    default="info",
    show_default=True,
    help="The lowest level that is logged; a server logs each review at info.",
)


@cli.command()
@click.option("--config", metavar="FILE", type=_FILE, help="The configuration file; it is read again when it changes.")
@click.option(
    "--facts", metavar="FILE", type=_FILE, help="Read the cluster's facts from a file, for trying things out."
)
@click.option(
    "--kubeconfig",
    metavar="FILE",
    type=_FILE,
    help="The cluster whose facts are read; default: the one that the server runs in.",
)
@_CONTEXT
@click.option(
    "--tls-cert", metavar="FILE", type=_FILE, help="The serving certificate; it is read again when it changes."
)
@click.option("--tls-key", metavar="FILE", type=_FILE, help="The serving certificate's key.")
@click.option("--self-signed", is_flag=True, help="Serve with a certificate made for this run, which no client trusts.")
@click.option(
    "--client-ca",
    metavar="FILE",
    type=_FILE,
    help="CAs: clients must show a certificate by one of these; read again when it changes.",
)
@click.option("--bind", metavar="ADDRESS", help="The only address to listen on; default: all of them.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=REVIEWS_PORT,
    show_default=True,
    help="Port on which the API server is answered.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    default=PROBES_PORT,
    show_default=True,
    help="Port of the pages /healthz, /readyz and /metrics.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Processes that answer reviews; each of them has its own copy of the cluster's facts.",
)
@_LOG_LEVEL
def serve(
    config: Path | None,
    facts: Path | None,
    kubeconfig: Path | None,
    context: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    self_signed: bool,
    client_ca: Path | None,
    bind: str | None,
    port: int,
    metrics_port: int,
    workers: int,
    log_level: str,
) -> int:
    """Answer the API server's admission reviews until SIGTERM."""
    if facts and (kubeconfig or context):
        raise click.UsageError("--facts excludes --kubeconfig and --context: facts come from one place")
    if bool(tls_cert) != bool(tls_key):
        raise click.UsageError("--tls-cert and --tls-key belong together")
    if self_signed == bool(tls_cert):
        raise click.UsageError("give either --tls-cert and --tls-key, or --self-signed")
    if client_ca and self_signed:
        raise click.UsageError("--client-ca is for real certificates: give --tls-cert and --tls-key")
    from webhook.server import serve as server  # noqa: PLC0415

    return server.serve(
        server.ServerSettings(
            config=config,
            facts=facts,
            kubeconfig=kubeconfig,
            context=context,
            tls_cert=tls_cert,
            tls_key=tls_key,
            self_signed=self_signed,
            client_ca=client_ca,
            bind=bind,
            port=port,
            metrics_port=metrics_port,
            workers=workers,
            log_level=log_level,
        )
    )


_NAMESPACE = click.option(
    "--namespace",
    metavar="NS",
    default=NAMESPACE,
    show_default=True,
    help="The namespace in which Forestall is installed.",
)


@cli.command()
@click.option("--config", metavar="FILE", type=_FILE, help="The configuration file; it is read again when it changes.")
@click.option(
    "--kubeconfig",
    metavar="FILE",
    type=_FILE,
    help="The cluster to keep; default: the one that the controller runs in.",
)
@_CONTEXT
@_NAMESPACE
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    default=PROBES_PORT,
    show_default=True,
    help="Port of the pages /healthz, /readyz and /metrics.",
)
@click.option(
    "--console-port",
    type=click.IntRange(0, 65535),
    default=CONSOLE_PORT,
    show_default=True,
    help="Port of the console, the page that shows what is enforced.",
)
@click.option(
    "--endpoints",
    metavar="HOST:PORT,…",
    default="",
    help="Addresses of the servers; default: those in the EndpointSlices of their Service.",
)
@_LOG_LEVEL
def controller(
    config: Path | None,
    kubeconfig: Path | None,
    context: str | None,
    namespace: str,
    metrics_port: int,
    console_port: int,
    endpoints: str,
    log_level: str,
) -> int:
    """Keep certificates, webhook configurations and LimitRanges until SIGTERM; of several controllers one acts."""
    from webhook.controller import run as controllers  # noqa: PLC0415
    from webhook.controller.endpoints import parse_endpoints  # noqa: PLC0415

    return controllers.run(
        controllers.ControllerSettings(
            config=config,
            kubeconfig=kubeconfig,
            context=context,
            namespace=namespace,
            metrics_port=metrics_port,
            console_port=console_port,
            endpoints=parse_endpoints(endpoints),
            log_level=log_level,
        )
    )


@cli.group("hooks")
def hooks_group() -> None:
    """Turn the webhook configurations on or off: whether the API server asks Forestall at all."""


@hooks_group.command("on")
@_KUBECONFIG
@_CONTEXT
@_NAMESPACE
def hooks_on(kubeconfig: Path | None, context: str | None, namespace: str) -> None:
    """Have the controller write the webhook configurations, even after somebody deleted them."""
    from webhook.controller.hooks import turn_on  # noqa: PLC0415

    turn_on(_cluster(kubeconfig, context), namespace)
    _print("on: the controller writes the webhook configurations within seconds, once a server is ready\n")


@hooks_group.command("off")
@_KUBECONFIG
@_CONTEXT
@_NAMESPACE
def hooks_off(kubeconfig: Path | None, context: str | None, namespace: str) -> None:
    """Delete the webhook configurations and keep them deleted: nothing is judged until `forestall hooks on`."""
    from webhook.controller.hooks import turn_off  # noqa: PLC0415

    turn_off(_cluster(kubeconfig, context), namespace)
    _print("off: nothing is judged until `forestall hooks on`\n")


@cli.command()
@click.option(
    "--config",
    metavar="FILE",
    type=_FILE,
    help="The configuration to compare with; default: ConfigMap forestall-config.",
)
@_KUBECONFIG
@_CONTEXT
@_NAMESPACE
@click.option(
    "--output",
    "-o",
    "output",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="The format of the result.",
)
def doctor(config: Path | None, kubeconfig: Path | None, context: str | None, namespace: str, output: str) -> int:
    """Say on one page what is right and wrong with an installation, and what to do; 1 when something needs doing."""
    from webhook.doctor.checks import diagnose, exit_code  # noqa: PLC0415
    from webhook.doctor.page import render_json, render_text  # noqa: PLC0415
    from webhook.doctor.survey import survey_installation  # noqa: PLC0415

    checks = diagnose(survey_installation(_cluster(kubeconfig, context), namespace, config, lambda: datetime.now(UTC)))
    if output == "json":
        _print(render_json(checks), encoding="utf-8")
    else:
        _print(render_text(checks, _width(), _style(sys.stdout)))
    return exit_code(checks)


@cli.command()
@_KUBECONFIG
@click.option(
    "--context",
    "contexts",
    metavar="NAME",
    multiple=True,
    help="The kubeconfig's context to audit; may be repeated for several clusters.",
)
@click.option(
    "--namespace", "-n", "namespaces", metavar="NS", multiple=True, help="Audit only this namespace; may be repeated."
)
@click.option(
    "--config",
    metavar="FILE",
    type=_FILE,
    help="The configuration to judge by; default: the cluster's ConfigMap forestall-config.",
)
@click.option("--as-if", metavar="MODE", type=click.Choice(MODES[1:]), help=_AS_IF)
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
def audit(
    kubeconfig: Path | None,
    contexts: tuple[str, ...],
    namespaces: tuple[str, ...],
    config: Path | None,
    as_if: Mode | None,
    group_by: str,
    output: AuditFormat,
    strict: bool,
) -> int:
    """Judge what a cluster stores as if it were created now; reads only.

    \b
    forestall audit
    forestall audit --as-if deny --output csv > findings.csv
    """
    from webhook.audit.judge import COLLECTOR  # noqa: PLC0415
    from webhook.audit.look import AuditOptions, audit_cluster  # noqa: PLC0415
    from webhook.audit.progress import Bar  # noqa: PLC0415

    gc.set_threshold(*COLLECTOR)
    today = datetime.now(UTC).date()
    options = AuditOptions(config, as_if, group_by, namespaces)
    audits, code = [], 0
    for context in contexts or (None,):
        try:
            with Bar(context or "") as bar:
                cluster = _patient_cluster(kubeconfig, context)
                audits.append(audit_cluster(cluster, context or "", options, today=today, progress=bar.show))
        except (ClusterRefused, FactsUnavailable) as error:
            if len(contexts) < 2:
                raise
            click.echo(f"forestall: context {context}: {error}", err=True)
            code = 2
    code = max([code, *(audited.exit_code(strict=strict) for audited in audits)])
    for audited in audits:
        _tell_bugs(audited.found.bugs)
        for trouble in audited.troubles if output != "text" else ():
            _note(" ".join(filter(None, (audited.name, trouble))))
    for part in _render_audit(audits, output, code, today):
        _print(part, encoding=None if output == "text" else "utf-8")
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
            return text.render_text(audits, today, _width(), _style(sys.stdout))


def _patient_cluster(kubeconfig: Path | None, context: str | None) -> PatientCluster:
    from webhook import log  # noqa: PLC0415
    from webhook.audit.patient import PatientCluster  # noqa: PLC0415

    log.silence()
    if _is_in_cluster(kubeconfig, context):
        return PatientCluster.in_cluster()
    return PatientCluster.from_kubeconfig(str(kubeconfig) if kubeconfig else None, context)


def _is_in_cluster(kubeconfig: Path | None, context: str | None) -> bool:
    """Whether neither a flag nor the environment names a kubeconfig, and this process runs in a cluster."""
    return (
        kubeconfig is None
        and context is None
        and "KUBERNETES_SERVICE_HOST" in os.environ
        and "KUBECONFIG" not in os.environ
    )


def _cluster(kubeconfig: Path | None, context: str | None) -> Cluster:
    """The cluster that a kubeconfig or a context of it names; without both the one that we run in, or kubectl's."""
    from webhook import log  # noqa: PLC0415
    from webhook.cluster import Cluster  # noqa: PLC0415

    log.silence()
    if _is_in_cluster(kubeconfig, context):
        return Cluster.in_cluster()
    return Cluster.from_kubeconfig(str(kubeconfig) if kubeconfig else None)


@cli.group("config")
def config_group() -> None:
    """The configuration file: its schema, and whether one is valid."""


@config_group.command()
def schema() -> None:
    """Print the configuration's JSON Schema, for editors."""
    import json  # noqa: PLC0415

    from webhook.config import config_schema  # noqa: PLC0415

    _print(json.dumps(config_schema(), indent=2) + "\n")


@config_group.command("check")
@click.argument("file", metavar="FILE | -", type=click.Path(readable=False))
@click.option("--values", "is_values", is_flag=True, help="FILE holds values of the chart: what stands at `config`.")
def check_config(file: str, is_values: bool) -> None:
    """Say whether FILE, or standard input (-), can be used as configuration; if not, where and why.

    \b
    helm get values forestall -n forestall-system | forestall config check --values -
    """
    from webhook.config import capped_overrides, load_config, read_text  # noqa: PLC0415
    from webhook.engine import iter_expired  # noqa: PLC0415

    if file == "-":
        if sys.stdin is None:
            raise BadConfig("<stdin>:1: not readable: standard input is closed")
        text, file = sys.stdin.buffer.read(), "<stdin>"
    else:
        text = read_text(file)
    loaded = load_config(text, file, is_values=is_values)
    for index, exemption in iter_expired(loaded, datetime.now(UTC).date()):
        _note(f"{file}: exemptions[{index}] ({exemption.policy}) expired on {exemption.until} and no longer counts")
    for path, mode in capped_overrides(loaded):
        _note(f"{file}: {path} is {mode}, capped by mode: {loaded.mode}")
    _print(f"{file}: valid\n")


@cli.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print a completion script: `eval "$(forestall completion bash)"`.

    For `kubectl forestall`, put an executable `kubectl_complete-forestall` on the PATH that holds what
    `forestall completion kubectl` prints.
    """
    _print(_KUBECTL if shell == "kubectl" else _completion_script(shell))


# kubectl hands over the words after the plugin's name and reads Cobra's form: a word a line, then ":" and a directive;
# 4 means that files are not wanted, 0 that they are.
_KUBECTL = """\
#!/bin/sh
# Completion of `kubectl forestall`: install as kubectl_complete-forestall, executable, on the PATH.
COMP_WORDS="forestall $*" COMP_CWORD=$# _FORESTALL_COMPLETE=bash_complete forestall | sed -n 's/^plain,//p'
echo ":0"
"""


def _completion_script(shell: str) -> str:
    from click.shell_completion import ShellComplete, get_completion_class  # noqa: PLC0415

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    # The class for bash overrides source() to start a bash, only to warn of old ones.
    source: Callable[[ShellComplete], str] = ShellComplete.source
    return source(found(cli, {}, "forestall", "_FORESTALL_COMPLETE")) + "\n"
