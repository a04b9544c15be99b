"""The command line: arguments, printed text, exit codes; a module for each command.

Imports what a command needs when it runs: `forestall version` answers before the policies would be loaded.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from webhook import __version__
from webhook.cli.audit import audit as audit_command
from webhook.cli.check import check as check_command
from webhook.cli.completion import completion as completion_command
from webhook.cli.configuration import config_group
from webhook.cli.doctor import doctor as doctor_command
from webhook.cli.explain import explain as explain_command
from webhook.cli.hooks import hooks_group
from webhook.cli.notify import notify
from webhook.cli.serving import auditor, controller, serve
from webhook.cli.terminal import put
from webhook.errors import BadConfig, ForestallError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    2 stands for anything that could not be read or understood, 3 for a failure of our own, so that a bug never looks
    like a denial.
    """
    if sys.stdout is None:
        click.echo("forestall: standard output is closed", err=True)
        return 2
    if sys.stderr is None:  # what is said there is said to nobody
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - it is needed to the end
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


@cli.command()
def version() -> None:
    """Print the version."""
    put(f"forestall {__version__}\n")


for command in (
    check_command,
    explain_command,
    serve,
    controller,
    auditor,
    hooks_group,
    doctor_command,
    audit_command,
    notify,
    config_group,
    completion_command,
):
    cli.add_command(command)
