"""kafka-python's clients, connected in seconds, with errors that say what to do.

What a client leaves behind when no broker answers, or when it is closed with messages unsent, is closed here: a thread
that runs, and sockets open until the garbage collector finds them. A scorer that waits for its broker over a weekend
tries thousands of times.
"""

import logging
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet

from kafka import KafkaProducer
from kafka import errors as kafka_errors
from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaTCPTransport

from stream_ad.adapters.kafka_security import describe
from stream_ad.errors import ConfigError, StreamAdError, Unavailable

log = logging.getLogger(__name__)

# without a handler of its own its complaints, several a second while a broker is away, would go to stderr as they are;
# what an operator must know we say ourselves
logging.getLogger("kafka").addHandler(logging.NullHandler())

T = TypeVar("T")

#: how long taking up a connection may last, with TLS; the client's own 10 to 30 s delay the return of a broker
CONNECT_S = 5.0


def connect(factory: Callable[..., T], settings: Mapping[str, Any]) -> tuple[T, KafkaNetClient]:
    """A consumer, producer or admin client that reached a broker, and its network client.

    Raises:
        kafka.errors.KafkaError: none answered; everything that was begun is closed.
    """
    if not settings.get("proxy_url"):
        _knock(settings["bootstrap_servers"], settings.get("ssl_context"))
        settings = {**settings, "proxy_url": f"{_ClosingSocket.SCHEMES[0]}://"}
    begun: list[_Client] = []
    quick = {"socket_connection_setup_timeout_ms", "socket_connection_setup_timeout_max_ms"}

    def client(**configs: Any) -> _Client:
        begun.append(_Client(**configs | dict.fromkeys(quick, CONNECT_S * 1000)))
        return begun[-1]

    defaults: dict[str, Any] = {"socket_options": _dead_peers_show(), "kafka_client": client}
    try:
        return factory(**{**settings, **defaults}), begun[-1]
    except BaseException as error:
        for one in begun:
            one.close()
        if isinstance(error, KafkaTimeoutError):
            raise KafkaConnectionError(
                f"something answers there, but no broker that speaks {describe(settings)}: check kafka.security and"
                f" kafka.mechanism, or it hangs ({error})"
            ) from error
        raise


class Producer(KafkaProducer):
    """Ends when it is closed, with messages unsent too, at which the client's own stops half-way."""

    _ending = False

    def close(self, *arguments: Any, **named: Any) -> None:
        self._ending = True
        super().close(*arguments, **named)

    def flush(self, *arguments: Any, **named: Any) -> None:
        try:
            super().flush(*arguments, **named)
        except KafkaTimeoutError:
            if not self._ending:
                raise


class _Client(KafkaNetClient):
    """Closes every socket with itself; the client's own waits for what is not yet written, which nobody writes then."""

    def __init__(self, **configs: Any) -> None:
        selector = NetworkSelector(**configs)
        self._connections = _Manager(selector, **configs)
        super().__init__(net=selector, manager=self._connections, **configs)

    def close(self, node_id: Any = None) -> None:
        try:
            super().close(node_id)
        finally:
            if node_id is None:
                self._connections.close_sockets()


class _Manager(KafkaConnectionManager):
    """Ends bootstrapping at once when the broker refuses the user, which the client's own hides and tries again.

    It also knows every transport that it made, for whoever closes their sockets.
    """

    _refused: KafkaError | None = None

    def __init__(self, net: NetworkSelector, **configs: Any) -> None:
        super().__init__(net, **configs)
        self._transports: WeakSet[KafkaTCPTransport] = WeakSet()

    def close_sockets(self) -> None:
        for transport in [*self._transports]:
            if transport._sock is not None:
                transport._sock.close()

    async def _build_transport(self, *arguments: Any, **named: Any) -> KafkaTCPTransport:
        transport = await super()._build_transport(*arguments, **named)
        self._transports.add(transport)
        return transport

    def get_connection(self, *arguments: Any, **named: Any) -> Any:
        if self._refused is not None and not self.bootstrapped:
            raise self._refused
        connection = super().get_connection(*arguments, **named)
        if not self.bootstrapped:  # later every request comes through here, and each would leave a callback behind
            connection.close_future.add_errback(self._note)
        return connection

    def _note(self, error: BaseException) -> None:
        if isinstance(error, REFUSED):
            self._refused = error


