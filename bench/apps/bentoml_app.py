"""BentoML with one worker and no access log."""

import bentoml


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Echo:
    @bentoml.api
    async def echo(self, text: str) -> dict:
        return {"success": True, "echo": text}
