"""Verdicts to an HTTP address, NG by default: a message to the shift, a ticket, a light.

One POST per message: the JSON document, CloudEvents in HTTP's binary mode (`ce-id` is the same for every repeat), and,
with a secret, a signature as in Standard Webhooks (standardwebhooks.com): `webhook-signature` is `v1,` and the base64
of HMAC-SHA256 over `webhook-id.webhook-timestamp.body`.
"""

import base64
import hashlib
import hmac
import ssl
import urllib.error
import urllib.request
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from stream_ad.adapters.documents import document
from stream_ad.adapters.secrets import read_secret
from stream_ad.domain.message import OutboxMessage
from stream_ad.domain.ports import Clock
from stream_ad.errors import ConfigError, DataError, Unavailable

#: by which a receiver says that it will never take this very message; all else may be its own fault, or the address's
NEVER = (400, 413, 422)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookOptions:
    url: str
    #: verdicts, and "dead letter"
    send: Collection[str] = ("NG",)
    #: of the shared secret: `whsec_` and base64, or any text
    secret_file: Path | None = None
    #: certificates of the authorities that may have signed the receiver's; None: those of the system
    ca_file: Path | None = None
    #: http://host:port; None: none, whatever the environment says
    proxy: str | None = None
    timeout_s: float = 10.0


class WebhookSink:
    """`domain.ports.Sink`: any 2xx is a confirmation; 400, 413 and 422 refuse the message; all else is tried again."""

    name = "webhook"
    at_once = 1

    def __init__(self, options: WebhookOptions, *, clock: Clock) -> None:
        parts = urlsplit(options.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"webhook.url needs http://HOST... or https://HOST..., got {options.url!r}")
        self._options, self._clock = options, clock
        # without path and query, which may hold a secret
        self._shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        try:
            context = ssl.create_default_context(cafile=options.ca_file)
        except OSError as error:
            raise ConfigError(f"webhook.ca_file needs PEM certificates, {options.ca_file} has none: {error}") from error
        proxies = {"http": options.proxy, "https": options.proxy} if options.proxy else {}
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context), _StayHere()
        )
        if options.secret_file is not None:
            read_secret(options.secret_file, "webhook.secret_file")  # better now than at the first NG

    def send(self, messages: Sequence[OutboxMessage]) -> None:
        for message in messages:
            one = document(message)
            if one.kind in self._options.send:
                self._post(one.id, one.headers, one.body)

    def close(self) -> None:
        """Nothing is kept open."""

    def _post(self, name: str, headers: dict[str, str], body: bytes) -> None:
        request = urllib.request.Request(self._options.url, data=body, method="POST", headers=self._headers(headers))
        for header, value in self._signature(name, body).items():
            request.add_header(header, value)
        try:
            with self._opener.open(request, timeout=self._options.timeout_s):
                return
        except urllib.error.HTTPError as error:
            with error:
                said = f"{self._shown} answered {error.code} to {name}: {error.read(200).decode(errors='replace')!r}"
            if error.code in NEVER:
                raise DataError(said) from error
            raise Unavailable(f"{said}; check webhook.url and what listens there") from error
        except (OSError, HTTPException) as error:
            raise Unavailable(f"{self._shown} cannot be reached: {error}") from error

    def _headers(self, headers: dict[str, str]) -> dict[str, str]:
        """As CloudEvents say it in HTTP: hyphens, and percent-encoded where ASCII does not do."""
        return {"user-agent": "stream-ad"} | {
            name.replace("_", "-"): quote(value, safe="!#$&'()*+,-./:;<=>?@[]^_`{|}~")
            for name, value in headers.items()
        }

    def _signature(self, name: str, body: bytes) -> dict[str, str]:
        if self._options.secret_file is None:
            return {}
        secret = read_secret(self._options.secret_file, "webhook.secret_file").encode()
        return sign(secret, quote(name, safe="/:-._~"), int(self._clock.now().timestamp()), body)


def sign(secret: bytes, name: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks.

    >>> secret = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the example of their libraries
    >>> message = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    >>> sign(secret, *message)["webhook-signature"]
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    key = secret
    if secret.startswith(b"whsec_"):
        try:
            key = base64.b64decode(secret.removeprefix(b"whsec_"), validate=True)
        except ValueError as error:
            raise ConfigError("webhook.secret_file needs base64 behind whsec_, and has something else") from error
    digest = hmac.new(key, f"{name}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": name,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Signed messages go to the address that was set and to no other."""

    def redirect_request(self, *arguments: Any) -> None:
        return None
