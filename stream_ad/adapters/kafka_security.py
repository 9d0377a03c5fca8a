"""How a client proves who it is to Kafka, and who the broker must be. Secrets are in files, never in settings.

Files are read at every connection, so a certificate or password that was replaced is taken without a restart.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_ad.adapters.secrets import read_secret
from stream_ad.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSecurity:
    """Kafka's own names: PLAINTEXT, SSL (TLS), SASL_PLAINTEXT, SASL_SSL."""

    protocol: str = "PLAINTEXT"
    #: certificates of the authorities that may have signed the broker's; None: those of the system
    ca_file: Path | None = None
    #: our own certificate (with those between it and its authority) and its key, when the broker asks for one
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password_file: Path | None = None
    #: whether the broker's certificate must be for the name that we connect to
    check_hostname: bool = True
    #: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
    mechanism: str = "SCRAM-SHA-512"
    username: str | None = None
    password_file: Path | None = None

    @property
    def tls(self) -> bool:
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def sasl(self) -> bool:
        return self.protocol.startswith("SASL")

    def client_settings(self) -> dict[str, Any]:
        """What kafka-python's clients take.

        Raises:
            ConfigError: a file is missing, empty or no certificate or key.
        """
        settings: dict[str, Any] = {"security_protocol": self.protocol}
        if self.tls:
            settings["ssl_context"] = self.tls_context()
        if self.sasl:
            if not self.username or self.password_file is None:
                raise ConfigError(f"kafka.security {self.protocol} needs kafka.username and kafka.password_file")
            settings |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": read_secret(self.password_file, "kafka.password_file"),
            }
        return settings

    def tls_context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer; the broker's certificate is always checked. Raises: ConfigError."""
        context = _reading("kafka.ca_file", self.ca_file, lambda: ssl.create_default_context(cafile=self.ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.check_hostname
        if self.cert_file is not None:
            # without a password function, an encrypted key would make OpenSSL ask at the terminal
            password = read_secret(self.key_password_file, "kafka.key_password_file") if self.key_password_file else ""
            named = {"kafka.cert_file": self.cert_file, "kafka.key_file": self.key_file}
            what = " and ".join(key for key, file in named.items() if file is not None)
            files = " and ".join(str(file) for file in named.values() if file is not None)
            certificate, key = self.cert_file, self.key_file
            _reading(what, files, lambda: context.load_cert_chain(certificate, key, password=lambda: password))
        return context


#: no TLS and no user
PLAIN = KafkaSecurity()


def _reading(key: str, files: object, read: Any) -> Any:
    try:
        return read()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{key} needs PEM files that fit each other, got {files}: {why}") from error


def describe(settings: Mapping[str, Any]) -> str:
    """The way a client connects, in words without secrets."""
    words = [str(settings.get("security_protocol", "PLAINTEXT"))]
    if "sasl_mechanism" in settings:
        words.append(f"{settings['sasl_mechanism']} as {settings['sasl_plain_username']}")
    return ", ".join(words)
