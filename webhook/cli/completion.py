"""`forestall completion`: scripts for shells."""

from __future__ import annotations

from collections.abc import Callable

import click

from webhook.cli.terminal import put

_SHELLS = ("bash", "zsh", "fish", "kubectl")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print a completion script: `eval "$(forestall completion bash)"`.

    For `kubectl forestall`, put an executable `kubectl_complete-forestall` on the PATH that holds what
    `forestall completion kubectl` prints.
    """
    put(_KUBECTL if shell == "kubectl" else _completion_script(shell))


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
    return source(found(click.get_current_context().find_root().command, {}, "forestall", "_FORESTALL_COMPLETE")) + "\n"
