#!/usr/bin/env python3
"""`make docs`: the pages of docs/ as a site in site/, English at its root and Chinese below zh/.

The pages stay as they are read in the repository: `X.md` with its twin `X.zh-CN.md`. What a site needs beyond that is
added to copies: titles of files above their blocks, the anchors that headings have in the repository, and links
between pages of one language. Nothing is fetched, neither here nor by whoever reads the site.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TWIN = ".zh-CN.md"
ASSETS = ("pictures", "schemas", "site.css")
NAMES = {"en": "English", "zh": "简体中文"}
NAVIGATION = (
    ({"en": "Start here", "zh": "从这里开始"}, ("index",)),
    (
        {"en": "Tasks", "zh": "任务"},
        (
            "write-a-prefab",
            "write-an-agent",
            "call-from-anywhere",
            "files",
            "secrets",
            "streaming-and-jobs",
            "operate",
        ),
    ),
    ({"en": "Reference", "zh": "参考"}, ("sdk", "http", "cli", "manifest", "gateway-sdk-guide")),
    ({"en": "How it works", "zh": "工作原理"}, ("how-it-works", "threat-model")),
)
_HEADING = re.compile(r"(#{1,6}) (.+)")
_FILE_MARK = re.compile(r"<!-- file: (.+?) -->\n```(\w+)\n")
_OTHER_MARK = re.compile(r"<!-- (?:not run|shows): .+? -->\n", re.S)


def pages(language: str) -> list[str]:
    """The names of the pages of a language, in the order of the navigation."""
    return [name for _, names in NAVIGATION for name in names if source(name, language).exists()]


def source(name: str, language: str) -> Path:
    """The file of a page."""
    return DOCS / (f"{name}.md" if language == "en" else f"{name}{TWIN}")


def headings(text: str) -> Iterator[tuple[int, str, str]]:
    """The number of the line, the level and the text of every heading outside of blocks."""
    is_code = False
    for number, line in enumerate(text.splitlines()):
        if line.startswith("```"):
            is_code = not is_code
        elif not is_code and (match := _HEADING.fullmatch(line)):
            yield number, match[1], match[2]


def anchor(heading: str) -> str:
    """The anchor that a heading has in the repository and on the site."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower())


def with_anchors(text: str) -> str:
    """A page whose headings have the anchors that its links name, in whatever language they are."""
    lines = text.splitlines()
    for number, level, heading in headings(text):
        lines[number] = f"{level} {heading} {{ #{anchor(heading)} }}"
    return "\n".join(lines) + "\n"


def prepared(name: str, language: str) -> str:
    """A page as the generator wants it."""
    text = with_anchors(source(name, language).read_text("utf-8"))
    text = _FILE_MARK.sub(r'```\2 title="\1"' + "\n", text)
    return _OTHER_MARK.sub("", text).replace(f"{TWIN})", ".md)").replace(f"{TWIN}#", ".md#")


def configuration(language: str) -> str:
    """What the generator is told, in TOML."""
    there, other = ("zh/", "zh") if language == "en" else ("../", "en")
    navigation = []
    for title, names in NAVIGATION:
        shown = [f"{name}.md" for name in names if name in pages(language)]
        entry = json.dumps(shown[0] if len(shown) == 1 else shown)
        navigation.append(f'  {{ "{title[language]}" = {entry} }},')
    toggles = ("Dark", "Light") if language == "en" else ("深色", "浅色")
    lines = "\n".join(navigation)
    both = {language: "", other: there}
    alternates = "\n".join(
        f'[[project.extra.alternate]]\nname = "{NAMES[tag]}"\nlink = "{both[tag]}"\nlang = "{tag}"' for tag in NAMES
    )
    return f"""
[project]
site_name = "agent-builder gateway"
docs_dir = "pages"
site_dir = "site"
use_directory_urls = false
extra_css = ["site.css"]
nav = [
{lines}
]
[project.theme]
language = "{language}"
custom_dir = "theme"
font = false
features = ["content.code.copy", "navigation.sections", "navigation.footer", "search.highlight", "toc.follow"]
[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/sun"
toggle.name = "{toggles[0]}"
[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/moon"
toggle.name = "{toggles[1]}"
[project.plugins.search]
[project.markdown_extensions.attr_list]
[project.markdown_extensions.md_in_html]
[project.markdown_extensions.tables]
[project.markdown_extensions.toc]
permalink = true
[project.markdown_extensions.pymdownx.highlight]
[project.markdown_extensions.pymdownx.superfences]
[project.extra]
generator = false
{alternates}
"""


def build(target: Path) -> None:
    """Both languages into a folder, which is replaced; a warning is an error."""
    with tempfile.TemporaryDirectory() as folder:
        for language in NAMES:
            place = Path(folder, language)
            (place / "pages").mkdir(parents=True)
            for name in pages(language):
                (place / "pages" / f"{name}.md").write_text(prepared(name, language), "utf-8")
            for asset in ASSETS:
                path = DOCS / asset
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, place / "pages" / asset)
            shutil.copytree(DOCS / "theme", place / "theme")
            (place / "zensical.toml").write_text(configuration(language), "utf-8")
            program = Path(sys.executable).with_name("zensical")
            done = subprocess.run(
                [program, "build", "--strict"],
                cwd=place,
                capture_output=True,
                text=True,
                env={**os.environ, "NO_COLOR": "1"},
            )
            if done.returncode != 0:
                raise SystemExit(f"The {NAMES[language]} site cannot be built.\n{done.stdout}")
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(Path(folder, "en", "site"), target)
        shutil.copytree(Path(folder, "zh", "site"), target / "zh")


def main() -> None:
    """Builds, and says where."""
    parser = argparse.ArgumentParser(description="Build the site of the documentation.")
    parser.add_argument("target", nargs="?", type=Path, default=ROOT / "site")
    target = parser.parse_args().target
    build(target)
    print(f"{target / 'index.html'}\n{target / 'zh' / 'index.html'}")


if __name__ == "__main__":
    main()
