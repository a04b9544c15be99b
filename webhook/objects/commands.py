"""Commands that a person is told to type."""

from __future__ import annotations

import shlex


def kubectl(*arguments: str, namespace: str = "", why: str = "") -> str:
    """The command for a shell, with `why` as a comment behind it.

    Whoever may write an object decides what names are in it, and an ownerReference's may be anything: each argument
    stays one, whatever it holds.
    """
    place = ("-n", namespace) if namespace else ()
    comment = f"  # {' '.join(why.split())}" if why else ""
    return f"kubectl {shlex.join((*place, *arguments))}{comment}"
