"""`forestall notify`: whether notifications arrive."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from webhook.cli.clusters import reach
from webhook.cli.options import CONTEXT, FILE, KUBECONFIG, NAMESPACE
from webhook.cli.terminal import put
from webhook.errors import BadConfig


@click.command()
@KUBECONFIG
@CONTEXT
@NAMESPACE
@click.option(
    "--config",
    metavar="FILE",
    type=FILE,
    help="The configuration that names the receiver; default: the cluster's ConfigMap forestall-config.",
)
@click.option("--test", "is_test", is_flag=True, help="Send a notification that says that it is a test.")
def notify(kubeconfig: Path | None, context: str | None, namespace: str, config: Path | None, is_test: bool) -> None:
    """Send a test notification to the receiver that the configuration names, and print how long it took.

    \b
    forestall notify --test
    """
    from webhook.auditor.delivery import body_of, post, read_url  # noqa: PLC0415
    from webhook.auditor.notices import test_notice  # noqa: PLC0415
    from webhook.cluster.in_force import config_in_force  # noqa: PLC0415
    from webhook.config import read_config  # noqa: PLC0415

    if not is_test:
        raise click.UsageError("give --test: the auditor sends all other notifications itself")
    if config:
        given = read_config(str(config))
    else:
        in_force = config_in_force(reach(kubeconfig, context), namespace)
        if in_force is None:
            raise BadConfig(f"there is no configuration in namespace {namespace}: name it with --namespace or --config")
        given = in_force
    notifications = given.notifications
    if notifications is None:
        raise BadConfig("the configuration names no receiver: give it notifications.url or notifications.secret")
    # A URL that the configuration holds itself needs no cluster.
    url = notifications.url or read_url(notifications, reach(kubeconfig, context), namespace)
    body = body_of(test_notice(datetime.now(UTC)), notifications)
    began = time.monotonic()
    status = post(url, body)
    put(f"sent: HTTP status {status} after {time.monotonic() - began:.3f} s\n")
