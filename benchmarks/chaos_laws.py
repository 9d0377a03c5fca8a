"""What must hold after a chaos run, whatever was done to the scorers: pure functions of what the run left behind."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Place = tuple[int, int]
"""(partition, offset): a record of the one topic."""

#: of two scores of the same picture by the same bank: batches of another composition add up in another order
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Row:
    """What the database says of a record that was scored."""

    message_id: str
    camera: str | None
    declared: str | None
    task: str | None
    score: float | None
    threshold: float | None
    verdict: str
    alarm: str | None
    bank: int


@dataclass(frozen=True, slots=True)
class Verdicts:
    """A database after a run: results and the stages of dead letters, by record."""

    rows: Mapping[Place, Row]
    letters: Mapping[Place, str]


@dataclass(frozen=True, slots=True)
class Law:
    """One promise and what was found; `broken` is a count, or a text that says what is wrong."""

    promise: str
    found: str
    broken: bool


def every_record_once(topic: Mapping[Place, str], found: Verdicts) -> Law:
    """`topic` gives the message id of every record that the broker has."""
    judged, dead = set(found.rows), set(found.letters)
    missing, twice, strange = set(topic) - judged - dead, judged & dead, (judged | dead) - set(topic)
    other = [place for place, row in found.rows.items() if topic.get(place, row.message_id) != row.message_id]
    return Law(
        "every image has exactly one result row or one dead letter",
        f"{len(topic):,} records: {len(judged):,} rows, {len(dead):,} dead letters, {len(missing)} missing,"
        f" {len(twice)} with both, {len(strange)} of no record, {len(other)} under another record's place"
        + _first("missing", missing),
        bool(missing or twice or strange or other),
    )


def poison_and_nothing_else(topic: Mapping[Place, str], stages: Mapping[str, str], found: Verdicts) -> Law:
    """`stages` gives, by message id, the stage at which a record that can never be scored must end."""
    wanted = {place: stages[name] for place, name in topic.items() if name in stages}
    spared = set(wanted) - set(found.letters)
    innocent = {place: found.letters[place] for place in set(found.letters) - set(wanted)}
    elsewhere = {place for place in set(wanted) & set(found.letters) if wanted[place] != found.letters[place]}
    return Law(
        "dead letters are the poison and nothing else, each at its stage",
        f"{len(wanted)} of poison, {len(spared)} not put aside, {len(elsewhere)} at another stage,"
        f" {len(innocent)} good pictures among them"
        + (f" ({_counted(innocent.values())})" if innocent else "")
        + _first("at another stage", elsewhere),
        bool(spared or innocent or elsewhere),
    )


def as_in_a_clean_run(found: Verdicts, clean: Mapping[int, Mapping[Place, Row]], tolerance: float = TOLERANCE) -> Law:
    """`clean` has, by bank, the rows of one undisturbed scorer on the same records.

    Scores may differ by `tolerance` times 1 + their size, and a verdict only where the score is as close as that to
    its threshold.
    """
    worst, verdicts_off, others, uncompared, on_the_line = 0.0, [], [], [], 0
    for place, row in found.rows.items():
        twin = clean.get(row.bank, {}).get(place)
        if twin is None:
            uncompared.append(place)
            continue
        if (row.message_id, row.camera, row.declared, row.task, row.alarm) != (
            twin.message_id,
            twin.camera,
            twin.declared,
            twin.task,
            twin.alarm,
        ):
            others.append(place)
        worst = max(worst, difference(row.score, twin.score))
        if row.verdict != twin.verdict:
            if row.threshold is not None and difference(row.score, row.threshold) <= tolerance:
                on_the_line += 1
            else:
                verdicts_off.append(place)
    banks = ", ".join(
        f"{count:,} by bank {bank}" for bank, count in sorted(Counter(r.bank for r in found.rows.values()).items())
    )
    return Law(
        f"no row disagrees with the clean run of its bank (scores within {tolerance:g} of 1 + their size)",
        f"{banks}; largest difference of a score {worst:.1e}, {len(verdicts_off)} other verdicts"
        f" ({on_the_line} more on the line), {len(others)} other tasks, cameras or alarms,"
        f" {len(uncompared)} without a twin" + _first("verdict", verdicts_off) + _first("other", others),
        worst > tolerance or bool(verdicts_off or others or uncompared),
    )


def difference(score: float | None, other: float | None) -> float:
    """Of two scores, relative to 1 + the size of the second; infinite when only one is a number."""
    if score is None or other is None:
        return 0.0 if score is other else math.inf
    return abs(score - other) / (1 + abs(other))


def shown_once(
    what: str, documents: Sequence[Mapping[str, Any]], rows: Mapping[Place, Row], *, repeats_allowed: int
) -> Law:
    """Documents of a results topic or file against the rows.

    A process that is killed between sending and noting that it sent repeats what it sent, at most `repeats_allowed`
    in all; what it repeats must be the very same.
    """
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for document in documents:
        by_id.setdefault(str(document["id"]), []).append(document)
    places = {(int(d[0]["partition"]), int(d[0]["offset"])): d for d in by_id.values()}
    missing, strange = set(rows) - set(places), set(places) - set(rows)
    repeats = sum(len(same) - 1 for same in by_id.values())
    changed = [name for name, same in by_id.items() if any(other != same[0] for other in same[1:])]
    unlike = [
        place
        for place, same in places.items()
        if place in rows
        and (same[0]["score"], same[0]["verdict"], same[0]["bank_version"])
        != (rows[place].score, rows[place].verdict, rows[place].bank)
    ]
    return Law(
        f"{what}: every result is there, as in the database; a repeat is the same message",
        f"{len(by_id):,} results, {len(missing)} missing, {len(strange)} of no row, {len(unlike)} unlike their row,"
        f" {repeats} repeats (at most {repeats_allowed} are allowed), {len(changed)} repeats that differ"
        + _first("missing", missing)
        + _first("unlike", unlike),
        bool(missing or strange or unlike or changed) or repeats > repeats_allowed,
    )


def letters_sent(places: Sequence[Place], letters: Iterable[Place], *, repeats_allowed: int) -> Law:
    """`places` of the records of the dead-letter topic."""
    wanted = set(letters)
    missing, strange, repeats = wanted - set(places), set(places) - wanted, len(places) - len(set(places))
    return Law(
        "dead-letter topic: every dead letter is there",
        f"{len(set(places)):,} letters, {len(missing)} missing, {len(strange)} of no row,"
        f" {repeats} repeats (at most {repeats_allowed} are allowed)",
        bool(missing or strange) or repeats > repeats_allowed,
    )


def torn_lines(torn: int, deaths: int) -> Law:
    """A death in the middle of writing may leave half a line each."""
    return Law(
        "JSON lines: at most one torn line per death and full disk",
        f"{torn} torn, {deaths} deaths and full disks",
        torn > deaths,
    )


def nothing_is_left(*, outbox: int, attempts: int, committed: int, records: int) -> Law:
    return Law(
        "at the end nothing waits: outbox and tries are empty, the group has committed everything",
        f"outbox {outbox}, tries {attempts}, committed {committed:,} of {records:,}",
        bool(outbox or attempts) or committed != records,
    )


def memory_is_bounded(peaks_mb: Sequence[float], clean_mb: float, share: float = 0.25) -> Law:
    """`clean_mb` is the peak of the undisturbed scorer with the whole topic before it."""
    most = max(peaks_mb)
    return Law(
        f"memory of a scorer stays within {share:.0%} of the undisturbed one's",
        f"peak {most:.0f} MB, undisturbed {clean_mb:.0f} MB",
        most > (1 + share) * clean_mb,
    )


def ends_well(own_ends: Sequence[int], exit_codes: Sequence[int]) -> Law:
    """`own_ends`: exit codes of scorers that stopped though nobody asked them to."""
    return Law(
        "no scorer gives up, and SIGTERM ends each in order",
        f"{len(own_ends)} gave up"
        + (f" ({_counted(own_ends)})" if own_ends else "")
        + f"; exit codes at the end: {', '.join(map(str, exit_codes))}",
        bool(own_ends) or any(exit_codes),
    )


def done_as_planned(planned: Mapping[str, int], done: Mapping[str, int]) -> Law:
    return Law(
        "every fault was really done",
        ", ".join(f"{done.get(kind, 0)} of {count} {kind}" for kind, count in planned.items()),
        any(done.get(kind, 0) < count for kind, count in planned.items()),
    )


def _first(what: str, places: Iterable[Any]) -> str:
    named = sorted(places)[:3]
    return f" ({what}: {', '.join(map(str, named))} ...)" if named else ""


def _counted(values: Iterable[Any]) -> str:
    return ", ".join(f"{count} x {value}" for value, count in Counter(values).most_common())
