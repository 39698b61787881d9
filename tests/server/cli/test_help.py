"""Help is there for every command, and comes at once."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

import click
import pytest
from command import Command

from gateway_server.cli.commands import COMMANDS, Lazy, Table, root

HEAVY = {"fastapi", "starlette", "pydantic", "sqlalchemy", "rich", "httpx", "uvicorn", "asyncio", "gateway_sdk"}
"""What takes longer to import than a person who asks for help wants to wait."""


def leaves(table: Table, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, (_, place) in table.items():
        if isinstance(place, str):
            yield (*path, name)
        else:
            yield from leaves(place, (*path, name))


@pytest.mark.parametrize("path", list(leaves(COMMANDS)), ids=" ".join)
def test_every_command_is_there_and_explains_itself(path: tuple[str, ...]):
    command: click.Command | None = root
    context = click.Context(root)
    for name in path:
        assert isinstance(command, Lazy)
        command = command.get_command(context, name)
    assert command is not None
    assert not isinstance(command, Lazy)
    assert command.help
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


PROGRAM = """
import contextlib, io, json, sys
from gateway_server.cli.commands import root

heavy, wrong = set(json.loads(sys.argv[1])), {}
for arguments in json.loads(sys.argv[2]):
    with contextlib.redirect_stdout(io.StringIO()) as written:
        root.main(arguments, prog_name="gateway", standalone_mode=False)
    assert written.getvalue()
    if found := heavy & set(sys.modules):
        wrong[" ".join(arguments)] = sorted(found)
        heavy -= found
print(json.dumps(wrong))
"""


def test_help_imports_nothing_heavy():
    tried = [["--help"], ["--version"], *([*path, "--help"] for path in leaves(COMMANDS))]
    code = [sys.executable, "-c", PROGRAM, json.dumps(sorted(HEAVY)), json.dumps(tried)]
    done = subprocess.run(code, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == {}, done.stderr


def test_version(alone: Command):
    assert alone("--version").line == f"gateway {metadata.version('agent-builder-gateway')}"


def test_without_a_command_it_says_how_to_begin(alone: Command):
    ended = alone()
    assert (ended.code, ended.out) == (2, "")
    for command in ("gateway init hello", "gateway dev hello", "gateway run hello@1.0.0 greet -p name=you"):
        assert command in ended.err


@pytest.mark.parametrize(("wrong", "meant"), [("prefabs", "prefab"), ("prefab lst", "list"), ("doktor", "doctor")])
def test_a_command_that_is_not_there_is_guessed(alone: Command, wrong: str, meant: str):
    ended = alone(*wrong.split())
    assert (ended.code, ended.out) == (2, "")
    assert f"Did you mean '{meant}'?" in ended.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_that_says_where_it_goes(alone: Command, shell: str):
    ended = alone("completion", shell)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("# To have it in every shell")
    assert "_GATEWAY_COMPLETE" in ended.out


def test_where_no_gateway_is_nothing_is_completed(alone: Command):
    ended = alone(_GATEWAY_COMPLETE="bash_complete", COMP_WORDS="gateway run ", COMP_CWORD="2")
    assert (ended.code, ended.out.strip(), ended.err) == (0, "", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["run"],
        ["run", "echo", "f"],
        ["run", "echo@1.0.0", "f", "-p", "x"],
        ["run", "echo@1.0.0", "f", "-f", "x=/no/such/file"],
        ["run", "echo@1.0.0", "f", "--timeout", "soon"],
        ["run", "echo@1.0.0", "f", "--timeout", "12d"],
        ["agent", "call", "a", "/x", "--timeout", "12d"],
        ["prefab", "publish", "/no/such/folder"],
        ["prefab", "publish", ".", "--env", "X"],
        ["prefab", "env", "set", "echo@1.0.0"],
        ["key", "create"],
        ["key", "create", "--user", "u", "--scope", "root"],
        ["quota", "set", "--user", "u", "--limit", "x"],
        ["token", "create", "--user", "u", "--ttl", "0"],
        ["agent", "call", "a", "/x", "-d", "{"],
        ["agent", "call", "a", "/x", "-X", "B AD"],
        ["agent", "call", "a", "/x", "-H", "X Y: z"],
        ["secret", "set", "p", "N"],
        ["serve", "--port", "99999"],
        ["serve", "--trusted-network", "x"],
        ["serve", "--default-user", "a b"],
        ["serve", "--public-url", "nope"],
        ["serve", "--public-url", "ftp://gateway.example"],
        ["serve", "--public-url", "https://"],
        ["serve", "--public-url", "https://gateway.example:x"],
        ["init", "Not_An_Id"],
        ["dev", __file__, "--port", "0"],
        ["file", "get", "s3://bucket/key", "newdir/"],
    ],
    ids=" ".join,
)
def test_usage(alone: Command, arguments: list[str]):
    ended = alone(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Usage:" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        *("job show", "job logs", "job events", "job wait", "job cancel", "agent show", "agent rm", "agent add"),
        *("key revoke", "user show", "user disable", "quota show --user", "token create --user"),
    ],
)
def test_an_id_that_is_empty(alone: Command, words: str):
    ended = alone(*words.split(), "")
    what = "USER" if "user" in words else "ID"
    assert (ended.code, ended.out, ended.err) == (2, "", f"Error: {what} is empty.\n")


def test_what_nothing_could_be_made_of(alone: Command):
    for words, told in (
        (("run", "echo@1.0.0", "f", "-p", b"x=\xff"), r"b'x=\xff' is not UTF-8."),
        (("agent", "call", "a", "/x", "-d", "[" * 2000 + "]" * 2000), "nested too deep"),
    ):
        ended = alone(*map(os.fsdecode, words))
        assert (ended.code, ended.out) == (2, "")
        assert told in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "echo@1.0.0", "f"],
        ["prefab", "list"],
        ["prefab", "publish", "."],
        ["job", "list"],
        ["agent", "call", "a", "x"],
    ],
    ids=" ".join,
)
def test_no_gateway(alone: Command, arguments: list[str]):
    (alone.folder / "prefab-manifest.json").write_text("{}")
    (alone.folder / "src").mkdir()
    ended = alone(*arguments)
    assert (ended.code, ended.out) == (1, "")
    assert "gateway serve" in ended.err
    assert "GATEWAY_BASE_URL" in ended.err


def test_an_address_that_is_none(alone: Command):
    for address in ("127.0.0.1:9", "http://[", "nonsense"):
        ended = alone("prefab", "list", GATEWAY_BASE_URL=address)
        assert ended.code == 1
        assert "GATEWAY_BASE_URL" in ended.err
