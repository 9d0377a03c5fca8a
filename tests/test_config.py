"""Every setting is in config.yaml, and every mistake in it is explained."""

import os
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from stream_ad.config import RESERVED, Settings, environment_name, known_keys, load_settings
from stream_ad.detectors.cmpmb import CmpmbOptions
from stream_ad.detectors.patchcore import PatchCoreOptions
from stream_ad.detectors.registry import DETECTORS
from stream_ad.errors import ConfigError
from stream_ad.services.gate import GateBudgets

CONFIG = Path(__file__).parents[1] / "config.yaml"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch, tmp_path):
    for name in os.environ:
        if name.startswith("STREAM_AD_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(folder: Path, text: str, name: str = "config.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def complaint(path: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    return str(caught.value)


def test_config_yaml_holds_every_default_and_nothing_else():
    assert yaml.safe_load(CONFIG.read_text(encoding="utf-8")) == Settings().model_dump(mode="json")


def test_config_yaml_explains_itself_key_by_key():
    lines = CONFIG.read_text(encoding="utf-8").splitlines()
    bare = [line for line in lines if ":" in line and "#" not in line and not line.rstrip().endswith(":")]
    assert [line.split(":")[0].strip() for line in bare] == ["results_topic"]


def test_config_yaml_loads_to_the_defaults():
    settings = load_settings(CONFIG)
    assert settings.stream == Settings().stream
    assert settings.data_dir == CONFIG.parent / "stream-ad-data"


def test_without_a_file_there_are_defaults_under_the_working_directory(tmp_path):
    settings = load_settings()
    assert settings.data_dir == tmp_path / "stream-ad-data"
    assert settings.database_url == f"sqlite:///{tmp_path}/stream-ad-data/stream_ad.db"
    assert settings.weights_dir == tmp_path / "stream-ad-data" / "weights"
    assert settings.entries_dir == tmp_path / "stream-ad-data" / "entries"
    assert settings.overlays_dir == tmp_path / "stream-ad-data" / "overlays"
    assert settings.inbox == tmp_path / "stream-ad-data" / "inbox"
    assert settings.results_jsonl == tmp_path / "stream-ad-data" / "results.jsonl"
    assert settings.dead_letter_topic == "stream-ad.images.dlq"


def test_the_file_is_found_by_argument_then_by_variable_then_by_place(tmp_path, monkeypatch):
    write(tmp_path, "stream: {batch_size: 1}")
    assert load_settings().stream.batch_size == 1
    monkeypatch.setenv("STREAM_AD_CONFIG", str(write(tmp_path, "stream: {batch_size: 2}", "two.yaml")))
    assert load_settings().stream.batch_size == 2
    assert load_settings(write(tmp_path, "stream: {batch_size: 3}", "three.yaml")).stream.batch_size == 3


def test_a_named_file_must_be_there(tmp_path, monkeypatch):
    assert "--config needs a configuration file, but /no/such.yaml is none" in complaint(Path("/no/such.yaml"))
    monkeypatch.setenv("STREAM_AD_CONFIG", str(tmp_path))
    assert "STREAM_AD_CONFIG needs a configuration file" in complaint()


def test_the_environment_wins_over_the_file_key_by_key(tmp_path, monkeypatch):
    path = write(tmp_path, "stream: {batch_size: 4, linger_ms: 7}")
    monkeypatch.setenv("STREAM_AD_STREAM__BATCH_SIZE", "32")
    monkeypatch.setenv("STREAM_AD_DETECTOR__CMPMB__TEXT_WEIGHT", "0")
    monkeypatch.setenv("STREAM_AD_STREAM__RESULTS_JSONL", "null")
    monkeypatch.setenv("STREAM_AD_STREAM__REFERENCE_ROOTS", '["/a", "b"]')
    settings = load_settings(path)
    assert (settings.stream.batch_size, settings.stream.linger_ms) == (32, 7)
    assert settings.detector.cmpmb.text_weight == 0
    assert settings.results_jsonl is None
    assert settings.stream.reference_roots == (Path("/a"), tmp_path / "b")


def test_every_key_can_be_set_in_the_environment():
    assert "detector.cmpmb.text_weight" in set(known_keys())
    assert environment_name("detector.cmpmb.text_weight") == "STREAM_AD_DETECTOR__CMPMB__TEXT_WEIGHT"


def test_relative_paths_start_at_the_file_and_those_of_the_environment_here(tmp_path, monkeypatch):
    (tmp_path / "etc").mkdir()
    path = write(
        tmp_path / "etc", "data_dir: data\nbackbone: {weights_dir: ../w}\nstream: {reference_roots: [x, /abs]}"
    )
    settings = load_settings(path)
    assert settings.data_dir == tmp_path / "etc" / "data"
    assert settings.weights_dir == tmp_path / "etc" / ".." / "w"
    assert settings.stream.reference_roots == (tmp_path / "etc" / "x", Path("/abs"))
    monkeypatch.setenv("STREAM_AD_DATA_DIR", "here")
    assert load_settings(path).data_dir == tmp_path / "here"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stream: {batchsize: 4}", "line 1: unknown key stream.batchsize; did you mean stream.batch_size?"),
        ("\nbatch_size: 4", "line 2: unknown key batch_size; did you mean stream.batch_size?"),
        ("steam: {batch_size: 4}", "unknown key steam; did you mean stream?"),
        ("detector: {cmpmb: {alpha: 1}}", "unknown key detector.cmpmb.alpha; see config.yaml for all keys"),
        ("stream:\n  batch_size: many", "line 2: stream.batch_size: needs an integer >= 1, got 'many'"),
        ("stream: {batch_size: 0}", "stream.batch_size: needs an integer >= 1, got 0"),
        ("stream: {batch_size: 1.5}", "stream.batch_size: needs an integer >= 1, got 1.5"),
        ("stream: {batch_size: yes}", "stream.batch_size: needs an integer >= 1, got True"),
        ("stream: {batch_size: null}", "stream.batch_size: needs an integer >= 1, got None"),
        ("calibration: {false_alarm_rate: 5}", "needs a number > 0 and < 1, got 5"),
        ("gate: {max_flips: -1}", "gate.max_flips: needs a number >= 0 and <= 1, got -1"),
        ("routing: {refuse: maybe}", "routing.refuse: needs true or false, got 'maybe'"),
        ("stream: {source: camera}", 'stream.source: needs one of "folder", "kafka", got \'camera\''),
        ("backbone: {threads: few}", "backbone.threads: needs an integer >= 1 or null, got 'few'"),
        ("data_dir: 7", "data_dir: needs a path, got 7"),
        ("kafka: {topic: 7}", "kafka.topic: needs a text, got 7"),
        (
            "stream: {reference_roots: /data}",
            "stream.reference_roots: needs a list, each a text or a path, got '/data'",
        ),
        ("stream: 5", "stream: needs a section with keys, got 5"),
        ("kafka: {session_timeout_ms: 6000}", "heartbeat_interval_ms needs to be at most a third"),
        ("- stream", "needs sections such as `stream:`, got a list"),
        ("stream: {batch_size: 4", "cannot be read as YAML"),
        ("stream: {}\nstream: {}", "stream is there twice, in lines 1 and 2; keep one"),
    ],
)
def test_a_mistake_in_the_file_is_explained(tmp_path, text, message):
    path = write(tmp_path, text)
    told = complaint(path)
    assert message in told
    assert told.startswith(str(path))
    assert "pydantic" not in told


