"""The options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

from webhook import installation
from webhook.policy import MODES

# click doesn't check that the file can be read: the code that reads it says in one line what is wrong.
FILE = click.Path(path_type=Path, readable=False)
AS_IF = f"Judge as if the configuration's own mode were this one: {', '.join(MODES[1:])}."
KUBECONFIG = click.option(
    "--kubeconfig", metavar="FILE", type=FILE, help="The kubeconfig to use in place of kubectl's own."
)
CONTEXT = click.option("--context", metavar="NAME", help="The kubeconfig's context to use in place of its current one.")
NAMESPACE = click.option(
    "--namespace",
    metavar="NS",
    default=installation.NAMESPACE,
    show_default=True,
    help="The namespace in which Forestall is installed.",
)
LOG_LEVEL = click.option(
    "--log-level",
    type=click.Choice(("debug", "info", "warning", "error")),
    default="info",
    show_default=True,
    help="The lowest level that is logged; a server logs its reviews at info.",
)
