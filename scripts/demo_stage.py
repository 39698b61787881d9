"""Behind the demo: processes, a temporary folder, and what the terminal shows."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
GATEWAY = Path(sys.executable).parent / "gateway"
MARGIN, WIDEST = 3, 110
PATIENCE = 60.0
"""Seconds that a process gets to start."""
_OURS = ("GATEWAY_BASE_URL", "GATEWAY_API_KEY", "GATEWAY_DEBUG", "X_INTERNAL_TOKEN", "OPENAI_API_KEY")


class Trouble(Exception):
    """The demo cannot go on."""


class Interrupted(BaseException):
    """Somebody wants it to end."""


def seconds(took: float) -> str:
    """A time as people write it."""
    return f"{took * 1000:.1f} ms" if took < 0.1 else f"{took * 1000:.0f} ms" if took < 1 else f"{took:.1f} s"


class Stage:
    """Shows what is done, and does it."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self.names: dict[str, Any] = {}
        """What the shown Python code has defined."""
        self.base_url = ""
        self._sections = 0
        self._admin_key = ""
        self._key = ""
        self._running: list[tuple[str, subprocess.Popen[bytes], Path]] = []

    # What is shown

    def section(self, title: str, what: str) -> None:
        """A new part of the story."""
        self._sections += 1
        self.console.print()
        self.console.print(Text.assemble((f"{self._sections:>2} ", "bold cyan"), (title, "bold")))
        self.say(what, style="dim")

    def say(self, text: str, *, style: str = "") -> None:
        """Some lines."""
        self._print(Text(text, style=style))

    def table(self, text: str) -> None:
        """Lines that are cut rather than folded where the terminal is narrow."""
        for line in text.splitlines():
            self._print(Text(line, no_wrap=True, overflow="ellipsis"))

    def code(self, text: str, *, is_first: bool = True) -> None:
        """A line of Python."""
        self._print(_line(">>>" if is_first else "...", text))

    def row(self, text: str | Text, took: float) -> None:
        """A line with its time at the right."""
        line, clock = Text(text) if isinstance(text, str) else text, seconds(took)
        free = min(self.console.width, WIDEST) - MARGIN - cell_len(line.plain) - len(clock)
        self._print(Text.assemble(line, " " * max(2, free), (clock, "cyan")))

    def ending(self, verdict: str, heading: str, commands: Sequence[tuple[str, str]]) -> None:
        """The last words."""
        self.console.print()
        self.console.print(Text(verdict, style="bold green"))
        self.console.print(Text(heading))
        for command, why in commands:
            self._print(Text(f"# {why}", style="dim"))
            self._print(Text(command, style="bold"))

    def _print(self, text: Text) -> None:
        if self.console.is_terminal:
            self.console.print(Padding(text, (0, 0, 0, MARGIN)))
        else:
            for line in text.plain.splitlines() or [""]:
                _tell(self.console, Text(" " * MARGIN + line))

    def expect(self, is_so: bool, otherwise: str) -> None:
        """Ends the demo where something is not as it should be."""
        if not is_so:
            raise Trouble(otherwise)

    # What is done

    def python(self, line: str) -> None:
        """Shows a line of Python and runs exactly it, with its time."""
        shown = _line(">>>", line)
        began = ended = 0.0
        try:
            with self._busy(shown):
                began = time.monotonic()
                try:
                    exec(line, self.names)
                finally:
                    ended = time.monotonic()
        finally:
            self.row(shown, ended - began)

    def value(self, line: str) -> Any:
        """Shows an expression of Python, and what it gives."""
        self.code(line)
        value = eval(line, self.names)
        self.say(repr(value))
        return value

    def gateway(
        self,
        *arguments: str,
        show: Callable[[str], str] = str,
        is_table: bool = False,
        is_admin: bool = False,
        stdin: str | None = None,
    ) -> str:
        """Shows and runs a command of the gateway; what it wrote to standard output."""
        shown = _line("$", f"gateway {_shell(arguments)}")
        began = time.monotonic()
        with tempfile.TemporaryFile() as out:
            words = self._run_command(shown, arguments, out, is_admin, stdin)
            out.seek(0)
            text = out.read().decode().strip()
        self.row(shown, time.monotonic() - began)
        (self.table if is_table else self.say)(show(text) if text else "\n".join(words[-1:]))
        return text

    def gateway_json(self, *arguments: str) -> dict[str, Any]:
        """The same for a command that answers with a JSON document."""
        return dict(json.loads(self.gateway(*arguments)))

    def _run_command(
        self, shown: Text, arguments: Sequence[str], out: Any, is_admin: bool, stdin: str | None
    ) -> list[str]:
        key = self._admin_key if is_admin or not self._key else self._key
        environment = {**_environment(), "GATEWAY_BASE_URL": self.base_url, "GATEWAY_API_KEY": key}
        process = subprocess.Popen(
            [str(GATEWAY), *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
        )
        words = []
        try:
            with self._busy(shown) as tell:
                if process.stdin is not None:
                    process.stdin.write((stdin or "").encode())
                    process.stdin.close()
                assert process.stderr is not None
                for line in process.stderr:
                    words.append(line.decode().rstrip())
                    tell(words[-1])
            code = process.wait()
        finally:
            _end([process])
        if code:
            raise Trouble(f"`gateway {_shell(arguments)}` ended with {code}:\n" + "\n".join(words))
        return words

    @contextlib.contextmanager
    def _busy(self, shown: Text) -> Iterator[Callable[[str], None]]:
        """On a terminal, what is being done, with a word on how far it is; gone afterwards."""
        if not self.console.is_terminal:
            yield lambda _word: None
            return
        with self.console.status(shown, spinner="dots") as status:
            yield lambda word: status.update(Text.assemble(shown, (f"  {word}", "dim")))

    # Processes that stay

    def start_gateway(self) -> None:
        """A gateway on a free port."""
        data = self.folder / "data"
        arguments = ["serve", "--port", "0", "--data", str(data)]
        shown = _line("$", f"gateway {_shell(arguments)}")
        self.base_url = self._start("gateway", shown, [str(GATEWAY), *arguments], {}, r"listening on (http://\S+)")
        self._admin_key = (data / "admin.key").read_text().strip()

    def start_agent(self, path: str) -> str:
        """A web application on a free port; its address."""
        shown = _line("$", f"GATEWAY_BASE_URL={self.base_url} PORT=0 python {path}")
        settings = {"GATEWAY_BASE_URL": self.base_url, "HOST": "127.0.0.1", "PORT": "0", "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, str(ROOT / path)]
        return self._start("agent", shown, command, settings, r"running on (http://[0-9.:]+)")

    def _start(self, name: str, shown: Text, command: list[str], settings: dict[str, str], sign: str) -> str:
        """Starts a process and waits for the line by which it tells its address."""
        began = time.monotonic()
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**_environment(), **settings},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is ours: we end it in order
            )
        self._running.append((name, process, log))
        ends = time.monotonic() + PATIENCE
        with self._busy(shown):
            while not (found := re.search(sign, log.read_text("utf-8", "replace"))):
                if process.poll() is not None or time.monotonic() > ends:
                    raise Trouble(f"The {name} did not start:\n{_tail(log)}")
                time.sleep(0.02)
        self.row(shown, time.monotonic() - began)
        self.say(f"{name}: listening on {found[1]}")
        return found[1]

    def ask_ready(self) -> dict[str, Any]:
        """What the gateway says of itself."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.base_url}/ready", timeout=10) as answer:
            return dict(json.load(answer))

    def become(self, key: str) -> None:
        """From here on commands are this user's."""
        self._key = key

    def make_prefab(self) -> Path:
        """A prefab as `gateway init` writes it, with one print."""
        folder = self.folder / "my-prefab"
        self.gateway("init", str(folder))
        main = folder / "src" / "main.py"
        text = main.read_text("utf-8")
        changed = re.sub(r"\n    return ", '\n    print("greeting", name)\n    return ', text, count=1)
        self.expect(changed != text, "the prefab that `gateway init` writes has changed; the demo must follow")
        main.write_text(changed, "utf-8")
        self.say('Its function gets one more line: print("greeting", name)', style="dim")
        return folder

    def last_words(self) -> str:
        """What the processes said at the end, for a demo that failed."""
        return "\n".join(f"{name}: {tail}" for name, _, log in self._running if (tail := _tail(log)))

    def close(self) -> None:
        """Ends every process, the youngest first."""
        _end([process for _, process, _ in reversed(self._running)])


