"""The proxy that the fault tests rely on does what it says."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.wire import Wire


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with closing(connection):
            try:
                while data := connection.recv(1000):
                    connection.sendall(data)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve)
    thread.start()
    host, port = listener.getsockname()
    yield f"{host}:{port}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def connected(wire: Wire, timeout_s: float = 5.0) -> socket.socket:
    host, port = wire.address.split(":")
    return socket.create_connection((host, int(port)), timeout=timeout_s)


def say(connection: socket.socket, data: bytes) -> bytes:
    """What comes back, all of it."""
    connection.sendall(data)
    back = b""
    while len(back) < len(data) and (more := connection.recv(1000)):
        back += more
    return back


def test_what_goes_in_comes_out_however_slowly_it_dribbles(echo):
    with Wire(echo) as wire, closing(connected(wire)) as connection:
        assert say(connection, b"x" * 100_000) == b"x" * 100_000
        wire.weather.piece, wire.weather.delay_s = 1, 0.001
        assert say(connection, b"slowly") == b"slowly"


def test_a_cut_resets_what_is_open_and_takes_what_is_new(echo):
    with Wire(echo) as wire, closing(connected(wire)) as before:
        assert say(before, b"a") == b"a"
        assert wire.cut() == 1
        with pytest.raises(ConnectionResetError):
            before.recv(1)
        with closing(connected(wire)) as after:
            assert say(after, b"b") == b"b"
        assert wire.taken == 2


def test_a_wire_that_refuses_takes_connections_again_at_the_same_address(echo):
    with Wire(echo) as wire:
        address = wire.address
        wire.refuse()
        with pytest.raises(ConnectionRefusedError):
            connected(wire)
        wire.accept()
        assert wire.address == address
        with closing(connected(wire)) as connection:
            assert say(connection, b"c") == b"c"


def test_a_frozen_wire_brings_everything_after_the_thaw(echo):
    with Wire(echo) as wire, closing(connected(wire, timeout_s=0.2)) as connection:
        wire.freeze()
        connection.sendall(b"late")
        with pytest.raises(TimeoutError):
            connection.recv(10)
        wire.thaw()
        connection.settimeout(5)
        assert connection.recv(10) == b"late"


def test_a_stranded_connection_is_silent_and_never_ends(echo):
    with Wire(echo) as wire, closing(connected(wire, timeout_s=0.2)) as connection:
        connection.sendall(b"d")
        assert connection.recv(1) == b"d"
        assert wire.strand() == 1
        connection.sendall(b"into the void")
        with pytest.raises(TimeoutError):
            connection.recv(1)
        with closing(connected(wire)) as another:
            assert say(another, b"e") == b"e"
