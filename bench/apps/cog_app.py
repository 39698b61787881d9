"""cog's own server, without a container around it."""

from cog import BaseModel, BasePredictor


class Answered(BaseModel):
    success: bool
    echo: str


class Echo(BasePredictor):
    def setup(self) -> None:
        pass

    async def predict(self, text: str) -> Answered:
        return Answered(success=True, echo=text)
