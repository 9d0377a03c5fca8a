"""What an operator may set: config.yaml, and the environment above it. Every default is written in config.yaml.

A key `section.key` is set in the environment as STREAM_AD_SECTION__KEY (a list as JSON, "null" for nothing).
Relative paths in the file start at the file's folder, those in the environment at the working directory.
Functions take values, never `Settings`.
"""

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from stream_ad.errors import ConfigError
from stream_ad.presets import detector_options

PREFIX = "STREAM_AD_"
# read elsewhere, or by the tests; no settings
RESERVED = (
    "STREAM_AD_CONFIG",
    "STREAM_AD_DATASETS",
    "STREAM_AD_WEIGHTS",
    "STREAM_AD_TEST_BOOTSTRAP",
    "STREAM_AD_TEST_BROKER_RESTART",
    "STREAM_AD_TEST_SASL",
    "STREAM_AD_TEST_POSTGRES",
)

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]
Store = Annotated[str, Field(pattern="^s3://[^/]+")]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: Any) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("yes and no are no numbers")
        return value


class Database(Section):
    url: Text | None = None


class Backbone(Section):
    id: Text = "auto"
    image_size: Annotated[int, Field(ge=32)] = 224
    device: Text = "auto"
    weights_dir: Path | None = None
    grey_bits: Annotated[int, Field(ge=8, le=16)] | None = None
    threads: Count | None = None


class Cmpmb(Section):
    """What is null is the preset's."""

    text_weight: Share | None = None
    context_tokens: Natural | None = None
    text_steps: Natural | None = None
    text_rate: Positive | None = None
    prompt_length: Natural | None = None
    prompt_steps: Natural | None = None
    prompt_rate: Positive | None = None
    batch_size: Count | None = None
    regions: Count | None = None
    prompt_init: Literal["small", "paper"] | None = None
    text_noise: Literal["regions", "whole"] | None = None
    pooled_width: Natural | None = None


class Trained(Section):
    """A detector whose tasks share weights."""

    weights: Path | None = None


class PromptMad(Trained):
    refinements: Natural = 0


class Detector(Section):
    """What is null is the preset's."""

    name: Literal["anople", "cmpmb", "mpa", "patchcore", "promptmad", "zero-shot"] = "cmpmb"
    few_shot: Literal["anople", "patchcore"] | None = None
    few_shot_images: Annotated[int, Field(ge=1, le=64)] = 4
    preset: Literal["fast", "accurate", "paper"] = "fast"
    feature_block: Natural = 5
    coreset_rows: Count | None = None
    blocks: Annotated[tuple[Natural, ...], Field(min_length=1)] | None = None
    scales: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    whitening: Natural | None = None
    candidates: Count | None = None
    top_k: Count | None = None
    cmpmb: Cmpmb = Cmpmb()
    anople: Trained = Trained()
    mpa: Trained = Trained()
    promptmad: PromptMad = PromptMad()

    @property
    def shared(self) -> Mapping[str, Path | None]:
        """Folders of the weights that all tasks share, by the detectors that score by some; None: none are named."""
        sections = {name: part.model_dump() for name, part in self if isinstance(part, Section)}
        return {name: part["weights"] for name, part in sections.items() if "weights" in part}

    def options(self, depth: int) -> Mapping[str, Mapping[str, Any]]:
        """What each detector's constructor takes on a backbone of so many blocks, by the detector's name."""
        apart = {"name", "few_shot", "few_shot_images", "preset", "feature_block", "cmpmb", *self.shared}
        own = self.model_dump(exclude=apart)
        made = detector_options(self.preset, own | self.cmpmb.model_dump(), depth=depth)
        return {**made, **{name: {**made[name], **getattr(self, name).model_dump()} for name in self.shared}}


class Routing(Section):
    refuse: bool = True
    shortlist: Count = 10
    sticky_checks: Count = 1


class Calibration(Section):
    false_alarm_rate: Rate = 0.05
    folds: Annotated[int, Field(ge=2)] = 5
    split_from: Annotated[int, Field(ge=2)] = 500
    max_suspects: Share = 0.1


class Heldout(Section):
    share: Rate = 0.2
    synthetic_per_image: Count = 1


class Gate(Section):
    max_forgetting: Share = 0.01
    max_flips: Share = 0.02
    max_routing_loss: Share = 0.01
    max_false_alarm_rise: Share = 0.02
    min_routing_accuracy: Share = 0.9


