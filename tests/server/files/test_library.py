"""Who may have which file, and when it ends."""

from __future__ import annotations

import hashlib
import re

import pytest

from gateway_server.errors import (
    FileNotFound,
    GatewayFault,
    Invalid,
    MissingAgentContext,
    PayloadTooLarge,
    PermissionDenied,
)
from gateway_server.files.keys import Area
from gateway_server.files.wishes import wish
from gateway_server.models import Principal

from .conftest import PRINCIPALS, House, stream

pytestmark = pytest.mark.anyio


async def fate(house: House, who: str, url: str) -> type[GatewayFault] | None:
    try:
        await house.library.find(PRINCIPALS[who], url)
    except GatewayFault as fault:
        return type(fault)
    return None


async def test_a_stored_file_is_described(house: House) -> None:
    file = await house.put(b"hello", "../名 前.txt")
    assert file.key == "agent-outputs/alice/writer/2025/11/07/102030000400-名 前.txt"
    assert file.s3_url == f"s3://agent-builder/{file.key}"
    assert (file.name, file.size, file.expires_at) == ("名 前.txt", 5, None)
    assert file.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert await house.library.find(PRINCIPALS["agent"], file.s3_url) == file


async def test_two_files_of_one_microsecond_have_two_keys(house: House) -> None:
    files = [await house.put(bytes([number])) for number in range(5)]
    assert len({file.key for file in files}) == 5
    for number, file in enumerate(files):
        assert b"".join([block async for block in house.objects.read(file.key)]) == bytes([number])


@pytest.mark.parametrize("area", [Area.OUTPUTS, Area.WORKSPACE, Area.INPUTS])
async def test_a_file_is_read_by_its_user_through_every_agent(house: House, area: Area) -> None:
    url = (await house.put(area=area)).s3_url
    for who in ("agent", "person", "other-agent"):
        assert await fate(house, who, url) is None
    assert await fate(house, "stranger", url) is PermissionDenied


async def test_what_is_not_there_is_told_only_to_its_user(house: House) -> None:
    for key in ("agent-outputs/alice/writer/2025/11/07/1-a", "agent-inputs/alice/2025/11/07/i-a"):
        assert await fate(house, "agent", f"s3://agent-builder/{key}") is FileNotFound
        assert await fate(house, "stranger", f"s3://agent-builder/{key}") is PermissionDenied


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("https://example.org/x", Invalid),
        ("agent-outputs/alice/x", Invalid),
        ("s3://other/agent-outputs/alice/writer/2025/11/07/1-a", PermissionDenied),
        ("s3://agent-builder/../secrets", PermissionDenied),
        ("s3://agent-builder/agent-outputs/alice/../mallory/x", PermissionDenied),
        ("s3://agent-builder/shared/../gateway.db", FileNotFound),
        ("s3://agent-builder", PermissionDenied),
    ],
)
async def test_what_lies_elsewhere_is_refused(house: House, url: str, fault: type[GatewayFault]) -> None:
    assert await fate(house, "agent", url) is fault


async def test_what_the_operator_grants_can_be_read(house: House) -> None:
    incoming = house.objects.receive("x")
    await incoming.write(b"model")
    await incoming.commit("shared/models/m.bin")
    file = await house.library.find(PRINCIPALS["stranger"], "s3://agent-builder/shared/models/m.bin")
    assert (file.name, file.size, file.user) == ("m.bin", 5, None)
    with pytest.raises(PermissionDenied):
        await house.library.delete(PRINCIPALS["agent"], file.s3_url)


async def test_code_in_a_call_reads_what_its_tree_was_given_or_wrote(house: House) -> None:
    given, other = await house.put(area=Area.INPUTS, who="person"), await house.put(area=Area.INPUTS, who="person")
    of_agent = await house.put()
    written = await house.put(area=Area.INPUTS, who="call")
    await house.library.hand("job-1", [given, given])
    await house.library.hand("job-9", [other])
    assert await fate(house, "call", given.s3_url) is None
    assert await fate(house, "call", written.s3_url) is None
    assert await fate(house, "call", other.s3_url) is PermissionDenied
    assert await fate(house, "call", of_agent.s3_url) is PermissionDenied
    assert await fate(house, "agent-call", of_agent.s3_url) is None
    assert await fate(house, "agent-call", other.s3_url) is PermissionDenied
    stranger = Principal(user="mallory", job_id="job-2", root_job_id="job-1")
    with pytest.raises(PermissionDenied):
        await house.library.find(stranger, given.s3_url)


