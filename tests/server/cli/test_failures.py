"""What people and programs are told where a command is refused."""

import json
import signal
import socket
import time
from pathlib import Path

import pytest
from command import Command
from gateways import Gateway
from packages import write_package
from raw_agent import RawAgent
from running import Running
from speaker import PREFAB, write_speaker

from gateway_sdk import ConnectionFailedError, GatewayClient
from gateway_server.cli.calling import upload
from gateway_server.cli.failures import explain

SPEAKER = f"{PREFAB}@1.0.0"


@pytest.mark.parametrize(
    ("arguments", "code", "error_code"),
    [
        (("run", SPEAKER, "greet"), 1, "VALIDATION_ERROR"),
        (("run", SPEAKER, "greet", "--stream"), 1, "VALIDATION_ERROR"),
        (("run", SPEAKER, "sleep", "-p", "seconds:=50", "--timeout", "300ms"), 4, "DEADLINE_EXCEEDED"),
        (("run", SPEAKER), 2, "USAGE"),
        (("job", "show", "nothing"), 1, "JOB_NOT_FOUND"),
        (("job", "list", "--all-users"), 3, "PERMISSION_DENIED"),
    ],
    ids=str,
)
def test_programs_are_told_in_json(ann: Command, arguments: tuple[str, ...], code: int, error_code: str):
    ended = ann(*arguments, "--json")
    assert (ended.code, ended.json["error"]["error_code"]) == (code, error_code)
    assert ended.json["error"]["message"]
    assert ended.err
    assert ann(*arguments).out == ""


def test_a_failure_that_json_has_told_is_told_once(ann: Command):
    assert set(ann("run", SPEAKER, "fail", "--json").json) >= {"status", "error"}
    lines = ann("run", SPEAKER, "tell_and_fail", "--stream", "--json").out.splitlines()
    assert [json.loads(line).get("type") for line in lines] == ["start", "content", "error"]


def test_where_no_gateway_answers(alone: Command, tmp_path: Path):
    (tmp_path / "x.txt").write_text("x")
    commands = (["run", SPEAKER, "greet"], ["prefab", "list"], ["file", "put", "x.txt"], ["job", "events", "x"])
    for key in ("", "sk-x"):
        for arguments in commands:
            ended = alone(*arguments, GATEWAY_API_KEY=key)
            assert (ended.code, ended.out) == (1, "")
            assert "No gateway answers at http://127.0.0.1:9 (Connection refused)." in ended.err
            assert "`gateway dev FOLDER` or `gateway serve`" in ended.err
    assert alone("run", SPEAKER, "greet", "--json").json["error"]["error_code"] == "CONNECTION_FAILED"


@pytest.mark.parametrize("more", [(), ("--stream", "--json")], ids=str)
def test_a_gateway_that_goes_away_in_the_middle(alone: Command, tmp_path: Path, more: tuple[str, ...]):
    with Running(alone.start("dev", write_speaker(tmp_path / "p"), "--port", "0")) as dev:
        dev.wait_for("published in")
        own = {"GATEWAY_BASE_URL": dev.url}
        with Running(alone.start("run", SPEAKER, "chat", "-p", "n:=2", *more, **own)) as run:
            while not (jobs := alone("job", "list", "--json", **own).json["jobs"]):
                assert run.process.poll() is None
            if more:
                run.wait_for('"start"')
            dev.process.send_signal(signal.SIGKILL)
            assert run.process.wait(30) == 1
        step = f"gateway job show {jobs[0]['id']}" if more else "gateway job list"
        assert f"The gateway went away while {SPEAKER} chat ran. Once it is back: {step}\n" in run.written
        if more:
            (told,) = (line for line in run.written.splitlines() if line.startswith('{"error"'))
            assert json.loads(told)["error"]["job_id"] == jobs[0]["id"]


