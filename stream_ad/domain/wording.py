"""How the program says what it says everywhere: numbers of things, and how a job ended."""

from stream_ad.domain.job import JobState


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "dead letter"), counted(1200, "picture")
    ('1 dead letter', '1200 pictures')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def how_it_ended(state: JobState, message: str | None) -> str:
    """A job's state and message as one; messages that name the state are not told it twice.

    >>> how_it_ended(JobState.DONE, "rejected, bank 3 stays in use")
    'done: rejected, bank 3 stays in use'
    >>> how_it_ended(JobState.REJECTED, "rejected, bank 3 stays in use")
    'rejected, bank 3 stays in use'
    """
    said = message or ""
    return said if str(state) in said else f"{state}: {said}"
