"""Log lines that a collector can read, whatever is logged."""

import io
import json
import logging
import subprocess
import sys
from datetime import datetime

from stream_ad.adapters.json_log import JsonFormatter

PROGRAM = """
import logging, warnings
from stream_ad.adapters.json_log import log_as_json
log_as_json()
logging.getLogger("stream_ad.services").info("ours")
logging.getLogger("kafka.conn").info("chatter")
logging.getLogger("kafka.conn").warning("theirs")
warnings.warn("old", DeprecationWarning)
raise ValueError("the end")
"""


def logged(message: str, *values: object, **extra: object) -> dict[str, object]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("stream_ad.test")
    logger.addHandler(handler)
    logger.warning(message, *values, extra=extra)
    (line,) = stream.getvalue().splitlines()
    return json.loads(line)


def test_a_line_has_time_level_logger_message_and_the_fields_of_its_record():
    line = logged("no overlay for %s", "a.png", topic="images", partition=0, offset=7, task="nut")
    time = datetime.fromisoformat(str(line.pop("time")))
    assert time.tzinfo is not None
    assert line == {
        "level": "WARNING",
        "logger": "stream_ad.test",
        "message": "no overlay for a.png",
        "topic": "images",
        "partition": 0,
        "offset": 7,
        "task": "nut",
    }


def test_a_message_of_many_lines_stays_one_line():
    assert logged("first\nsecond \u2028 \x00 Łódź")["message"] == "first\nsecond \u2028 \x00 Łódź"


def test_a_field_that_json_cannot_hold_is_told_as_text():
    assert logged("x", where=io)["where"] == str(io)


def test_no_field_takes_the_place_of_what_every_line_has():
    assert logged("x", level="fine", time="now")["level"] == "WARNING"


def test_everything_that_a_process_says_is_json_to_its_very_end():
    ended = subprocess.run([sys.executable, "-W", "always", "-c", PROGRAM], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["logger"] for line in lines] == ["stream_ad.services", "kafka.conn", "py.warnings", "stream_ad"]
    assert lines[-1]["level"] == "CRITICAL"
    assert "ValueError: the end" in lines[-1]["exception"]
    assert ended.returncode == 1
