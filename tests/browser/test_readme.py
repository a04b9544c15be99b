"""README's first screen, in a browser at the width that GitHub gives it."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.browser.test_console import CHROMIUM, QUIET
from tests.builders import ROOT

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

WIDTH = 838
"""Pixels of the column in which GitHub shows a README, on an ordinary screen."""
FIRST_SCREEN = 900

# GitHub's own sizes (github-markdown-css): they decide how many characters a line of code has.
STYLE = """
body { margin: 0; width: 838px; font: 16px/1.5 "Noto Sans", Helvetica, Arial, sans-serif; overflow-wrap: break-word }
p, table, pre { margin: 0 0 16px }
h1 { font-size: 2em; margin: 24px 0 16px; padding-bottom: .3em; line-height: 1.25 }
h2 { font-size: 1.5em; margin: 24px 0 16px; padding-bottom: .3em; line-height: 1.25 }
pre { padding: 16px; overflow: auto; font: 85%/1.45 "DejaVu Sans Mono", monospace; background: #f6f8fa }
"""

# Where the line stands that holds a text, and by how much every block is wider than the page.
SCRIPT = """
const block = document.querySelector("pre");
const range = document.createRange();
const at = block.textContent.indexOf("  set   ");
range.setStart(block.firstChild, at);
range.setEnd(block.firstChild, block.textContent.indexOf("\\n", at));
const found = {bottom: range.getBoundingClientRect().bottom, right: range.getBoundingClientRect().right,
               over: block.scrollWidth - block.clientWidth};
document.body.innerHTML = "<output>" + JSON.stringify(found) + "</output>";
"""


def page(text: str) -> str:
    """As much of Markdown as README's beginning has: headings, code, and paragraphs, whose tables are left as text."""
    parts = []
    for part in re.split(r"(^```.*?^```\n)", text, flags=re.MULTILINE | re.DOTALL):
        if part.startswith("```"):
            parts.append(f"<pre>{html.escape(part.partition(chr(10))[2].removesuffix('```' + chr(10)))}</pre>")
            continue
        for paragraph in filter(None, part.strip().split("\n\n")):
            heading = re.match(r"(#+) (.*)", paragraph)
            tag = f"h{len(heading[1])}" if heading else "p"
            parts.append(f"<{tag}>{html.escape(heading[2] if heading else paragraph)}</{tag}>")
    return f"<style>{STYLE}</style><body>{''.join(parts)}<script>{SCRIPT}</script>"


def test_what_to_type_is_on_the_first_screen(tmp_path: Path) -> None:
    file = tmp_path / "readme.html"
    file.write_text(page((ROOT / "README.md").read_text()))
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *QUIET]
    options = [f"--user-data-dir={tmp_path}/profile", f"--window-size={WIDTH + 20},{FIRST_SCREEN}", "--dump-dom"]
    done = subprocess.run([*command, *options, file.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    (found,) = re.findall(r"<output>(.*?)</output>", done.stdout)
    place = json.loads(found)
    assert place["over"] == 0, "lines are wider than GitHub shows: fold them"
    assert place["right"] < WIDTH
    assert place["bottom"] < FIRST_SCREEN
