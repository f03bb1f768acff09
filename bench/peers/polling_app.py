"""The original's interface: every page requests the whole list from Redis once a second."""

import os

from fastapi import FastAPI
from redis.asyncio import BlockingConnectionPool, Redis

pool = BlockingConnectionPool.from_url(
    os.environ["REDIS_URL"], decode_responses=True, max_connections=50
)
redis = Redis.from_pool(pool)
app = FastAPI()


@app.get("/lrange/{key}")
async def lrange(key: str) -> list[str]:
    return await redis.lrange(key, 0, -1)
