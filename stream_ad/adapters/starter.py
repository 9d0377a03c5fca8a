"""Whether whoever started this process still lives: a pipe from there is our standard input, and it ends with them."""

import logging
import os
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

#: how long a process whose starter is gone may take to end in order, seconds
ORPHAN_S = 30.0


def when_starter_is_gone(end: Callable[[], None]) -> None:
    """Call `end` once, in a thread, when standard input ends; a process that then hangs is ended by force."""
    threading.Thread(target=_watch, args=(end,), name="watches its starter", daemon=True).start()


def _watch(end: Callable[[], None]) -> None:
    while os.read(0, 1024):  # never `sys.stdin`: its lock, held at the interpreter's end, would abort the process
        pass
    log.warning("whoever started this process is gone; the job is given back")
    end()
    threading.Event().wait(ORPHAN_S)
    os._exit(1)  # hung, or in a step that is too long: the lease runs out by itself
