"""What is sent is there when `send` returns."""

import base64
import gc
import hashlib
import hmac
import json
import logging
import ssl
import subprocess
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import trustme

from stream_ad.adapters.in_memory import InMemoryResults, InMemorySink, ManualClock
from stream_ad.adapters.jsonl_sink import JsonLinesSink
from stream_ad.adapters.kafka_producer import KafkaProducerOptions
from stream_ad.adapters.kafka_sink import KafkaSink
from stream_ad.adapters.mqtt_sink import MqttOptions, MqttSink
from stream_ad.adapters.webhook_sink import WebhookOptions, WebhookSink
from stream_ad.app import App
from stream_ad.commands.schema import schemas
from stream_ad.config import Mqtt, Settings, Webhook
from stream_ad.domain.ports import Sink
from stream_ad.domain.result import Verdict
from stream_ad.errors import ConfigError, DataError, Unavailable
from stream_ad.services.relay import Relay
from stream_ad.services.streaming import StreamOptions
from tests.broker import create_topic, free_port, read_all
from tests.sink_kit import (
    EVERYTHING,
    LINES,
    NOW,
    Line,
    Receiver,
    Subscriber,
    a_dead_letter,
    a_result,
    ids,
    lines,
    mosquitto,
    receiver,
)
from tests.stream_kit import Line as StreamLine
from tests.wire import Wire

# --- the contract of all sinks


@pytest.fixture(
    params=[pytest.param(kind, marks=pytest.mark.needs_broker if kind == "kafka" else ()) for kind in LINES]
)
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Line]:
    with LINES[request.param](tmp_path) as made:
        assert made.sink.name == request.param  # the outbox knows it by this name, also after an update
        yield made


def test_what_is_sent_is_there_in_order_and_a_repeat_has_its_id(line):
    first, second, dead = a_result(1), a_result(2), a_dead_letter()
    line.sink.send([first, second])
    line.sink.send([dead])
    line.sink.send([first])
    arrived = line.arrived(4)
    assert sorted(arrived) == sorted(ids([first, second, dead, first]))
    assert [name for name in arrived if name != dead.id] == ids([first, second, first])


def test_nothing_to_send_is_nothing(line):
    line.sink.send([])
    assert isinstance(line.sink, Sink)


def test_a_sink_that_goes_away_says_so_and_takes_it_when_it_is_back(line):
    line.sink.send([a_result(1)])
    line.leave()
    with pytest.raises(Unavailable):
        line.sink.send([a_result(2)])
    with pytest.raises(Unavailable):
        line.sink.send([a_result(2)])
    line.come_back()
    results = InMemoryResults()
    results.save_batch([], [], [a_result(2), a_result(3)])
    relay, clock = None, ManualClock(NOW)
    for _ in range(10):  # as serve does; a client may need a moment to see that the other side is back
        relay = relay or Relay(results, [line.sink], clock=clock, patience_s=30.0)
        relay.flush()
        clock.sleep(100.0)
        if not results.outbox(1):
            break
    assert results.outbox(1) == []
    assert set(line.arrived(3)) == set(ids([a_result(1), a_result(2), a_result(3)]))


def test_closing_twice_does_no_harm(line):
    line.sink.send([a_result(1)])
    line.sink.close()
    line.sink.close()


def test_no_two_sinks_have_one_name():
    assert len({JsonLinesSink.name, KafkaSink.name, MqttSink.name, WebhookSink.name}) == 4


# --- JSON lines


def test_json_lines_are_appended_to_the_file_named_and_dead_letters_beside_it(tmp_path):
    sink = JsonLinesSink(tmp_path / "out" / "line 3.jsonl", clock=ManualClock(NOW))
    sink.send([a_result(1), a_dead_letter()])
    sink.send([a_result(2)])
    assert [(line["schema"], line["offset"]) for line in lines(tmp_path / "out" / "line 3.jsonl")] == [
        ("stream-ad.result/1", 1),
        ("stream-ad.result/1", 2),
    ]
    (dead,) = lines(tmp_path / "out" / "line 3.dead-letters.jsonl")
    assert (dead["key"], dead["bytes"], dead["headers"]["camera"]) == ("cam", 13, "Süd")
    assert dead["headers"]["__connect.errors.exception.message"] == "no picture: ü"


