"""A TCP proxy that does to a connection what networks do: delays, cuts, refuses, dribbles, goes silent.

It stands between a client and a broker that advertises the proxy's address. With a TLS context it speaks TLS to the
client and plain TCP to the broker, so a client's TLS is really spoken.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

CHUNK = 64 * 1024

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

Gate = Callable[[Streams, Streams], Awaitable[bool]]
"""Talks to a client, and to the broker for it, before all else passes; whether it may."""


@dataclass
class Weather:
    """How the wire behaves now. Changed at any time; holds for connections that are open, too."""

    #: seconds that each piece of data takes on its way, in each direction
    delay_s: float = 0.0
    #: bytes that pass at once; the rest follows one delay later
    piece: int = CHUNK


class Wire:
    """A proxy on loopback in a thread of its own. Use it as a context manager.

    `upstream` may be set after the start, because a broker must be told the proxy's address first.
    """

    def __init__(self, upstream: str = "", *, tls: ssl.SSLContext | None = None, gate: Gate | None = None) -> None:
        self.upstream, self.gate = upstream, gate
        self.weather = Weather()
        #: connections taken since the start
        self.taken = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._port = 0

    def __enter__(self) -> "Wire":
        self._thread.start()
        self._flowing = asyncio.Event()
        self._loop.call_soon_threadsafe(self._flowing.set)
        self.accept()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def refuse(self) -> None:
        """Like a broker whose process ended: what is open is cut, what is new is refused. Until `accept`."""
        self._do(self._stop_listening())
        self.cut()

    def accept(self) -> None:
        """Take connections, on the same port as before."""
        self._do(self._listen())

    def cut(self) -> int:
        """Reset every open connection, as a switch that restarts; how many there were. New ones are taken."""

        async def cut() -> int:
            links = list(self._open)
            for link in links:
                link.reset()
            await asyncio.gather(*(link.gone.wait() for link in links))
            return len(links)

        return self._do(cut())

    def freeze(self) -> None:
        """Let nothing pass, as a broker that hangs: connections stay open and are taken. Until `thaw`."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        """What was held passes now."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def strand(self) -> int:
        """Leave every client with a half-open connection: nothing comes on it ever again, and no end either.

        New connections are taken and work. Returns how many were stranded.
        """

        async def strand() -> int:
            for link in self._open:
                link.strand()
            return len(self._open)

        return self._do(strand())

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self._port, ssl=self._tls, limit=CHUNK, reuse_address=True
            )
            self._port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        link = _Link(self, reader, writer)
        self._open.add(link)
        try:
            await link.run()
        finally:
            self._open.discard(link)
            link.gone.set()

    async def passing(self, data: bytes, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Bring data over the wire, as the weather is."""
        while data:
            piece, data = data[: self.weather.piece], data[self.weather.piece :]
            if self.weather.delay_s:
                await asyncio.sleep(self.weather.delay_s)
            await self._flowing.wait()
            await write(piece)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


class _Link:
    """One client's connection and its counterpart."""

    def __init__(self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._wire, self._reader, self._writer = wire, reader, writer
        self._upstream: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._stranded = False
        self.gone = asyncio.Event()

    async def run(self) -> None:
        self._task = asyncio.current_task()
        try:
            host, port = self._wire.upstream.rsplit(":", 1)
            reader, self._upstream = await asyncio.open_connection(host, int(port), limit=CHUNK)
            gate = self._wire.gate
            if gate and not await gate((self._reader, self._writer), (reader, self._upstream)):
                await asyncio.sleep(0.1)  # an abort would take the refusal with it
                return
            ways = [
                asyncio.ensure_future(self._pump(self._reader, self._upstream)),
                asyncio.ensure_future(self._pump(reader, self._writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            for writer in (self._upstream, self._writer):
                if writer is not None:
                    writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def write(data: bytes) -> None:
            if not self._stranded:
                writer.write(data)
                await writer.drain()

        while data := await reader.read(CHUNK):
            await self._wire.passing(data, write)
        if self._stranded and reader is not self._reader:
            await asyncio.Event().wait()  # the broker's end is gone, and the client hears nothing of it

    def strand(self) -> None:
        self._stranded = True
        if self._upstream is not None:
            self._upstream.transport.abort()

    def reset(self) -> None:
        """An RST, not an orderly end."""
        handle = self._writer.get_extra_info("socket")
        if handle is not None:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        if self._task is not None:
            self._task.cancel()