class Jobs(Section):
    lease_s: Annotated[float, Field(ge=1)] = 60.0
    max_attempts: Count = 3
    poll_s: Seconds = 1.0
    silent_s: Seconds = 3600.0
    executor: Literal["local", "ray"] = "local"
    slots: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    ray_address: Annotated[str, Field(pattern=r"^(auto|\S+:\d{1,5})$")] = "auto"
    ray_cpus: Annotated[float, Field(gt=0)] = 1.0
    ray_gpus: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _a_cluster_is_told_its_devices(self) -> "Jobs":
        if self.executor == "ray" and (self.slots is None or "auto" in self.slots):
            got = "null" if self.slots is None else "auto"
            raise ValueError(
                "slots needs a device for each job that runs at a time when executor is ray, e.g. [cuda, cuda] or"
                f" [cpu, cpu], got {got}: what the cluster's machines have is not known here"
            )
        return self


class Reports(Section):
    write: bool = True
    keep: Count = 100


class Stream(Section):
    source: Literal["folder", "kafka"] = "folder"
    folder: Path = Path("inbox")
    settle_s: Annotated[float, Field(ge=0)] = 0.5
    batch_size: Count = 16
    linger_ms: Natural = 50
    decode_threads: Count | None = None
    buffer_pictures: Count = 64
    buffer_mb: Positive = 256.0
    picture_mb: Positive = 1024.0
    deadline_s: Positive | None = None
    camera_deadlines_s: dict[str, Positive] = {}
    late_verdict: Literal["late", "NG"] = "late"
    skip_late: bool = False
    max_attempts: Count = 3
    drain_s: Positive = 20.0
    max_pixels: Count = 50_000_000
    min_free_mb: Annotated[float, Field(ge=0)] = 500.0
    overlays: Literal["ng", "all", "none"] = "ng"
    results_jsonl: Path | None = Path("results.jsonl")
    key_names: Literal["camera", "product"] | None = "camera"
    reference_roots: tuple[Store | Path, ...] = ()
    max_reference_mb: Positive = 64.0

    @field_validator("reference_roots", mode="before")
    @classmethod
    def _stores_are_s3(cls, value: Any) -> Any:
        for root in value if isinstance(value, (list, tuple)) else ():
            if "://" in str(root) and not str(root).startswith("s3://"):
                raise ValueError("other stores are not read")
        return value


class Discovery(Section):
    enabled: bool = True
    min_images: Annotated[int, Field(ge=6)] = 25
    approve: Literal["by hand", "by itself"] = "by hand"
    by_itself_images: Annotated[int, Field(ge=10)] = 50
    per_proposal: Annotated[int, Field(ge=10)] = 300
    per_camera: Count = 1000
    images: Count = 3000
    mb: Positive = 2048.0
    zero_shot: bool = False


class Retention(Section):
    """Null is no bound."""

    every_s: Seconds = 600.0
    images_days: Positive | None = None
    images_gb: Positive | None = None
    overlays_days: Positive | None = None
    overlays_gb: Positive | None = None
    results_days: Positive | None = None
    results_rows: Count | None = None
    dead_letters_days: Positive | None = None
    dead_letters_mb: Positive | None = None
    bank_versions: Count | None = None


#: an interval, or five fields of cron; weekdays by name, since 0 is Sunday to cron and Monday to APScheduler
SCHEDULE = re.compile(r"every [1-9]\d* ?(s|min|h|d)|\S+ \S+ \S+ \S+ [a-z*,-]+")


class Scheduler(Section):
    """A duty whose schedule is null is never done."""

    lease_s: Annotated[float, Field(ge=1)] = 15.0
    timezone: Text | None = None
    discovery: Text | None = "every 15 min"
    evaluation: Text | None = "30 3 * * *"
    drift: Text | None = "every 1 h"
    sweep: Text | None = "every 30 s"
    retention: Text | None = "every 10 min"
    verification: Text | None = "0 4 * * sun"
    report: Text | None = "0 6 * * *"

    @model_validator(mode="after")
    def _schedules_are_schedules(self) -> "Scheduler":
        for name, schedule in self.schedules().items():
            if not SCHEDULE.fullmatch(schedule):
                raise ValueError(
                    f"{name} needs 'every 15 min' (s, min, h, d), or cron's minute, hour, day, month and weekday by"
                    f" name ('30 3 * * mon-fri'), or null, got {schedule!r}"
                )
        try:
            _ = self.timezone and ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"timezone needs a name such as Europe/Berlin, or null, got {self.timezone!r}") from None
        return self

    def schedules(self) -> dict[str, str]:
        """By duty; those that are never done are left out."""
        own = self.model_dump(exclude={"lease_s", "timezone"})
        return {name: schedule for name, schedule in own.items() if schedule is not None}