def test_a_new_day_is_a_new_file(tmp_path):
    clock = ManualClock(NOW)
    sink = JsonLinesSink(tmp_path / "results.jsonl", clock=clock, daily=True)
    sink.send([a_result(1)])
    clock.sleep(120.0)
    sink.send([a_result(2), a_dead_letter()])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "results-2026-11-22.jsonl",
        "results-2026-11-23.dead-letters.jsonl",
        "results-2026-11-23.jsonl",
    ]


def test_a_line_torn_by_a_crash_spoils_no_other(tmp_path):
    (tmp_path / "results.jsonl").write_bytes(b'{"half a li')
    JsonLinesSink(tmp_path / "results.jsonl", clock=ManualClock(NOW)).send([a_result(1)])
    torn, whole = (tmp_path / "results.jsonl").read_bytes().splitlines()
    assert torn == b'{"half a li'
    assert json.loads(whole)["offset"] == 1


def test_numbers_that_are_not_finite_are_null(tmp_path):
    sink = JsonLinesSink(tmp_path / "results.jsonl", clock=ManualClock(NOW))
    sink.send([a_result(1, margin=float("inf"), score=float("nan"))])
    (line,) = lines(tmp_path / "results.jsonl")
    assert (line["margin"], line["score"], line["verdict"]) == (None, None, "NG")


def test_a_place_that_cannot_be_written_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="check disk and permissions"):
        JsonLinesSink(tmp_path / "file" / "results.jsonl", clock=ManualClock(NOW)).send([a_result(1)])


# --- Kafka


@pytest.mark.needs_broker
def test_results_and_dead_letters_reach_their_topics(bootstrap, topic):
    create_topic(bootstrap, f"{topic}.results")
    create_topic(bootstrap, f"{topic}.dlq")
    options = KafkaProducerOptions(bootstrap=bootstrap)
    with closing(KafkaSink(options, results_topic=f"{topic}.results", dead_letter_topic=f"{topic}.dlq")) as sink:
        sink.send([a_result(1), a_dead_letter(), a_result(2)])
    results = read_all(bootstrap, f"{topic}.results", 2)
    assert [json.loads(record.value)["offset"] for record in results] == [1, 2]
    assert dict(results[0].headers)["ce_id"] == b"result:folder:/line 1/0/1"
    (dead,) = read_all(bootstrap, f"{topic}.dlq", 1)
    headers = dict(dead.headers)
    assert (dead.key, dead.value, headers["camera"]) == (b"cam", b"\xff\x00 no picture", b"S\xc3\xbcd")
    assert headers["__connect.errors.topic"] == b"t"
    assert headers["__connect.errors.exception.message"].decode() == "no picture: ü"


@pytest.mark.needs_broker
def test_a_dead_letter_that_is_too_large_goes_without_its_bytes_and_the_others_with(bootstrap, topic):
    options = KafkaProducerOptions(bootstrap=bootstrap, max_message_bytes=20_000)
    with closing(KafkaSink(options, results_topic=topic, dead_letter_topic=topic)) as sink:
        sink.send([a_dead_letter(b"x" * 30_000, offset=1), a_dead_letter(b"small", offset=2)])
    sent = {dict(r.headers)["__connect.errors.offset"]: r for r in read_all(bootstrap, topic, 3, timeout_s=3.0)}
    assert sent[b"1"].value is None
    assert dict(sent[b"1"].headers)["stream_ad.value_omitted"] == b"30000"
    assert sent[b"2"].value == b"small"


@pytest.mark.needs_broker
def test_a_dead_letter_whose_key_or_headers_are_too_large_goes_with_its_reason_alone(bootstrap, topic):
    options = KafkaProducerOptions(bootstrap=bootstrap, max_message_bytes=20_000)
    long_key = replace(a_dead_letter(b"1", offset=1), key=b"k" * 30_000)
    letter = a_dead_letter(b"22", offset=2)
    long_header = replace(letter, headers={**letter.headers, "camera": b"c" * 30_000})
    with closing(KafkaSink(options, results_topic=topic, dead_letter_topic=topic)) as sink:
        sink.send([long_key, long_header, a_dead_letter(b"small", offset=3)])
    sent = {dict(r.headers)["__connect.errors.offset"]: r for r in read_all(bootstrap, topic, 3)}
    for offset, size in ((b"1", b"1"), (b"2", b"2")):
        headers = dict(sent[offset].headers)
        assert sent[offset].key is None
        assert not sent[offset].value
        assert "camera" not in headers
        assert headers["__connect.errors.exception.message"].decode() == "no picture: ü"
        assert headers["stream_ad.value_omitted"] == size
    assert sent[b"3"].value == b"small"


