"""Write the blocking client of the SDK from the asynchronous one.

Every `_async_NAME.py` of the package becomes `_NAME.py` beside it. Usage:

    python scripts/unasync.py            write
    python scripts/unasync.py --check    say what differs, change nothing; exit 1 if anything does

Two rules beyond the table below: a comment line `# sync: CODE` becomes `CODE`, and a generated file whose source is
gone is a difference, too.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "sdk" / "src" / "gateway_sdk"
MARK = "# Generated from {source} by scripts/unasync.py: edit that one.\n"
RULES = [
    (r"# sync: ", ""),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bCoroutine\[Any, Any, (\w+)\]", r"\1"),
    (r"\bAsync([A-Z]\w*)\b", r"\1"),
    (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
    (r"\b_async_(\w+)", r"_\1"),
    (r"\bfrom \._aio import\b", "from ._blocking import"),
    (r"\banext\(", "next("),
    (r"\baiter_raw\b", "iter_raw"),
    (r"\baclose\b", "close"),
]


def rewritten(text: str, used: set[str]) -> str:
    """The blocking form of a module."""
    for pattern, replacement in RULES:
        text, count = re.subn(pattern, replacement, text)
        if count:
            used.add(pattern)
    return text


def tidy(text: str, name: str) -> str:
    """Sort the imports anew, drop those that are not needed any more, and format."""
    needs_import = "warn_about_running_loop()" in text
    if needs_import:
        text = text.replace("from ._blocking import ", "from ._blocking import warn_about_running_loop, ", 1)
    for command in (
        ["check", "--quiet", "--select", "I,F401,UP028", "--fix-only", "--unsafe-fixes"],
        ["format", "--quiet"],
    ):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "--stdin-filename", str(PACKAGE / name), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return text


def expected() -> dict[str, str]:
    """What the generated files must hold, by name."""
    used: set[str] = set()
    files = {}
    for source in sorted(PACKAGE.glob("_async_*.py")):
        name = source.name.replace("_async_", "_")
        files[name] = tidy(MARK.format(source=source.name) + rewritten(source.read_text(), used), name)
    unused = [pattern for pattern, _ in RULES if pattern not in used]
    if unused:
        raise SystemExit(f"rules that nothing needs: {unused}")
    return files


def found() -> dict[str, str]:
    """What the generated files do hold, by name."""
    beginning = MARK.split("{")[0]
    texts = {path.name: path.read_text() for path in PACKAGE.glob("*.py")}
    return {name: text for name, text in texts.items() if text.startswith(beginning)}


def main(arguments: list[str]) -> int:
    """Write or check."""
    want, have = expected(), found()
    different = sorted(name for name in want.keys() | have.keys() if want.get(name) != have.get(name))
    if "--check" in arguments:
        for name in different:
            print(f"{name}: not what scripts/unasync.py makes")
        return 1 if different else 0
    for name in different:
        if name in want:
            (PACKAGE / name).write_text(want[name])
        else:
            (PACKAGE / name).unlink()
        print(f"{name}: {'written' if name in want else 'removed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
