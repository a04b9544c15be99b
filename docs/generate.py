"""`make docs`: whatever follows from the code is written anew, in the docs and in the chart.

In a page it stands between `<!-- NAME: by "make docs" -->` and `<!-- end -->`. The pages name the policies of this
repository; the chart's roles and schema follow from every policy that is installed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from charts.generate import generated as generated_chart
from docs import picture
from webhook.files.facts import kubectl_get
from webhook.loader import LoadedPolicy, fact_kinds, load_policies

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/README.md", "docs/cli.md")

_PART = re.compile(r'(<!-- (\S+): by "make docs" -->\n).*?(<!-- end -->)', re.DOTALL)


def main() -> None:
    for file, text in generated().items():
        file.write_text(text)


def generated() -> dict[Path, str]:
    """What every file has to hold that is generated, or has a part that is."""
    from tests.test_imports import LAYERS  # noqa: PLC0415 - only the checkout has the tests

    ours = [loaded for loaded in load_policies().values() if Path(str(loaded.folder)).parent == ROOT / "policies"]
    parts = {
        "policies": _table(ours),
        "pages": "".join(
            f"- [{loaded.policy.id}]({_page(loaded, '../')}): {loaded.policy.summary}\n" for loaded in ours
        ),
        "facts": f"```sh\n{kubectl_get(fact_kinds())} > facts.yaml\n```\n",
    }
    pages = {ROOT / page: _filled((ROOT / page).read_text(), parts) for page in PAGES}
    return {**generated_chart(), picture.FILE: picture.picture(LAYERS), **pages}


def _filled(text: str, parts: Mapping[str, str]) -> str:
    """The page with its generated parts anew."""
    return _PART.sub(lambda part: f"{part[1]}\n{parts[part[2]]}\n{part[3]}", text)


def _table(policies: list[LoadedPolicy]) -> str:
    """A row for each policy, with the mode that the chart gives it."""
    configured = yaml.safe_load((ROOT / "charts" / "forestall" / "values.yaml").read_text())["config"]["policies"]
    rows = [
        f"| [{loaded.policy.id}]({_page(loaded)}) | {loaded.policy.summary} | {'; '.join(loaded.policy.incidents)} | "
        f"{configured.get(loaded.policy.id, {}).get('mode', loaded.policy.mode)} |\n"
        for loaded in policies
    ]
    head = "| policy | what it asks for | what happened without it | mode |\n| --- | --- | --- | --- |\n"
    return "".join([head, *rows])


def _page(loaded: LoadedPolicy, root: str = "") -> str:
    return f"{root}policies/{loaded.folder.name}/README.md"


if __name__ == "__main__":
    main()