def test_all_mistakes_are_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAM_AD_STREM__BATCH_SIZE", "1")
    told = complaint(write(tmp_path, "stream: {batch_size: x, linger_ms: y}\nkafka: {topics: z}"))
    assert len(told.splitlines()) == 4


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("STREAM_AD_KAFKA__BOOTSTRP", "x", "__BOOTSTRP sets nothing; did you mean STREAM_AD_KAFKA__BOOTSTRAP?"),
        ("STREAM_AD_BATCH_SIZE", "4", "STREAM_AD_BATCH_SIZE sets nothing; did you mean STREAM_AD_STREAM__BATCH_SIZE?"),
        ("STREAM_AD_STREAM", "{}", "STREAM_AD_STREAM sets nothing; did you mean STREAM_AD_STREAM__SOURCE?"),
        ("STREAM_AD_STREAM__BATCH_SIZE", "many", "STREAM_AD_STREAM__BATCH_SIZE: stream.batch_size: needs an integer"),
        ("STREAM_AD_STREAM__REFERENCE_ROOTS", "/a:/b", "a list is written as JSON"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_environment_is_explained(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    assert message in complaint()


@pytest.mark.parametrize("name", sorted(set(RESERVED) - {"STREAM_AD_CONFIG"}))
def test_variables_of_the_tests_are_no_settings(monkeypatch, name):
    before = load_settings()
    monkeypatch.setenv(name, "somewhere")
    assert load_settings() == before


def test_a_section_whose_keys_are_all_commented_out_keeps_its_defaults(tmp_path):
    assert load_settings(write(tmp_path, "stream:\n#  batch_size: 4\n")).stream == Settings().stream
    assert load_settings(write(tmp_path, "# nothing\n")).gate == Settings().gate


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        load_settings().stream.batch_size = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_each_detector_gets_the_options_that_it_has_with_its_own_defaults():
    options = load_settings().detector.options(12)
    assert set(options) == set(DETECTORS)
    assert CmpmbOptions(**options["cmpmb"]) == CmpmbOptions(whitening=64, text_weight=0.0, prompt_steps=0)
    assert PatchCoreOptions(**options["patchcore"]) == PatchCoreOptions(whitening=64)
    assert options["zero-shot"] == {"top_k": 3}


def test_what_the_file_says_of_a_detector_wins_over_its_preset(tmp_path):
    text = "detector:\n  preset: accurate\n  coreset_rows: 10\n  cmpmb:\n    text_weight: 0.2\n"
    options = load_settings(write(tmp_path, text)).detector.options(12)["cmpmb"]
    assert (options["coreset_rows"], options["text_weight"], options["scales"]) == (10, 0.2, (1, 3))


def test_the_gate_has_its_own_defaults():
    assert GateBudgets(**load_settings().gate.model_dump()) == GateBudgets()
