"""Agents in `gateway dev`: found, started, started again, and never left behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command
from gateways import command_line, descendants, until
from running import Running

APP = """
import os

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/exit":
        os._exit(7)
    if scope["path"] == "/print":
        print("these are my words")
    body = f"{os.environ['GATEWAY_BASE_URL']} one".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
TABLE = '[tool.gateway.agent]\nid = "tiny"\napp = "app:app"\n'


def write_agent(folder: Path, table: str = TABLE) -> Path:
    folder.mkdir()
    (folder / "pyproject.toml").write_text(table)
    (folder / "app.py").write_text(APP)
    return folder


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "tiny")


@pytest.fixture
def dev(alone: Command, tiny: Path) -> Iterator[Running]:
    with Running(alone.start("dev", "tiny", "--port", "0")) as running:
        running.wait_for("gateway agent call tiny /")
        yield running


def agent_processes(dev: Running) -> list[int]:
    return [pid for pid in descendants(dev.process.pid) if b"app:app" in command_line(pid)]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_init_writes_an_agent_that_works(alone: Command, tmp_path: Path):
    ended = alone("init", "--agent", "helper")
    assert ended.line == "helper"
    assert "gateway dev hello helper" in ended.err
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(tests, cwd=tmp_path / "helper", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert alone("init", "hello").code == 0
    with Running(alone.start("dev", ".", "--port", "0")) as dev:
        dev.wait_for("gateway run hello@1.0.0 greet")
        dev.wait_for("gateway agent call helper /health")
        there = {"GATEWAY_BASE_URL": dev.url}
        told = alone("agent", "call", "helper", "/greet", "-d", '{"parameters": {"name": "Ada"}}', **there)
        assert told.json["data"][0]["title"] == "Hello, Ada!"
        body = '{"parameters": {"names": ["Ada", "王芳"]}}'
        streamed = alone("agent", "call", "helper", "/greet-all", "-d", body, **there)
        events = [json.loads(line[6:]) for line in streamed.out.splitlines() if line]
        assert [event["data"][0]["title"] for event in events] == ["Hello, Ada!", "Hello, 王芳!"]
        shown = alone("agent", "show", "helper", "--json", **there).json
        assert (shown["owner"], shown["health_path"], shown["health"]["status"]) == ("dev", "/health", "healthy")
        assert "Traceback" not in dev.written


def test_an_agent_follows_changes(alone: Command, dev: Running, tiny: Path):
    there = {"GATEWAY_BASE_URL": dev.url}
    assert alone("agent", "call", "tiny", "/", **there).out == f"{dev.url} one"
    (tiny / "data.json").write_text("{}")  # its own data is no change
    (tiny / "app.py").write_text(APP.replace(" one", " two"))
    until(lambda: dev.written.count("started in") == 2, 15, "the second start")
    assert alone("agent", "call", "tiny", "/", **there).out == f"{dev.url} two"
    alone("agent", "call", "tiny", "/print", **there)
    dev.wait_for("tiny | these are my words")
    assert dev.written.count("started in") == 2


def test_a_crash_is_told_and_the_next_change_mends_it(alone: Command, dev: Running, tiny: Path):
    there = {"GATEWAY_BASE_URL": dev.url}
    (tiny / "app.py").write_text("raise ValueError('boom')")
    dev.wait_for("tiny ended with exit code 1")
    assert "tiny | ValueError: boom" in dev.written.partition("tiny ended with")[0]
    (tiny / "app.py").write_text(APP)
    until(lambda: dev.written.count("started in") == 2, 15, "the second start")
    assert alone("agent", "call", "tiny", "/exit", **there).code == 1
    dev.wait_for("tiny ended with exit code 7")
    (tiny / "pyproject.toml").write_text(TABLE.replace("app:app", "app"))
    dev.wait_for("'app' in [tool.gateway.agent] must name")
    (tiny / "pyproject.toml").write_text(TABLE)
    until(lambda: dev.written.count("started in") == 3, 15, "the third start")


def test_ctrl_c_leaves_nothing_behind(dev: Running):
    (agent,) = agent_processes(dev)
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(15) == 0
    assert is_gone(agent)


def test_a_killed_gateway_leaves_nothing_behind(dev: Running):
    (agent,) = agent_processes(dev)
    dev.process.kill()
    until(lambda: is_gone(agent), 5, "the end of the agent")


def test_an_environment_of_its_own_is_used(alone: Command, tiny: Path, tmp_path: Path):
    python = tiny / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "my own python"\nexit 5\n')
    os.chmod(python, 0o755)
    with Running(alone.start("dev", "tiny", "--port", "0")) as dev:
        dev.wait_for("tiny ended with exit code 5")
        assert "tiny | my own python" in dev.written


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('id = "x"\napp = "a:b"\ncolour = 1', "knows no 'colour'"),
        ('id = "x"', "needs app"),
        ('id = 1\napp = "a:b"', "'id' in [tool.gateway.agent] must be a text"),
        ('id = "x"\napp = "a:b"\ntimeout = "1"', "must be a number of seconds"),
        ('id = "no id!"\napp = "a:b"', "Agent 'no id!' is not valid"),
        ("id = ", "cannot be read"),
    ],
)
def test_what_cannot_be_is_said(alone: Command, tmp_path: Path, table: str, words: str):
    write_agent(tmp_path / "bad", f"[tool.gateway.agent]\n{table}\n")
    with Running(alone.start("dev", "bad", "--port", "0")) as dev:
        dev.wait_for(words)


def test_a_refused_change_of_a_prefab_leaves_the_last_version(alone: Command, tmp_path: Path):
    assert alone("init", "hello").code == 0
    main = tmp_path / "hello" / "src" / "main.py"
    good = main.read_text()
    with Running(alone.start("dev", "hello", "--port", "0")) as dev:
        dev.wait_for("gateway run hello@1.0.0 greet")
        main.write_text(good.replace("def greet", "def groot"))
        dev.wait_for("hello@1.0.0 is still served as it was before.")
        run = ("run", "hello@1.0.0", "greet", "-p", "name=x")
        assert alone(*run, GATEWAY_BASE_URL=dev.url).json["greeting"] == "Hello, x!"
        main.write_text(f"import nothing_of_that_name\n{good}")
        dev.wait_for("hello@1.0.0 cannot be imported: No module named 'nothing_of_that_name'. If it is a library")
