"""Jobs run on a Ray cluster as they run here; what is said without one, and all the rest with one."""

import subprocess
import sys
from pathlib import Path

import pytest

from stream_ad.adapters.ray_cluster import DEVICE, Share, device_there, environment_sent
from stream_ad.adapters.ray_executor import ray_executor
from stream_ad.config import Jobs
from stream_ad.errors import ConfigError
from tests.network_namespace import require_namespaces, run_inside

ROOT = Path(__file__).parents[1]


def test_a_gpu_is_asked_for_only_where_the_slot_is_one():
    assert Share.of("cuda:1", cpus=2.0, gpus=0.5).options == {"num_cpus": 2.0, "num_gpus": 0.5}
    assert Share.of("cpu", cpus=1.0, gpus=1.0).options == {"num_cpus": 1.0, "num_gpus": 0.0}


def test_a_job_over_there_is_told_its_settings_its_device_and_its_threads_and_nothing_else(monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("STREAM_AD_DATA_DIR", "/plant")
    monkeypatch.setenv(DEVICE, "cuda:3")
    sent = environment_sent()
    assert sent["STREAM_AD_DATA_DIR"] == "/plant"
    assert sent[DEVICE] == device_there("cuda:3") == "cuda"
    assert sent["OMP_NUM_THREADS"] == "3"
    assert "AWS_SECRET_ACCESS_KEY" not in sent


@pytest.mark.parametrize("slots", [None, ("auto",)])
def test_a_cluster_is_told_by_name_which_devices_jobs_need(slots):
    with pytest.raises(ValueError, match=r"slots needs a device for each job .* e\.g\. \[cuda, cuda\]"):
        Jobs(executor="ray", slots=slots)
    assert Jobs(executor="ray", slots=("cpu", "cpu")).ray_address == "auto"


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("stream_ad.adapters.ray_executor.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'stream-ad\[ray\]'"):
        ray_executor(["job"], ["cpu"])


@pytest.mark.needs_ray
@pytest.mark.timeout(1800)
def test_jobs_on_a_cluster_of_two_workers(tmp_path, monkeypatch):
    """The tests of `tests/on_ray.py`, in a network of their own: Ray's servers ask nobody who they are."""
    require_namespaces()
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)  # what is asked of this run is not asked of the one in there
    # in there we are root, whoever we are, and root's own temporary files may be somebody else's
    options = ["-q", "-n0", "-p", "no:cacheprovider", "--no-header", "--basetemp", str(tmp_path / "inside")]
    command = [sys.executable, "-m", "pytest", *options, str(ROOT / "tests" / "on_ray.py")]
    try:
        print(run_inside(command, timeout_s=1740))
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{error.stdout}\n{error.stderr}", pytrace=False)
