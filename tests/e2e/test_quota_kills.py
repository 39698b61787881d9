"""A quota under a crowd and kills: what is counted is what is recorded, whatever was cut."""

import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx
from gateways import Gateway, running_gateway, until
from packages import write_package

CALLERS = int(os.environ.get("GATEWAY_TEST_CALLERS", "40"))
LIMIT = int(os.environ.get("GATEWAY_TEST_LIMIT", "200"))
KILLS = 2
WORK = """
import time

def work(n: int):
    time.sleep(0.05)
    return n
"""


class Caller(threading.Thread):
    """Makes one call after the other, each with a key of its own under which it is tried until it is answered, and ends
    when the quota is used up."""

    def __init__(self, gateway: Gateway, key: str, number: int) -> None:
        super().__init__(daemon=True)
        self._gateway, self._key, self._number = gateway, key, number
        self.succeeded = 0
        self.answers: list[int] = []
        self.start()

    def run(self) -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            made = 0
            while self._call(client, made) != 429:
                made += 1

    def _call(self, client: httpx.Client, made: int) -> int:
        call = {"prefab_id": "work", "version": "1.0.0", "function_name": "work", "inputs": {"parameters": {"n": made}}}
        headers = {"X-API-Key": self._key, "Idempotency-Key": f"{self._number}-{made}"}
        while True:
            try:
                answer = client.post(f"{self._gateway.url}/v1/run", json={"calls": [call]}, headers=headers)
            except httpx.HTTPError:
                time.sleep(0.05)  # the gateway is down; nothing depends on the length
                continue
            self.answers.append(answer.status_code)
            if answer.status_code == 503:
                continue
            self.succeeded += answer.status_code == 200
            return answer.status_code


def counted(gateway: Gateway, key: str) -> tuple[int, int]:
    """Calls that the quota has counted, and records that were charged."""
    quota = gateway.request("GET", "/v1/quotas", key=key).json()
    used = next(entry["used"] for entry in quota["quotas"] if entry["limit"] == LIMIT)
    with closing(sqlite3.connect(gateway.data / "gateway.db", timeout=10)) as database:
        (charged,) = database.execute("SELECT count(*) FROM jobs WHERE user = 'crowd' AND charged").fetchone()
    return int(used), int(charged)


def test_charges_and_records_agree_through_kills(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "data") as gateway:
        gateway.publish(write_package(tmp_path / "work", WORK, prefab_id="work"))
        key = gateway.key("crowd")
        gateway.request("PUT", "/v1/quotas/crowd", json={"limit": LIMIT}).raise_for_status()
        callers = [Caller(gateway, key, number) for number in range(CALLERS)]
        for kill in range(1, KILLS + 1):
            part = LIMIT * kill // (KILLS + 2)
            until(lambda part=part: sum(caller.succeeded for caller in callers) >= part, 60, "progress")  # type: ignore[misc]
            assert gateway.process
            gateway.process.kill()
            gateway.process.wait()
            gateway.start()
        for caller in callers:
            caller.join(120)
        assert not any(caller.is_alive() for caller in callers)
        assert {status for caller in callers for status in caller.answers} <= {200, 429, 503}
        assert counted(gateway, key) == (LIMIT, LIMIT)
        assert sum(caller.succeeded for caller in callers) <= LIMIT
        gateway.stop()
        gateway.start()
        assert counted(gateway, key) == (LIMIT, LIMIT)
