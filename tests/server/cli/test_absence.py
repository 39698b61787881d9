"""Commands that look at a job again and again outlive a gateway that is started anew, as the job does."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command
from gateways import Gateway, running_gateway
from packages import write_package
from running import Running

from gateway_server.cli import absence
from gateway_server.cli.failures import Failure, unreachable

SLOW = """
import time

def work(seconds: float) -> dict:
    print("begun", flush=True)
    time.sleep(seconds)
    print("done", flush=True)
    return {}
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(tmp_path / "data") as started:
        started.publish(write_package(tmp_path / "slow", SLOW, prefab_id="slow"))
        yield started


@pytest.fixture
def command(gateway: Gateway, tmp_path: Path) -> Command:
    return Command(tmp_path, GATEWAY_BASE_URL=gateway.url, GATEWAY_API_KEY=gateway.admin_key)


def test_a_job_is_waited_for_and_followed_beyond_the_gateway(gateway: Gateway, command: Command):
    job_id = command("run", "slow@1.0.0", "work", "-p", "seconds:=3", "--detach").line
    wait, follow = (Running(command.start("job", *looking, job_id)) for looking in (("wait",), ("logs", "-f")))
    with wait, follow:
        follow.wait_for("begun\n")
        gateway.stop(signal.SIGKILL)
        for running in (wait, follow):
            running.wait_for("Trying again")
        again = Gateway(gateway.data, "--port", gateway.url.rsplit(":", 1)[1]).start()
        try:
            assert wait.process.wait(40) == 0
            assert follow.process.wait(40) == 0
        finally:
            again.stop()
    assert "succeeded\n" in wait.written
    assert follow.written.endswith("begun\ndone\n")


def test_waiting_ends_in_time_where_the_gateway_stays_away(gateway: Gateway, command: Command):
    job_id = command("run", "slow@1.0.0", "work", "-p", "seconds:=60", "--detach").line
    with Running(command.start("job", "wait", job_id, "--timeout", "3s")) as wait:
        with Running(command.start("job", "logs", "-f", job_id)) as follow:
            follow.wait_for("begun")
        gateway.stop(signal.SIGKILL)
        assert wait.process.wait(20) == 4
    assert "No gateway answers" in wait.written


def test_where_no_gateway_has_been_none_is_waited_for(alone: Command):
    for arguments in (("wait", "x"), ("logs", "-f", "x")):
        ended = alone("job", *arguments)
        assert ended.code == 1
        assert "Trying" not in ended.err


def test_what_is_no_absence_is_not_borne(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(absence, "PAUSE", 0.01)
    away = absence.Absence(0.1)
    with pytest.raises(Failure, match="refused"), away.borne():
        raise Failure("refused")

    def look_in_vain() -> None:
        for _ in range(1000):
            with away.borne():
                raise unreachable("http://x", "refused")

    with pytest.raises(Failure, match="No gateway"):
        look_in_vain()
