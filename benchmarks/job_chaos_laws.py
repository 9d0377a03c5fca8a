"""What must hold after jobs were done while their workers were killed: pure functions of what the run left behind."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.chaos_laws import Law
from stream_ad.domain.job import Job, JobState


def right_end(jobs: Sequence[Job], expected: Mapping[int, JobState]) -> Law:
    """`expected`: the end of each job that nothing kills."""
    wrong = [f"job {job.id} ({job.kind} {job.about}) is {job.state}" for job in jobs if job.state != expected[job.id]]
    ends = Counter(str(job.state) for job in jobs)
    return Law(
        "every job ends in the right state",
        f"{len(jobs)} jobs: {', '.join(f'{count} {state}' for state, count in sorted(ends.items()))}" + _shown(wrong),
        bool(wrong) or len(jobs) != len(expected),
    )


def published_once(jobs: Sequence[Job], versions: Sequence[Mapping[str, Any]], audit: Sequence[str]) -> Law:
    """`audit`: subjects of the rows that tell of publishing, "bank 7"."""
    by_job = Counter(row["job_id"] for row in versions)
    published = {job.id: job.bank_version for job in jobs if job.state is JobState.PUBLISHED}
    wrong = [f"job {id}: {by_job[id]} versions" for id in published if by_job[id] != 1]
    wrong += [f"version {row['version']} of job {row['job_id']}, which is not its job" for row in versions
              if published.get(row["job_id"]) != row["version"]]  # fmt: skip
    numbers = [row["version"] for row in versions]
    wrong += [] if numbers == list(range(1, len(numbers) + 1)) else [f"versions are {numbers}"]
    told = Counter(audit)
    wrong += [f"{subject} was published {count} times" for subject, count in told.items() if count != 1]
    wrong += [f"bank {number} is not in the audit table" for number in numbers if not told[f"bank {number}"]]
    return Law(
        "each published version is there once, and is its job's",
        f"{len(versions)} versions of {len(published)} published jobs, {len(audit)} audit rows" + _shown(wrong),
        bool(wrong),
    )


def measured_once(jobs: Sequence[Job], evaluations: Iterable[tuple[int | None, str]]) -> Law:
    """`evaluations`: (job, half) of all that were saved."""
    found = Counter(evaluations)
    done = [job for job in jobs if job.state in (JobState.PUBLISHED, JobState.DONE, JobState.REJECTED)]
    wrong = [f"job {job.id}: {half} {found[job.id, half]} times" for job in done for half in ("regression", "test")
             if found[job.id, half] != 1]  # fmt: skip
    return Law(
        "each job ran to its end once: its figures are there once for each half",
        f"{sum(found.values())} evaluations of {len(done)} jobs" + _shown(wrong),
        bool(wrong),
    )


def active_is_published(seen: Sequence[tuple[int, str | None]], versions: Sequence[Mapping[str, Any]]) -> Law:
    """`seen`: the active version at each look, and what was wrong with it when it was loaded."""
    known = {0, *(row["version"] for row in versions)}
    wrong = [f"bank {version}: {problem}" for version, problem in seen if problem]
    wrong += [f"bank {version} was never published" for version, _ in seen if version not in known]
    return Law(
        "the active bank is always a published one, and loads with the right hashes",
        f"{len(seen):,} looks, {len({version for version, _ in seen})} versions" + _shown(wrong),
        bool(wrong) or not seen,
    )


def within_attempts(jobs: Sequence[Job]) -> Law:
    wrong = [f"job {job.id}: {job.attempts} of {job.max_attempts}" for job in jobs if job.attempts > job.max_attempts]
    counts = Counter(job.attempts for job in jobs)
    shown = ", ".join(f"{count} in {n}" for n, count in sorted(counts.items()))
    return Law("no job takes more attempts than it has", f"attempts: {shown}" + _shown(wrong), bool(wrong))


def failed_only_by_deaths(failures: Mapping[int, str]) -> Law:
    """`failures`: why jobs failed that were to succeed, before somebody asked for them once more."""
    wrong = [f"job {id}: {why}" for id, why in failures.items() if "attempts" not in why]
    return Law(
        "a good job fails only when its workers died in every attempt; asked for again, it succeeds",
        f"{len(failures)} failed so" + _shown(wrong),
        bool(wrong),
    )


def nothing_runs(processes: Sequence[str], open_jobs: int, leases: int) -> Law:
    return Law(
        "at the end nothing is left running: no process, no open job, no lease",
        f"{len(processes)} processes, {open_jobs} open jobs, {leases} leases of jobs" + _shown(processes),
        bool(processes or open_jobs or leases),
    )


def ended_in_order(codes: Mapping[str, int | None]) -> Law:
    wrong = [f"{name}: {code}" for name, code in codes.items() if code != 0]
    return Law("SIGTERM ends every worker and scheduler in order", f"{len(codes)} ended" + _shown(wrong), bool(wrong))


def gave_up(ends: Sequence[str]) -> Law:
    return Law("no worker or scheduler gives up by itself", f"{len(ends)} did" + _shown(ends), bool(ends))


def all_done(asked: Mapping[str, int], done: Mapping[str, int]) -> Law:
    kinds = ", ".join(f"{done.get(kind, 0)} x {kind}" for kind in asked)
    total, wanted = sum(done.values()), sum(asked.values())
    return Law(f"all {wanted} kills were really done", f"{total}: {kinds}", total < wanted)


def _shown(wrong: Sequence[str]) -> str:
    return "; " + "; ".join(wrong[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "") if wrong else ""