@pytest.mark.needs_broker
def test_a_message_that_is_too_large_in_any_form_is_logged_and_holds_up_no_other(bootstrap, topic, caplog):
    options = KafkaProducerOptions(bootstrap=bootstrap, max_message_bytes=20_000)
    letter = a_dead_letter(offset=1)
    reason = {**letter.headers, "__connect.errors.exception.message": b"r" * 30_000}
    result = replace(a_result(2), key=b"k" * 30_000)
    sink = KafkaSink(options, results_topic=topic, dead_letter_topic=topic)
    with closing(sink), caplog.at_level(logging.ERROR):
        sink.send([replace(letter, headers=reason), result, a_dead_letter(b"small", offset=3)])
    (only,) = read_all(bootstrap, topic, 2, timeout_s=3.0)
    assert only.value == b"small"
    first, second = [record.getMessage() for record in caplog.records if record.name.startswith("stream_ad")]
    assert "no message about t/1/1" in first
    assert "no message about result:folder:/line 1/0/2" in second
    assert "the database has it" in first


def test_a_broker_that_is_away_is_unavailable_and_each_attempt_leaves_nothing_behind():
    address = f"127.0.0.1:{free_port()}"
    options = KafkaProducerOptions(bootstrap=address, request_timeout_ms=200, delivery_timeout_ms=1000)
    before = threading.active_count()
    with closing(KafkaSink(options, results_topic="r", dead_letter_topic="d")) as sink:
        for _ in range(3):
            with pytest.raises(Unavailable, match=f"Kafka at {address}"):
                sink.send([a_result(1)])
    assert threading.active_count() == before


# --- webhook


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as there:
        yield there


def webhook(hook: Receiver, **changes) -> WebhookSink:
    return WebhookSink(WebhookOptions(**{"url": hook.url, "timeout_s": 5.0} | changes), clock=ManualClock(NOW))


def fits(body: bytes, name: str) -> None:
    jsonschema.Draft202012Validator(json.loads(schemas()[name])).validate(json.loads(body))


def test_only_ng_is_posted_unless_more_is_asked_for(hook):
    everything = [a_result(n, verdict=verdict) for n, verdict in enumerate(Verdict)] + [a_dead_letter()]
    webhook(hook).send(everything)
    assert [json.loads(body)["verdict"] for _, _, body in hook.requests] == ["NG"]
    webhook(hook, send=EVERYTHING).send(everything)
    assert len(hook.requests) == 1 + len(everything)
    for _, headers, body in hook.requests:
        fits(body, headers["ce-type"].removeprefix("stream-ad.").replace("/", "-"))


def test_a_post_is_a_cloud_event(hook):
    webhook(hook).send([a_result(3)])
    ((path, headers, body),) = hook.requests
    assert path == "/hook?token=1"
    assert json.loads(body)["id"] == "result:folder:/line 1/0/3"
    assert headers["content-type"] == "application/json"
    assert headers["ce-id"] == "result:folder:/line%201/0/3"
    assert (headers["ce-specversion"], headers["ce-type"]) == ("1.0", "stream-ad.result/1")
    assert "webhook-signature" not in headers


def test_with_a_secret_a_post_is_signed_as_standard_webhooks_say(hook, tmp_path):
    key = b"0123456789abcdef"
    (tmp_path / "secret").write_bytes(b"whsec_" + base64.b64encode(key) + b"\n")
    webhook(hook, secret_file=tmp_path / "secret").send([a_result(3)])
    ((_, headers, body),) = hook.requests
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-timestamp"] == str(int(NOW.timestamp()))


def test_a_secret_that_cannot_be_read_is_told_at_the_start(hook, tmp_path):
    with pytest.raises(ConfigError, match=r"webhook.secret_file needs a file with the secret"):
        webhook(hook, secret_file=tmp_path / "none")


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_message_that_the_receiver_refuses_is_not_for_waiting(hook, status):
    hook.status = status
    with pytest.raises(DataError, match=f"answered {status}"):
        webhook(hook).send([a_result(3)])


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 408, 410, 429, 500, 503])
def test_a_receiver_that_is_set_up_wrong_or_busy_is_waited_for_and_never_followed_elsewhere(hook, status):
    hook.status = status
    with pytest.raises(Unavailable, match=f"answered {status}") as caught:
        webhook(hook).send([a_result(3)])
    assert "token" not in str(caught.value)  # an address may hold a secret
    assert hook.requests == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/", "hook", "http://"])