class Drift(Section):
    window: Annotated[int, Field(ge=50)] = 200
    windows_in_a_row: Count = 2
    error_rate: Rate = 0.01
    defective: Annotated[float, Field(ge=0, le=0.5)] = 0.1


class Kafka(Section):
    bootstrap: Text = "127.0.0.1:9092"
    topic: Text = "stream-ad.images"
    results_topic: Text = "stream-ad.results"
    dead_letter_topic: Text | None = None
    group: Text = "stream-ad"
    session_timeout_ms: Count = 45_000
    heartbeat_interval_ms: Count = 3_000
    max_poll_interval_ms: Count = 600_000
    max_request_mb: Positive = 8.0
    instance: Text | None = None
    stalled_s: Annotated[float, Field(ge=1)] = 60.0
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: Text | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password_file: Path | None = None
    check_hostname: bool = True

    @model_validator(mode="after")
    def _security_is_whole(self) -> "Kafka":
        tls, sasl = "SSL" in self.security, self.security.startswith("SASL")
        for name in ("ca_file", "cert_file", "key_file", "key_password_file"):
            if getattr(self, name) and not tls:
                raise ValueError(f"{name} needs security SSL or SASL_SSL, got {self.security}: nothing is encrypted")
        for name in ("username", "password_file"):
            if (getattr(self, name) is not None) != sasl:
                if sasl:
                    raise ValueError(f"{name} needs a value with security {self.security}, got null")
                raise ValueError(f"{name} needs security SASL_SSL or SASL_PLAINTEXT, got {self.security}")
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file, the certificate that belongs to it")
        if self.instance and not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", self.instance):
            raise ValueError(f"instance needs letters, digits, dot, dash and underscore, got {self.instance!r}")
        return self

    @model_validator(mode="after")
    def _heartbeats_fit_the_session(self) -> "Kafka":
        if 3 * self.heartbeat_interval_ms > self.session_timeout_ms:
            raise ValueError(
                "heartbeat_interval_ms needs to be at most a third of session_timeout_ms, got"
                f" {self.heartbeat_interval_ms} and {self.session_timeout_ms}: one lost heartbeat must not end it"
            )
        return self


class Ops(Section):
    listen: Text | None = None
    worker_listen: Text | None = None
    scheduler_listen: Text | None = None
    log: Literal["text", "json"] = "text"
    stuck_s: Seconds = 120.0
    database_timeout_s: Seconds = 2.0
    metric_tasks: Count = 200


Kind = Literal["OK", "NG", "unknown product", "late", "dead letter"]
Port = Annotated[int, Field(ge=1, le=65_535)]


class Mqtt(Section):
    host: Text | None = None
    port: Port = 1883
    topic: Annotated[str, Field(min_length=1, pattern=r"^[^+#\x00$][^+#\x00]*$")] = "stream-ad"
    send: tuple[Kind, ...] = ("OK", "NG", "unknown product", "late", "dead letter")
    version: Literal["5", "3.1.1"] = "5"
    retain: bool = False
    client_id: str = ""
    username: Text | None = None
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    timeout_s: Seconds = 10.0


class Webhook(Section):
    url: Text | None = None
    send: tuple[Kind, ...] = ("NG",)
    secret_file: Path | None = None
    ca_file: Path | None = None
    proxy: Text | None = None
    timeout_s: Seconds = 10.0


class S3(Section):
    endpoint: Text | None = None
    region: Text | None = None
    access_key: Text | None = None
    secret_key_file: Path | None = None
    ca_file: Path | None = None
    timeout_s: Seconds = 10.0

    @model_validator(mode="after")
    def _keys_come_in_pairs(self) -> "S3":
        if (self.access_key is None) != (self.secret_key_file is None):
            raise ValueError("access_key and secret_key_file need each other: set both or none")
        return self


