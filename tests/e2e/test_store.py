"""The same gateway over a store that speaks S3: clients and the store exchange the bytes, the gateway signs."""

import os
from pathlib import Path

import httpx
from gateways import running_gateway
from packages import write_package
from s3_server import BUCKET, s3_server

SOURCE = """
from pathlib import Path

def upper():
    for path in Path("data/inputs/input").iterdir():
        Path("data/outputs", path.name).write_text(path.read_text().upper())
    return sorted(path.name for path in Path("data/inputs/input").iterdir())
"""
FILES = {
    "input": {"type": "array", "items": {"type": "InputFile"}},
    "output": {"type": "array", "items": {"type": "OutputFile"}, "required": False},
}


def test_files_live_in_the_store(folder: Path):
    (folder / "s3").mkdir()
    (folder / "名 a.txt").write_text("words")
    big = os.urandom(20 << 20)
    (folder / "big.bin").write_bytes(big)
    with s3_server(folder / "s3") as environment:
        arguments = ("--store", f"s3://{BUCKET}/some/prefix")
        with running_gateway(folder / "data", *arguments, env=environment) as gateway:
            gateway.publish(
                write_package(folder / "p", SOURCE, prefab_id="uppers", functions={"upper": {"files": FILES}})
            )
            client = gateway.client("ann", "desk")
            url = client.upload_file(str(folder / "名 a.txt"))
            assert url.startswith(f"s3://{BUCKET}/some/prefix/agent-outputs/ann/desk/")
            result = client.run("uppers", "1.0.0", "upper", {}, files={"input": [url]})
            assert result.get_function_result() == ["名 a.txt"]
            (made,) = result.get_files()["output"]
            signed = client.download_file(made)
            assert signed.startswith(environment["AWS_ENDPOINT_URL"])
            assert httpx.get(signed).text == "WORDS"
            large = client.upload_file(str(folder / "big.bin"))
            client.save_file(large, str(folder / "back.bin"))
            assert client.list_files() == [url, large]
        assert not (folder / "data" / "objects").exists()
    assert (folder / "back.bin").read_bytes() == big
