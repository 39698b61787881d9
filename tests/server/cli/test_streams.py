"""What a command makes of the streams that it is given, whatever they are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import Command
from gateways import COMMAND
from speaker import PREFAB

SPEAKER = f"{PREFAB}@1.0.0"
ELSEWHERE = {"LC_ALL": "en_US.ISO-8859-1", "PYTHONIOENCODING": "latin-1"}


def shell(command: Command, line: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of a shell in which `gateway` is the command, and gives its exit code."""
    return subprocess.run(
        ["bash", "-c", f"PATH={Path(COMMAND).parent}:$PATH\n{line}"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=command.folder,
        env=command.env | env,
    )


@pytest.mark.parametrize("more", [("--json",), ("--stream", "--json"), ()], ids=" ".join)
def test_json_is_json_where_the_terminal_speaks_no_utf_8(ann: Command, more: tuple[str, ...]):
    ended = ann("run", SPEAKER, "greet", "-p", "name=王芳 é 🌍", *more, **ELSEWHERE)
    assert ended.out.isascii()
    texts = ended.out.splitlines() if "--stream" in more else [ended.out]
    assert "Hello, 王芳 é 🌍" in str([json.loads(text) for text in texts])


@pytest.mark.parametrize("reader", ["| true", "2>&1 | true", "2>&1 >/dev/full | cat >/dev/null"])
def test_a_command_that_fails_for_a_reader_who_has_gone_fails_as_for_any(ann: Command, reader: str):
    for words, code in (("job show nope --json", 1), ("job list --all-users --json", 3), ("run --json", 2)):
        ended = shell(ann, f"gateway {words} {reader}; exit ${{PIPESTATUS[0]}}")
        assert (ended.returncode, "Traceback" in ended.stderr, "Exception" in ended.stderr) == (code, False, False)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_may_be_closed(ann: Command, closed: str):
    run = f"run {SPEAKER} greet -p name=x"
    for words, code in ((run, 0), ("job list --json", 0), ("job show nope", 1), ("secret set speaker TOKEN", None)):
        ended = shell(ann, f"gateway {words} {closed}")
        assert code in (None, ended.returncode), ended.stderr
        assert not any(word in ended.stderr for word in ("Traceback", "AttributeError", "mistake")), ended.stderr
    assert shell(ann, f"gateway file put {__file__} {closed}").returncode == 0


def test_a_pipe_is_a_file_like_any(ann: Command, tmp_path: Path):
    ran = shell(ann, f"gateway run {SPEAKER} copy -f input=<(echo one) -f input=<(echo two) --json")
    assert ran.returncode == 0, ran.stderr
    urls = json.loads(ran.stdout)["output"]["files"]["output"]
    assert sorted(ann("file", "get", url, "-").out for url in urls) == ["ONE\n", "TWO\n"]
    (tmp_path / "rows").write_text("words")
    for put, name in (
        ("echo words | gateway file put -", "stdin"),
        ("echo words | gateway file put - --name rows.csv", "rows.csv"),
        ("echo words | gateway file put /dev/stdin", "stdin"),
        ("gateway file put - < rows", "stdin"),
        ("gateway file put rows", "rows"),
        ("gateway file put rows --name rows.csv", "rows.csv"),
    ):
        url = shell(ann, put).stdout.strip()
        assert url.endswith(f"-{name}"), put
        assert ann("file", "get", url, "-").out.strip() == "words"
    for wrong in ("", "..", "a/b"):
        assert ann("file", "put", "rows", "--name", wrong).code == 2


def test_ctrl_c_is_answered_from_the_first_import_on(alone: Command, tmp_path: Path):
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    ended = alone("--version", PYTHONPATH=str(tmp_path))
    assert (ended.code, ended.out, ended.err) == (130, "", "Interrupted.\n")


def test_standard_input_and_a_file_of_its_name_are_told_apart(ann: Command):
    (ann.folder / "-").write_text("of the file")
    for source, name, content in (
        ("-", (), "given"),
        ("./-", (), "of the file"),
        ("./-", ("--name", "z"), "of the file"),
    ):
        url = ann("file", "put", source, *name, stdin="given").line
        assert ann("file", "get", url, "-").out == content
        assert url.endswith(name[1] if name else "stdin" if source == "-" else "-")


def test_an_interrupt_where_nobody_hears_is_not_told_to_the_reader(ann: Command):
    script = (
        "import sys, gateway_server.cli as cli; sys.stderr = None; sys.modules['gateway_server.cli.commands'] = Fails()"
    )
    script = (
        f"class Fails:\n    def main(self): raise KeyboardInterrupt\n    main = property(main)\n{script}; cli.main()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (130, "")