def test_only_http_is_posted_to(url):
    with pytest.raises(ConfigError, match=r"webhook.url needs http"):
        WebhookSink(WebhookOptions(url=url), clock=ManualClock(NOW))


def test_a_webhook_that_refuses_one_message_gets_the_others_and_so_does_everybody(hook, caplog):
    """One poison message is told and left out; the relay and the real sink together."""
    results, other, clock = InMemoryResults(), InMemorySink("other"), ManualClock(NOW)
    results.save_batch([], [], [a_result(n) for n in range(3)])
    relay = Relay(results, [webhook(hook), other], clock=clock, patience_s=30.0)
    hook.status = 422
    relay.flush()
    assert (relay.left_out, len(other.sent)) == ({"webhook": 3, "other": 0}, 3)
    hook.status = 204
    results.save_batch([], [], [a_result(n) for n in range(3, 6)])
    relay.flush()
    assert [json.loads(body)["offset"] for _, _, body in hook.requests] == [3, 4, 5]


# --- MQTT


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    with mosquitto(tmp_path) as address:
        yield address


def mqtt(address: str, **changes) -> MqttSink:
    host, _, port = address.partition(":")
    return MqttSink(MqttOptions(**{"host": host, "port": int(port), "timeout_s": 5.0} | changes))


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_gateway_sees_a_topic_per_camera_with_the_document_in_it(broker, version):
    with (
        closing(Subscriber(broker, "plant 7/#")) as gateway,
        closing(mqtt(broker, topic="plant 7", version=version)) as sink,
    ):
        sink.send([a_result(1), a_dead_letter()])
        (topic, payload), (dead_topic, dead_payload) = gateway.wait_for(2)
    assert topic == "plant 7/results/cam_1"
    assert json.loads(payload)["offset"] == 1
    assert dead_topic == "plant 7/dead-letters"
    fits(payload, "result-1")
    fits(dead_payload, "dead-letter-1")


def test_only_the_verdicts_that_are_asked_for_are_published(broker):
    with closing(Subscriber(broker)) as gateway, closing(mqtt(broker, send=("NG", "late"))) as sink:
        sink.send([a_result(n, verdict=verdict) for n, verdict in enumerate(Verdict)] + [a_dead_letter()])
        assert [json.loads(payload)["verdict"] for _, payload in gateway.wait_for(2)] == ["NG", "late"]


def test_a_gateway_that_comes_later_sees_the_last_verdict_if_it_is_retained(broker):
    with closing(mqtt(broker, retain=True)) as sink:
        sink.send([a_result(1), a_result(2)])
    with closing(Subscriber(broker)) as gateway:
        ((_, payload),) = gateway.wait_for(1)
    assert json.loads(payload)["offset"] == 2


def test_a_password_is_read_from_its_file_and_a_wrong_one_is_told(tmp_path):
    users = tmp_path / "users"
    users.write_text("line:right\n")
    with mosquitto(tmp_path, "allow_anonymous false", f"password_file {hashed(users)}") as address:
        (tmp_path / "password").write_text("right\n")
        with closing(mqtt(address, username="line", password_file=tmp_path / "password")) as sink:
            sink.send([a_result(1)])
        (tmp_path / "password").write_text("wrong\n")
        with (
            closing(mqtt(address, username="line", password_file=tmp_path / "password")) as sink,
            pytest.raises(Unavailable, match=r"refused us: (Not authorized|Bad user name or password)"),
        ):
            sink.send([a_result(1)])


def test_a_broker_that_does_not_let_us_publish_is_noticed(tmp_path):
    (tmp_path / "rights").write_text("topic read #\n")
    with (
        mosquitto(tmp_path, "allow_anonymous true", f"acl_file {tmp_path / 'rights'}") as address,
        closing(mqtt(address)) as sink,
        pytest.raises(Unavailable, match=r"reason 0x87; may we publish to stream-ad/results/cam_1"),
    ):
        sink.send([a_result(1)])


