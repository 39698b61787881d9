"""How long the SDK, or the store's own client, takes for one file, for `parts.files`.

The order: do (sdk_up, sdk_down, store_up, store_down), path, and url, token, s3_url or bucket, key as needed. Answers
with the seconds, and the s3_url of an upload.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import obstore
from obstore.store import S3Store

from bench import child
from gateway_sdk import GatewayClient

Order = dict[str, str]


def sdk_up(order: Order) -> str:
    """As an input for prefabs."""
    return str(GatewayClient(order["token"], order["url"]).upload_input_file(Path(order["path"])))


def sdk_down(order: Order) -> str:
    """To the disk."""
    return GatewayClient(order["token"], order["url"]).save_file(order["s3_url"], Path(order["path"]))


def store_up(order: Order) -> str:
    """Straight into the bucket, in parts that travel side by side."""
    obstore.put(_bucket(order), order["key"], Path(order["path"]))
    return order["key"]


def store_down(order: Order) -> str:
    """Straight from the bucket to the disk."""
    with open(order["path"], "wb") as file:
        for chunk in obstore.get(_bucket(order), order["key"]).stream(min_chunk_size=4 << 20):
            file.write(chunk)
    return order["path"]


DO: dict[str, Callable[[Order], str]] = {
    "sdk_up": sdk_up,
    "sdk_down": sdk_down,
    "store_up": store_up,
    "store_down": store_down,
}


def _bucket(order: Order) -> S3Store:
    return S3Store(order["bucket"], client_options={"allow_http": True})  # the rest stands in the environment


def main() -> None:
    """Does what the order says."""
    order = child.order()
    began = time.perf_counter()
    gave = DO[order["do"]](order)
    print(json.dumps({"seconds": time.perf_counter() - began, "gave": gave}))


if __name__ == "__main__":
    main()