def test_a_gateway_that_goes_away_within_the_answer_of_an_agent(alone: Command, tmp_path: Path):
    write_speaker(tmp_path / "p")
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"
    with (
        RawAgent(head + b"a part\n", then_waits=True) as agent,
        Running(alone.start("dev", "p", "--port", "0", "--data", "d")) as dev,
    ):
        dev.wait_for("listening on")
        own = {"GATEWAY_BASE_URL": dev.url}
        admin = {**own, "GATEWAY_API_KEY": (tmp_path / "d" / "admin.key").read_text().strip()}
        assert alone("agent", "add", "slow", agent.url, "--no-check", **admin).code == 0
        with Running(alone.start("agent", "call", "slow", "x", **own)) as call:
            call.wait_for("a part")
            dev.process.send_signal(signal.SIGKILL)
            assert call.process.wait(30) == 1
    assert "The gateway went away within the answer. No gateway answers at" in call.written
    assert "the agent failed" not in call.written


def test_where_something_else_answers(alone: Command, tmp_path: Path):
    (tmp_path / "x.txt").write_text("x")
    with RawAgent(b"HTTP/1.1 404 No\r\ncontent-length: 2\r\n\r\nno", then_waits=True) as other:
        for key in ("", "sk-x"):
            for arguments in (["job", "list"], ["run", SPEAKER, "greet"], ["file", "put", "x.txt"]):
                ended = alone(*arguments, GATEWAY_API_KEY=key, GATEWAY_BASE_URL=other.url)
                assert ended.code == 1
                assert "gives HTTP 404, not as a gateway does.\nIs it at GATEWAY_BASE_URL=" in ended.err


def test_an_upload_that_loses_the_gateway_says_so_in_words_of_the_command_line(tmp_path: Path):
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ConnectionFailedError) as raised:
        upload(GatewayClient("t", base_url="http://127.0.0.1:9", timeout=1), tmp_path / "x.txt")
    failure = explain(raised.value)
    assert failure.message.startswith("The connection to the gateway was lost: Connection refused.\nStart one with")
    assert "base_url=" not in str(failure.detail)


def test_what_needs_an_admin_says_where_the_key_of_one_is(ann: Command, tmp_path: Path):
    told = ann("audit").err
    assert "This needs an admin's key." in told
    assert 'export GATEWAY_API_KEY="$(cat gateway-data/admin.key)"' in told
    assert "$(cat .gateway/admin.key)" in told
    (tmp_path / ".gateway").mkdir()
    (tmp_path / ".gateway" / "admin.key").write_text("sk-x")
    told = ann("audit").err
    assert "$(cat .gateway/admin.key)" in told
    assert "gateway-data" not in told


def test_who_names_no_key_is_told_what_to_set(command: Command):
    ended = command("prefab", "list", GATEWAY_API_KEY="")
    assert ended.code == 3
    assert "GATEWAY_API_KEY is not set" in ended.err
    assert "X-Internal-Token" not in ended.err


def test_a_quota_that_is_used_up_says_when_it_is_not(command: Command, gateway: Gateway):
    key = gateway.key("quintus")
    command("quota", "set", "--user", "quintus", "--limit", "0")
    ended = command("run", SPEAKER, "greet", "-p", "name=x", "--json", GATEWAY_API_KEY=key)
    assert "it resets at 20" in ended.err
    assert " 00:00 UTC" in ended.err
    assert ended.json["error"]["reset_at"].endswith("Z")


def test_a_changed_version_is_told_once_what_to_do(command: Command, tmp_path: Path):
    folder = write_speaker(tmp_path / "p")
    main = folder / "src" / "main.py"
    main.write_text(main.read_text().replace("Hello", "Ahoy"))
    assert command("prefab", "publish", folder).err.count("Raise the version") == 1


def test_a_version_that_could_not_be_published_says_why(command: Command, ann: Command, tmp_path: Path):
    folder = write_speaker(tmp_path / "p", version="3.0.0")
    (folder / "src" / "main.py").write_text("def other(): ...\n")
    assert command("prefab", "publish", folder).code == 1
    shown, ran = command("prefab", "show", f"{PREFAB}@3.0.0"), command("run", f"{PREFAB}@3.0.0", "greet", "--json")
    for ended in (shown, ran):
        assert ended.code == 1
        assert f"{PREFAB}@3.0.0 could not be published: The package was refused: " in ended.err
        assert "Correct it and publish again." in ended.err
    assert ran.json["error"]["error_code"] == "NOT_FOUND"
    assert "there are: 1.0.0" in ann("prefab", "show", f"{PREFAB}@3.0.0").err  # it is nobody else's business


