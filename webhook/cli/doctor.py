"""`forestall doctor`: what is right and wrong with an installation."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from webhook.cli.clusters import reach
from webhook.cli.options import CONTEXT, FILE, KUBECONFIG, NAMESPACE
from webhook.cli.terminal import put, style_of, width


@click.command()
@click.option(
    "--config",
    metavar="FILE",
    type=FILE,
    help="The configuration to compare with; default: ConfigMap forestall-config.",
)
@KUBECONFIG
@CONTEXT
@NAMESPACE
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

    checks = diagnose(survey_installation(reach(kubeconfig, context), namespace, config, lambda: datetime.now(UTC)))
    if output == "json":
        put(render_json(checks), encoding="utf-8")
    else:
        put(render_text(checks, width(), style_of(sys.stdout)))
    return exit_code(checks)
