"""Environments for real: resolved and installed from the package index that this machine uses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from gateway_server.prefabs import environments as module
from gateway_server.prefabs.environments import EnvironmentBuildError, Environments, Resolution, sdk_wheel
from gateway_server.prefabs.uv import explain, run_tool


def imports(environment: Path, code: str) -> str:
    """What code prints that can import from an environment and from nowhere else."""
    program = f"import sys; sys.path.append({str(environment)!r}); {code}"
    command = [sys.executable, "-I", "-S", "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def locked(resolution: Resolution) -> set[str]:
    return {line.partition("==")[0] for line in resolution.lock.splitlines() if "==" in line}


def resolve_and_build(environments: Environments, *requirements: str) -> Path:
    async def both() -> Path:
        return await environments.build(await environments.resolve(requirements, ">=3.11"))

    return asyncio.run(both())


def test_a_dependency_is_installed_and_shared(environments: Environments) -> None:
    said: list[str] = []

    async def story() -> tuple[Path, Path, Path]:
        first = await environments.resolve(["humanize>=4"], ">=3.11")
        second = await environments.resolve(["Humanize >= 4"], None)
        assert first == second
        together = await asyncio.gather(environments.build(first, said.append), environments.build(second, said.append))
        started = time.perf_counter()
        again = await environments.build(first)
        assert time.perf_counter() - started < 0.05
        return together[0], together[1], again

    first, second, again = asyncio.run(story())
    assert first == second == again
    assert os.listdir(first.parent) == [first.name]
    assert any("humanize" in line for line in said)
    assert imports(first, "import humanize; print(humanize.intcomma(12345))") == "12,345"
    assert imports(first, "import humanize; print(humanize.__file__)").startswith(str(first))
    assert list(first.rglob("*.pyc"))


def test_an_environment_is_readable_by_all_and_writable_by_none_but_its_owner(environments: Environments) -> None:
    environment = resolve_and_build(environments, "idna>=3.10")
    for path in (environment, *environment.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode in ((0o755,) if path.is_dir() else (0o644, 0o755)), path
        assert path.is_dir() or path.stat().st_nlink == 1, f"{path} is linked with the cache"
    for script in (environment / "bin").glob("*"):
        assert script.read_text().splitlines()[0] == "#!/usr/bin/env python3"


def test_no_requirements_need_no_index(environments: Environments, offline_quickly: None) -> None:
    empty = resolve_and_build(environments)
    assert os.listdir(empty) == [".complete"]
    assert resolve_and_build(environments, "agent-builder-gateway-runtime>=9") == empty


@pytest.mark.parametrize(
    "requirement",
    [
        "agent-builder-gateway-sdk",
        "agent_builder_gateway_sdk[all]>=99",
        "agent-builder-gateway-sdk==0.0.1",
        "agent-builder-gateway-sdk @ https://example.org/old.whl",
    ],
)
def test_the_sdk_is_the_gateways_own(environments: Environments, requirement: str) -> None:
    resolution = asyncio.run(environments.resolve([requirement, "agent-builder-gateway-runtime==7"], None))
    assert "httpx" in locked(resolution)
    assert not {name for name in locked(resolution) if name.startswith("agent")}
    assert "file:" not in resolution.lock


def test_the_sdk_is_the_gateways_own_for_dependencies_too(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = tmp_path / "links"
    needs = ["agent-builder-gateway-sdk>=99", "agent-builder-gateway-runtime>=99"]
    make_wheel(links, "needs-the-sdk", needs)
    monkeypatch.setenv("UV_FIND_LINKS", str(links))
    resolution = asyncio.run(environments.resolve(["needs-the-sdk"], None))
    assert {"needs-the-sdk", "httpx"} <= locked(resolution)
    environment = asyncio.run(environments.build(resolution))
    assert (environment / "needs_the_sdk.py").is_file()
    assert (environment / "httpx").is_dir()
    assert not (environment / "gateway_sdk").exists()


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("no-such-package-6e1f", "no package called no-such-package-6e1f"),
        ("six>99", "cannot be resolved: .*six>99"),
        ("docopt==0.6.2", "no wheel of docopt==0.6.2"),
        ("six @ file:///tmp/six.whl", "names an address"),
        ("-r /etc/passwd", "cannot be read"),
        ("--index-url=http://example.org", "cannot be read"),
        ("six\n--pre", "characters"),
        ("six==${HOME}", "characters"),
    ],
)
def test_what_cannot_be_had_is_said_in_a_sentence(environments: Environments, requirement: str, expected: str) -> None:
    with pytest.raises(EnvironmentBuildError, match=expected) as caught:
        asyncio.run(environments.resolve([requirement], None))
    assert "\n" not in str(caught.value)
    assert "Traceback" not in caught.value.log


def test_another_python_is_said_in_a_sentence(environments: Environments) -> None:
    with pytest.raises(EnvironmentBuildError, match="needs Python >=4"):
        asyncio.run(environments.resolve([], ">=4"))


def test_an_unreachable_index_is_said_in_a_sentence(environments: Environments, offline_quickly: None) -> None:
    with pytest.raises(EnvironmentBuildError, match="index could not be reached"):
        asyncio.run(environments.resolve(["six"], None))


def test_passwords_in_addresses_do_not_reach_the_log(
    environments: Environments, offline_quickly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://user:s3cret@127.0.0.1:9/simple")
    with pytest.raises(EnvironmentBuildError) as caught:
        asyncio.run(environments.resolve(["six"], None))
    assert "s3cret" not in caught.value.log


def test_uv_and_builds_see_what_they_need_of_the_environment_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = "UV_INDEX_HOUSE_PASSWORD HTTPS_PROXY no_proxy SSL_CERT_FILE NETRC XDG_CACHE_HOME LC_ALL CC CFLAGS"
    others = "AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN GATEWAY_MASTER_KEY X_INTERNAL_TOKEN DATABASE_URL MY_PROXY_KEY"
    for name in f"{needed} {others}".split():
        monkeypatch.setenv(name, "told")
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    with open(os.devnull, "rb") as lock:
        told = asyncio.run(run_tool([sys.executable, "-c", program], cwd=tmp_path, limit=20, lock=lock.fileno()))
    seen = json.loads(told)
    assert [name for name in [*needed.split(), "PATH", "HOME"] if name not in seen] == []
    assert [name for name in others.split() if name in seen] == []
    assert seen["UV_PYTHON_DOWNLOADS"] == "never"


def test_wrong_contents_are_refused(environments: Environments) -> None:
    wrong = Resolution(key="wrong", lock=f"six==1.17.0 \\\n    --hash=sha256:{'0' * 64}\n")
    with pytest.raises(EnvironmentBuildError, match=r"[Hh]ash"):
        asyncio.run(environments.build(wrong))
    assert environments.path("wrong") is None


def test_a_cancelled_build_leaves_nothing(environments: Environments, tmp_path: Path) -> None:
    async def story() -> None:
        resolution = await environments.resolve(["humanize"], None)
        builds = [asyncio.create_task(environments.build(resolution)) for _ in range(2)]
        await asyncio.sleep(0)
        builds[0].cancel()
        await asyncio.wait([builds[0]])
        assert (await builds[1]).is_dir()  # the other caller still gets it
        environments.prune(set())
        begun = asyncio.Event()
        alone = asyncio.create_task(environments.build(resolution, lambda line: begun.set()))
        await begun.wait()
        alone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await alone

    asyncio.run(story())
    assert os.listdir(tmp_path / "environments") == []


def test_an_environment_that_is_being_finished_is_whole_or_not_there(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs, may_end = threading.Event(), threading.Event()

    def sync() -> None:
        syncs.set()
        may_end.wait(20)

    async def story() -> Path:
        resolution = await environments.resolve([], None)
        monkeypatch.setattr(os, "sync", sync)
        alone = asyncio.create_task(environments.build(resolution))
        await asyncio.to_thread(syncs.wait, 20)
        alone.cancel()
        await asyncio.wait([alone], timeout=0.05)
        assert len(os.listdir(tmp_path / "environments")) == 1  # nobody takes the workshop from under the thread
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await alone
        return await environments.build(resolution)

    built = asyncio.run(story())
    assert os.listdir(tmp_path / "environments") == [built.name]
    assert os.listdir(built) == [".complete"]


def test_a_build_that_is_canceled_while_its_scripts_are_written_leaves_nothing(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, may_write = threading.Event(), threading.Event()

    def tidy(built: Path) -> None:
        writes.set()
        may_write.wait(20)
        (built / "late").write_text("x")

    async def story() -> None:
        monkeypatch.setattr(module, "run_tool", AsyncMock(return_value=""))
        monkeypatch.setattr(module, "_tidy", tidy)
        alone = asyncio.create_task(environments.build(Resolution(key="any", lock="humanize==4.0")))
        await asyncio.to_thread(writes.wait, 20)
        alone.cancel()
        await asyncio.wait([alone], timeout=0.05)
        may_write.set()
        with pytest.raises(asyncio.CancelledError):
            await alone

    asyncio.run(story())
    assert os.listdir(tmp_path / "environments") == []


KILLED = """
import asyncio, sys
from pathlib import Path
from gateway_server.prefabs.environments import Environments, sdk_wheel
root = Path(sys.argv[1])
environments = Environments(root, lambda: sdk_wheel(root.parent / "sdk"))
async def main():
    resolution = await environments.resolve(["humanize"], None)
    print("resolved", flush=True)
    await environments.build(resolution, lambda line: print(line, flush=True))