def run_story(story: Callable[[Stage], None], farewell: Callable[[Stage, float], None]) -> int:
    """Plays it, and takes everything away again, however it ends."""
    console = Console(highlight=False, markup=False, emoji=False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="gateway-demo-"))
    stage = Stage(folder, console)
    _tell(console, Text("agent-builder gateway: the whole product on this machine", style="bold"))
    _tell(console, Text(f"in {folder}, which is removed at the end", style="dim"))
    code = 1
    try:
        os.chdir(ROOT)
        story(stage)
        code = 0
    except Interrupted:
        _tell(console, Text("\nInterrupted.", style="bold"))
        code = 130
    except Exception as error:
        reason = str(error) if isinstance(error, Trouble) else f"{type(error).__name__}: {error}"
        _tell(console, Text(f"\nThe demo stopped. {reason}", style="bold red"))
        if words := stage.last_words():
            _tell(console, Text(words, style="dim"))
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # cleaning up is short, and must be whole
        stage.close()
        _remove(folder)
    if code == 0:
        farewell(stage, time.monotonic() - began)
    return code


def _tell(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=not console.is_terminal)  # whatever reads a pipe folds lines itself


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted


def _environment() -> dict[str, str]:
    """Ours, without what would lead the demo elsewhere."""
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))
    return environment


def _shell(arguments: Sequence[str]) -> str:
    return " ".join(f"'{word}'" if re.search(r"[^\w@%+=:,./-]", word) else word for word in arguments)


def _line(prompt: str, text: str) -> Text:
    return Text.assemble((f"{prompt} ", "green"), (text, "bold"))


def _tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-15:]) if log.exists() else ""


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Asks them to end; those that do not are killed."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()


def _remove(folder: Path) -> None:
    """Environments are read-only, so their folders have to be opened first."""

    def again(remove: Callable[..., Any], path: str, error: Any) -> None:
        with contextlib.suppress(OSError):
            os.chmod(Path(path).parent, 0o700)
            os.chmod(path, 0o700)
            remove(path)

    for _ in range(3):
        shutil.rmtree(folder, onerror=again)
        if not folder.exists():
            return
        time.sleep(0.2)
    print(f"{folder} could not be removed; remove it by hand.", file=sys.stderr)
