"""`forestall hooks`: whether the API server asks Forestall at all."""

from __future__ import annotations

from pathlib import Path

import click

from webhook.cli.clusters import reach
from webhook.cli.options import CONTEXT, KUBECONFIG, NAMESPACE
from webhook.cli.terminal import put


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
def hooks_off(kubeconfig: Path | None, context: str | None, namespace: str) -> None:
    """Delete the webhook configurations and keep them deleted: nothing is judged until `forestall hooks on`."""
    from webhook.controller.hooks import turn_off  # noqa: PLC0415

    turn_off(reach(kubeconfig, context), namespace)
    put("off: nothing is judged until `forestall hooks on`\n")
