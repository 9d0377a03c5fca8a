"""kafka-python's clients, without what they leave behind when no broker answers.

One that cannot connect keeps a thread running, and the socket of every attempt open until the garbage collector finds
it. A scorer that waits for its broker over a weekend tries thousands of times.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from kafka.errors import KafkaConnectionError
from kafka.net.compat import KafkaNetClient

T = TypeVar("T")


def connect(factory: Callable[..., T], settings: Mapping[str, Any]) -> T:
    """A consumer or producer that reached a broker.

    Raises:
        kafka.errors.KafkaError: none answered; everything that was begun is closed.
    """
    if not settings.get("proxy_url"):
        _knock(settings["bootstrap_servers"], settings["bootstrap_timeout_ms"] / 1000)
    begun: list[KafkaNetClient] = []

    def client(**configs: Any) -> KafkaNetClient:
        begun.append(KafkaNetClient(**configs))
        return begun[-1]

    try:
        return factory(**{**settings, "kafka_client": client})
    except BaseException:
        for one in begun:
            one.close()
        raise


def _knock(servers: Sequence[str], timeout_s: float) -> None:
    """Return when any server takes a connection."""
    reasons = []
    for server in servers:
        try:
            address = urlsplit(f"//{server.strip()}")
            with socket.create_connection((address.hostname or "", address.port or 9092), timeout=timeout_s):
                return
        except (OSError, ValueError) as error:
            reasons.append(f"{server}: {error}")
    raise KafkaConnectionError("; ".join(reasons))
