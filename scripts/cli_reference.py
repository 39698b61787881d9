#!/usr/bin/env python3
"""Writes docs/cli.md and docs/cli.zh-CN.md from the commands themselves. A test fails when they are stale.

Beside this file lie how the pages begin, and in cli_reference.zh.json the Chinese words for every text of the commands.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from gateway_server.cli.commands import COMMANDS, root

ROOT = Path(__file__).resolve().parents[1]
WORDS = Path(__file__).with_name("cli_reference.zh.json")
LABELS = {"en": ("flag", "what it does"), "zh": ("选项", "作用")}


def commands(
    command: click.Command, path: tuple[str, ...] = ("gateway",)
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its path, in the order of the table; groups are left out."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, (*path, name))


def paragraphs(command: click.Command) -> tuple[list[str], list[str]]:
    """The help of a command: its paragraphs, and its examples."""
    texts, examples = [], []
    for part in (command.help or "").split("\n\n"):
        lines = [line.strip() for line in part.strip().splitlines()]
        if lines and lines[0] == "\b":
            examples += lines[1:]
        elif lines:
            texts.append(" ".join(lines))
    return texts, examples


def options(command: click.Command) -> Iterator[tuple[str, str, str]]:
    """Every option: how it is written, what it does, and its default or bounds."""
    context = click.Context(command)
    for parameter in command.params:
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            text, bracket, rest = record[1].partition("  [")
            yield record[0], text, rest.removesuffix("]") if bracket else ""


def texts() -> Iterator[str]:
    """Every text that needs Chinese words."""
    yield from (text for text, _ in COMMANDS.values())
    for _, command in commands(root):
        yield from paragraphs(command)[0]
        yield from (text for _, text, _ in options(command))


def missing() -> list[str]:
    """Texts without Chinese words."""
    known = json.loads(WORDS.read_text("utf-8"))
    return [text for text in dict.fromkeys(texts()) if text not in known]


def page(language: str) -> str:
    """One page."""
    known = json.loads(WORDS.read_text("utf-8"))
    say: Callable[[str], str] = known.__getitem__ if language == "zh" else str
    lines = [WORDS.with_name(f"cli_reference.{language}.md").read_text("utf-8")]
    group = ""
    for path, command in commands(root):
        if len(path) > 2 and path[1] != group:
            lines += [f"## gateway {path[1]}", "", say(COMMANDS[path[1]][0]), ""]
        group = path[1]
        lines += [f"{'##' if len(path) == 2 else '###'} {' '.join(path)}", ""]
        described, examples = paragraphs(command)
        usage = " ".join([*path, *command.collect_usage_pieces(click.Context(command))])
        lines += [f"`{usage}`", "", *(f"{say(text)}\n" for text in described)]
        if examples:
            lines += [*(f"- `{example}`" for example in examples), ""]
        rows = [
            f"| `{flag.replace('|', chr(92) + '|')}` | {say(text)}{f' (`{more}`)' if more else ''} |"
            for flag, text, more in options(command)
        ]
        if rows:
            lines += [f"| {LABELS[language][0]} | {LABELS[language][1]} |", "|---|---|", *rows, ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Writes both."""
    if lacking := missing():
        raise SystemExit(f"Give these Chinese words in {WORDS.name}:\n" + "\n".join(map(json.dumps, lacking)))
    (ROOT / "docs" / "cli.md").write_text(page("en"), "utf-8")
    (ROOT / "docs" / "cli.zh-CN.md").write_text(page("zh"), "utf-8")


if __name__ == "__main__":
    main()
