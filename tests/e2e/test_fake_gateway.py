"""The same scripts on a real gateway and on the SDK's `FakeGateway`: what a client is told must be the same."""

import importlib.util
import re
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from gateways import Gateway, until
from packages import ZOO, zoo

from gateway_sdk import GatewayClient, GatewayError, PrefabCall
from gateway_sdk.testing import FakeGateway

WHERE = ("speaks", "1.0.0")
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|fake-job-\d+")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
_BUCKET = re.compile(r"s3://(fake|agent-builder)/")
_STAMP = re.compile(r"\d{12,20}-")
Script = Callable[[GatewayClient], Any]


@pytest.fixture(scope="module")
def real(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> GatewayClient:
    inputs = {"input": {"type": "array", "items": {"type": "InputFile"}, "required": False}}
    opens = {"parameters": [], "files": inputs}
    gateway.publish(zoo(tmp_path_factory.mktemp("speaks"), "speaks", functions={"opens": opens}))
    return gateway.client("ann", "helper", timeout=20)


@pytest.fixture
def fake() -> GatewayClient:
    spec = importlib.util.spec_from_file_location("src.main", ZOO / "speaks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    gateway = FakeGateway(user="ann", agent="helper")
    for name, function in vars(module).items():
        if callable(function) and getattr(function, "__module__", "") == "src.main" and not name.startswith("_"):
            gateway.prefab(*WHERE)(function)
    return gateway.client(timeout=20)


def tidied(value: Any, names: dict[str, str]) -> Any:
    """A value without what no two gateways have in common: ids are numbered in their order, moments are left out."""
    if isinstance(value, dict):
        return {tidied(key, names): tidied(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tidied(item, names) for item in value]
    if isinstance(value, str):
        value = _ID.sub(lambda found: names.setdefault(found[0], f"<job {len(names)}>"), str(value))
        value = _STAMP.sub("<stamp>-", _BUCKET.sub("s3://", value))
        return _MOMENT.sub("<moment>", value)
    return value


def outcome(script: Script, client: GatewayClient) -> Any:
    try:
        told = script(client)
    except GatewayError as error:
        told = [type(error).__name__, error.error_code, error.status_code, error.message, error.details, error.job_id]
    return tidied(told, {})


def result(function: str, **parameters: Any) -> Script:
    def script(client: GatewayClient) -> Any:
        got = client.run(*WHERE, function, parameters)
        return got.status, got.output, got.error, got.version

    return script


def events(function: str, **parameters: Any) -> Script:
    def script(client: GatewayClient) -> Any:
        said = [told(event) for event in client.run(*WHERE, function, parameters, stream=True)]
        # Whether a function's own start takes the place of ours depends on how soon there is a worker.
        return said if function != "own_start" else [event for event in said if event[0] != "start"]

    return script


def told(event: Any) -> Any:
    return event.type, event.data, event.files, event.error_code, event.id, event.error


def names_without_parameters() -> list[str]:
    source = (ZOO / "speaks.py").read_text()
    return re.findall(r"^(?:async )?def (\w+)\(\):", source, re.MULTILINE)


FUNCTIONS = names_without_parameters()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_run_gives_the_same(function: str, real: GatewayClient, fake: GatewayClient) -> None:
    assert outcome(result(function), fake) == outcome(result(function), real)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_stream_tells_the_same(function: str, real: GatewayClient, fake: GatewayClient) -> None:
    assert outcome(events(function), fake) == outcome(events(function), real)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_job_tells_the_same(function: str, real: GatewayClient, fake: GatewayClient) -> None:
    def script(client: GatewayClient) -> Any:
        job = client.submit(*WHERE, function, {})
        end = job.result(timeout=10)
        log = job.logs()
        said = [told(event) for event in job.events()]
        return end.status, end.output, end.error, end.version, said, client.get_job(job.id), "Traceback" in log

    assert outcome(script, fake) == outcome(script, real)


def batch_of(*calls: tuple[str, dict[str, Any]]) -> list[PrefabCall]:
    return [PrefabCall(*WHERE, function, parameters) for function, parameters in calls]


MIXED = batch_of(("adds", {"a": 1}), ("fails", {}), ("adds", {"a": 1, "c": 1}), ("gone", {}), ("text", {}))


def recorded_run(client: GatewayClient) -> Any:
    run = client.run(*WHERE, "adds", {"a": 1})
    job = client.job(run.job_id)
    end = job.result(timeout=5)
    return (
        client.get_job(run.job_id),
        [end.status, end.output, end.job_id, end.version],
        [told(event) for event in job.events()],
        [told(event) for event in job.events(after=1)],
        job.cancel(),
    )


def recorded_stream(client: GatewayClient) -> Any:
    stream = client.run(*WHERE, "text", {}, stream=True)
    list(stream)
    return client.get_job(stream.job_id), [told(event) for event in client.job(stream.job_id).events()]


def recorded_failure(client: GatewayClient) -> Any:
    run = client.run(*WHERE, "fails", {})
    return client.get_job(run.job_id), client.job(run.job_id).result(timeout=5).error


def recorded_batch(client: GatewayClient) -> Any:
    batch = client.run_batch(MIXED)
    record = client.get_job(batch.job_id)
    children = [
        client.job(child["id"]).result(timeout=5) if at < 2 else None for at, child in enumerate(record["children"])
    ]
    results = [(one.status, one.output, one.error, one.version, one.job_id) for one in batch.results]
    return batch.status, results, record, [child and (child.status, child.error) for child in children]


def unreadable(client: GatewayClient) -> Any:
    batch = client.run_batch([*MIXED[:1], PrefabCall(None, "1.0.0", "f", {})])
    return [(one.status, one.output, one.error, one.version) for one in batch.results], client.get_job(batch.job_id)


def submitted_batch(client: GatewayClient) -> Any:
    job = client.submit_batch(MIXED)
    batch = job.result(timeout=10)
    said = [told(event) for event in job.events()]
    ended = [event[1]["ended"] for event in said if event[0] == "progress"]
    record = client.get_job(job.id)
    return batch.status, [(one.status, one.output) for one in batch.results], ended, said[-1], len(said), record


def refused_batch(client: GatewayClient) -> Any:
    job = client.submit_batch(batch_of(("gone", {}), ("adds", {})))
    batch = job.result(timeout=10)
    return batch.status, [one.error for one in batch.results], [told(event) for event in job.events()], job.status()


def events_later(client: GatewayClient) -> Any:
    job = client.submit(*WHERE, "text", {})
    job.result(timeout=10)
    return [told(event) for event in job.events(after=2)], [told(event) for event in job.events(after=4)]


def retried(client: GatewayClient) -> Any:
    job = client.submit(*WHERE, "fails", {}, attempts=3, retry_delay=0)
    end = job.result(timeout=10)
    said = [told(event) for event in job.events()]
    return end.status, end.error, said, client.get_job(job.id)


def expired(client: GatewayClient) -> Any:
    job = client.submit(*WHERE, "sleeps", {"seconds": 20}, deadline=2)
    try:
        job.result(timeout=10)
    finally:
        record = client.get_job(job.id)
        assert record["status"] == "timed_out", record
        assert [event.type for event in job.events()] == ["start", "error"]


def conflict(client: GatewayClient) -> Any:
    key = f"mine-{client.base_url}"
    first = client.submit(*WHERE, "adds", {"a": 1}, idempotency_key=key)
    again = client.submit(*WHERE, "adds", {"a": 1}, idempotency_key=key)
    assert first.id == again.id
    client.submit(*WHERE, "adds", {"a": 2}, idempotency_key=key)


def canceled_job(client: GatewayClient) -> Any:
    job = client.submit(*WHERE, "sleeps", {"seconds": 20})
    for event in job.events():
        if event.type == "start":
            break
    first, again = job.cancel(), job.cancel()
    end = job.result(timeout=5)
    return first, again, end.status, end.error, [told(event) for event in job.events()], client.get_job(job.id)


def canceled_stream(client: GatewayClient) -> Any:
    stream = client.run(*WHERE, "counts", {"n": 100, "delay": 0.1}, stream=True)
    next(stream), next(stream)
    stream.close()
    end = client.job(stream.job_id).result(timeout=5)  # of the real one nothing is recorded before its worker is gone
    record = client.get_job(stream.job_id)
    return record["status"], record["error"], end.error


def timeout(client: GatewayClient) -> Any:
    client.timeout = 2
    return client.run(*WHERE, "sleeps", {"seconds": 20})


def timeout_of_a_batch(client: GatewayClient) -> Any:
    client.timeout = 3
    batch = client.run_batch(batch_of(("sleeps", {"seconds": 20}), ("adds", {"a": 1}), ("sleeps", {"seconds": 20})))
    return batch.status, [(one.status, one.error) for one in batch.results], client.get_job(batch.job_id)["status"]


def silence(client: GatewayClient) -> Any:
    client.timeout = 2
    return list(client.run(*WHERE, "counts", {"n": 2, "delay": 20}, stream=True))


def call(*where: Any, **options: Any) -> Script:
    return lambda client: client.submit(*(where or (*WHERE, "adds", {"a": 1})), **options)


def run(function: str, parameters: Any, files: Any = None) -> Script:
    return lambda client: client.run(*WHERE, function, parameters, files)


def at(url: str, key: str) -> str:
    """Another key in the bucket of a URL."""
    return f"s3://{url.split('/')[2]}/{key}"


def uploads(client: GatewayClient) -> Any:
    kept, temporary = client.upload_file(__file__), client.upload_temp_file(__file__, ttl_hours=1, session_id="s.1@a-b")
    given = client.upload_input_file(__file__)
    assert temporary in client.list_temp_files(session_id="s.1@a-b")
    counts = client.cleanup_temp_files("s.1@a-b"), client.cleanup_temp_files("s.1@a-b")
    return [
        (file.filename, file.size, file.sha256, file.expires_at is None) for file in (kept, temporary, given)
    ], counts


def ended_file(client: GatewayClient) -> Any:
    url = client.upload_temp_file(__file__, ttl_hours=1 / 3600, session_id="ending")
    until(lambda: client.list_temp_files(session_id="ending") == [], what="the end of the file")
    assert client.cleanup_temp_files("ending") == 0
    client.download_file(at(url, url.split("/", 3)[3]))


def download(key: str) -> Script:
    return lambda client: client.download_file(at(client.upload_input_file(__file__), key))


def given(key: str) -> Script:
    return lambda client: client.run(*WHERE, "opens", {}, {"input": [at(client.upload_input_file(__file__), key)]})


def upload_in_parts(**options: Any) -> Script:
    def script(client: GatewayClient) -> Any:
        with tempfile.NamedTemporaryFile() as file:
            file.truncate(9 << 20)
            return client.upload_temp_file(file.name, **options).size

    return script


def upload(**options: Any) -> Script:
    return lambda client: client.upload_temp_file(__file__, **options)


def presign(seconds: int) -> Script:
    return lambda client: client.get_presigned_url(client.upload_input_file(__file__), expires_in=seconds)


SCRIPTS: dict[str, Script] = {
    "uploads": uploads,
    "a file that has ended": ended_file,
    "a file that is none": download("agent-outputs/ann/helper/2025/11/07/000000000000-none"),
    "a file of somebody else": download("agent-outputs/bob/helper/2025/11/07/000000000000-none"),
    "a file outside the areas": download("elsewhere/none"),
    "a file of another bucket": lambda client: client.download_file("s3://my-bucket/input.mp4"),
    "an input that is none": given("agent-inputs/ann/2025/11/07/000000000000-none"),
    "an input of somebody else": given("agent-inputs/bob/2025/11/07/000000000000-none"),
    "an input of another bucket": lambda client: client.run(*WHERE, "opens", {}, {"input": ["s3://my-bucket/a.mp4"]}),
    "no URL": lambda client: client.download_file("/tmp/a"),
    "a session that is none": upload(session_id="a b/../c"),
    "a ttl that is too long": upload(ttl_hours=10**6),
    "a large file": upload_in_parts(),
    "a large file of a session that is none": upload_in_parts(session_id="a b/../c"),
    "a list of no session": lambda client: client.list_temp_files(session_id=""),
    "a list of a session that is none": lambda client: client.list_temp_files(session_id="a/b"),
    "a cleanup of no session": lambda client: client.cleanup_temp_files(session_id=""),
    "expires_in=-5": presign(-5),
    "expires_in=0": presign(0),
    "expires_in of a year": presign(365 * 86400),
    "a run is recorded": recorded_run,
    "a stream is recorded": recorded_stream,
    "a failure is recorded": recorded_failure,
    "a batch is recorded": recorded_batch,
    "a submitted batch": submitted_batch,
    "a refused batch": refused_batch,
    "events from the middle": events_later,
    "attempts": retried,
    "a deadline": expired,
    "a key twice": conflict,
    "a cancel": canceled_job,
    "a stream that is left": canceled_stream,
    "a timeout": timeout,
    "a timeout of a batch": timeout_of_a_batch,
    "silence": silence,
    "attempts=99": call(attempts=99),
    "attempts=0": call(attempts=0),
    "priority=99": call(priority=99),
    "retry_delay=-1": call(retry_delay=-1),
    "several mistakes": call(attempts=99, retry_delay=-1, priority=11),
    "a long key": call(idempotency_key="k" * 5000),
    "prefab_id=None": call(None, "1.0.0", "adds", {}),
    "version=1": call("speaks", 1, "adds", {}),
    "a call that cannot be read": unreadable,
    "parameters=[]": run("adds", [1]),
    "no prefab": lambda client: client.run("none", "1.0.0", "f", {}),
    "no version": lambda client: client.run("speaks", "2.0.0", "f", {}),
    "no function": run("gone", {}),
    "no argument": run("adds", {}),
    "an unknown argument": run("adds", {"a": 1, "x/y": 2}),
    "unknown files": run("adds", {"a": 1}, {"input": []}),
    "a parameter that is named files": lambda client: client.run(*WHERE, "takes_files", {"files": [1]}).output,
    "1200 calls": lambda client: client.run_batch(MIXED[:1] * 1200),
    "no job": lambda client: client.get_job("0199a4e2-0000-7000-8000-000000000000"),
    "no job to cancel": lambda client: client.cancel_job("none"),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_told_the_same(name: str, real: GatewayClient, fake: GatewayClient) -> None:
    wanted = real.timeout
    try:
        assert outcome(SCRIPTS[name], fake) == outcome(SCRIPTS[name], real)
    finally:
        real.timeout = wanted
