"""Many workers of one small prefab at the same time: what they share is not held against the process they come from."""

import asyncio
from pathlib import Path

from gateways import Gateway, running_gateway
from packages import write_package

from gateway_sdk import AsyncGatewayClient

WORK = """
import json, decimal, email, http.client, sqlite3, unittest, xml.dom.minidom
import time

HELD = [str(n) for n in range(50_000)]

def waits(seconds: float):
    time.sleep(seconds)
    return len(HELD)
"""
USERS = 80


def test_the_process_that_workers_come_from_outlives_many_of_them(tmp_path: Path) -> None:
    manifest = {"execution_environment": {"cpu": "500m", "memory": "64Mi"}}
    with running_gateway(tmp_path / "data") as gateway:
        gateway.publish(write_package(tmp_path / "work", WORK, prefab_id="work", manifest=manifest))
        tokens = [gateway.token(f"user-{n}") for n in range(USERS)]
        assert asyncio.run(_all(gateway, tokens)) == [50_000] * USERS  # and their workers stay, idle


async def _all(gateway: Gateway, tokens: list[str]) -> list[int]:
    clients = [AsyncGatewayClient(token, gateway.url) for token in tokens]
    results = await asyncio.gather(*(client.run("work", "1.0.0", "waits", {"seconds": 0.05}) for client in clients))
    return [result.get_result() for result in results]