class Settings(BaseSettings):
    """All settings. `load_settings` is the way to get them: it checks more and explains better."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__", env_parse_none_str="null"
    )

    data_dir: Path = Path("stream-ad-data")
    database: Database = Database()
    backbone: Backbone = Backbone()
    detector: Detector = Detector()
    routing: Routing = Routing()
    calibration: Calibration = Calibration()
    heldout: Heldout = Heldout()
    gate: Gate = Gate()
    jobs: Jobs = Jobs()
    reports: Reports = Reports()
    stream: Stream = Stream()
    discovery: Discovery = Discovery()
    retention: Retention = Retention()
    scheduler: Scheduler = Scheduler()
    drift: Drift = Drift()
    kafka: Kafka = Kafka()
    mqtt: Mqtt = Mqtt()
    webhook: Webhook = Webhook()
    s3: S3 = S3()
    ops: Ops = Ops()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # the environment wins over the file

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.data_dir / 'stream_ad.db'}"

    @property
    def weights_dir(self) -> Path:
        return self.backbone.weights_dir or self.data_dir / "weights"

    @property
    def entries_dir(self) -> Path:
        return self.data_dir / "entries"

    @property
    def overlays_dir(self) -> Path:
        return self.data_dir / "overlays"

    @property
    def feedback_dir(self) -> Path:
        return self.data_dir / "feedback"

    @property
    def reports_dir(self) -> Path:
        return self.data_dir / "reports"

    @property
    def unknown_dir(self) -> Path:
        return self.data_dir / "unknown"

    @property
    def task_pictures_dir(self) -> Path:
        return self.data_dir / "tasks"

    @property
    def inbox(self) -> Path:
        return self.data_dir / self.stream.folder

    @property
    def results_jsonl(self) -> Path | None:
        return self.data_dir / self.stream.results_jsonl if self.stream.results_jsonl else None

    @property
    def dead_letter_topic(self) -> str:
        return self.kafka.dead_letter_topic or f"{self.kafka.topic}.dlq"


def load_settings(path: Path | None = None) -> Settings:
    """Settings of a file, or of $STREAM_AD_CONFIG, or of ./config.yaml if it is there, under the environment.

    Paths come out absolute, except those that are relative to `data_dir` (see its properties).

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, or a value does not fit; all at once, a line
            for each, with its place and what is needed.
    """
    file = _file(path)
    values, lines = ({}, {}) if file is None else _read(file)
    problems = list(_unknown_environment())
    try:
        settings = Settings(**values)
    except ValidationError as error:
        problems += [_explain(problem, file, lines) for problem in error.errors()]
    except SettingsError as error:
        problems.append(f"environment: {error}; a list is written as JSON, e.g. '[\"/data/images\"]'")
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return _anchored(settings, Path.cwd() if file is None else file.parent)


def _file(path: Path | None) -> Path | None:
    named_by = "--config" if path else "STREAM_AD_CONFIG"
    if path is None and (named := os.environ.get("STREAM_AD_CONFIG")):
        path = Path(named)
    if path is None:
        default = Path("config.yaml")
        return default.absolute() if default.is_file() else None
    if not path.is_file():
        raise ConfigError(f"{named_by} needs a configuration file, but {path} is none; check the path")
    return path.absolute()


def _read(file: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Values of a YAML file, and the line of every key."""
    try:
        text = file.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}, {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file} needs sections such as `stream:`, got a {type(values).__name__}")
    lines: dict[str, int] = {}
    for key, line in _keys(root):
        if key in lines:
            raise ConfigError(f"{file}: {key} is there twice, in lines {lines[key]} and {line}; keep one")
        lines[key] = line
    sections = {name for name, field in Settings.model_fields.items() if _is_section(field.annotation)}
    # a section whose keys are all commented out reads as null
    return {str(name): {} if v is None and name in sections else v for name, v in values.items()}, lines


def _keys(node: Any, parent: str = "") -> Iterator[tuple[str, int]]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = f"{parent}{key.value}"
        yield name, key.start_mark.line + 1
        if name.count(".") < 3:  # no section is deeper; a file that refers to itself would not end
            yield from _keys(value, f"{name}.")


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def known_keys(model: type[BaseModel] = Settings, parent: str = "") -> Iterator[str]:
    """Every key that can be set, with dots."""
    for name, field in model.model_fields.items():
        if _is_section(field.annotation):
            yield from known_keys(field.annotation, f"{parent}{name}.")  # pyright: ignore[reportArgumentType]
        else:
            yield parent + name


def environment_name(key: str) -> str:
    """The variable that sets a key."""
    return PREFIX + key.replace(".", "__").upper()


