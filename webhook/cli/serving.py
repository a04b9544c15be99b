"""`forestall serve`, `forestall controller` and `forestall auditor`: what runs in the cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
from click.decorators import FC

from webhook.cli.options import CONTEXT, FILE, LOG_LEVEL, NAMESPACE
from webhook.installation import AUDITOR_PORT, CONSOLE_PORT, PROBES_PORT, REPORT_RESULTS, REVIEWS_PORT

_CONFIG = click.option(
    "--config", metavar="FILE", type=FILE, help="The configuration file; it is read again when it changes."
)


def _metrics_port(default: int) -> Callable[[FC], FC]:
    return click.option(
        "--metrics-port",
        type=click.IntRange(0, 65535),
        default=default,
        show_default=True,
        help="Port of the pages /healthz, /readyz and /metrics.",
    )


@click.command()
@_CONFIG
@click.option("--facts", metavar="FILE", type=FILE, help="Read the cluster's facts from a file, for trying things out.")
@click.option(
    "--kubeconfig",
    metavar="FILE",
    type=FILE,
    help="The cluster whose facts are read; default: the one that the server runs in.",
)
@CONTEXT
@click.option(
    "--tls-cert", metavar="FILE", type=FILE, help="The serving certificate; it is read again when it changes."
)
@click.option("--tls-key", metavar="FILE", type=FILE, help="The serving certificate's key.")
@click.option("--self-signed", is_flag=True, help="Serve with a certificate made for this run, which no client trusts.")
@click.option(
    "--client-ca",
    metavar="FILE",
    type=FILE,
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
@_metrics_port(PROBES_PORT)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Processes that answer reviews; each of them has its own copy of the cluster's facts.",
)
@LOG_LEVEL
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
    if "structlog" not in sys.modules:
        # It would take rich for a console of its own, which no server has: 5 MB of a replica's memory.
        sys.modules["rich"] = None  # type: ignore[assignment]
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


@click.command()
@_CONFIG
@click.option(
    "--kubeconfig",
    metavar="FILE",
    type=FILE,
    help="The cluster to keep; default: the one that the controller runs in.",
)
@CONTEXT
@NAMESPACE
@_metrics_port(PROBES_PORT)
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
@LOG_LEVEL
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


@click.command()
@_CONFIG
@click.option(
    "--kubeconfig",
    metavar="FILE",
    type=FILE,
    help="The cluster to audit; default: the one that the auditor runs in.",
)
@CONTEXT
@NAMESPACE
@_metrics_port(AUDITOR_PORT)
@click.option(
    "--report-results",
    type=click.IntRange(1, 500),
    default=REPORT_RESULTS,
    show_default=True,
    help="Results that a namespace's report has at most, the worst; its summary counts all of them.",
)
@LOG_LEVEL
def auditor(
    config: Path | None,
    kubeconfig: Path | None,
    context: str | None,
    namespace: str,
    metrics_port: int,
    report_results: int,
    log_level: str,
) -> int:
    """Keep what `forestall audit` finds current until SIGTERM; of several auditors one acts."""
    from webhook.auditor import run as auditors  # noqa: PLC0415

    return auditors.run(
        auditors.AuditorSettings(
            config=config,
            kubeconfig=kubeconfig,
            context=context,
            namespace=namespace,
            metrics_port=metrics_port,
            report_results=report_results,
            log_level=log_level,
        )
    )
