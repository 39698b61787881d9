"""What `fail_next` and functions of the fake raise is what its clients raise."""

import asyncio
from typing import Any

import pytest

import gateway_sdk
from gateway_sdk import PrefabCall, exceptions
from gateway_sdk.testing import FakeGateway

RUN = ("zoo", "1.0.0", "echo", {})
KINDS = [getattr(exceptions, name) for name in exceptions.__all__]


@pytest.fixture
def fake() -> FakeGateway:
    gateway = FakeGateway()

    @gateway.prefab("zoo", "1.0.0")
    def echo(**parameters: Any) -> Any:
        return parameters

    return gateway


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_request_fails_with_just_this_error(fake, kind):
    fake.fail_next(kind("so it was said", details={"prefab_id": "p"}, job_id="j1"))
    with pytest.raises(gateway_sdk.GatewayError) as caught:
        fake.client(max_retries=0).run(*RUN)
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.details["prefab_id"], caught.value.job_id) == (
        "so it was said",
        "p",
        "j1",
    )
    assert caught.value.error_code == kind.default_code
    assert not fake.calls
    assert fake.client().run(*RUN).is_success()


@pytest.mark.parametrize("kind", [exceptions.ConnectionFailedError, exceptions.OverloadedError])
def test_retries_can_be_tried(fake, kind):
    fake.fail_next(kind(), kind())
    assert fake.client().run(*RUN).is_success()
    fake.fail_next(kind(), kind(), kind())
    with pytest.raises(kind):
        fake.client().run(*RUN)


@pytest.mark.parametrize("kind", [exceptions.DeadlineExceededError, exceptions.TransferError])
def test_any_request_may_be_the_next(fake, kind, tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"x")
    url = fake.put("a", b"x")
    client = fake.client(max_retries=0)
    requests = [
        lambda: client.run(*RUN, stream=True),
        lambda: client.run_batch([PrefabCall(*RUN)]),
        lambda: client.submit(*RUN),
        lambda: client.get_job("j"),
        lambda: client.upload_file(file),
        lambda: client.upload_input_file(file),
        lambda: client.download_file(url),
        lambda: client.list_files(),
        lambda: client.cleanup_temp_files(),
    ]
    for request in requests:
        fake.fail_next(kind("late"))
        with pytest.raises(kind, match="late"):
            request()


def test_the_cancel_of_a_stream_that_is_left_is_no_request_that_fails(fake):
    @fake.prefab("zoo", "1.0.0")
    def count():
        yield from "abc"

    stream = fake.client().run("zoo", "1.0.0", "count", {}, stream=True)
    next(stream)
    fake.fail_next(gateway_sdk.OverloadedError("busy"))
    stream.close()
    assert fake.cancelled == [stream.job_id]
    with pytest.raises(gateway_sdk.OverloadedError):
        fake.client(max_retries=0).list_files()


@pytest.mark.parametrize(
    "kind", [exceptions.DeadlineExceededError, exceptions.MissingSecretError, exceptions.TransferError]
)
def test_what_a_function_refuses_with(fake, kind):
    @fake.prefab("zoo", "1.0.0")
    def refuse():
        raise kind("no")

    client = fake.client()
    where = ("zoo", "1.0.0", "refuse", {})
    with pytest.raises(kind) as caught:
        client.run(*where)
    assert caught.value.job_id is None or caught.value.job_id.startswith("fake-job")
    with pytest.raises(kind):
        client.submit(*where).result(timeout=5)
    (result,) = client.run_batch([PrefabCall(*where), PrefabCall(*where)]).get_failed()[:1]
    assert result.error == {"error_code": kind.default_code, "message": "no"}
    last = list(client.run(*where, stream=True))[-1]
    assert (last.type, last.data, last.error_code) == ("error", "no", kind.default_code)


def test_the_async_client_fails_as_well(fake):
    async def main():
        client = fake.async_client()
        fake.fail_next(gateway_sdk.ConnectionFailedError())
        assert (await client.run(*RUN)).is_success()
        fake.fail_next(gateway_sdk.TransferError("cut"))
        with pytest.raises(gateway_sdk.TransferError):
            await client.list_files()

    asyncio.run(main())


def test_an_error_that_no_answer_can_tell_is_raised_itself():
    fake = FakeGateway()
    error = gateway_sdk.ServiceUnavailableError("gone", details={"since": object()})
    for _ in range(3):
        fake.fail_next(error)
    with pytest.raises(gateway_sdk.ServiceUnavailableError) as caught:
        fake.client().run(*RUN)
    assert caught.value.message == "gone"