class _ClosingSocket(KafkaNetSocket):
    """No proxy at all: a plain connection whose socket is closed when it fails, which the client's own leaves open."""

    SCHEMES = ("stream-ad-direct",)

    def socket(self, *arguments: Any, **named: Any) -> Any:
        self._made = super().socket(*arguments, **named)
        return self._made

    async def connect(self, *arguments: Any, **named: Any) -> Any:
        try:
            return await super().connect(*arguments, **named)
        except BaseException:
            self._made.close()
            raise


def is_connected(client: KafkaNetClient) -> bool:
    """Whether a connection to any broker of the cluster is up."""
    return any(client.connected(broker.node_id) for broker in client.cluster.brokers())


class ClientFault(Unavailable):
    """kafka-python failed in a way that it does not document: it is taken down and made anew."""


@contextmanager
def explained(bootstrap: str, what: str) -> Iterator[None]:
    """Turn the client's errors into ours.

    Raises:
        ConfigError: no retry helps; an operator must change a setting.
        Unavailable: all others, because brokers, their rights and their certificates come back.
    """
    try:
        yield
    except StreamAdError:
        raise
    except KafkaError as error:
        said = f"could not {what} Kafka at {bootstrap}: {type(error).__name__}: {error}; {_advice(error)}"
        raise (ConfigError if isinstance(error, FATAL) else Unavailable)(said) from error
    except Exception as error:  # a fault of the client must not end a line
        log.exception("kafka-python failed in a way that it does not document")
        raise ClientFault(f"could not {what} Kafka at {bootstrap}: {type(error).__name__}: {error}") from error


REFUSED = (kafka_errors.SaslAuthenticationFailedError, kafka_errors.UnsupportedSaslMechanismError)

FATAL = (
    kafka_errors.FencedInstanceIdError,
    kafka_errors.InvalidSessionTimeoutError,
    kafka_errors.InvalidGroupIdError,
    kafka_errors.InvalidTopicError,
    kafka_errors.KafkaConfigurationError,
)

ADVICE: Sequence[tuple[type[BaseException], str]] = (
    (
        kafka_errors.FencedInstanceIdError,
        "another scorer uses the same kafka.instance: give each its own, or none",
    ),
    (
        kafka_errors.InvalidSessionTimeoutError,
        "set kafka.session_timeout_ms to what the broker allows (group.min.session.timeout.ms, usually 6000, to"
        " group.max.session.timeout.ms)",
    ),
    (kafka_errors.InvalidTopicError, "kafka.topic may have letters, digits, dot, dash and underscore"),
    (
        kafka_errors.SaslAuthenticationFailedError,
        "check kafka.username, kafka.password_file and kafka.mechanism",
    ),
    (kafka_errors.UnsupportedSaslMechanismError, "set kafka.mechanism to one that the broker offers"),
    (
        kafka_errors.TopicAuthorizationFailedError,
        "give the user the right to read (kafka.topic) or write (result and dead-letter topics)",
    ),
    (kafka_errors.GroupAuthorizationFailedError, "give the user the right to read the group kafka.group"),
    (
        kafka_errors.UnknownTopicOrPartitionError,
        "create the topic, or correct its name in the configuration",
    ),
)


def _advice(error: BaseException) -> str:
    return next((advice for kind, advice in ADVICE if isinstance(error, kind)), "check that it runs")


def _knock(servers: Sequence[str], context: ssl.SSLContext | None) -> None:
    """Return when any server takes a connection. With TLS the reason of a refusal is known only here."""
    reasons = []
    for server in servers:
        try:
            address = urlsplit(f"//{server.strip()}")
            host = address.hostname or ""
            with socket.create_connection((host, address.port or 9092), timeout=CONNECT_S) as connection:
                if context is not None:
                    context.wrap_socket(connection, server_hostname=host).close()
                return
        except ssl.SSLCertVerificationError as error:
            reasons.append(f"{server}: {error.verify_message}; check kafka.ca_file and the broker's certificate")
        except (OSError, ValueError) as error:
            reasons.append(f"{server}: {error}")
    raise KafkaConnectionError("; ".join(reasons))


def _dead_peers_show() -> list[tuple[int, int, int]]:
    """Socket options by which the kernel ends a connection whose other side is gone, about 11 s after its last word."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    wanted = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 11_000}
    return options + [
        (socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in wanted.items() if hasattr(socket, name)
    ]
