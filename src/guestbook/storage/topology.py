"""Where the master is now: Sentinels know it, and so do the nodes of a Cluster.

All keys of the guestbook are in one slot, so that a Cluster is to it what Sentinel's master is:
one server, which may be another one tomorrow.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, MovedError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

HASH_TAG = "{guestbook}"
_SLOT = key_slot(HASH_TAG.encode())
# Who does not answer by then is not waited for alone any more.
_PATIENCE = 0.2
_UNKNOWN = (None, b"", b"?")

Address = tuple[str, int]


class MasterDiscovery(ABC):
    """Those who can be asked for the master, one after the other; the first answer counts.

    Who was asked first is asked last the next time: one may hang, or not have heard of a
    fail-over.
    """

    def __init__(
        self, nodes: Iterable[Address], *, connection_class: type[Connection], **options: Any
    ) -> None:
        self.connection_class = connection_class
        self.options = options
        self._nodes = deque(nodes)
        self._named: Address | None = None

    async def master(self) -> Address:
        """Raises redis-py's ConnectionError where nobody knows it."""
        named, self._named = self._named, None
        if named is not None:
            return named
        self._nodes.rotate(-1)
        nodes = iter(tuple(self._nodes))
        asked: set[asyncio.Task[Address]] = set()
        reason: BaseException | None = None
        try:
            while True:
                node = next(nodes, None)
                if node is not None:
                    asked.add(asyncio.create_task(self._ask(node)))
                elif not asked:
                    raise RedisConnectionError(f"nobody knows the master: {reason}") from reason
                done, asked = await asyncio.wait(
                    asked,
                    timeout=None if node is None else _PATIENCE,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                found = [task for task in done if (reason := task.exception()) is None]
                if found:
                    return found[0].result()
        finally:
            for task in asked:
                task.cancel()

    async def _ask(self, node: Address) -> Address:
        host, port = node
        connection = self.connection_class(host=host, port=port, **self.options)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py
            return await self._answer(connection)
        finally:
            await connection.disconnect(nowait=True)

    @abstractmethod
    async def _answer(self, connection: Connection) -> Address:
        """What the one at the other end says."""

    @abstractmethod
    def is_failover(self, error: RedisError) -> bool:
        """Whether an error says that what we talk to is not the master (any more).

        Where it says who is, that is believed once.
        """


class Sentinels(MasterDiscovery):
    """The Sentinels that watch the master called `service`."""

    def __init__(self, service: str, nodes: Iterable[Address], **options: Any) -> None:
        super().__init__(nodes, **options)
        self._service = service

    async def _answer(self, connection: Connection) -> Address:
        await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        found = await connection.read_response()
        if found is None:
            raise RedisConnectionError(f"the Sentinels watch no master called {self._service}")
        host, port = found
        return host.decode(), int(port)

    def is_failover(self, error: RedisError) -> bool:
        return isinstance(error, ReadOnlyError)


class ClusterNodes(MasterDiscovery):
    """The nodes of a Cluster: those that are named, and those that they name."""

    def __init__(self, nodes: Iterable[Address], **options: Any) -> None:
        super().__init__(nodes, **options)
        self._given = tuple(self._nodes)

    async def _answer(self, connection: Connection) -> Address:
        await connection.send_command("CLUSTER", "SLOTS")
        known: set[Address] = set()
        master: Address | None = None
        for first, last, *nodes in await connection.read_response():
            # A node that does not know an address leaves it out: then it is its own.
            here = [
                (connection.host if name in _UNKNOWN else name.decode(), port)
                for name, port, *_ in nodes
            ]
            known.update(here)
            if first <= _SLOT <= last:
                master = here[0]
        if master is None:
            raise RedisConnectionError(f"the Cluster's slot {_SLOT} is on no node")
        known.update(self._given)
        old = [node for node in self._nodes if node in known]
        self._nodes = deque([*old, *known.difference(old)])
        return master

    def is_failover(self, error: RedisError) -> bool:
        if isinstance(error, MovedError) and error.slot_id == _SLOT:
            # Without a host it means a port of the one that we talk to: the others know it.
            self._named = (error.host, error.port) if error.host else None
            return True
        return isinstance(error, ClusterDownError)


class MasterConnection(Connection):
    """A connection that leads to the master of the moment, whenever it is made."""

    def __init__(self, *, guides: MasterDiscovery, **options: Any) -> None:
        super().__init__(**options)
        self._guides = guides

    async def _connect(self) -> None:
        self.host, self.port = await self._guides.master()
        await super()._connect()  # type: ignore[no-untyped-call]  # redis-py


class TLSMasterConnection(MasterConnection, SSLConnection):
    """The same over TLS."""