async def test_files_of_a_call_are_checked_together_and_in_order(house: House) -> None:
    first, second = await house.put(name="1"), await house.put(name="2")
    urls = [second.s3_url, first.s3_url, second.s3_url]
    found = await house.library.readable(PRINCIPALS["person"], urls)
    assert [file.s3_url for file in found] == urls
    assert await house.library.readable(PRINCIPALS["person"], []) == []
    with pytest.raises(FileNotFound, match="missing"):
        await house.library.readable(
            PRINCIPALS["person"], [first.s3_url, "s3://agent-builder/agent-inputs/alice/2025/11/07/i-missing"]
        )


async def test_areas_of_agents_need_an_agent(house: House) -> None:
    for area in (Area.OUTPUTS, Area.WORKSPACE):
        for who in ("person", "call"):
            with pytest.raises(MissingAgentContext):
                await house.put(who=who, area=area)
    assert house.on_disk() == []
    assert (await house.put(who="agent-call")).agent == "writer"


@pytest.mark.parametrize(
    "wanted",
    [
        {"area": Area.OUTPUTS, "ttl": 60},
        {"area": Area.WORKSPACE, "ttl": 0},
        {"area": Area.WORKSPACE, "ttl": 31 * 86400},
        {"area": Area.WORKSPACE, "session": "../x"},
        {"area": Area.INPUTS, "session": "s"},
        {"area": Area.PREFAB_OUTPUTS},
        {"area": Area.INPUTS, "content_type": "text/plain\r\nX: y"},
        {"area": Area.INPUTS, "content_type": "nonsense"},
    ],
)
async def test_wishes_that_make_no_sense_are_refused(wanted: dict[str, object]) -> None:
    with pytest.raises(Invalid) as caught:
        wish(filename="a", **wanted)  # type: ignore[arg-type]
    assert caught.value.problems


async def test_an_expired_file_is_gone_at_once(house: House) -> None:
    file = await house.put(area=Area.WORKSPACE, ttl=60)
    house.clock.forward(seconds=59)
    assert await fate(house, "agent", file.s3_url) is None
    signed = house.library.sign(await house.library.find(PRINCIPALS["agent"], file.s3_url), 3600)
    assert signed.expires_at == file.expires_at
    house.clock.forward(seconds=1)
    assert await fate(house, "agent", file.s3_url) is FileNotFound
    with pytest.raises(FileNotFound):
        await house.library.delete(PRINCIPALS["agent"], file.s3_url)
    assert await house.library.cleanup(PRINCIPALS["agent"], None) == 0
    assert len(house.on_disk()) == 1


async def test_too_much_is_refused_and_leaves_nothing(house: House) -> None:
    wanted = wish(Area.OUTPUTS, "big")
    with pytest.raises(PayloadTooLarge):
        await house.library.put(PRINCIPALS["agent"], stream(*[b"x" * 700_000] * 2), lambda: wanted)
    assert house.on_disk() == []


async def test_a_source_that_breaks_leaves_nothing(house: House) -> None:
    async def broken():  # type: ignore[no-untyped-def]
        yield b"x" * (3 << 20 >> 2)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await house.library.put(PRINCIPALS["agent"], broken(), lambda: wish(Area.OUTPUTS, "cut"))
    assert house.on_disk() == []


async def test_a_file_is_deleted_by_its_user_and_not_by_another_agent(house: House) -> None:
    file = await house.put()
    for who in ("stranger", "other-agent", "call", "agent-call"):
        with pytest.raises(PermissionDenied):
            await house.library.delete(PRINCIPALS[who], file.s3_url)
    await house.library.delete(PRINCIPALS["person"], file.s3_url)
    assert await fate(house, "agent", file.s3_url) is FileNotFound
    assert house.on_disk() == []
    assert list((house.folder / "objects" / "kept").iterdir()) == []


async def test_cleaning_takes_the_temporary_files_of_one_agent(house: House) -> None:
    permanent = await house.put()
    other = await house.put(who="other-agent", area=Area.WORKSPACE, session="s")
    for session in ("s", "s", "s2", None):
        await house.put(area=Area.WORKSPACE, session=session)
    agent = PRINCIPALS["agent"]
    assert await house.library.cleanup(agent, "s") == 2
    assert await house.library.cleanup(agent, "s") == 0
    assert await house.library.cleanup(agent, None) == 2
    for file in (permanent, other):
        assert await fate(house, "agent", file.s3_url) is None
    with pytest.raises(MissingAgentContext):
        await house.library.cleanup(PRINCIPALS["person"], None)
    with pytest.raises(PermissionDenied):
        await house.library.cleanup(PRINCIPALS["agent-call"], None)
    with pytest.raises(Invalid):
        await house.library.cleanup(agent, "a/b")


async def test_the_url_of_a_file_lives_no_longer_than_a_week(house: House) -> None:
    file = await house.put()
    assert re.search(r"expires=\d+&filename=a.txt&type=text%2Fplain&signature=", house.library.sign(file, 60).url)
    for seconds in (0, -1, 7 * 86400 + 1):
        with pytest.raises(Invalid):
            house.library.sign(file, seconds)
