"""The names that the code and the chart share are the same."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.builders import ROOT
from webhook import installation

CHART = ROOT / "charts" / "forestall"


def named(template: str, *kinds: str) -> set[str]:
    """kind/name of the objects that a template makes."""
    text = (CHART / "templates" / template).read_text()
    found = re.findall(r"^kind: (\w+)\nmetadata:\n  name: (\S+)", text, flags=re.MULTILINE)
    return {f"{kind}/{name}" for kind, name in found if kind in kinds}


@pytest.mark.parametrize(
    ("template", "objects"),
    [
        pytest.param("server-deployment.yaml", {f"Deployment/{installation.NAME}"}, id="servers"),
        pytest.param("server-rbac.yaml", {f"ServiceAccount/{installation.SERVER}"}, id="servers-account"),
        pytest.param("controller-deployment.yaml", {f"Deployment/{installation.CONTROLLER}"}, id="controllers"),
        pytest.param(
            "controller-rbac.yaml",
            {f"ServiceAccount/{installation.CONTROLLER}", f"ClusterRole/{installation.CONTROLLER}"},
            id="controllers-account",
        ),
        pytest.param("configmap.yaml", {f"ConfigMap/{installation.CONFIG}"}, id="configuration"),
    ],
)
def test_objects_that_the_chart_makes(template: str, objects: set[str]) -> None:
    assert objects <= named(template, "Deployment", "ServiceAccount", "ClusterRole", "ConfigMap")


@pytest.mark.parametrize(
    "name", [installation.SECRET, f"{installation.STATE}, {installation.LIMIT_RANGES_RECORD}", installation.CONTROLLER]
)
def test_objects_that_the_controller_may_write(name: str) -> None:
    assert f"resourceNames: [{name}]" in (CHART / "templates" / "controller-rbac.yaml").read_text()


def test_ports_and_key() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert (values["server"]["port"], values["server"]["metricsPort"]) == (
        installation.REVIEWS_PORT,
        installation.PROBES_PORT,
    )
    assert (values["controller"]["metricsPort"], values["controller"]["consolePort"]) == (
        installation.PROBES_PORT,
        installation.CONSOLE_PORT,
    )
    assert f"  {installation.CONFIG_KEY}: " in (CHART / "templates" / "configmap.yaml").read_text()
