"""FastAPI, with its models on both sides."""

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Asked(BaseModel):
    text: str


class Answered(BaseModel):
    success: bool
    echo: str


@app.post("/echo")
async def echo(asked: Asked) -> Answered:
    return Answered(success=True, echo=asked.text)
