"""`forestall hooks`: whether the API server asks Forestall at all."""

from __future__ import annotations

from pathlib import Path

import click

from webhook.cli.clusters import reach
from webhook.cli.options import CONTEXT, KUBECONFIG, NAMESPACE
from webhook.cli.terminal import note, put
from webhook.errors import ClusterRefused, FactsUnavailable


@click.group("hooks")
def hooks_group() -> None:
    """Turn the webhook configurations on or off: whether the API server asks Forestall at all."""


@hooks_group.command("on")
@KUBECONFIG
@CONTEXT
@NAMESPACE
def hooks_on(kubeconfig: Path | None, context: str | None, namespace: str) -> None:
    """Have the controller write the webhook configurations, even after somebody deleted them."""
    from webhook.controller.hooks import turn_on  # noqa: PLC0415

    turn_on(reach(kubeconfig, context), namespace)
    put("on: the controller writes the webhook configurations within seconds, once a server is ready\n")


@hooks_group.command("off")
@KUBECONFIG
@CONTEXT
@NAMESPACE
@click.option(
    "--with-reports",
    is_flag=True,
    help="Delete the auditor's reports and records, too, as uninstalling does; no auditor leads for two minutes.",
)
def hooks_off(kubeconfig: Path | None, context: str | None, namespace: str, with_reports: bool) -> None:
    """Delete the webhook configurations and keep them deleted: nothing is judged until `forestall hooks on`."""
    from webhook.controller.hooks import turn_off  # noqa: PLC0415

    cluster = reach(kubeconfig, context)
    turn_off(cluster, namespace)
    put("off: nothing is judged until `forestall hooks on`\n")
    if with_reports:
        from webhook.auditor.uninstall import remove_all  # noqa: PLC0415

        try:
            put(f"reports deleted: {remove_all(cluster, namespace)}\n")
        except (ClusterRefused, FactsUnavailable) as error:
            # An uninstallation that stops here would leave much more behind than reports.
            note(f"reports may be left behind: {error}")
