"""A TCP relay between two services that delays, loses, stalls and cuts, as toxiproxy does.

Lost packets are what TCP makes of them: the data arrive after a retransmission timeout, in order.
The kernel of a container has no sch_netem, which would lose real packets.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

_CHUNK: Final = 1448
"""Bytes of a packet on Ethernet."""

_RETRANSMITTED_AFTER_S: Final = 0.2  # TCP_RTO_MIN of Linux
_IN_FLIGHT: Final = 2**22
"""Bytes under way in one direction of a connection; the sender waits for the rest."""


class LossyNetwork:
    """Carries connections to the ports of one machine. A context manager with its own thread.

    Args:
        seed: of the losses.

    Attributes:
        delay_s: one way.
        loss: share of packets.
        stalled: while true nothing passes, and nobody is told, as when a cable is pulled out.
    """

    def __init__(self, seed: int) -> None:
        self.delay_s = 0.0
        self.loss = 0.0
        self.stalled = False
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network")
        self._writers: set[asyncio.StreamWriter] = set()
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> LossyNetwork:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def port_to(self, port: int) -> int:
        """Returns a port through which another port is reached."""

        async def serve() -> int:
            async def accept(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
                await self._carry(port, near, back)

            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            self._servers.append(server)
            found: int = server.sockets[0].getsockname()[1]
            return found

        found: int = self._call(serve())
        return found

    def cut(self) -> None:
        """Resets every connection; later ones are carried."""

        async def abort() -> None:
            for writer in self._writers:
                writer.transport.abort()

        self._call(abort())

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()

    async def _carry(
        self, port: int, near: asyncio.StreamReader, back: asyncio.StreamWriter
    ) -> None:
        try:
            far, forth = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            back.transport.abort()
            return
        self._writers |= {back, forth}
        with suppress(asyncio.CancelledError):
            await asyncio.gather(self._pump(near, forth), self._pump(far, back))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Passes bytes on in order, each after its delay."""
        due = 0.0
        under_way: deque[bytes] = deque()  # timers of one moment do not run in order

        def arrive() -> None:
            data = under_way.popleft()
            if not sink.is_closing():
                sink.write(data)

        try:
            while data := await source.read(2**16):
                while self.stalled or sum(map(len, under_way)) > _IN_FLIGHT:
                    await asyncio.sleep(0.01)
                packets = -(-len(data) // _CHUNK)
                lost = sum(self._chance.random() < self.loss for _ in range(packets))
                late = self.delay_s + (_RETRANSMITTED_AFTER_S if lost else 0.0)
                due = max(due, self._loop.time() + late)
                under_way.append(data)
                self._loop.call_at(due, arrive)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.transport.abort()
