"""Jobs on a Ray cluster of two workers. Run by `tests/test_ray_executor.py` in a network of its own."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.ray_jobs import measured_there
from stream_ad.adapters.clock import SystemClock
from stream_ad.adapters.ray_cluster import Share, connect
from stream_ad.adapters.ray_executor import ray_executor
from stream_ad.adapters.ray_map import map_on_cluster
from stream_ad.adapters.storage import Database
from stream_ad.domain.evaluation import Half
from stream_ad.domain.job import Ended, Job, JobState
from stream_ad.domain.ports import Executor
from stream_ad.services.placing import Placing
from stream_ad.services.worker import Worker
from tests import adaptation_kit as kit
from tests.ray_kit import TwoWorkers, cluster_of_two, processes_of_jobs, squared_there, until
from tests.ray_products import NAMES, learned, rendered
from tests.test_placing import directory_of, working

LINES: list[str] = []


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoWorkers]:
    with cluster_of_two() as two:
        yield two


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with kit.open_storage(tmp_path) as opened:
        yield opened


def executor_of(cluster: TwoWorkers, database: Database, behaviour: str, slots: int = 2) -> Executor:
    command = [sys.executable, "-m", "tests.job_to_kill", str(directory_of(database)), behaviour]
    return ray_executor(command, ["cpu"] * slots, address=cluster.address, show=LINES.append)


def on_ray(cluster: TwoWorkers, database: Database, behaviour: str, slots: int = 2) -> Placing:
    executor = executor_of(cluster, database, behaviour, slots)
    # a machine at work elsewhere is no reason to take a job away
    return Placing(database.jobs, executor, SystemClock(), lease_s=600.0, poll_s=0.1)


def ended_of(executor: Executor) -> Ended:
    ended: list[Ended] = []
    until(lambda: ended.extend(executor.ended()) or bool(ended))
    return ended[0]


def reached(database: Database, job: Job) -> Callable[[], bool]:
    return (directory_of(database) / f"reached-{job.id}").exists


def go_on(database: Database) -> None:
    (directory_of(database) / "go").touch()


def test_jobs_wait_for_room_and_end_with_the_bank_that_one_worker_here_makes_of_them(cluster, database, tmp_path):
    names = ("screw", "tile", "nut")
    (tmp_path / "here").mkdir()
    with kit.open_storage(tmp_path / "here") as here:
        for name in names:
            kit.queue(here, name)
        Worker(kit.storage(here), kit.work(), SystemClock()).run(drain=True)
        expected = here.banks.load().sha256
    jobs = [kit.queue(database, name) for name in names]
    LINES.clear()
    with working(on_ray(cluster, database, "waits", slots=3)):
        until(lambda: sum(reached(database, job)() for job in jobs) == 2)
        assert sorted(database.jobs.get(job.id).state for job in jobs) == ["queued", "running", "running"]
        go_on(database)
        until(lambda: all(database.jobs.get(job.id).state is JobState.PUBLISHED for job in jobs))
    assert [database.jobs.get(job.id).attempts for job in jobs] == [1, 1, 1]
    assert database.banks.load().sha256 == expected
    assert sum("a machine of the Ray cluster" in line for line in LINES) == 3
    assert any("bank 3 published" in line for line in LINES)


def test_a_death_over_there_is_told_as_one_here(cluster, database):
    job = kit.queue(database, "screw")
    executor = executor_of(cluster, database, "crashes")
    executor.place(job, "w")
    how = ended_of(executor).how or ""
    assert "killed by SIGSEGV" in how
    assert "Segmentation fault" in how
    assert "job_to_kill.py" in how


def test_a_killed_ray_process_costs_one_attempt_at_most_and_the_table_starts_the_next(cluster, database):
    job = kit.queue(database, "screw")
    begun = directory_of(database) / "learned"
    with working(on_ray(cluster, database, "waits")):
        until(reached(database, job))
        (killed,) = processes_of_jobs()
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(begun.read_text().splitlines()) == 2)
        go_on(database)
        until(lambda: database.jobs.get(job.id).state is JobState.PUBLISHED)
    ended = database.jobs.get(job.id)
    # the job's own process may see that its starter is gone, and give the job back, before it is killed with it
    assert ended.attempts in (1, 2)
    assert ended.attempts == 1 or "could not be started on the cluster, or was lost there" in (ended.log_tail or "")
    assert database.banks.active_version() == 1


def test_a_machine_that_is_gone_takes_no_job_with_it(cluster, database):
    jobs = [kit.queue(database, name) for name in ("screw", "tile")]
    with working(on_ray(cluster, database, "waits")):
        until(lambda: all(reached(database, job)() for job in jobs))
        cluster.lose_the_second_machine()
        until(lambda: sorted(database.jobs.get(job.id).state for job in jobs) == ["queued", "running"])
        cluster.bring_it_back()
        go_on(database)
        until(lambda: all(database.jobs.get(job.id).state is JobState.PUBLISHED for job in jobs))
    assert sorted(database.jobs.get(job.id).attempts for job in jobs) in ([1, 1], [1, 2])  # as above


def test_a_worker_that_is_asked_to_stop_gets_its_jobs_back_from_the_cluster(cluster, database):
    job = kit.queue(database, "screw")
    with working(on_ray(cluster, database, "waits")):
        until(reached(database, job))
    now = database.jobs.get(job.id)
    assert (now.state, now.attempts, now.worker) == (JobState.QUEUED, 0, None)
    until(lambda: not processes_of_jobs())


def test_a_process_that_is_killed_here_ends_the_one_over_there(cluster, database):
    job = kit.queue(database, "screw")
    executor = executor_of(cluster, database, "waits")
    executor.place(job, "w")
    until(reached(database, job))
    executor.kill("w")
    assert "SIGKILL" in (ended_of(executor).how or "")
    until(lambda: not processes_of_jobs())


def test_a_slot_that_is_a_gpu_gets_one_of_its_own_and_calls_it_the_first(cluster, database):
    """A GPU that Ray believes in; none is needed to see what a job would be given."""
    said = "import os; print('visible', os.environ['CUDA_VISIBLE_DEVICES'], os.environ['STREAM_AD_BACKBONE__DEVICE'])"
    executor = ray_executor([sys.executable, "-c", said], ["cuda:1"], address=cluster.address, show=LINES.append)
    executor.place(kit.queue(database, "screw"), "w")
    assert ended_of(executor).how is None
    assert "visible 0 cuda" in LINES


def test_where_no_cluster_is_it_is_said_so_with_what_to_do(database):
    job = kit.queue(database, "screw")
    executor = ray_executor([sys.executable], ["cpu"], address="127.0.0.1:1")
    executor.place(job, "w")
    how = ended_of(executor).how or ""
    assert "jobs.ray_address needs the address of a Ray cluster, but 127.0.0.1:1 is none" in how
    assert "`ray start`" in how
    assert "Traceback" not in how


# --- sharing an evaluation ----------------------------------------------------------------------------


def shared(cluster: TwoWorkers, that: str, here: Callable[..., tuple[int, int]]) -> list[tuple[int, int]]:
    share = Share(cpus=1.0, gpus=0.0)
    return map_on_cluster(squared_there, that, [1, 2, 3, 4], here, address=cluster.address, share=share)


def test_what_the_cluster_finished_first_is_not_done_here(cluster):
    def until_overtaken(item: int, look: Callable[[], None]) -> tuple[int, int]:
        """The first is done here; of the others the cluster is waited for."""
        while item > 1:
            look()
            time.sleep(0.05)
        return item * item, os.getpid()

    results = shared(cluster, "squares", until_overtaken)
    assert [square for square, _ in results] == [1, 4, 9, 16]
    assert [process == os.getpid() for _, process in results] == [True, False, False, False]


@pytest.mark.parametrize("that", ["declines", "fails", "dies", "hangs"])
def test_what_the_cluster_does_not_give_is_done_here(cluster, that, caplog):
    heard: list[int] = []

    def patiently(item: int, look: Callable[[], None]) -> tuple[int, int]:
        """Waits until the cluster has said all that it will say, so that this is what is tested."""
        while that in ("fails", "dies") and caplog.text.count("was lost and is done here") < 3:
            look()
            time.sleep(0.05)
        heard.append(item)
        return item * item, os.getpid()

    assert shared(cluster, that, patiently) == [(square, os.getpid()) for square in (1, 4, 9, 16)]
    assert heard == [1, 2, 3, 4]
    if that == "fails":
        assert "is done here: ValueError: no such picture here" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stay_with_who_had_them(cluster, number):
    import ray

    def ours(*_: object) -> None: ...

    ray.shutdown()
    before = signal.signal(number, ours)
    try:
        connect(cluster.address)
        assert signal.getsignal(number) is ours
    finally:
        signal.signal(number, before)


# --- with pictures ------------------------------------------------------------------------------------


def test_both_executors_make_the_same_bank_and_its_figures_are_the_same_wherever_they_are_measured(cluster, tmp_path):
    products = rendered(tmp_path / "products")
    here = learned(tmp_path / "here", products, None)
    on_cluster = learned(tmp_path / "ray", products, cluster.address)
    assert sorted(here.entries) == sorted(NAMES)
    assert here.entries == on_cluster.entries
    assert here.figures == on_cluster.figures
    assert measured_there(tmp_path / "ray", Half.TEST, cluster.address) == here.figures["test"]


# --- the last one: nothing is left of the cluster then ------------------------------------------------


def test_a_cluster_that_lost_its_head_leaves_the_job_to_the_table_and_the_worker_alive(cluster, database):
    job = kit.queue(database, "screw")
    with working(on_ray(cluster, database, "waits", slots=1)) as worker:
        until(reached(database, job))
        cluster.lose_the_head()
        until(lambda: database.jobs.get(job.id).attempts == 1 and database.jobs.get(job.id).state is JobState.QUEUED)
        until(lambda: any("is none" in line and "`ray start`" in line for line in LINES))
        assert not worker.stopping
    until(lambda: not processes_of_jobs())
