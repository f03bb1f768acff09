"""A live service as in FastAPI's documentation: `fastapi.sse`, one queue for each client."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterable

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from redis.asyncio import Redis

clients: set[asyncio.Queue[tuple[str, str]]] = set()


async def listen() -> None:
    redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe("messages")
        async for message in pubsub.listen():
            if message["type"] == "message":
                item = json.loads(message["data"])["id"], message["data"]
                for queue in clients:
                    queue.put_nowait(item)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI):
    task = asyncio.create_task(listen())
    yield
    task.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncIterable[ServerSentEvent]:
    queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    clients.add(queue)
    try:
        while True:
            event_id, message = await queue.get()
            yield ServerSentEvent(raw_data=message, id=event_id)
    finally:
        clients.discard(queue)
