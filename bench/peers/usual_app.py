"""Posting as in the documentation of FastAPI and redis-py, and the simplest route."""

import os

from fastapi import FastAPI
from pydantic import BaseModel, Field
from redis.asyncio import BlockingConnectionPool, Redis

pool = BlockingConnectionPool.from_url(
    os.environ["REDIS_URL"], decode_responses=True, max_connections=50
)
redis = Redis.from_pool(pool)
app = FastAPI()


class NewMessage(BaseModel):
    text: str = Field(min_length=1, max_length=500)
    author: str = Field(default="", max_length=40)


class Message(NewMessage):
    id: str


@app.post("/messages", status_code=201)
async def post(draft: NewMessage) -> Message:
    entry_id = await redis.xadd("guestbook", draft.model_dump(), maxlen=1000)
    return Message(id=entry_id, **draft.model_dump())


@app.get("/")
async def root() -> dict[str, str]:
    return {"status": "ok"}
