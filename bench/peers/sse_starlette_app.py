"""The usual live service with sse-starlette: one queue for each client.

Messages come by Redis pub/sub and are put into every queue; each client's generator takes them
out of its own and yields them.
"""

import asyncio
import contextlib
import json
import os

from fastapi import FastAPI, Request
from redis.asyncio import Redis
from sse_starlette.sse import EventSourceResponse

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


@app.get("/events")
async def events(request: Request):
    async def generate():
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        clients.add(queue)
        try:
            while True:
                event_id, message = await queue.get()
                yield {"id": event_id, "data": message}
        finally:
            clients.discard(queue)

    return EventSourceResponse(generate())
