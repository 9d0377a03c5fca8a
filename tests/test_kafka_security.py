"""TLS and SASL as they are spoken: a wire before the broker ends TLS and asks for a password."""

import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from stream_ad.adapters.kafka_producer import KafkaProducerOptions, Outgoing, SafeProducer
from stream_ad.adapters.kafka_security import KafkaSecurity
from stream_ad.adapters.kafka_source import KafkaSource
from stream_ad.config import load_settings
from stream_ad.errors import ConfigError
from tests.broker import broker_behind
from tests.kafka_kit import complaint, options, source_on, take, values
from tests.sasl_gate import PlainGate
from tests.wire import Wire


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Path:
    """A folder with the authority's certificate and a client's, its key apart, encrypted, and a password."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    client = authority.issue_cert("scorer@line-3")
    client.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    client.private_key_pem.write_to_path(tmp_path / "client.key")
    (tmp_path / "password").write_text("correct horse\n")
    return tmp_path


def served(authority: trustme.CA, *, ask_client: bool = False, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    if ask_client:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    return context


def there_and_back(bootstrap: str, security: KafkaSecurity, topic: str = "images") -> None:
    """A producer writes and a source reads what it wrote."""
    with closing(SafeProducer(KafkaProducerOptions(bootstrap=bootstrap, security=security))) as producer:
        producer.send([Outgoing(topic=topic, key=None, value=b"picture", headers={})])
    with source_on(options(bootstrap, topic, security=security)) as source:
        assert values(take(source, 1)) == [b"picture"]


@pytest.fixture
def encrypted(authority: trustme.CA) -> Iterator[str]:
    with Wire(tls=served(authority)) as wire, broker_behind(wire) as bootstrap:
        yield bootstrap


@pytest.mark.needs_broker
def test_pictures_go_over_tls_when_the_authority_is_known(encrypted, files):
    there_and_back(encrypted, KafkaSecurity(protocol="SSL", ca_file=files / "ca.pem"))


@pytest.mark.needs_broker
def test_a_broker_of_another_authority_is_refused_with_the_reason(encrypted, files):
    trustme.CA().cert_pem.write_to_path(files / "other.pem")
    security = KafkaSecurity(protocol="SSL", ca_file=files / "other.pem")
    with source_on(options(encrypted, "images", security=security)) as source:
        assert "check kafka.ca_file and the broker's certificate" in complaint(source, "certificate")


@pytest.mark.needs_broker
def test_who_speaks_plainly_to_a_tls_port_is_told_which_setting(encrypted):
    with source_on(options(encrypted, "images", request_timeout_ms=1000)) as source:
        assert "check kafka.security" in complaint(source, "no broker that speaks PLAINTEXT")


@pytest.mark.needs_broker
def test_the_brokers_certificate_must_be_for_the_name_that_is_connected_to(authority, files):
    with Wire(tls=served(authority, name="broker.plant")) as wire, broker_behind(wire) as bootstrap:
        security = KafkaSecurity(protocol="SSL", ca_file=files / "ca.pem")
        with source_on(options(bootstrap, "images", security=security)) as source:
            complaint(source, "not valid for '127.0.0.1'")
        there_and_back(bootstrap, KafkaSecurity(protocol="SSL", ca_file=files / "ca.pem", check_hostname=False))


@pytest.mark.needs_broker
def test_a_broker_that_asks_for_our_certificate_gets_it(authority, files):
    with Wire(tls=served(authority, ask_client=True)) as wire, broker_behind(wire) as bootstrap:
        there_and_back(
            bootstrap,
            KafkaSecurity(
                protocol="SSL",
                ca_file=files / "ca.pem",
                cert_file=files / "client.pem",
                key_file=files / "client.key",
            ),
        )
        without = KafkaSecurity(protocol="SSL", ca_file=files / "ca.pem")
        with source_on(options(bootstrap, "images", security=without, request_timeout_ms=1000)) as source:
            complaint(source, "could not read from Kafka")


@pytest.mark.needs_broker
def test_user_and_password_of_a_file_open_the_gate_and_a_wrong_one_does_not(authority, files):
    gate = PlainGate({"line-3": "correct horse"})
    with Wire(tls=served(authority), gate=gate.pass_through) as wire, broker_behind(wire) as bootstrap:
        user = KafkaSecurity(
            protocol="SASL_SSL",
            ca_file=files / "ca.pem",
            mechanism="PLAIN",
            username="line-3",
            password_file=files / "password",
        )
        there_and_back(bootstrap, user)
        assert gate.opened > 0
        (files / "password").write_text("wrong")
        with source_on(options(bootstrap, "images", security=user)) as source:
            assert "check kafka.username, kafka.password_file" in complaint(source, "SaslAuthenticationFailed")
        refused = replace(user, mechanism="SCRAM-SHA-512")
        with source_on(options(bootstrap, "images", security=refused)) as source:
            complaint(source, "set kafka.mechanism to one that the broker offers")
        (files / "password").write_text("wrong")
        with source_on(options(bootstrap, "images", security=user)) as source:
            complaint(source, "SaslAuthenticationFailed")
            # a password that was put right is taken without a restart
            (files / "password").write_text("correct horse")
            assert values(take(source, 1)) == [b"picture"]


def test_a_secret_that_is_missing_or_empty_is_named_at_the_start(files):
    security: dict[str, Any] = {"protocol": "SASL_PLAINTEXT", "username": "line-3"}
    with pytest.raises(ConfigError, match=r"kafka\.password_file needs a file .* cannot be read: No such file"):
        KafkaSource(options("127.0.0.1:1", "t", security=KafkaSecurity(**security, password_file=files / "none")))
    (files / "empty").write_text("\n")
    with pytest.raises(ConfigError, match=r"kafka\.password_file needs .* is empty"):
        SafeProducer(
            KafkaProducerOptions(
                bootstrap="127.0.0.1:1", security=KafkaSecurity(**security, password_file=files / "empty")
            )
        )


@pytest.mark.parametrize("broken", ["ca_file", "cert_file"])
def test_a_file_that_is_no_certificate_is_named(files, broken):
    (files / "text").write_text("no certificate")
    security: dict[str, Any] = {"protocol": "SSL", broken: files / "text"}
    with pytest.raises(ConfigError, match=rf"kafka\.{broken} needs PEM files"):
        KafkaSecurity(**security).client_settings()


def test_an_encrypted_key_is_opened_with_the_password_of_its_file_and_never_asks(authority, files):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((files / "client.key").read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"correct horse"),
    )
    (files / "locked.key").write_bytes(encrypted)
    named: dict[str, Any] = {"protocol": "SSL", "cert_file": files / "client.pem", "key_file": files / "locked.key"}
    KafkaSecurity(**named, key_password_file=files / "password").client_settings()
    with pytest.raises(ConfigError, match=r"kafka\.cert_file and kafka\.key_file need"):
        KafkaSecurity(**named).client_settings()


def test_no_password_is_shown_by_the_options(files):
    security = KafkaSecurity(protocol="SASL_SSL", username="line-3", password_file=files / "password")
    assert "correct horse" not in repr(security)


@pytest.mark.parametrize(
    ("kafka", "said"),
    [
        ("{ca_file: ca.pem}", "ca_file needs security SSL or SASL_SSL, got PLAINTEXT"),
        ("{security: SASL_SSL}", "username needs a value with security SASL_SSL"),
        ("{username: me}", "username needs security SASL_SSL or SASL_PLAINTEXT, got PLAINTEXT"),
        ("{security: SSL, key_file: key.pem}", "key_file needs cert_file"),
        ("{instance: line 3}", "instance needs letters, digits"),
    ],
)
def test_settings_that_protect_nothing_are_refused(tmp_path, kafka, said):
    (tmp_path / "config.yaml").write_text(f"kafka: {kafka}\n")
    with pytest.raises(ConfigError, match=said):
        load_settings(tmp_path / "config.yaml")


def test_files_are_found_from_the_configurations_folder(tmp_path):
    (tmp_path / "config.yaml").write_text("kafka: {security: SSL, ca_file: secrets/ca.pem}\n")
    assert load_settings(tmp_path / "config.yaml").kafka.ca_file == tmp_path / "secrets" / "ca.pem"
