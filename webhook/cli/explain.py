"""`forestall explain`: a policy's page."""

from __future__ import annotations

import click

from webhook.cli.terminal import put
from webhook.errors import BadConfig


@click.command()
@click.argument("policy", required=False, shell_complete=lambda _ctx, _param, word: _policy_names(word))
def explain(policy: str | None) -> None:
    """Print a policy's page: the incident, what is checked, how to fix it; without POLICY, list them."""
    from webhook.loader import load_policies  # noqa: PLC0415

    policies = load_policies()
    if policy is None:
        width = max(map(len, policies), default=0)
        put("".join(f"{name:<{width}}  {loaded.policy.summary}\n" for name, loaded in policies.items()))
        return
    if policy not in policies:
        from webhook.files.typed_yaml import suggest  # noqa: PLC0415

        raise BadConfig(f"there is no policy {policy!r}{suggest(policy, policies)}")
    put(policies[policy].page)


def _policy_names(word: str) -> list[str]:
    from webhook.loader import load_policies  # noqa: PLC0415

    return [name for name in load_policies() if name.startswith(word)]
