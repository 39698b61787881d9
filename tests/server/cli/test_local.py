"""The commands that need no gateway: they write one, check one, or are one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from command import Command
from gateways import COMMAND, until
from packages import write_package
from running import Running
from speaker import write_speaker


def test_init_writes_a_prefab_that_works(alone: Command, tmp_path: Path):
    ended = alone("init", "my-prefab")
    assert ended.line == "my-prefab"
    assert "gateway prefab run my-prefab" in ended.err
    assert alone("prefab", "validate", "my-prefab").line == "my-prefab@1.0.0 is valid."
    again = alone("init", "my-prefab")
    assert again.code == 1
    assert "not empty" in again.err
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(tests, cwd=tmp_path / "my-prefab", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    ran = alone("prefab", "run", "my-prefab", "greet", "-p", "name=you", "-p", "shout:=true")
    assert ran.json == {"success": True, "greeting": "HELLO, YOU!"}


def test_validate(alone: Command, tmp_path: Path):
    folder = write_speaker(tmp_path / "p")
    assert alone("prefab", "validate", folder, "--json").json == {
        "ok": True,
        "prefab": "speaker@1.0.0",
        "errors": [],
        "warnings": [],
    }
    (folder / "src" / "main.py").write_text("def other(): ...\n")
    ended = alone("prefab", "validate", folder)
    assert ended.code == 1
    assert "error: /functions/0/name" in ended.out
    told = alone("prefab", "validate", folder, "--json")
    assert (told.code, told.json["ok"]) == (1, False)
    (folder / "prefab-manifest.json").write_text("{")
    assert alone("prefab", "validate", folder).code == 1


def test_what_nobody_will_read_in_a_manifest_is_said(alone: Command, tmp_path: Path):
    wrong = {"greet": {"secret": []}}
    more = {"$schema": "https://x.example/schema.json", "execution_environment": {"cpus": 1}, "parameter": []}
    write_package(tmp_path / "p", "def greet() -> dict:\n    return {}\n", functions=wrong, manifest=more)
    ended = alone("prefab", "validate", "p")
    assert ended.code == 0
    told = [line for line in ended.out.splitlines() if line.startswith("warning: ")]
    pointers = ["/parameter", "/functions/0/secret", "/execution_environment/cpus"]
    assert [line.split(": ")[1] for line in told] == pointers
    assert "did you mean 'secrets'?" in told[1]
    assert "did you mean 'cpu'?" in told[2]


def test_run_a_package(alone: Command, tmp_path: Path):
    folder = write_speaker(tmp_path / "p")
    ended = alone("prefab", "run", folder, "greet", "-p", "name=x", TOKEN="1234")
    assert ended.json == {"text": "Hello, x", "token": 4}  # secrets come from the environment
    assert ended.err == "greeting x\n"
    assert alone("prefab", "run", folder, "tell", "-p", "n:=2", "--stream").out == "0;1;\n"
    assert alone("prefab", "run", folder, "sleep", "-p", "seconds:=60", "--timeout", "0.5s").code == 4
    assert alone("prefab", "run", tmp_path, "greet").code == 1


def test_a_package_that_fails_shows_where(alone: Command, tmp_path: Path):
    folder = write_speaker(tmp_path / "p")

    def run(function: str) -> str:
        with Running(alone.start("prefab", "run", folder, function)) as running:
            assert running.process.wait(60) == 1
        return running.written

    written = run("fail")
    assert 'raise ValueError("it went wrong")' in written
    assert "gateway job" not in written  # no gateway is left that could be asked
    main = folder / "src" / "main.py"
    main.write_text("import no_such_module\n" + main.read_text())
    assert "import no_such_module" in run("fail")


def test_files_of_a_package_are_kept_where_one_says(alone: Command, tmp_path: Path):
    folder = write_speaker(tmp_path / "p")
    (tmp_path / "in.txt").write_text("x")
    ended = alone("prefab", "run", folder, "copy", "-f", "input=in.txt")
    assert ended.json == {"success": True}
    assert "file output: in.txt" in ended.err
    assert "-o DIR" in ended.err
    for more in ((), ("--force",)):
        ended = alone("prefab", "run", folder, "copy", "-f", "input=in.txt", "-o", "results", *more)
        assert "file output: results/in.txt" in ended.err
    assert (tmp_path / "results" / "in.txt").read_text() == "X"


def test_files_of_a_package_stay_apart_and_overwrite_nothing(alone: Command, tmp_path: Path):
    source = """
    from pathlib import Path

    def write() -> dict:
        for folder in ("sub", "oth"):
            place = Path("data/outputs") / folder
            place.mkdir(parents=True)
            (place / "dup.txt").write_text(folder)
        return {}
    """
    output = {"files": {"output": {"type": "array", "items": {"type": "OutputFile"}}}}
    folder = write_package(tmp_path / "p", source, functions={"write": output})
    kept, earlier = tmp_path / "r" / "sub" / "dup.txt", tmp_path / "r" / "oth" / "dup.txt"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("precious")
    refused = alone("prefab", "run", folder, "write", "-o", "r")
    assert (refused.code, refused.json) == (1, {})
    assert "r/oth/dup.txt. Overwrite with --force" in refused.err
    assert (kept.read_text(), earlier.read_text()) == ("sub", "precious")
    assert alone("prefab", "run", folder, "write", "-o", "r", "--force").code == 0
    assert (kept.read_text(), earlier.read_text()) == ("sub", "oth")


def test_a_package_that_needs_a_secret_says_where_it_comes_from(alone: Command, tmp_path: Path):
    needs = {"where": {"secrets": [{"name": "API_KEY", "description": "Of the service."}]}}
    folder = write_package(tmp_path / "p", "def where() -> dict:\n    return {}\n", functions=needs)
    ended = alone("prefab", "run", folder, "where")
    assert (ended.code, ended.out) == (1, "")
    assert "export API_KEY=" in ended.err
    assert alone("prefab", "run", folder, "where", API_KEY="x").json == {}


def test_run_a_package_and_interrupt_it(alone: Command, tmp_path: Path):
    folder = write_speaker(tmp_path / "p")
    with Running(alone.start("prefab", "run", folder, "sleep", "-p", "seconds:=60", "--stream", "--json")) as run:
        run.wait_for('"start"')
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(15) == 130
    assert "Traceback" not in run.written


def test_dev_follows_changes(alone: Command, tmp_path: Path):
    folder = write_speaker(tmp_path / "p")
    with Running(alone.start("dev", "p", "--port", "0")) as dev:
        dev.wait_for("-p name=text")
        assert "everything is kept in .gateway" in dev.written
        assert f"{dev.url}/docs" in dev.written
        environment = {"GATEWAY_BASE_URL": dev.url}
        assert alone("run", "speaker@1.0.0", "greet", "-p", "name=x", **environment).json["text"] == "Hello, x"
        dev.wait_for("speaker greet succeeded in")
        assert "speaker greet | greeting x\n" in dev.written
        main = folder / "src" / "main.py"
        main.write_text(main.read_text().replace("Hello", "Ahoy"))
        until(lambda: dev.written.count("published in") == 2, 10, "the second publish")
        assert alone("run", "speaker@1.0.0", "greet", "-p", "name=x", **environment).json["text"] == "Ahoy, x"
        main.write_text(main.read_text().replace("def greet", "def groot"))
        dev.wait_for("did you mean 'groot'")
        main.write_text(main.read_text().replace("def groot", "def greet"))
        until(lambda: dev.written.count("published in") == 3, 10, "the third publish")
        assert (tmp_path / ".gateway" / "admin.key").stat().st_mode & 0o777 == 0o600
        elsewhere = {"Host": "evil.example"}
        assert httpx.get(f"{dev.url}/v1/prefabs", headers=elsewhere).status_code == 403
        dev.process.send_signal(signal.SIGINT)
        assert dev.process.wait(15) == 0
    assert "Traceback" not in dev.written


def test_dev_where_nothing_is(alone: Command, tmp_path: Path):
    ended = alone("dev", tmp_path, "--port", "0")
    assert ended.code == 1
    assert "gateway init" in ended.err


def test_dev_shows_how_calls_fail(alone: Command, tmp_path: Path):
    write_speaker(tmp_path / "p")
    with Running(alone.start("dev", "p", "--port", "0")) as dev:
        dev.wait_for("-p name=text")
        assert alone("run", "speaker@1.0.0", "fail", GATEWAY_BASE_URL=dev.url).code == 1
        dev.wait_for("speaker fail failed in")
        assert 'speaker fail |     raise ValueError("it went wrong")\n' in dev.written


def test_serve(alone: Command, tmp_path: Path):
    with Running(alone.start("serve", "--port", "0", "--data", "d")) as serve:
        serve.wait_for("/docs")
        serve.wait_for("listening on")  # the log may come later than what is said
        assert serve.written.count("listening on") == 1
        assert "d/admin.key" in serve.written
        assert "Warning" not in serve.written
        assert (tmp_path / "d" / "admin.key").stat().st_mode & 0o777 == 0o600
        assert httpx.get(f"{serve.url}/health").status_code == 200
        port = serve.url.rsplit(":", 1)[1]
        taken = alone("serve", "--port", port, "--data", "e")
        assert taken.code == 1
        assert "--port 0" in taken.err
        busy = alone("serve", "--port", "0", "--data", "d")
        assert busy.code == 1
        assert "Another gateway" in busy.err
        serve.process.terminate()
        assert serve.process.wait(20) == 0
    with Running(alone.start("serve", "--port", "0", "--data", "d", "--host", "0.0.0.0")) as serve:
        serve.wait_for("listening on http://127.0.0.1:")
        assert "admin.key" not in serve.written  # the first start has told
        serve.wait_for("TLS")
        serve.process.terminate()
        assert serve.process.wait(20) == 0


def test_what_the_first_start_says_can_be_copied(alone: Command, tmp_path: Path):
    with Running(alone.start("serve", "--port", "0", "--data", "my data")) as serve:
        serve.wait_for("/docs")
        commands = "".join(f"{line}\n" for line in serve.written.splitlines() if line.startswith("  "))
        shell = ["bash", "-euc", f"PATH={Path(COMMAND).parent}:$PATH\n{commands}"]
        done = subprocess.run(shell, cwd=tmp_path, env=alone.env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert '"greeting": "Hello, you!"' in done.stdout


@pytest.mark.parametrize("wish", [("--engine", "ray://x"), ("--database", "postgresql://x/y")], ids=" ".join)
def test_what_cannot_be_served_leaves_nothing_behind(alone: Command, tmp_path: Path, wish: tuple[str, ...]):
    assert alone("serve", "--port", "0", "--data", "d", *wish).code == 1
    assert list(tmp_path.iterdir()) == []


def test_serve_lets_calls_end(alone: Command, tmp_path: Path):
    with Running(alone.start("serve", "--port", "0", "--data", "d")) as serve:
        serve.wait_for("listening on")
        own = {"GATEWAY_BASE_URL": serve.url, "GATEWAY_API_KEY": (tmp_path / "d" / "admin.key").read_text().strip()}
        assert alone("prefab", "publish", write_speaker(tmp_path / "p"), **own).code == 0
        arguments = ("run", "speaker@1.0.0", "sleep", "-p", "seconds:=1.5", "--stream", "--json")
        with Running(alone.start(*arguments, **own)) as run:
            run.wait_for('"start"')
            serve.process.terminate()
            assert run.process.wait(20) == 0
        assert '"done"' in run.written
        assert serve.process.wait(20) == 0
        assert "1 call is running; it has 30 s to end." in serve.written


def test_trusted_networks(alone: Command, tmp_path: Path):
    arguments = ("serve", "--port", "0", "--data", "d", "--trusted-network", "127.0.0.0/8", "--default-user", "lab")
    with Running(alone.start(*arguments)) as serve:
        serve.wait_for("listening on")
        told = alone("quota", "show", "--json", GATEWAY_BASE_URL=serve.url).json
        assert told["user"] == "lab"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_data_folder_that_cannot_be_written(alone: Command, tmp_path: Path):
    tmp_path.chmod(0o500)
    assert alone("serve", "--port", "0", "--data", "d").code == 1


def test_a_data_folder_that_is_a_file(alone: Command, tmp_path: Path):
    (tmp_path / "d").write_text("")
    ended = alone("serve", "--port", "0", "--data", "d")
    assert ended.code in (1, 2)
    assert "d" in ended.err


def test_doctor(alone: Command, tmp_path: Path):
    told = alone("doctor", "--json")
    assert (told.code, told.json["ok"]) == (0, True)
    found = {finding["name"]: finding["state"] for finding in told.json["findings"]}
    assert {"python", "uv", "sandbox", "landlock", "free disk", "data folder"} <= set(found)
    assert found["gateway"] == "none"  # none is there, and none is needed to start one
    assert "python" in alone("doctor").out
    (tmp_path / "file").write_text("")
    bad = alone("doctor", "--data", "file/below", "--json")
    assert (bad.code, bad.json["ok"]) == (1, False)
    assert "data folder" in bad.err
    assert json.dumps(bad.json)