def test_what_keeps_a_package_from_running_is_told_before_anything_starts(alone: Command, tmp_path: Path):
    folder = write_speaker(tmp_path / "p")
    nowhere = {"PATH": str(tmp_path)}  # without uv no gateway could be started
    unknown = alone("prefab", "run", folder, "nope", "--json", **nowhere)
    assert unknown.code == 1
    assert unknown.err.startswith(f"Error: {SPEAKER} has no function nope; it has: greet, fail, ")
    assert "gateway prefab list" not in unknown.err
    assert unknown.json["error"]["error_code"] == "NOT_FOUND"
    (folder / "src" / "main.py").write_text("def greet(:\n")
    wrong = alone("prefab", "run", folder, "greet", "--json", **nowhere)
    assert "src/main.py, line 1: invalid syntax" in wrong.err
    assert wrong.json["error"]["errors"][0]["pointer"] == "/entry_point"
    (folder / "prefab-manifest.json").unlink()
    assert "there is no prefab-manifest.json" in alone("prefab", "run", folder, "greet", **nowhere).err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((PREFAB, "greet"), 2, "such as speaker@latest"),
        ((SPEAKER, "greet", "name=x"), 2, "a parameter is given as -p name=x"),
        ((SPEAKER, "greet", "x"), 2, "Got unexpected extra argument (x)\n"),
        ((SPEAKER, "greet", "-p", "name:=True"), 2, "did you mean true?"),
        ((SPEAKER, "greet", "-p", "name:=3"), 1, "without a colon: -p name=3\n"),
        ((SPEAKER, "greet", "-p", "name=x", "-p", "times=3"), 1, "as k:=json: -p times:=3\n"),
        ((SPEAKER, "greet", "-p", "name=x", "-p", "times:=true"), 1, "as k:=json.\n"),
        ((SPEAKER, "nope"), 1, "it has: greet, fail"),
    ],
    ids=str,
)
def test_hints_at_what_was_meant(ann: Command, arguments: tuple[str, ...], code: int, told: str):
    ended = ann("run", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert told in ended.err


def test_doctor_calls_none_what_is_not_there(command: Command):
    def states(**env: str) -> dict[str, str]:
        return {found["name"]: found["state"] for found in command("doctor", "--json", **env).json["findings"]}

    assert states(GATEWAY_API_KEY="")["API key"] == "none"
    assert states(GATEWAY_API_KEY="sk-wrong")["API key"] == "weak"
    assert states()["API key"] == "ok"


@pytest.mark.parametrize("more", [(), ("--stream",)], ids=str)
def test_a_run_that_is_out_of_time_says_how_to_give_it_longer(ann: Command, more: tuple[str, ...]):
    ended = ann("run", SPEAKER, "sleep", "-p", "seconds:=50", "--timeout", "300ms", *more)
    assert ended.code == 4
    assert ended.err.endswith("\nGive it longer with --timeout.\n")


def test_a_folder_that_is_no_package_says_how_to_begin_one(alone: Command, ann: Command, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for ended in (
        alone("prefab", "validate", "empty"),
        alone("prefab", "run", "empty", "greet"),
        ann("prefab", "publish", "empty"),
    ):
        assert ended.code == 1
        assert "Write a prefab to begin with: gateway init NAME" in ended.err
    write_speaker(tmp_path / "p")
    (tmp_path / "p" / "prefab-manifest.json").write_text("[]")
    assert "gateway init" not in alone("prefab", "validate", "p").err


@pytest.mark.parametrize("noun", ["show", "rm"])
def test_nobody_is_told_to_add_an_agent_that_is_to_be_removed(command: Command, noun: str):
    ended = command("agent", noun, "nope")
    assert ended.err == "Error: There is no agent nope.\nThe agents that there are: gateway agent list\n"


@pytest.mark.parametrize("url", ["nonsense", "http://x.example/y", "s3://agent-builder/agent-inputs/x/y"])
def test_a_wrong_url_of_a_file_says_where_the_right_ones_are(ann: Command, url: str):
    for ended in (ann("file", "get", url), ann("file", "rm", url)):
        assert ended.code in (1, 3)
        assert ended.err.endswith("\nYour files: gateway file ls\n")


def test_wishes_that_contradict_themselves_are_wrong_usage(ann: Command):
    ended = ann("usage", "--since", "2026-11-20", "--until", "2026-11-01")
    assert (ended.code, ended.out) == (2, "")
    assert "--since 2026-11-20 is after --until 2026-11-01." in ended.err
    ended = ann("job", "list", "--all-users", "--user", "ann")
    assert (ended.code, ended.out) == (2, "")
    assert "--all-users and --user cannot both be given" in ended.err
    ended = ann("token", "create", "--user", "ann", "--ttl", "31d")
    assert (ended.code, ended.out) == (2, "")
    assert "a token lives at most 30d" in ended.err
    assert ann("token", "create", "--user", "ann", "--ttl", "30d").code == 0


@pytest.mark.parametrize("path", ["/a/../b", "..", "/a/.", "./a?x=1"])
def test_a_path_of_an_agent_that_would_be_another_is_wrong_usage(ann: Command, path: str):
    ended = ann("agent", "call", "helper", path)
    assert (ended.code, ended.out) == (2, "")
    assert "holds a part that is . or .." in ended.err


def test_dots_elsewhere_in_a_path_are_nobodys_business(ann: Command):
    for path in ("/a..b/.c", "/a?x=/../", "/a/...#/../"):
        assert "There is no agent nope." in ann("agent", "call", "nope", path).err


def test_what_a_package_leaves_out_is_said(command: Command, tmp_path: Path):
    folder = write_package(tmp_path / "p", "def one():\n    return 1\n", prefab_id="leaves-out")
    for name in ("data/words.txt", "helper.py", "tests/test_x.py", ".venv/x", "README.md", "LICENSE", "__pycache__/x"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x = 1\n")
    ended = command("prefab", "publish", "p")
    assert ended.code == 0
    (said,) = [line for line in ended.err.splitlines() if line.startswith("Left out")]
    assert said.endswith(": data/, helper.py")


def test_who_speaks_tls_where_nobody_does_is_told(ann: Command, gateway: Gateway):
    ended = ann("job", "list", GATEWAY_BASE_URL=gateway.url.replace("http:", "https:"))
    assert ended.code == 1
    assert f"export GATEWAY_BASE_URL={gateway.url}" in ended.err


def test_who_has_a_wrong_key_beside_dev_is_told_that_none_is_needed(ann: Command, tmp_path: Path):
    wrong = {"GATEWAY_API_KEY": "sk-none"}
    assert "unset GATEWAY_API_KEY" not in ann("job", "list", **wrong).err
    (tmp_path / ".gateway").mkdir()
    (tmp_path / ".gateway/admin.key").write_text("sk-x")
    ended = ann("job", "list", **wrong)
    assert ended.code == 3
    assert "unset GATEWAY_API_KEY" in ended.err


def test_what_cannot_be_is_told_in_the_words_of_who_gave_it(ann: Command):
    ended = ann("secret", "set", "hello", "KEY", "--user", "", stdin="x")
    assert (ended.code, "USER is empty." in ended.err) == (2, True)
    ended = ann("agent", "call", "x", "/", "-H", "X-a: 1", "-H", "x-A: 2")
    assert (ended.code, "x-a is given twice" in ended.err) == (2, True)
    ended = ann("file", "put", "-", "--name", "ü" * 128, stdin="x")
    assert (ended.code, "is no name of a file" in ended.err) == (2, True)


def test_waiting_ends_in_time_where_the_gateway_has_stopped_to_answer(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command = Command(tmp_path, GATEWAY_BASE_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        ended = command("job", "wait", "01a2044a-a1a5-7cdf-af8c-b665065b72c3", "--timeout", "1s")
        assert ended.code != 0
        assert time.monotonic() - began < 20
