"""Ray Serve with one replica, on a cluster of this machine alone."""

import os
import signal
import sys

import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.requests import Request

QUIET = LoggingConfig(enable_access_log=False, log_level="WARNING")


@serve.deployment(num_replicas=1, max_ongoing_requests=128, ray_actor_options={"num_cpus": 0.1}, logging_config=QUIET)
class Echo:
    async def __call__(self, request: Request) -> dict:
        body = await request.json()
        return {"success": True, "echo": body["text"]}


if __name__ == "__main__":
    folder = os.environ["RAY_TMPDIR"]
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=200 << 20, _temp_dir=folder)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config=QUIET)
    serve.run(Echo.bind(), name="echo", route_prefix="/", logging_config=QUIET)
    signal.pause()
