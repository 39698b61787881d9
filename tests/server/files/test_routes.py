"""The routes of files, as clients use them."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest

from .conftest import House, stream

pytestmark = pytest.mark.anyio
PERSON, STRANGER, CALL = {"x-test": "person"}, {"x-test": "stranger"}, {"x-test": "call"}


async def upload(client: httpx.AsyncClient, path: str = "upload", **request: Any) -> httpx.Response:
    request.setdefault("files", {"file": ("报告.txt", b"data", "text/plain")})
    return await client.post(f"/internal/files/{path}", **request)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]["error_code"]


def pointers(answer: httpx.Response) -> list[str]:
    assert code(answer) == (422, "VALIDATION_ERROR")
    return [error["pointer"] for error in answer.json()["detail"]["errors"]]


async def test_a_permanent_file_goes_up_and_down(client: httpx.AsyncClient) -> None:
    answer = await upload(client)
    stored = answer.json()
    assert answer.status_code == 200
    assert stored == {
        "success": True,
        "s3_url": "s3://agent-builder/agent-outputs/alice/writer/2025/11/07/102030000400-报告.txt",
        "filename": "报告.txt",
        "size": 4,
        "sha256": hashlib.sha256(b"data").hexdigest(),
        "content_type": "text/plain",
        "expires_at": None,
    }
    asked = await client.get("/internal/files/download", params={"s3_url": stored["s3_url"]}, headers=PERSON)
    told = asked.json()
    assert {name: told[name] for name in ("size", "sha256", "filename", "expires_at")} == {
        name: stored[name] for name in ("size", "sha256", "filename", "expires_at")
    }
    assert told["url_expires_at"] == "2025-11-07T11:20:30.000400Z"
    fetched = await client.get(told["presigned_url"], headers=STRANGER)
    assert (fetched.status_code, fetched.content) == (200, b"data")
    assert fetched.headers["content-type"] == "text/plain"
    assert fetched.headers["content-disposition"].endswith("filename*=UTF-8''%E6%8A%A5%E5%91%8A.txt")


async def test_a_temporary_file_has_a_session_and_an_end(client: httpx.AsyncClient) -> None:
    stored = (await upload(client, "upload_temp", data={"ttl": "3600", "session_id": "task-1"})).json()
    assert "/agent-workspace/alice/writer/task-1/20251107102030000400-报告.txt" in stored["s3_url"]
    assert stored["expires_at"] == "2025-11-07T11:20:30.000400Z"
    stored = (await upload(client, "upload_temp")).json()
    assert "/agent-workspace/alice/writer/default/" in stored["s3_url"]
    assert stored["expires_at"] == "2025-11-08T10:20:30.000400Z"


async def test_fields_may_stand_behind_the_file(client: httpx.AsyncClient) -> None:
    form = (
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="a%22b.txt"\r\n\r\ndata\r\n'
        b'--B\r\nContent-Disposition: form-data; name="session_id"\r\n\r\nlate\r\n'
        b'--B\r\nContent-Disposition: form-data; name="ttl"\r\n\r\n60\r\n--B--\r\n'
    )
    headers = {"content-type": "multipart/form-data; boundary=B"}
    for body in (form, stream(*(form[at : at + 1] for at in range(len(form))))):
        stored = (await upload(client, "upload_temp", content=body, headers=headers, files=None)).json()
        assert "/late/" in stored["s3_url"]
        assert (stored["filename"], stored["size"]) == ('a"b.txt', 4)
        assert stored["expires_at"] == "2025-11-07T10:21:30.000400Z"


@pytest.mark.parametrize(
    ("parameter", "name"),
    [
        ('filename="名.txt"', "名.txt"),
        ("filename*=UTF-8''%E5%90%8D.txt", "名.txt"),
        ("filename=\"x.txt\"; filename*=utf-8''%E5%90%8D.txt", "名.txt"),
        ('filename="../../x.txt"', "x.txt"),
        ('filename="C:\\\\dir\\\\x.txt"', "x.txt"),
        ('filename="a;b=c.txt"', "a;b=c.txt"),
        ('filename=""', "file"),
    ],
)
async def test_names_arrive_however_clients_write_them(client: httpx.AsyncClient, parameter: str, name: str) -> None:
    part = f'--B\r\nContent-Disposition: form-data; name="file"; {parameter}\r\n\r\nx\r\n--B--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=B"}
    answer = await upload(client, content=part.encode(), headers=headers, files=None)
    assert answer.json()["filename"] == name


async def test_blanks_around_a_lifetime_are_passed_over(client: httpx.AsyncClient) -> None:
    for ttl in (" 5 ", "5\x1c"):
        assert (await upload(client, "upload_temp", data={"ttl": ttl})).status_code == 200


async def test_broken_forms_are_refused_and_leave_nothing(house: House, client: httpx.AsyncClient) -> None:
    kind = {"content-type": "multipart/form-data; boundary=B"}
    start = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    bodies: list[tuple[dict[str, str], bytes]] = [
        ({"content-type": "application/json"}, b"{}"),
        ({}, b""),
        ({"content-type": "multipart/form-data"}, start + b"x\r\n--B--\r\n"),
        ({"content-type": "multipart/form-data; boundary=" + "B" * 500}, b""),
        (kind, b""),
        (kind, b"nonsense"),
        (kind, start + b"x"),
        (kind, start + b"x\r\n" + start + b"y\r\n--B--\r\n"),
        (kind, b'--B\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--B--\r\n'),
    ]
    for headers, body in bodies:
        assert pointers(await upload(client, content=body, headers=headers, files=None)) == ["/file"]
    assert pointers(await upload(client, files={"file": ("a", b"x", "nonsense")})) == ["/content_type"]
    assert pointers(await upload(client, "upload_temp", data={"ttl": "soon"})) == ["/ttl"]
    assert pointers(await upload(client, "upload_temp", data={"ttl": "0"})) == ["/ttl"]
    assert pointers(await upload(client, "upload_temp", data={"session_id": "a/b"})) == ["/session_id"]
    assert code(await upload(client, files={"file": b"x" * (1 << 21)})) == (413, "PAYLOAD_TOO_LARGE")
    assert code(await upload(client, files={"file": b"x" * (1 << 20) + b"y"})) == (413, "PAYLOAD_TOO_LARGE")
    many = {f"field{number}": "x" for number in range(101)}
    assert code(await upload(client, data=many)) == (413, "PAYLOAD_TOO_LARGE")
    assert code(await upload(client, data={"ttl": "1" * 70_000})) == (413, "PAYLOAD_TOO_LARGE")
    assert house.on_disk() == []


async def test_uploads_and_listings_need_an_agent(client: httpx.AsyncClient) -> None:
    refused = (400, "MISSING_AGENT_CONTEXT")
    assert code(await upload(client, headers=PERSON)) == refused
    assert code(await upload(client, "upload_temp", headers=PERSON)) == refused
    for path in ("list", "list_temp"):
        assert code(await client.get(f"/internal/files/{path}", headers=PERSON)) == refused
        assert code(await client.get(f"/internal/files/{path}", headers=CALL))[0] == 403
    assert code(await client.delete("/internal/files/cleanup_temp", headers=PERSON)) == refused


async def test_an_input_is_put_to_a_signed_url(house: House, client: httpx.AsyncClient) -> None:
    wanted = {"filename": "名.txt", "content_type": "text/plain"}
    answer = (await client.post("/internal/files/generate_upload_url", json=wanted, headers=PERSON)).json()
    assert set(answer) == {"upload_url", "s3_url"}
    assert answer["s3_url"].startswith("s3://agent-builder/agent-inputs/alice/2025/11/07/")
    query = {"s3_url": answer["s3_url"]}
    assert code(await client.get("/internal/files/download", params=query))[0] == 404
    url = answer["upload_url"]
    assert code(await client.put(url, content=b"data")) == (403, "PERMISSION_DENIED")
    assert code(await client.put(url, content=b"data", headers={"content-type": "text/html"}))[0] == 403
    assert code(await client.put(url + "0", content=b"data", headers={"content-type": "text/plain"}))[0] == 403
    assert code(await client.get(url))[0] == 403
    assert house.on_disk() == []
    for data in (b"first", b"data"):
        done = await client.put(url, content=data, headers={"content-type": "text/plain"})
        assert (done.status_code, done.content) == (200, b"")
    told = (await client.get("/internal/files/download", params=query)).json()
    assert (told["filename"], told["size"], told["content_type"]) == ("名.txt", 4, "text/plain")
    assert (await client.get(told["presigned_url"])).content == b"data"
    house.clock.forward(hours=1)
    assert code(await client.put(url, content=b"late", headers={"content-type": "text/plain"}))[0] == 403
    assert code(await client.get(told["presigned_url"]))[0] == 403
    assert len(house.on_disk()) == 1


async def test_an_input_of_code_in_a_call_can_be_read_by_it(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/internal/files/generate_upload_url", json={"filename": "a"}, headers=CALL)).json()
    assert (await client.put(answer["upload_url"], content=stream(b"da", b"ta"))).status_code == 200
    asked = await client.get("/internal/files/download", params={"s3_url": answer["s3_url"]}, headers=CALL)
    assert asked.json()["size"] == 4


async def test_downloads_are_for_those_who_may_read(client: httpx.AsyncClient) -> None:
    url = (await upload(client)).json()["s3_url"]

    async def asked(headers: dict[str, str], **query: str) -> httpx.Response:
        return await client.get("/internal/files/download", params={"s3_url": url, **query}, headers=headers)

    assert code(await asked(STRANGER)) == (403, "PERMISSION_DENIED")
    assert code(await asked(CALL)) == (403, "PERMISSION_DENIED")
    assert code(await asked(PERSON, s3_url=url + "x")) == (404, "FILE_NOT_FOUND")
    assert pointers(await asked(PERSON, s3_url="x")) == ["/s3_url"]
    assert pointers(await asked(PERSON, mode="direct")) == ["/query/mode"]
    assert pointers(await asked(PERSON, expires_in="0")) == ["/expires_in"]
    assert pointers(await asked(PERSON, expires_in="604801")) == ["/expires_in"]
    assert pointers(await asked(PERSON, expires_in="x")) == ["/query/expires_in"]
    assert (await asked(PERSON, mode="presigned", expires_in="604800")).status_code == 200


async def test_listings_page_by_page(house: House, client: httpx.AsyncClient) -> None:
    for name in "abc":
        house.clock.forward(seconds=1)
        await house.put(name=name)
    first = (await client.get("/internal/files/list", params={"limit": 2, "prefix": "2025/11/"})).json()
    assert [file["filename"] for file in first["files"]] == ["a", "b"]
    assert (
        first["files"][0].items()
        >= {
            "key": "agent-outputs/alice/writer/2025/11/07/102031000400-a",
            "s3_url": "s3://agent-builder/agent-outputs/alice/writer/2025/11/07/102031000400-a",
            "size": 4,
            "last_modified": "2025-11-07T10:20:31.000400Z",
            "expires_at": None,
        }.items()
    )
    query = {"limit": 2, "prefix": "2025/11/", "continuation_token": first["next_token"]}
    last = (await client.get("/internal/files/list", params=query)).json()
    assert [file["filename"] for file in last["files"]] == ["c"]
    assert "next_token" not in last
    for bad, pointer in [({"limit": 0}, "/query/limit"), ({"continuation_token": "x"}, "/continuation_token")]:
        assert pointers(await client.get("/internal/files/list", params=bad)) == [pointer]


async def test_temporary_files_are_listed_and_cleaned(client: httpx.AsyncClient) -> None:
    for session in ("s1", "s1", "s2"):
        await upload(client, "upload_temp", data={"session_id": session})
    listed = await client.get("/internal/files/list_temp", params={"session_id": "s1"})
    assert len(listed.json()["files"]) == 2
    assert len((await client.get("/internal/files/list_temp")).json()["files"]) == 3
    assert len((await client.get("/internal/files/list_temp", params={"prefix": "s2/"})).json()["files"]) == 1
    cleaned = await client.delete("/internal/files/cleanup_temp", params={"session_id": "s1"})
    assert cleaned.json() == {"deleted_count": 2}
    assert (await client.delete("/internal/files/cleanup_temp")).json() == {"deleted_count": 1}


async def test_a_user_lists_and_deletes_files(house: House, client: httpx.AsyncClient) -> None:
    files = [await house.put(name="a"), await house.put(name="b", who="other-agent")]
    first = (await client.get("/v1/files", params={"limit": 1}, headers=PERSON)).json()
    assert [file["filename"] for file in first["files"]] == ["b"]
    query = {"limit": 1, "cursor": first["next_cursor"]}
    last = (await client.get("/v1/files", params=query, headers=PERSON)).json()
    assert [file["filename"] for file in last["files"]] == ["a"]
    assert "next_cursor" not in last
    within = {"area": "agent-outputs", "prefix": "reader/"}
    assert len((await client.get("/v1/files", params=within, headers=PERSON)).json()["files"]) == 1
    assert pointers(await client.get("/v1/files", params={"area": "x"}, headers=PERSON)) == ["/area"]
    assert pointers(await client.get("/v1/files", params={"cursor": "_w"}, headers=PERSON)) == ["/cursor"]
    url = {"s3_url": files[1].s3_url}
    assert code(await client.delete("/v1/files", params=url))[0] == 403
    assert code(await client.delete("/v1/files", params=url, headers=STRANGER))[0] == 403
    assert (await client.delete("/v1/files", params=url, headers=PERSON)).status_code == 204
    assert code(await client.delete("/v1/files", params=url, headers=PERSON)) == (404, "FILE_NOT_FOUND")


async def test_every_route_is_described(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()
    assert len(described["paths"]) == 11
    form = described["paths"]["/internal/files/upload_temp"]["post"]["requestBody"]["content"]
    assert set(form["multipart/form-data"]["schema"]["properties"]) == {"file", "ttl", "session_id"}