def test_a_message_that_a_broker_never_takes_is_left_out_and_the_others_pass(tmp_path, caplog):
    results, clock = InMemoryResults(), ManualClock(NOW)
    large = replace(a_dead_letter(offset=9), headers={"camera": b"c" * 20_000})
    results.save_batch([], [], [large, *(a_result(n) for n in range(3))])
    with (
        mosquitto(tmp_path, "allow_anonymous true", "max_packet_size 10000") as address,
        closing(Subscriber(address)) as gateway,
        closing(mqtt(address)) as sink,
    ):
        relay = Relay(results, [sink], clock=clock, patience_s=30.0)
        for n in range(3, 15):
            relay.flush()
            results.save_batch([], [], [a_result(n)])
            clock.sleep(100.0)
        relay.flush()
        seen = {json.loads(payload)["id"] for _, payload in gateway.wait_for(15)}
    assert results.outbox(10) == []
    assert seen == set(ids([a_result(n) for n in range(15)]))
    assert relay.left_out == {"mqtt": 1}


# --- TLS, really spoken: the wire ends it before the broker and the receiver


def certified(name: str) -> tuple[trustme.CA, ssl.SSLContext]:
    """An authority, and a server that it says is called so."""
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return authority, context


@pytest.mark.parametrize("name", ["127.0.0.1", "10.9.8.7"])
def test_an_mqtt_broker_over_tls_must_be_who_it_says(broker, tmp_path, name):
    authority, context = certified(name)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with (
        Wire(broker, tls=context) as wire,
        closing(Subscriber(broker)) as gateway,
        closing(mqtt(wire.address, tls=True, ca_file=tmp_path / "ca.pem")) as sink,
    ):
        if name == "127.0.0.1":
            sink.send([a_result(1)])
            assert len(gateway.wait_for(1)) == 1
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # paho leaves the refused socket to the collector
                with pytest.raises(Unavailable, match="IP address mismatch") as caught:
                    sink.send([a_result(1)])
                del caught
                gc.collect()


@pytest.mark.parametrize("known", [True, False])
def test_a_webhook_over_tls_needs_an_authority_that_is_known(hook, tmp_path, known):
    authority, context = certified("127.0.0.1")
    (authority if known else trustme.CA()).cert_pem.write_to_path(tmp_path / "ca.pem")
    with Wire(f"127.0.0.1:{hook.port}", tls=context) as wire:
        sink = webhook(hook, url=f"https://{wire.address}/hook", ca_file=tmp_path / "ca.pem")
        if known:
            sink.send([a_result(1)])
        else:
            with pytest.raises(Unavailable, match="certificate verify failed"):
                sink.send([a_result(1)])
    assert len(hook.requests) == known


def test_a_file_of_authorities_that_is_none_is_told_at_the_start(hook, tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ConfigError, match=r"webhook.ca_file needs PEM certificates"):
        webhook(hook, ca_file=tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match=r"mqtt.ca_file needs PEM certificates"):
        MqttSink(MqttOptions(host="127.0.0.1", tls=True, ca_file=tmp_path / "ca.pem"))


def hashed(users: Path) -> Path:
    """The file with what the broker keeps of its passwords."""
    subprocess.run(["mosquitto_passwd", "-U", str(users)], check=True, capture_output=True, timeout=30)
    return users


# --- all of them in the application


def test_the_settings_say_which_sinks_there_are(tmp_path):
    plain = Settings(data_dir=tmp_path)
    assert [sink.name for sink in App(plain).sinks()] == ["jsonl"]
    more = plain.model_copy(update={"mqtt": Mqtt(host="broker"), "webhook": Webhook(url="https://chat.example/hook")})
    assert [sink.name for sink in App(more).sinks()] == ["jsonl", "mqtt", "webhook"]


def test_a_hanging_webhook_holds_up_neither_verdicts_nor_other_sinks():
    class Hanging(InMemorySink):
        def send(self, messages) -> None:
            let_go.wait(60)

    let_go = threading.Event()
    line = StreamLine()
    line.put(10, 20, 200)
    here = InMemorySink("here")
    options = StreamOptions(batch_size=4, linger_s=0.1, drain_s=0.5)
    line.stream(sinks=[Hanging("hanging"), here], options=options).run(threading.Event(), idle_s=1.0)
    assert line.scores == {0: 10, 1: 20, 2: 200}
    assert len(here.sent) == 3
    let_go.set()