asyncio.run(main())
"""


def test_a_killed_build_leaves_nothing_after_the_next_start(environments: Environments, tmp_path: Path) -> None:
    root = tmp_path / "environments"
    command = [sys.executable, "-c", KILLED, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        assert gateway.stdout.readline() == "resolved\n"
        assert gateway.stdout.readline()  # uv has begun
        environments.sweep()
        assert list(root.glob(".building-*")), "a living build is left alone"
        gateway.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while os.listdir(root) and time.monotonic() < deadline:
        environments.sweep()  # what the gateway had started may take a moment to end
        time.sleep(0.01)
    assert os.listdir(root) == []


def test_half_an_environment_is_not_taken_for_one(environments: Environments, tmp_path: Path) -> None:
    resolution = asyncio.run(environments.resolve([], None))
    broken = tmp_path / "environments" / resolution.key
    broken.mkdir(parents=True)
    (broken / "six.py").write_text("")
    assert environments.path(resolution.key) is None
    asyncio.run(environments.build(resolution))
    assert os.listdir(broken) == [".complete"]


def test_prune_keeps_what_is_named(environments: Environments, tmp_path: Path) -> None:
    environments.prune(set())  # before there is anything
    kept = resolve_and_build(environments)
    other = tmp_path / "environments" / "other"
    other.mkdir()
    (other / ".complete").touch()
    (kept.parent / "lost+found").mkdir()  # not the gateway's own, which may not even be allowed to rename it
    environments.prune({kept.name})
    assert set(os.listdir(kept.parent)) == {kept.name, "lost+found"}


def test_a_tool_that_takes_too_long_is_ended(environments: Environments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_server.prefabs.environments.RESOLVE_TIMEOUT", 0.001)
    with pytest.raises(EnvironmentBuildError, match="longer than"):
        asyncio.run(environments.resolve(["six"], None))


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (
            "  × No solution found when resolving dependencies:\n"
            "  ╰─▶ Because foo was not found in the package registry and you require foo, we can conclude…",
            "the package index has no package called foo",
        ),
        (
            "  × No solution found when resolving dependencies:\n  ╰─▶ Because only a<2 is available, we can conclude…",
            "the dependencies cannot be resolved: Because only a<2 is available, we can conclude…",
        ),
        (
            "error: Failed to fetch: `https://x/six/`\n  Caused by: dns error",
            "the package index could not be reached",
        ),
        (
            "error: Failed to fetch: `https://x/six/`\n"
            "  Caused by: HTTP status client error (401 Unauthorized) for url (https://x/six/)",
            "the package index answered with an error: 401 Unauthorized",
        ),
        (
            "error: Failed to install: six\n  cause: No space left on device (os error 28)",
            "the dependencies cannot be installed: Failed to install: six: No space left on device (os error 28)",
        ),
        ("", "the dependencies cannot be installed: uv gave no reason"),
    ],
)
def test_explanations_of_other_releases_of_uv(log: str, expected: str) -> None:
    assert explain(log) == expected


def make_wheel(folder: Path, name: str, requires: list[str]) -> None:
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    folder.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{module}.py", "")
        archive.writestr(f"{info}/METADATA", metadata + "".join(f"Requires-Dist: {text}\n" for text in requires))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def test_allowed_sources_are_built(tmp_path: Path) -> None:
    wheel = sdk_wheel(tmp_path / "sdk")
    generous = Environments(tmp_path / "environments", lambda: wheel, allow_source=True)
    resolution = asyncio.run(generous.resolve(["docopt==0.6.2"], None))  # of which there is no wheel
    assert locked(resolution) == {"docopt"}
    assert (asyncio.run(generous.build(resolution)) / "docopt.py").is_file()