def _unknown_environment() -> Iterator[str]:
    known = {environment_name(key) for key in known_keys()}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known | set(RESERVED):
            near = _nearest(name.upper().removeprefix(PREFIX).replace("__", ".").lower())
            key = next((key for key in known_keys() if near and f"{key}.".startswith(f"{near}.")), None)  # of a section
            hint = f"did you mean {environment_name(key)}?" if key else "see config.yaml for all keys"
            yield f"environment: {name} sets nothing; {hint}"


def _nearest(key: str) -> str | None:
    """The key that was meant, as far as one can tell: a sibling spelt alike, or one of that name elsewhere."""
    parent, _, name = key.rpartition(".")
    keys = list(known_keys())
    names = {known.rpartition(".")[2]: known for known in sorted(keys, key=lambda known: -known.count("."))}
    start = f"{parent}." if parent else ""
    siblings = {known[len(start) :].split(".")[0]: known for known in keys if known.startswith(start)}
    if close := difflib.get_close_matches(name, siblings, n=1, cutoff=0.6):
        return start + close[0]
    if close := difflib.get_close_matches(name, names, n=1, cutoff=0.8):
        return names[close[0]]
    return None


def _explain(problem: Any, file: Path | None, lines: Mapping[str, int]) -> str:
    """One problem as one line: its place, the key, what is needed, what came."""
    key = ".".join(str(part) for part in problem["loc"] if isinstance(part, str))
    name = environment_name(key)
    if any(variable.upper() == name for variable in os.environ):
        place = f"environment {name}: "
    elif file is not None:
        place = f"{file} line {lines[key]}: " if key in lines else f"{file}: "
    else:
        place = ""
    if problem["type"] == "extra_forbidden":
        near = _nearest(key)
        return f"{place}unknown key {key}; " + (f"did you mean {near}?" if near else "see config.yaml for all keys")
    schema = _schema(key)
    if problem["type"] == "value_error" and "$ref" in schema:  # of a whole section
        return f"{place}{key}: {problem['ctx']['error']}"
    return f"{place}{key}: needs {_needs(schema)}, got {problem['input']!r}"


def _schema(key: str) -> dict[str, Any]:
    root = Settings.model_json_schema()
    node: dict[str, Any] = root
    for part in key.split("."):
        if "$ref" in node:
            node = root["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        node = node.get("properties", {}).get(part, {})
    return node


def _needs(schema: Mapping[str, Any]) -> str:
    """A field's JSON schema in words."""
    if "anyOf" in schema:
        return " or ".join(_needs(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(json.dumps(value) for value in schema["enum"])
    if "$ref" in schema:
        return "a section with keys"
    if schema.get("type") == "array":
        return f"a list, each {_needs(schema['items'])}"
    words = {"integer": "an integer", "number": "a number", "boolean": "true or false", "null": "null"}
    word = "a path" if schema.get("format") == "path" else words.get(schema.get("type", ""), "a text")
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    return " ".join(
        [word, " and ".join(f"{sign} {schema[name]}" for name, sign in bounds.items() if name in schema)]
    ).strip()


def _anchored(settings: Settings, folder: Path) -> Settings:
    """Settings whose paths start at the folder of the file that they stand in."""

    def anchor(key: str, path: Path) -> Path:
        from_environment = any(name.upper() == environment_name(key) for name in os.environ)
        return (Path.cwd() if from_environment else folder) / path.expanduser()

    def with_files(section: str) -> Section:
        """The section, its certificates and secrets anchored."""
        values: Section = getattr(settings, section)
        files = {name: anchor(f"{section}.{name}", file) for name, file in values if isinstance(file, Path)}
        return values.model_copy(update=files)

    weights = settings.backbone.weights_dir
    roots = tuple(
        anchor("stream.reference_roots", root) if isinstance(root, Path) else root
        for root in settings.stream.reference_roots
    )
    return settings.model_copy(
        update={
            "data_dir": anchor("data_dir", settings.data_dir),
            "backbone": settings.backbone.model_copy(
                update={"weights_dir": anchor("backbone.weights_dir", weights) if weights else None}
            ),
            "detector": settings.detector.model_copy(
                update={
                    name: getattr(settings.detector, name).model_copy(
                        update={"weights": anchor(f"detector.{name}.weights", folder) if folder else None}
                    )
                    for name, folder in settings.detector.shared.items()
                }
            ),
            "stream": settings.stream.model_copy(update={"reference_roots": roots}),
            **{section: with_files(section) for section in ("kafka", "mqtt", "webhook", "s3")},
        }
    )
