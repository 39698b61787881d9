"""Every command that speaks to a gateway, with a real one."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import httpx
import pytest
from command import Command
from gateways import COMMAND, Gateway, until
from packages import write_package
from raw_agent import RawAgent
from running import Running
from speaker import PREFAB, write_speaker
from web_agent import WebAgent

from gateway_server.cli import secret

SPEAKER = f"{PREFAB}@1.0.0"


def test_run(ann: Command):
    ended = ann("run", SPEAKER, "greet", "-p", "name=你好", "-p", "times:=2")
    assert ended.code == 0
    assert ended.json == {"text": "Hello, 你好Hello, 你好", "token": 0}


def test_no_proxy_leads_to_this_machine(ann: Command, tmp_path: Path):
    (tmp_path / "note.txt").write_text("quiet")
    for given in ({}, {"NO_PROXY": "example.org"}):
        proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", **given}
        assert ann("run", SPEAKER, "copy", "-f", "input=note.txt", **proxies).json == {"success": True}
        assert ann("prefab", "list", **proxies).code == 0


def test_run_with_json(ann: Command):
    told = ann("run", SPEAKER, "greet", "-p", "name=x", "--json").json
    assert told["status"] == "SUCCESS"
    assert told["output"]["output"]["text"] == "Hello, x"
    assert told["job_id"]


def test_a_function_that_fails(ann: Command):
    ended = ann("run", SPEAKER, "fail")
    assert (ended.code, ended.out) == (1, "")
    assert "ValueError: it went wrong" in ended.err
    assert "gateway job logs" in ended.err
    told = ann("run", SPEAKER, "fail", "--json")
    assert (told.code, told.json["status"], told.json["error"]["type"]) == (1, "FAILED", "ValueError")


def test_refusals_of_a_run(ann: Command):
    wrong = ann("run", SPEAKER, "greet", "-p", "times=2")
    assert wrong.code == 1
    assert "/parameters/name" in wrong.err
    assert "k:=json" in wrong.err
    unknown = ann("run", f"{PREFAB}@9.9.9", "greet")
    assert unknown.code == 1
    assert "there are: 1.0.0" in unknown.err


def test_run_out_of_time(ann: Command):
    ended = ann("run", SPEAKER, "sleep", "-p", "seconds:=50", "--timeout", "300ms")
    assert ended.code == 4


def test_a_job_that_is_submitted_is_told_to_people_and_programs(ann: Command):
    submit = ("run", SPEAKER, "greet", "-p", "name=x", "--detach")
    for job_id in (ann(*submit).line, ann(*submit, "--json").json["job_id"]):
        assert ann("job", "wait", job_id).line == "succeeded"


def test_streams(ann: Command):
    ended = ann("run", SPEAKER, "tell", "-p", "n:=3", "--stream")
    assert (ended.code, ended.out) == (0, "0;1;2;\n")
    assert "at=1" in ended.err
    plain = ann("run", SPEAKER, "greet", "-p", "name=x", "--stream")
    assert "Hello, x" in plain.out
    failed = ann("run", SPEAKER, "tell_and_fail", "--stream")
    assert (failed.code, failed.out) == (1, "before\n")
    assert "it went wrong" in failed.err


def test_streams_as_json(ann: Command):
    lines = [
        json.loads(line) for line in ann("run", SPEAKER, "tell", "-p", "n:=1", "--stream", "--json").out.splitlines()
    ]
    assert [line["type"] for line in lines] == ["start", "progress", "content", "done"]
    assert lines[-1]["data"] == {"told": 1}


def test_files(ann: Command, tmp_path: Path):
    (tmp_path / "note.txt").write_text("quiet")
    (tmp_path / "季度.txt").write_text("rest")
    ended = ann("run", SPEAKER, "copy", "-f", "input=note.txt", "-f", "input=季度.txt", "--json")
    urls = ended.json["output"]["files"]["output"]
    assert len(urls) == 2
    assert ann("file", "get", urls[0], "back.txt").line == "back.txt"
    assert (tmp_path / "back.txt").read_text() in ("QUIET", "REST")
    shown = ann("run", SPEAKER, "copy", "-f", "input=note.txt")
    assert shown.json == {"success": True}
    assert "file output: s3://" in shown.err


def test_put_list_get_and_remove_a_file(ann: Command, tmp_path: Path):
    (tmp_path / "data.csv").write_text("a,b\n")
    url = ann("file", "put", "data.csv", "--content-type", "text/csv").line
    assert url.startswith("s3://")
    assert url in [file["s3_url"] for file in ann("file", "ls", "--json").json["files"]]
    assert url in ann("file", "ls", "--area", "agent-inputs").out
    (tmp_path / "into").mkdir()
    place = Path(ann("file", "get", url, "into").line)
    assert (tmp_path / place).read_text() == "a,b\n"
    assert ann("file", "get", url, "-").out == "a,b\n"
    for target in ("into", "into/data.csv"):
        refused = ann("file", "get", url, target)
        assert (refused.code, refused.out) == (1, "")
        assert "--force" in refused.err
        assert Path(ann("file", "get", url, target, "--force").line) == place
    assert [path.name for path in (tmp_path / "into").iterdir()] == ["data.csv"]
    assert ann("run", SPEAKER, "copy", "-f", f"input={url}").code == 0
    assert ann("file", "rm", url).code == 0
    gone = ann("file", "get", url)
    assert (gone.code, gone.out) == (1, "")
    assert ann("file", "ls", "--json").code == 0


def test_of_several_files_all_are_removed_that_can_be(ann: Command, tmp_path: Path):
    (tmp_path / "data.csv").write_text("a")
    first, second = (ann("file", "put", "data.csv").line for _ in range(2))
    gone = f"{first}-gone"
    ended = ann("file", "rm", gone, first, f"{second}-gone", second)
    assert ended.code == 1
    assert [line.split()[0] for line in ended.err.splitlines()] == ["Error:", "Removed", "Error:", "Removed", "Error:"]
    assert gone in ended.err
    assert "2 of 4 files were not removed." in ended.err
    left = [file["s3_url"] for file in ann("file", "ls", "--json").json["files"]]
    assert not {first, second} & set(left)
    assert ann("file", "rm", gone, second, GATEWAY_API_KEY="").code == 3


def test_a_list_that_is_cut_says_so_and_goes_on(command: Command, gateway: Gateway, tmp_path: Path):
    ian = {"GATEWAY_API_KEY": gateway.key("ian")}
    (tmp_path / "data.csv").write_text("a")
    for _ in range(3):
        assert command("run", SPEAKER, "greet", "-p", "name=x", **ian).code == 0
        assert command("file", "put", "data.csv", **ian).code == 0
    for listing, member, who in (
        (("job", "list"), "jobs", ian),
        (("file", "ls"), "files", ian),
        (("audit",), "entries", {}),
    ):
        whole = command(*listing, "--limit", "3", "--json", **who).json[member]
        cut = command(*listing, "--limit", "2", **who)
        more, cursor = cut.err.strip().rsplit(" ", 1)
        assert (more, len(cut.out.splitlines())) == ("More: the same with --cursor", 3)
        told = command(*listing, "--limit", "2", "--json", **who).json
        assert (told[member], str(told["next_cursor"])) == (whole[:2], cursor)
        assert command(*listing, "--limit", "1", "--cursor", cursor, "--json", **who).json[member] == whole[2:]
    assert command("job", "list", **ian).err == command("file", "ls", **ian).err == ""
    assert command("file", "ls", "--json", **ian).json["next_cursor"] is None


def test_publish_show_and_remove(command: Command, tmp_path: Path):
    name = f"pub-{uuid4().hex[:8]}"
    folder = write_package(tmp_path / "p", "def where() -> dict:\n    return {}\n", prefab_id=name)
    ended = command("prefab", "publish", folder, "--env", "MODEL=small", "--env", "EMPTY=")
    assert ended.line == f"{name}@1.0.0"
    assert "Building the environment" in ended.err
    assert f"gateway run {name}@1.0.0 where" in ended.err
    assert command("prefab", "publish", folder, "--json").json["id"] == name
    assert command("prefab", "env", "list", f"{name}@1.0.0").out == "EMPTY\nMODEL\n"
    assert command("prefab", "env", "set", f"{name}@1.0.0", "OTHER=1", "--unset", "EMPTY").code == 0
    assert command("prefab", "env", "list", f"{name}@1.0.0", "--json").json == {"names": ["MODEL", "OTHER"]}
    assert f"{name}@1.0.0" in command("prefab", "list", "--status", "deployed").out
    assert command("prefab", "list", "--json").json["prefabs"][0]["id"] == name
    assert "where()" in command("prefab", "show", f"{name}@1.0.0").out
    assert command("prefab", "show", f"{name}@1.0.0", "--json").json["functions"][0]["name"] == "where"
    assert command("prefab", "rm", f"{name}@1.0.0").code == 0
    assert command("prefab", "rm", f"{name}@1.0.0").code == 1


def test_a_new_prefab_says_how_it_is_called_from_python(command: Command, gateway: Gateway, tmp_path: Path):
    assert command("init", "hello-there").code == 0
    published = command("prefab", "publish", "hello-there")
    assert published.line == "hello-there@1.0.0"
    assert "gateway run hello-there@1.0.0 greet -p name=text" in published.err
    program = (tmp_path / "hello-there" / "README.md").read_text().split("```python\n")[1].partition("```")[0]
    program = program.replace("sk-...", gateway.key("ann")).replace("http://127.0.0.1:8000", gateway.url)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("Hello, you!\n", "")


def test_publish_refused(command: Command, ann: Command, tmp_path: Path):
    folder = write_speaker(tmp_path / "p", version="2.0.0")
    (folder / "src" / "main.py").write_text("def other(): ...\n")
    refused = command("prefab", "publish", folder)
    assert (refused.code, refused.out) == (1, "")
    assert "src/main.py defines no 'greet'" in refused.err
    assert ann("prefab", "publish", folder).code == 3
    (folder / "prefab-manifest.json").unlink()
    assert "no prefab-manifest.json" in command("prefab", "publish", folder).err
    (tmp_path / "x.whl").write_text("no wheel")
    assert command("prefab", "publish", tmp_path / "x.whl").code == 1


def test_show_tells_what_a_function_takes(ann: Command):
    shown = ann("prefab", "show", SPEAKER).out
    assert "greet(name, times?)\n" in shown
    assert "    times?: integer = 1\n" in shown
    assert "secret TOKEN (optional): A token." in shown
    assert "file input: -f input=PATH" in shown
    assert f"    gateway run {SPEAKER} greet -p name=text\n" in shown


def test_completion(ann: Command):
    def offered(words: str) -> list[str]:
        ended = ann(
            _GATEWAY_COMPLETE="bash_complete", COMP_WORDS=f"gateway {words}", COMP_CWORD=str(words.count(" ") + 1)
        )
        return [line.removeprefix("plain,") for line in ended.out.splitlines()]

    assert offered("pref") == ["prefab"]
    assert "--stream" in offered("run --str")
    assert offered("run spea") == [SPEAKER]
    assert offered(f"run {SPEAKER} gre") == ["greet"]


def test_a_secret_is_taken_byte_for_byte(monkeypatch: pytest.MonkeyPatch):
    def given(content: bytes) -> str:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
        return secret._value("TOKEN")

    assert given("钥匙\r\nend\r\n".encode()) == "钥匙\r\nend"
    with pytest.raises(click.UsageError, match="UTF-8"):
        given(b"p\xe4ssword\n")


def test_secrets(ann: Command):
    assert ann("secret", "set", PREFAB, "TOKEN", stdin="12345\n").out == ""
    assert ann("run", SPEAKER, "greet", "-p", "name=x").json["token"] == 5
    assert ann("secret", "list", PREFAB, "--json").json == {"secrets": [{"prefab_id": PREFAB, "secret_name": "TOKEN"}]}
    assert ann("secret", "list").out.splitlines() == ["PREFAB   SECRET", "speaker  TOKEN"]
    assert ann("secret", "rm", PREFAB, "TOKEN").code == 0
    assert ann("secret", "rm", PREFAB, "TOKEN").code == 1
    assert ann("secret", "set", PREFAB, "lower", stdin="x").code == 1
    assert ann("secret", "set", PREFAB, "TOKEN", "--user", "bob", stdin="x").code == 3
    assert ann("secret", "set", PREFAB, "TOKEN", stdin="\n").code == 2


def test_a_secret_that_nothing_asks_for_is_set_with_a_note(ann: Command):
    assert "asks for TOKEN." in ann("secret", "set", PREFAB, "TOKENS", stdin="x").err
    assert "gateway prefab list" in ann("secret", "set", "no-such-prefab", "TOKEN", stdin="x").err
    assert ann("secret", "set", PREFAB, "TOKEN", stdin="x").err == "Set TOKEN for speaker.\n"
    for prefab, name in ((PREFAB, "TOKENS"), ("no-such-prefab", "TOKEN"), (PREFAB, "TOKEN")):
        assert ann("secret", "rm", prefab, name).code == 0


def test_an_admin_sets_secrets_for_others(command: Command):
    user = f"eve-{uuid4().hex[:8]}"
    command("secret", "set", PREFAB, "TOKEN", "--user", user, stdin="x")
    assert command("secret", "list", "--user", user, "--json").json["secrets"]


def test_keys(command: Command, gateway: Gateway):
    user = f"kim-{uuid4().hex[:8]}"
    key = command("key", "create", "--user", user, "--scope", "call", "--scope", "publish", "--name", "laptop").line
    assert key.startswith("sk-")
    (listed,) = command("key", "list", "--user", user, "--json").json["keys"]
    assert (listed["scopes"], listed["name"]) == (["call", "publish"], "laptop")
    assert listed["id"] in command("key", "list").out
    assert command("job", "list", GATEWAY_API_KEY=key).code == 0
    assert command("key", "create", "--user", "x", GATEWAY_API_KEY=key).code == 3
    assert command("key", "revoke", listed["id"]).code == 0
    ended = command("job", "list", GATEWAY_API_KEY=key)
    assert ended.code == 3
    assert "GATEWAY_API_KEY" in ended.err


def test_a_revoked_key_shows_as_one_however_narrow_the_terminal(command: Command):
    for name in ("a name that takes some room", "another name of this length"):
        assert command("key", "create", "--user", "revo", "--name", name).code == 0
    newest = command("key", "list", "--user", "revo", "--json").json["keys"][0]["id"]
    assert command("key", "revoke", newest).code == 0
    shown = on_a_terminal(command, "key", "list", "--user", "revo", COLUMNS="40", NO_COLOR="1").decode()
    states = {line.split()[0]: line.split()[2] for line in shown.splitlines()[1:]}
    assert sorted(states.values()) == ["revoked", "valid"]
    assert states[newest] == "revoked"


def test_without_a_key(command: Command, tmp_path: Path):
    (tmp_path / "x.txt").write_text("x")
    for arguments in (["prefab", "list"], ["run", SPEAKER, "greet", "-p", "name=x"], ["file", "put", "x.txt"]):
        ended = command(*arguments, GATEWAY_API_KEY="")
        assert ended.code == 3
        assert "GATEWAY_API_KEY" in ended.err
    assert command("prefab", "list", GATEWAY_API_KEY="sk-wrong").code == 3
    assert command("run", SPEAKER, "greet", GATEWAY_API_KEY="sk-wrong").code == 3
    assert command("prefab", "list", GATEWAY_API_KEY="sk-é").code == 3


def test_tokens(command: Command, gateway: Gateway):
    token = command("token", "create", "--user", "ann", "--agent", "helper", "--ttl", "5m").line
    headers = {"X-Internal-Token": token}
    assert httpx.get(f"{gateway.url}/internal/files/list", headers=headers).status_code == 200


def test_a_user_who_is_made_by_naming_them_is_noted(command: Command):
    for number, words in enumerate((("secret", "set", PREFAB, "TOKEN"), ("token", "create"))):
        name = f"typo{number}-{uuid4().hex[:8]}"
        first, second = (command(*words, "--user", name, stdin="x") for _ in range(2))
        assert (first.code, second.code) == (0, 0)
        assert f"{name} is a new user, without a key: gateway key create --user {name}" in first.err
        assert "new user" not in second.err


def test_an_unknown_user_has_no_quotas(command: Command, ann: Command):
    nobody = command("quota", "show", "--user", "nobody-at-all", "--json")
    assert (nobody.code, nobody.json["error"]["error_code"]) == (1, "USER_NOT_FOUND")
    assert ann("quota", "show", "--user", "ann").code == 0
    assert ann("quota", "show", "--user", "nobody-at-all").code == 3


def test_quotas(command: Command, gateway: Gateway):
    new = f"new-{uuid4().hex[:8]}"
    assert f"gateway key create --user {new}" in command("quota", "set", "--user", new, "--limit", "1").err
    user = f"quinn-{uuid4().hex[:8]}"
    key = gateway.key(user)
    row = command("quota", "set", "--user", user, "--limit", "1", "--period", "day").out.splitlines()[-1].split()
    assert row[:6] == [user, "0", "1", "calls", "day", "any"]
    run = ("run", SPEAKER, "greet", "-p", "name=x")
    assert command(*run, GATEWAY_API_KEY=key).code == 0
    used_up = command(*run, GATEWAY_API_KEY=key)
    assert used_up.code == 1
    assert "used up" in used_up.err
    assert command("quota", "show", "--json", GATEWAY_API_KEY=key).json["used"] == 1
    assert "no limit" in command("quota", "set", "--user", user, "--limit", "none").out
    assert command("quota", "show", "--user", user).code == 0
    (known,) = command("key", "list", "--user", user, "--json").json["keys"]
    of_key = ("quota", "set", "--user", user, "--key", known["id"], "--metric", "seconds", "--period", "month")
    assert known["id"] in command(*of_key, "--limit", "3600").out
    shown = command("quota", "show", GATEWAY_API_KEY=key).out
    assert all(word in shown for word in ("concurrent", "bytes", "month", "3600", known["id"]))
    assert command("quota", "set", "--user", user, "--metric", "bytes", "--limit", "5").code == 0
    wrong = command("quota", "set", "--user", user, "--metric", "bytes", "--period", "day", "--limit", "5")
    assert (wrong.code, "leave the period out" in wrong.err) == (1, True)


def test_jobs(ann: Command):
    job_id = ann("run", SPEAKER, "greet", "-p", "name=me", "--json").json["job_id"]
    assert ann("job", "show", job_id, "--json").json["status"] == "succeeded"
    assert "Hello, me" in ann("job", "show", job_id).out
    assert ann("job", "logs", job_id).out == "greeting me\n"
    assert ann("job", "wait", job_id).line == "succeeded"
    assert ann("job", "cancel", job_id).code == 0
    assert job_id in [job["id"] for job in ann("job", "list", "--prefab", PREFAB, "--json").json["jobs"]]
    assert job_id in ann("job", "list", "--status", "succeeded", "--limit", "100").out
    assert ann("job", "show", "nothing").code == 1
    failed = ann("run", SPEAKER, "fail", "--json").json["job_id"]
    assert ann("job", "wait", failed).code == 1
    assert "it went wrong" in ann("job", "show", failed).out
    assert ann("job", "list", "--all-users").code == 3


def test_a_call_that_could_not_be_read_is_shown_as_no_batch(command: Command, gateway: Gateway):
    batch = gateway.request("POST", "/v1/run", json={"calls": [{"x": 1}, 5]}).json()
    shown = command("job", "show", batch["job_id"]).out
    assert (shown.count("batch"), shown.count("unreadable call")) == (1, 2)
    assert "unreadable call" in command("job", "show", batch["results"][0]["job_id"]).out


def test_wait_and_cancel_a_running_job(ann: Command):
    process = ann.start("run", SPEAKER, "sleep", "-p", "seconds:=50", "--stream", "--json")
    try:
        assert process.stdout
        job_id = json.loads(process.stdout.readline())["data"]["job_id"]
        waited = ann("job", "wait", job_id, "--timeout", "200ms")
        assert (waited.code, waited.out) == (4, "")
        assert ann("job", "cancel", job_id).code == 0
        assert ann("job", "wait", job_id).code == 1
        assert process.wait(20) == 1
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_ends_the_job_at_once(ann: Command):
    def newest() -> dict[str, Any]:
        return ann("job", "list", "--limit", "1", "--json").json["jobs"][0]

    before = newest()["id"]
    with Running(ann.start("run", SPEAKER, "sleep", "-p", "seconds:=60")) as running:
        until(lambda: newest()["id"] != before, 20, "the call")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(20) == 130
    assert running.written == "Canceled.\n"
    assert ann("job", "wait", newest()["id"], "--timeout", "10s").out == "canceled\n"


def test_logs_are_followed_until_the_job_ends(ann: Command):
    running = ann.start("run", SPEAKER, "chat", "-p", "n:=5", "--stream", "--json")
    assert running.stdout
    job_id = json.loads(running.stdout.readline())["data"]["job_id"]
    process = ann.start("job", "logs", "-f", job_id)
    try:
        assert process.stdout
        assert [process.stdout.readline() for _ in range(5)] == [f"行 {i}\n" for i in range(5)]
        assert ann("job", "show", job_id, "--json").json["status"] == "running"
        assert process.poll() is None
        assert ann("job", "cancel", job_id).code == 0
        rest, err = process.communicate(timeout=30)
        assert (process.returncode, rest, err) == (0, "no end", "")
    finally:
        for started in (process, running):
            started.kill()
            started.communicate()
    assert ann("job", "logs", "--follow", job_id).out == "".join(f"行 {i}\n" for i in range(5)) + "no end"
    assert ann("job", "logs", "-f", "nothing").code == 1


def test_following_the_logs_of_a_job_that_failed(ann: Command):
    job_id = ann("run", SPEAKER, "fail", "--json").json["job_id"]
    followed = ann("job", "logs", "-f", job_id)
    assert (followed.code, followed.out) == (0, ann("job", "logs", job_id).out)
    assert "it went wrong" in followed.out


def test_agents(command: Command, ann: Command):
    name = f"agent-{uuid4().hex[:8]}"
    with WebAgent() as agent:
        assert command("agent", "add", name, agent.url).line == name
        told = ann("agent", "call", name, "/report?x=1", "-d", '{"parameters": {}}')
        assert (told.code, told.json["method"], told.json["query"]) == (0, "POST", "x=1")
        assert told.json["body"] == '{"parameters": {}}'
        assert ann("agent", "call", name, "x").json["method"] == "GET"
        assert ann("agent", "call", name, "x", "-X", "DELETE").json["method"] == "DELETE"
        assert ann("agent", "call", name, "x", "-d", "-", stdin="[1]").json["body"] == "[1]"
        poured = ann("agent", "call", name, "teapot")
        assert (poured.code, poured.json["method"]) == (1, "GET")
        assert "HTTP 418" in poured.err
        seen = {a["id"]: a for a in command("agent", "list", "--json").json["agents"]}
        assert seen[name]["url"] == agent.url
        assert name in ann("agent", "list").out
        assert f"{name}  healthy" in command("agent", "show", name).out
        assert ann("agent", "show", name, "--json").json["url"] is None
        changed = command("agent", "add", name, "--timeout", "90s", "--health-path", "/well")
        assert changed.line == name
        assert "timeout: 90 s" in command("agent", "show", name).out
        assert command("agent", "add", name, "--timeout", "none", "--health-path", "none").code == 0
        shown = command("agent", "show", name, "--json").json
        assert (shown["timeout"], shown["health_path"]) == (None, None)
    refused = command("agent", "add", name, agent.url)
    assert (refused.code, refused.out) == (1, "")
    assert "--no-check" in refused.err
    assert command("agent", "add", name, agent.url, "--no-check").line == name
    assert name in ann("agent", "call", name, "x").out  # it is gone: the gateway says which
    assert ann("agent", "rm", name).code == 3
    assert command("agent", "rm", name).code == 0
    assert command("agent", "call", name, "x").code == 1


def test_calls_of_an_agent(command: Command, ann: Command, tmp_path: Path):
    name = f"agent-{uuid4().hex[:8]}"
    (tmp_path / "rows.csv").write_bytes(b"a,\xff\n")
    with WebAgent() as agent:
        assert command("agent", "add", name, agent.url).code == 0

        def call(*arguments: str, **more: str) -> Any:
            ended = ann("agent", "call", name, *arguments, **more)
            assert ended.code == 0, ended
            return ended.json

        told = call("a%2Fb c?x=1", "-q", "k=v w", "-q", "k=2", "-H", "X-Mine: 1", "-H", "accept: text/plain")
        assert (told["path"], told["query"]) == ("/a%2Fb%20c", "x=1&k=v+w&k=2")
        assert {("x-mine", "1"), ("accept", "text/plain")} <= {tuple(header) for header in told["headers"]}
        csv = call("x", "-d", "@rows.csv", "-H", "content-type: text/csv", "-X", "put")
        assert (csv["method"], csv["body"]) == ("PUT", "a,\u00ff\n")
        no_json = ann("agent", "call", name, "x", "-d", "@rows.csv")
        assert (no_json.code, no_json.out) == (2, "")
        assert "content-type" in no_json.err
        for wrong in (("-d", "@none.json"), ("-H", "x"), ("-q", "x"), ("--timeout", "soon")):
            assert ann("agent", "call", name, "x", *wrong).code == 2
        late = ann("agent", "call", name, "silent", "--timeout", "300ms")
        assert late.code == 4
        assert "as its caller asked" in late.err
        broken = ann("agent", "call", name, "breaks")
        assert (broken.code, broken.out) == (1, "some")
        assert broken.err.startswith("Error: The answer broke off")
        assert command("agent", "rm", name).code == 0
    with RawAgent(b"HTTP/1.1 405 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno") as strict:
        assert command("agent", "add", name, strict.url).code == 0
        refused = ann("agent", "call", name, "x")
        assert (refused.code, refused.out) == (1, "no\n")  # so that what follows stands on a line of its own
        assert "-d '{}'" in refused.err
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"
    with RawAgent(head + b"a part", then_waits=True) as slow:
        assert command("agent", "add", name, slow.url).code == 0
        cut = ann("agent", "call", name, "x", "--timeout", "500ms")
        assert (cut.code, cut.out) == (4, "a part")
        assert "0.5 s" in cut.err


def test_an_agent_that_leads_elsewhere_is_not_followed_and_says_so(command: Command):
    name = f"agent-{uuid4().hex[:8]}"
    elsewhere = "https://elsewhere.example/x"
    for status, code in ((302, 1), (308, 1), (304, 0)):
        head = f"HTTP/1.1 {status} Found\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n"
        with RawAgent(head.encode()) as agent:
            assert command("agent", "add", name, agent.url, "--no-check").code == 0
            ended = command("agent", "call", name, "x")
        assert ended.code == code
        assert not code or f"The agent answered with HTTP {status} to GET" in ended.err
        assert not code or f"which leads to {elsewhere} and was not followed" in ended.err
    assert command("agent", "rm", name).code == 0


def test_answers_of_agents_on_a_terminal(command: Command):
    name = f"agent-{uuid4().hex[:8]}"
    body = '{"message": "\u738b\u82b3"}'.encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with RawAgent(head.encode() + body) as agent:
        assert command("agent", "add", name, agent.url).code == 0
        assert command("agent", "call", name, "x").out.encode() == body
        shown = on_a_terminal(command, "agent", "call", name, "x")
        assert shown.replace(b"\r\n", b"\n") == '{\n  "message": "\u738b\u82b3"\n}\n'.encode()
        assert command("agent", "rm", name).code == 0
    shown = on_a_terminal(command, "agent", "call", name, "x", code=1)
    assert shown.startswith(b"Error: There is no agent")


def test_a_reader_who_has_had_enough(ann: Command):
    ended = subprocess.run(
        f"{COMMAND} run {SPEAKER} tell -p n:=2000 --stream | head -c 3",
        shell=True,
        capture_output=True,
        text=True,
        env=ann.env,
        timeout=60,
    )
    assert ended.stdout == "0;1"
    assert "Traceback" not in ended.stderr


def on_a_terminal(command: Command, *arguments: str, code: int = 0, **more: str) -> bytes:
    """What a command shows to people."""
    ours, theirs = pty.openpty()
    env = command.env | {"TERM": "xterm-256color", "COLUMNS": "100"} | more
    process = subprocess.Popen([COMMAND, *arguments], stdout=theirs, stderr=theirs, env=env, cwd=command.folder)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(60) == code, shown
    return shown


@pytest.mark.parametrize("asked", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_on_a_terminal(command: Command, asked: dict[str, str]):
    shown = on_a_terminal(command, "prefab", "list", **asked)
    assert SPEAKER.encode() in shown
    assert (b"\x1b" in shown) == (not asked)


def test_a_text_cannot_show_as_another_one_on_a_terminal(ann: Command):
    turned = "x\u202atxt\u202e.\u2066exe\u2069"
    arguments = ("run", SPEAKER, "greet", "-p", f"name={turned}")
    assert turned in ann(*arguments).out
    shown = on_a_terminal(ann, *arguments).decode()
    assert "xtxt.exe" in shown


def test_wide_characters_stand_in_columns(command: Command):
    tool = "宽"
    assert command("key", "create", "--user", "wide", "--name", tool).code == 0
    head, row = command("key", "list", "--user", "wide").out.splitlines()[:2]
    assert row.index("2", row.index(tool) + len(tool)) == head.index("CREATED") - 1  # one character, two columns


@pytest.mark.parametrize("asked", [{}, {"NO_COLOR": "1"}], ids=str)
def test_what_takes_its_time_is_said(ann: Command, asked: dict[str, str]):
    shown = on_a_terminal(ann, "run", SPEAKER, "sleep", "-p", "seconds:=1.3", **asked).decode()
    assert "speaker@1.0.0 sleep …" in shown
    assert ("\x1b" in shown) == (not asked)


@pytest.mark.parametrize(
    "arguments", [("file", "put", "big.bin"), ("run", SPEAKER, "copy", "-f", "input=big.bin", "--json")]
)
def test_uploads_show_on_a_terminal_how_far_they_are(ann: Command, tmp_path: Path, arguments: tuple[str, ...]):
    (tmp_path / "big.bin").write_bytes(b"x" * 20_000_000)
    shown = on_a_terminal(ann, *arguments).decode()
    assert "big.bin" in shown
    assert "20.0/20.0 MB" in shown
    assert re.search(r"\d [MG]B/s", shown)
    assert "s3://" in shown.splitlines()[-1] or '"SUCCESS"' in shown


def test_uploads_into_a_pipe_show_nothing(ann: Command, tmp_path: Path):
    (tmp_path / "data.csv").write_text("a")
    assert ann("file", "put", "data.csv").err == ""


def test_a_function_that_only_returns_shows_its_result_in_a_stream_too(ann: Command):
    once, streamed = (ann("run", SPEAKER, "greet", "-p", "name=x", *more) for more in ((), ("--stream",)))
    assert streamed.json == once.json == {"text": "Hello, x", "token": 0}
    assert ann("job", "show").out.partition("{")[2] == once.out.partition("{")[2]
    assert ann("job", "events").json == once.json


def test_the_type_of_an_exception_is_told(ann: Command):
    for more in ((), ("--stream",)):
        assert "(PREFAB_ERROR): ValueError: it went wrong\n" in ann("run", SPEAKER, "fail", *more).err
    job_id = ann("job", "list", "--limit", "1", "--json").json["jobs"][0]["id"]
    shown = ann("job", "show", job_id)
    assert "ValueError: it went wrong" in shown.out
    waited = ann("job", "wait", job_id)
    assert "failed. ValueError: it went wrong\n" in waited.err
    assert all(f"What it printed: gateway job logs {job_id}" in ended.err for ended in (shown, waited))


def test_the_newest_job_is_meant_where_none_is_named(ann: Command):
    job_id = ann("run", SPEAKER, "greet", "-p", "name=me", "--json").json["job_id"]
    assert ann("job", "logs").out == "greeting me\n"
    waited = ann("job", "wait")
    assert waited.out == "succeeded\n"
    assert f"Newest job: {job_id}, {SPEAKER} greet" in waited.err
    assert f"Its result: gateway job show {job_id}" in waited.err
    assert ann("job", "events", "--json").code == 0


def test_progress_does_not_stick_to_content_on_a_terminal(ann: Command):
    shown = on_a_terminal(ann, "run", SPEAKER, "tell", "-p", "n:=2", "--stream", NO_COLOR="1").decode()
    assert [line for line in shown.split("\r\n") if line] == ["progress: at=0", "0;", "progress: at=1", "1;"]
