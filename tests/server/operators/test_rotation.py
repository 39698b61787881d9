"""Keys of the gateway itself, changed and lost: what goes on, what has to be set again, and what is told."""

import base64
import os
import subprocess
from pathlib import Path

import httpx
from gateways import COMMAND, Gateway, running_gateway, until
from packages import write_package

from gateway_sdk import MissingSecretError

SOURCE = """
import os

def tell():
    return os.environ["API_KEY"][::-1]
"""
DECLARED = {"tell": {"secrets": [{"name": "API_KEY", "description": "", "instructions": "Ask at the desk."}]}}
VALUE = "value-of-the-secret"


def gateway_command(gateway: Gateway, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"GATEWAY_BASE_URL": gateway.url, "GATEWAY_API_KEY": gateway.admin_key, "PATH": os.environ["PATH"]}
    return subprocess.run(
        [COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def set_secret(gateway: Gateway) -> None:
    wanted = {"prefab_id": "teller", "secret_name": "API_KEY", "secret_value": VALUE, "user": "ann"}
    assert gateway.request("POST", "/v1/secrets", json=wanted).status_code == 204


def status(gateway: Gateway, token: str) -> int:
    return httpx.get(f"{gateway.url}/v1/files", headers={"X-Internal-Token": token}, trust_env=False).status_code


def test_signing_keys_and_master_keys_change_and_are_lost(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_gateway(data) as gateway:
        gateway.publish(write_package(tmp_path / "teller", SOURCE, prefab_id="teller", functions=DECLARED))
        set_secret(gateway)
        key = gateway.key("ann")
        token = gateway.token("ann", "helper")

        told = gateway_command(gateway, "key", "rotate-signing")
        assert told.returncode == 0, told.stderr
        newer = gateway.token("ann", "helper")
        assert status(gateway, token) == status(gateway, newer) == 200
        assert gateway_command(gateway, "key", "rotate-signing", "--revoke-old").returncode == 0
        assert status(gateway, token) == status(gateway, newer) == 401
        token = gateway.token("ann", "helper")
        assert gateway.request("GET", "/v1/audit?action=signing-key").json()["entries"][0]["detail"]["revoke_old"]

        old = (data / "master.key").read_text()
        told = gateway_command(gateway, "secret", "rotate-master-key", "--data", str(data))
        assert told.returncode == 0, told.stderr
        assert (data / "master.key").read_text() != old == (data / "master.key.previous").read_text()
        assert gateway.client().run("teller", "1.0.0", "tell", {}).get_function_result() == VALUE[::-1]
        again = gateway_command(gateway, "secret", "rotate-master-key", "--data", str(data))
        assert again.returncode == 1
        assert "Start it first" in again.stderr
        set_secret(gateway)  # still under the old key

    with running_gateway(data) as gateway:
        assert "under the new master key now" in gateway.log()
        assert not (data / "master.key.previous").exists()
        assert gateway.client().run("teller", "1.0.0", "tell", {}).get_function_result() == VALUE[::-1]
        assert status(gateway, token) == 200

    (data / "master.key").write_text(base64.b64encode(b"another key, of thirty-two bytes").decode())
    refused = subprocess.run(
        [COMMAND, "serve", "--port", "0", "--data", str(data)], capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 1
    assert "another master key" in refused.stderr
    assert "gateway serve --forget-secrets" in refused.stderr
    assert "Traceback" not in refused.stderr

    with running_gateway(data, "--forget-secrets") as gateway:
        assert "are forgotten" in gateway.log()
        assert status(gateway, token) == 401
        assert gateway.request("GET", "/v1/jobs", key=key).json()["jobs"], "keys and jobs live on"
        try:
            gateway.client().run("teller", "1.0.0", "tell", {})
        except MissingSecretError as error:
            assert (error.prefab_id, error.secret_name, error.instructions) == ("teller", "API_KEY", "Ask at the desk.")
            assert "Ask at the desk. Set it with: gateway secret set teller API_KEY" in str(error)
        else:
            raise AssertionError("the secret is still there")
        set_secret(gateway)
        assert gateway.client().run("teller", "1.0.0", "tell", {}).get_function_result() == VALUE[::-1]


def test_a_master_key_that_a_command_tells_stays_out_of_the_process_table(tmp_path: Path) -> None:
    key = base64.b64encode(os.urandom(32)).decode()
    (tmp_path / "vault").write_text(key)
    data = tmp_path / "data"
    with running_gateway(data, env={"GATEWAY_MASTER_KEY_COMMAND": f"cat {tmp_path / 'vault'}"}) as gateway:
        gateway.publish(write_package(tmp_path / "teller", SOURCE, prefab_id="teller", functions=DECLARED))
        set_secret(gateway)
        assert gateway.client().run("teller", "1.0.0", "tell", {}).get_function_result() == VALUE[::-1]
        assert not (data / "master.key").exists()
        for pid in (gateway.pid, *gateway.workers()):
            for name in ("cmdline", "environ"):
                assert key.encode() not in until(lambda p=pid, n=name: Path(f"/proc/{p}/{n}").read_bytes() or b"-")
        limits = Path(f"/proc/{gateway.pid}/limits").read_text()
        (core,) = (line.split() for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core[4:6] == ["1", "1"]
