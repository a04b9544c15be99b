"""The configuration that is in force in a cluster: the ConfigMap that the chart keeps."""

from __future__ import annotations

from webhook.cluster.lists import Reader
from webhook.cluster.paths import config_map_path
from webhook.config import Config, load_config
from webhook.errors import BadConfig
from webhook.installation import CONFIG, CONFIG_KEY


def config_in_force(cluster: Reader, namespace: str) -> Config | None:
    """What ConfigMap forestall-config says, or None if there is none in the namespace.

    Raises BadConfig if it can't be used, ClusterRefused or FactsUnavailable if it can't be read.
    """
    obj = cluster.get(config_map_path(namespace, CONFIG))
    if obj is None:
        return None
    text = (obj.get("data") or {}).get(CONFIG_KEY)
    if text is None:
        raise BadConfig(f"ConfigMap {CONFIG} has no key {CONFIG_KEY}")
    return load_config(text.encode(), f"ConfigMap {CONFIG}")
