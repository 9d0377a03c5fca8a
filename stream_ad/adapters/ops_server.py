"""A small HTTP server for supervisors and Prometheus: /livez, /readyz and /metrics.

It has no login and tells nothing of pictures. It belongs on loopback or into a network of the plant's machines.
"""

import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from stream_ad.errors import ConfigError

Probe = Callable[[], Sequence[str]]
"""What is wrong, in words; empty: nothing is."""


class OpsServer:
    """Answers from the moment it is made, in threads of its own, until it is closed.

    Raises:
        ConfigError: the address is no HOST:PORT, or cannot be had.
    """

    def __init__(self, listen: str, *, registry: CollectorRegistry, alive: Probe, ready: Probe) -> None:
        metrics = make_wsgi_app(registry)
        probes = {"/livez": alive, "/readyz": ready}

        def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
                return _text(start_response, "405 Method Not Allowed", ["only GET is answered"])
            if path == "/metrics":
                return metrics(environ, start_response)
            if path in probes:
                wrong = probes[path]()
                return _text(start_response, "503 Service Unavailable" if wrong else "200 OK", wrong or ["ok"])
            return _text(start_response, "404 Not Found", ["there are /livez, /readyz and /metrics"])

        host, port = host_and_port(listen)
        family = _Server6 if ":" in host else _Server
        try:
            self._server = make_server(host, port, answer, server_class=family, handler_class=_Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"needed a free address for /livez, /readyz and /metrics, got {listen} ({error});"
                " every process needs a port of its own (ops.listen, ops.worker_listen)"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="ops server", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it listens; the port that it got when 0 was asked for."""
        host, port = self._server.server_address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def host_and_port(listen: str) -> tuple[str, int]:
    """Of HOST:PORT or [HOST]:PORT. Raises: ConfigError: it is neither."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"an address to listen on is HOST:PORT, e.g. 127.0.0.1:9108, got {listen!r}")
    return host, int(port)


def _text(start_response: Any, status: str, lines: Sequence[str]) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")])
    return ["".join(f"{line}\n" for line in lines).encode()]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a slow reader must not keep the process from ending
    block_on_close = False
    allow_reuse_port = False  # two processes on one port would answer in turns; newer Pythons would let them

    def server_bind(self) -> None:
        # not HTTPServer's, which asks the name service for this machine's name and may wait for it
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds that a client may stay silent

    def log_message(self, format: str, *args: Any) -> None:
        """A probe every few seconds is no news."""
