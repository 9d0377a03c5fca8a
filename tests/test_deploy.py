"""What is in deploy/ is what the validators of its formats accept, and names only what exists."""

import json
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from stream_ad.adapters.in_memory import ManualClock
from stream_ad.adapters.ops_server import OpsServer
from stream_ad.adapters.telemetry import ProcessMetrics, SchedulerMetrics, StreamMetrics, WorkerMetrics
from stream_ad.config import load_settings
from stream_ad.domain.duty import DutyRun
from stream_ad.domain.job import JobState
from tests.broker import free_port
from tests.ops_kit import NOON, Batch, Scorer, ask, result, scrape

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
RULES = DEPLOY / "prometheus/rules.yml"
DASHBOARD = DEPLOY / "grafana/dashboards/stream-ad.json"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def tool(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{BIN}:/usr/bin:/usr/local/bin")
    if found is None:
        pytest.skip(f"needs {name} of Debian's package {package}; .ci/run fetches it")
    return found


def accepted(*command: object) -> str:
    """What a validator says of what it accepts."""
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


# --- containers -----------------------------------------------------------------------------------


def test_the_dockerfile_passes_its_linter():
    accepted(BIN / "hadolint", DEPLOY / "Dockerfile")


def test_the_image_is_made_of_files_that_the_context_lets_through():
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE):
        copied |= set(line.split()[:-1])
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)
    # whatever the build of the package reads is among them
    built = yaml.safe_dump(list(_values(_pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"])))
    assert {name for name in ("stream_ad", "migrations", "config.yaml") if name in built} <= copied


def test_the_extras_that_the_image_installs_exist():
    extras = set(_pyproject()["project"]["optional-dependencies"])
    for wanted in re.findall(r'"\.\[(.+?)\]"', (DEPLOY / "Dockerfile").read_text()):
        assert set(wanted.split(",")) <= extras


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_files_fit_the_schema_of_compose(name):
    assert "ok" in accepted(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / name)


def test_services_need_only_services_volumes_and_files_that_are_there():
    whole = compose()
    volumes = set(whole["volumes"])
    for name, service in whole["services"].items():
        assert set(service.get("depends_on", ())) <= set(whole["services"]), name
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            named = re.fullmatch(r"[a-z]+", source)
            by_operator = source.startswith("${")
            assert by_operator or (source in volumes if named else (DEPLOY / source).exists()), mount
    over = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text(encoding="utf-8"))
    assert set(over["services"]) <= set(whole["services"])


def test_nothing_is_published_beyond_this_machine_and_every_image_has_a_version():
    for name, service in compose()["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert re.fullmatch(r".+:[\w.-]+", service["image"]), name
        assert not service["image"].endswith(":latest"), name


def test_every_variable_that_compose_asks_for_is_in_the_example():
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", (DEPLOY / "compose.yaml").read_text(encoding="utf-8")))
    assert asked == set(re.findall(r"^(\w+)=", (DEPLOY / "env.example").read_text(encoding="utf-8"), re.MULTILINE))


def test_settings_of_containers_and_units_are_settings(monkeypatch, tmp_path):
    settings = load_settings(DEPLOY / "config.yaml")
    kafka = compose()["services"]["kafka"]["environment"]
    limit = round(settings.kafka.max_request_mb * 1024**2)
    assert limit == kafka["KAFKA_MESSAGE_MAX_BYTES"]
    topics = compose()["services"]["topics"]["command"][0]
    assert f"max.message.bytes={limit}" in topics
    for topic in (settings.kafka.topic, settings.kafka.results_topic, settings.dead_letter_topic):
        assert f"{topic}:" in topics
    texts = [path.read_text(encoding="utf-8") for path in (*UNITS, DEPLOY / "Dockerfile", DEPLOY / "compose.yaml")]
    for name in {name for text in texts for name in re.findall(r"STREAM_AD_[A-Z_]+", text)} - {"STREAM_AD_CONFIG"}:
        monkeypatch.setenv(name, "127.0.0.1:9108" if name.endswith("LISTEN") else "sqlite:///x")
    load_settings(DEPLOY / "config.yaml")  # refuses what it does not know


def test_containers_and_services_may_drain_before_they_are_killed():
    drain_s = load_settings(DEPLOY / "config.yaml").stream.drain_s
    for name in ("serve", "worker", "scheduler"):
        assert int(compose()["services"][name]["stop_grace_period"].removesuffix("s")) > drain_s
    for unit in UNITS:
        (limit,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE)
        assert int(limit) > drain_s


# --- systemd --------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_accepted_by_systemd(unit, tmp_path):
    analyze = tool("systemd-analyze", "systemd")
    program = tmp_path / "stream-ad"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text(encoding="utf-8").replace("/opt/stream-ad/bin/stream-ad", str(program)))
    # what it does not understand it only warns of
    assert accepted(analyze, "verify", "--man=no", copy).strip() == ""


# --- Prometheus and Grafana -------------------------------------------------------------------------


def expressions() -> list[str]:
    """Every query of the dashboard, with Grafana's variables filled in."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    targets = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    notes = [note["expr"] for note in board["annotations"]["list"]]
    return [expr.replace("$__rate_interval", "1m").replace("$task", "nut") for expr in targets + notes]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def names(expr: str) -> set[str]:
    """Metrics of ours in an expression."""
    return set(re.findall(r"\b(?:stream_ad|process)[_:][a-z0-9_:]+", expr))


class _Leader:
    def __init__(self) -> None:
        self.leads, self.counts = True, {("drift", "done"): 1}


LEADER = _Leader()


class _Without(Collector):
    """The metrics of a registry but one."""

    def __init__(self, registry: CollectorRegistry, left_out: str) -> None:
        self._registry, self._left_out = registry, left_out

    def collect(self) -> Iterator[Metric]:
        yield from (family for family in self._registry.collect() if family.name != self._left_out)


@contextmanager
def everything(place: Path) -> Iterator[str]:
    """A server with every metric that a scorer, a worker or a scheduler has."""
    registry, clock = CollectorRegistry(), ManualClock(NOON)
    metrics = StreamMetrics(registry, clock, max_tasks=10)
    scorer = Scorer()
    scorer.health.lag = {("images", 0): 4}
    scorer.counters.left_out["mqtt"] = 0
    metrics.watch(scorer)
    metrics.on_batch(Batch([result(1.0, captured_at=NOON)], seconds={"model": 0.2}))
    worker = WorkerMetrics(registry, clock, count_jobs=lambda: {JobState.QUEUED: 1})
    worker.ended(JobState.PUBLISHED)
    # a registry of its own: what a scheduler shares with a worker would be there twice
    ran = DutyRun(name="drift", leader="a", started_at=NOON, figures={"windows": 2}, good_at=NOON)
    of_scheduler = CollectorRegistry()
    SchedulerMetrics(of_scheduler, clock, LEADER, standing=lambda: ({"drift": ran}, ["nut"]), max_tasks=10)
    registry.register(_Without(of_scheduler, "stream_ad_database_up"))
    ProcessMetrics(registry, version="1", data_dir=place)
    server = OpsServer("127.0.0.1:0", registry=registry, alive=lambda: [], ready=lambda: [])
    try:
        yield server.address
    finally:
        server.close()


@pytest.fixture
def existing(tmp_path) -> set[str]:
    with everything(tmp_path) as address:
        samples = scrape(address)
    return {name.partition("{")[0] for name in samples} | {rule["record"] for rule in rules() if "record" in rule}


def test_dashboard_and_rules_name_only_metrics_that_exist(existing):
    used = set().union(*(names(expr) for expr in [*expressions(), *(rule["expr"] for rule in rules())]))
    assert len(used) > 20
    assert used - existing == set()


def test_the_manual_explains_every_metric(existing):
    manual = (ROOT / "docs/operations.md").read_text(encoding="utf-8").partition("## Metrics")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in manual.splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`(stream_ad_\w+)", row)}
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in existing if name.startswith("stream_ad_")}
    assert told == families


def test_metrics_are_named_as_prometheus_wants_them(tmp_path):
    promtool = tool("promtool", "prometheus")
    with everything(tmp_path) as address:
        _, text = ask(address, "/metrics")
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_rules_and_configuration_are_accepted_by_prometheus():
    promtool = tool("promtool", "prometheus")
    assert "SUCCESS" in accepted(promtool, "check", "rules", RULES)
    assert "SUCCESS" in accepted(promtool, "check", "config", DEPLOY / "prometheus/prometheus.yml")


def test_every_alert_rings_in_its_own_bad_hour_and_none_in_a_quiet_one():
    promtool = tool("promtool", "prometheus")
    tests = (DEPLOY / "prometheus/rules.test.yml").read_text(encoding="utf-8")
    rung = set(re.findall(r'alertname="(\w+)", severity', tests))
    assert rung == {rule["alert"] for rule in rules() if "alert" in rule}
    assert "SUCCESS" in accepted(promtool, "test", "rules", DEPLOY / "prometheus/rules.test.yml")


def test_every_alert_says_what_to_do_and_is_in_the_manual():
    manual = (DEPLOY / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(StreamAd\w+)`", manual)) == {rule["alert"] for rule in rules() if "alert" in rule}
    for rule in rules():
        if "alert" in rule:
            assert set(rule["annotations"]) == {"summary", "do"}
            assert rule["labels"]["severity"] in ("page", "ticket")


def test_a_real_prometheus_scrapes_a_scorer_and_answers_every_query_of_the_dashboard(tmp_path):
    prometheus = tool("prometheus", "prometheus")
    with everything(tmp_path) as address:
        jobs = [
            {"job_name": name, "static_configs": [{"targets": [address]}]} for name in ("stream-ad", "stream-ad-worker")
        ]
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": jobs,
        }
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        listen = f"127.0.0.1:{free_port()}"
        process = subprocess.Popen(
            [
                prometheus,
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={listen}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "Server is ready" in line:
                    break
            else:
                raise AssertionError("Prometheus ended before it was ready")

            def query(expr: str) -> list[Any]:
                status, text = ask(listen, f"/api/v1/query?{urllib.parse.urlencode({'query': expr})}")
                answer = json.loads(text)
                assert (status, answer["status"]) == (200, "success"), f"{expr}: {answer}"
                return answer["data"]["result"]

            while len(query("count_over_time(stream_ad_records_total[1m]) >= 3")) < 2:
                assert process.poll() is None
            answered = {expr: bool(query(expr)) for expr in expressions()}
        finally:
            process.kill()
            process.communicate()
    # what divides by a rate has no answer while nothing comes, nor has a recording rule before its first turn
    silent = {expr for expr, found in answered.items() if not found and "> 0)" not in expr and "ratio5m" not in expr}
    assert {expr for expr in silent if "> 0" not in expr} == set()


def test_grafana_finds_its_source_and_its_dashboard():
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    assert {panel["datasource"]["uid"] for panel in board["panels"] if "targets" in panel} == {"${datasource}"}
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/stream-ad.yaml").read_text())["providers"][0]
    mounts = dict(mount.split(":")[:2] for mount in compose()["services"]["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"


def _pyproject() -> dict[str, Any]:
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _values(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from _values(value)
    elif isinstance(node, list):
        for value in node:
            yield from _values(value)
    else:
        yield str(node)
