"""Every error this package raises on purpose.

StreamAdError
├── ConfigError            the operator must change config.yaml, an option or the environment
│   └── NoSharedWeights    a detector was chosen that needs trained weights, and settings name none
├── DataError              the input, not the program, is at fault
│   ├── UndecodableImage   one picture is bad; in a stream it becomes a dead letter
│   ├── NoImages           a folder holds no picture that can be read
│   ├── TooFewImages       a task has fewer normal images than its detector needs
│   └── OverlappingSplits  one picture is in two sets that must be disjoint
├── WeightsError           weights are missing, or do not fit the model
├── BankError              a bank, entry or version is not what was asked for
├── TaskExists             a task of that name is there already
├── UnknownTask            no task of that name
├── JobError               a job is not in a state that allows this
│   └── JobStopped         the job must not go on: cancelled, given back, or another worker's by now
├── LeadershipLost         what only the leading scheduler may do must stop: another leads by now
├── DatabaseError          the database is missing, unreachable or of another revision
└── Unavailable            a broker, store or database is away; retried, offsets stay uncommitted

A message says what was needed, what came and what to do.
"""


class StreamAdError(Exception):
    """Base class; catch this at a process boundary and nowhere else."""


class ConfigError(StreamAdError):
    pass


class DataError(StreamAdError):
    pass


class UndecodableImage(DataError):
    pass


class NoImages(DataError):
    pass


class TooFewImages(DataError):
    def __init__(self, task: str, need: int, got: int) -> None:
        super().__init__(
            f"task {task!r} needs at least {need} normal images, got {got}; add more pictures of good parts"
        )
        self.task, self.need, self.got = task, need, got


class OverlappingSplits(DataError):
    pass


class WeightsError(StreamAdError):
    pass


class BankError(StreamAdError):
    pass


class NoSharedWeights(ConfigError):
    """A detector was chosen that scores by weights which all tasks share, and settings name none."""

    def __init__(self, detector: str) -> None:
        super().__init__(
            f"detector {detector!r} needs shared weights: train some with `stream-ad train {detector}`, or choose some"
            f" of `stream-ad weights list`, and set detector.{detector}.weights to their folder"
        )


class TaskExists(StreamAdError):
    def __init__(self, task: str, hint: str = "or see it with `stream-ad tasks`") -> None:
        super().__init__(f"task {task!r} exists already; choose another name, {hint}")


class UnknownTask(StreamAdError):
    def __init__(self, task: str, known: list[str]) -> None:
        names = ", ".join(known) or "none yet"
        super().__init__(f"no task is called {task!r}; tasks: {names}")


class JobError(StreamAdError):
    pass


class JobStopped(JobError):
    pass


class LeadershipLost(StreamAdError):
    pass


class DatabaseError(StreamAdError):
    pass


class Unavailable(StreamAdError):
    pass
