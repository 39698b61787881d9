"""Where the gateway may be sent by whoever registers an agent."""

import asyncio

import pytest

from gateway_server.calls.agent_wire import Agent, Unreached, Wire
from gateway_server.calls.agent_wishes import checked_url
from gateway_server.engine.local import firewall
from gateway_server.errors import Invalid

MOVED = b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n"


async def ask(name: str) -> tuple[int | str, list[bytes]]:
    """The status of an agent at that name of this machine, or why there is none; and what reached it."""
    heard: list[bytes] = []
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if line := await reader.readline():
            heard.append(line)
            writer.write(MOVED)
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    wire = Wire()
    await wire.start()
    try:
        agent = Agent(id="moved", url=f"http://{name}:{port}", owner="ann", created_at=0)
        response = await wire.send(agent, "GET", b"", [])
        await response.aclose()
        return response.status_code, heard
    except Unreached as error:
        return str(error), heard
    finally:
        await wire.close()
        await asyncio.wait_for(ended.wait(), 10)
        server.close()


def test_redirects_are_the_callers_matter():
    assert asyncio.run(ask("127.0.0.1")) == (302, [b"GET / HTTP/1.1\r\n"])


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "0x7f000001"])
def test_nothing_is_sent_where_a_cloud_keeps_its_secrets_whatever_name_leads_there(monkeypatch, name):
    monkeypatch.setattr(firewall, "_METADATA", ("127.0.0.0/8",))
    reason, heard = asyncio.run(ask(name))
    assert (reason, heard) == ("no agent may be at a link-local or metadata address", [])


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "100.100.100.200"])
def test_such_addresses_cannot_be_registered(host):
    with pytest.raises(Invalid, match="link-local"):
        checked_url(f"http://{host}/agent")


def test_others_can():
    for url in ("http://127.0.0.1:8080", "http://[fd00::5]:8080", "https://agents.example/x"):
        assert checked_url(url) == url
