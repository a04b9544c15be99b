"""`forestall config`: the configuration file, its schema and whether it can be used."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from webhook.cli.terminal import note, put
from webhook.errors import BadConfig


@click.group("config")
def config_group() -> None:
    """The configuration file: its schema, and whether one is valid."""


@config_group.command()
def schema() -> None:
    """Print the configuration's JSON Schema, for editors."""
    import json  # noqa: PLC0415

    from webhook.config_schema import config_schema  # noqa: PLC0415

    put(json.dumps(config_schema(), indent=2) + "\n")


@config_group.command("check")
@click.argument("file", metavar="FILE | -", type=click.Path(readable=False))
@click.option("--values", "is_values", is_flag=True, help="FILE holds values of the chart: what stands at `config`.")
def check_config(file: str, is_values: bool) -> None:
    """Say whether FILE, or standard input (-), can be used as configuration; if not, where and why.

    \b
    helm get values forestall -n forestall-system | forestall config check --values -
    """
    from webhook.config import (  # noqa: PLC0415
        capped_overrides,
        iter_expired,
        load_config,
        read_text,
    )

    if file == "-":
        if sys.stdin is None:
            raise BadConfig("<stdin>:1: not readable: standard input is closed")
        text, file = sys.stdin.buffer.read(), "<stdin>"
    else:
        text = read_text(file)
    loaded = load_config(text, file, is_values=is_values)
    for index, exemption in iter_expired(loaded, datetime.now(UTC).date()):
        note(f"{file}: exemptions[{index}] ({exemption.policy}) expired on {exemption.until} and no longer counts")
    for path, mode in capped_overrides(loaded):
        note(f"{file}: {path} is {mode}, capped by mode: {loaded.mode}")
    put(f"{file}: valid\n")
