"""Denials are followed to the letter, over the corpus: all but one in twenty are mended at the first try.

Mended means that the real API server admits the object, that its pod is scheduled, and that no bound claim was deleted.
What isn't is printed, and why. Beside that, every warning of the corpus is kept in a page.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest
import yaml

from tests.builders import ROOT
from tests.e2e.estate import Estate, corpus_cluster
from tests.e2e.followed import Key, denials, follow, key_of
from tests.e2e.guarded import OPERATOR, Guarded, Object, storage_class
from tests.test_corpus import CORPUS
from webhook.loader import load_policies

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the corpus of rendered charts beside the checkout")

REGIONAL = {**storage_class("regional", "pd.csi.storage.gke.io"), "parameters": {"replication-type": "regional-pd"}}
WARNING = re.compile(rf"Warning: [A-Z]\w+ \S+(?:, container \S+)?: (?:{'|'.join(load_policies())}|and )")


class Situation(NamedTuple):
    """What the cluster is like when a chart's workloads are applied.

    spans      there is a class whose disks span zones
    bound      all claims are there, and their disks are in zone-b
    updated    the workloads are there and run, and nothing that they had is spared
    policies   what the configuration says of policies
    least      how many workloads are denied, at least
    """

    name: str
    least: int = 40
    spans: bool = False
    bound: bool = False
    updated: bool = False
    policies: str = "{}"


DENY_UNLIMITED = "{memory-limits: {mode: deny}}"
SITUATIONS = [
    Situation("new"),
    Situation("new, and a class spans zones", spans=True),
    Situation("its disks are kept", bound=True, spans=True),
    Situation("no limits are given", policies=DENY_UNLIMITED),
    Situation("changed as it runs", bound=True, updated=True, policies=DENY_UNLIMITED),
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with corpus_cluster(tmp_path_factory.mktemp("followed")) as guarded:
        yield guarded


def touched(obj: Object) -> Object:
    """With a change that a person makes to something else."""
    return {**obj, "metadata": {**obj["metadata"], "annotations": {"touched": "yes"}}}


def why_not_mended(estate: Estate, situation: Situation) -> dict[Key, str]:
    """Apply the workloads and follow each denial once: by denied workload, why it isn't mended, empty if it is."""
    guarded, objects = estate.guarded, estate.workloads
    if situation.updated:
        objects = [touched(obj) for obj in objects]
    known = {key_of(obj): obj for obj in [*estate.claims, *objects]}
    bound = estate.bound()
    found = denials(estate.applied(objects, "--dry-run=server"))
    why_not = dict.fromkeys(found, "")
    changed: list[Object] = []
    for key, denial in found.items():
        try:
            changed += follow(denial, known, guarded.kubectl)
        except (ValueError, subprocess.SubprocessError) as error:
            why_not[key] = f"{error}\n{denial.text}"
    refused = estate.applied(changed)
    why_not |= {key: f"denied again\n{denial.text}" for key, denial in denials(refused).items()}
    mended = [obj for obj in changed if why_not.get(key_of(obj)) == ""]
    estate.run(mended)
    why_not |= estate.unscheduled(mended)
    if any(why_not.values()):
        why_not |= {key: f"{why}\n{refused[-2000:]}" for key, why in why_not.items() if "0 pods" in why}
    if bound - estate.bound():
        return dict.fromkeys(found, "bound claims were deleted")
    return why_not


@pytest.mark.parametrize("situation", [pytest.param(situation, id=situation.name) for situation in SITUATIONS])
def test_a_denial_that_is_followed_mends(
    guarded: Guarded, situation: Situation, capsys: pytest.CaptureFixture[str]
) -> None:
    if situation.spans:
        guarded.apply(REGIONAL)
    else:
        guarded.kubectl("delete", "storageclass", "regional", "--ignore-not-found")
    estate = Estate(guarded, f"s{SITUATIONS.index(situation)}", bound=situation.bound)
    estate.enter()
    estate.store_claims()
    if situation.updated:
        estate.applied(estate.workloads)
    estate.guard()
    with guarded.server.configured(f"controllers: [{OPERATOR}]\nratchet: false\npolicies: {situation.policies}\n"):
        why_not = why_not_mended(estate, situation)
    estate.leave()
    left = {key: why for key, why in why_not.items() if why}
    with capsys.disabled():
        print(f"\n{situation.name}: {len(why_not) - len(left)} of {len(why_not)} denied workloads are mended")
        print(*(f"{key}: {why}" for key, why in left.items()), sep="\n")
    assert len(why_not) >= situation.least
    assert len(left) <= len(why_not) / 20


DOCUMENT = ROOT / "docs" / "warnings.md"
INSTALLED = yaml.safe_load((ROOT / "charts" / "forestall" / "values.yaml").read_text())["config"]["policies"]
WARNING_ALONE = {policy: {"mode": "warn"} for policy in ("memory-limits", "prometheus-memory", "zonal-volumes")}
MODES = {"patch": INSTALLED, "warn": INSTALLED | WARNING_ALONE}


def test_the_page_shows_every_warning_as_kubectl_prints_it(guarded: Guarded) -> None:
    guarded.kubectl("delete", "storageclass", "regional", "--ignore-not-found")
    estate = Estate(guarded, "told")
    estate.enter()
    estate.guard()
    seen: dict[str, dict[str, list[str]]] = {file: {} for file in sorted(estate.files.values())}
    for objects, arguments in ((estate.claims, ()), (estate.workloads, ("--dry-run=server",))):
        for mode, policies in MODES.items():
            with guarded.server.configured(f"controllers: [{OPERATOR}]\npolicies: {json.dumps(policies)}\n"):
                for namespace in estate.namespaces:
                    own = [obj for obj in objects if obj["metadata"]["namespace"] == namespace]
                    dry = arguments or (("--dry-run=server",) if mode == "patch" else ())
                    printed = guarded.try_apply(*own, arguments=dry).stderr if own else ""
                    told = [line for line in printed.splitlines() if WARNING.match(line)]
                    seen[estate.files[namespace]].setdefault(mode, []).extend(told)
    estate.leave()
    if os.environ.get("FORESTALL_WRITE_DOCS"):
        DOCUMENT.write_text(page(seen))
    assert page(seen) == DOCUMENT.read_text(), "the page is stale: FORESTALL_WRITE_DOCS=1"
    lines = [line.removeprefix("Warning: ") for told in seen.values() for lines in told.values() for line in lines]
    assert max(map(len, lines)) <= 256


def page(seen: Mapping[str, Mapping[str, list[str]]]) -> str:
    """The part of the page before the first chart stays as it is written."""
    begin = DOCUMENT.read_text().partition("\n## ")[0].rstrip()
    parts = [begin]
    for file, told in seen.items():
        blocks = [
            f"With `{mode}`:\n\n```console\n" + "\n".join(lines) + "\n```" for mode, lines in told.items() if lines
        ]
        if blocks:
            parts += [f"## {file.removesuffix('.yaml')}", *blocks]
    return "\n\n".join(parts) + "\n"
