"""The embedded servers by themselves, as other tests use them."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest
import redis
from local.client import connect
from local.postgres import Postgres
from local.processes import (
    Process,
    ProcessError,
    free_port,
    port_is_free,
    release_port,
    reserve_port,
    wait_until,
)
from local.template import ENVIRON, copied_database
from local.valkey import Valkey


@pytest.fixture
def valkey(tmp_path: Path) -> Valkey:
    return Valkey(tmp_path / "valkey", environ=ENVIRON)


def ping(valkey: Valkey) -> bool:
    with connect(valkey, socket_timeout=0.5) as client:
        return bool(client.ping())


def test_valkey_wants_its_password(valkey: Valkey) -> None:
    with valkey:
        assert ping(valkey)
        stranger = redis.Redis.from_url(f"redis://:guess@{valkey.host}:{valkey.port}")
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


def test_a_server_comes_back_on_its_port(valkey: Valkey) -> None:
    with valkey:
        port = valkey.port
        valkey.kill()
        assert port_is_free(port)
        valkey.start()
        assert valkey.port == port
        assert ping(valkey)


def test_a_paused_server_hangs_and_resumes(valkey: Valkey) -> None:
    with valkey:
        valkey.pause()
        with pytest.raises(redis.TimeoutError):
            ping(valkey)
        valkey.resume()
        assert ping(valkey)


def test_a_paused_server_can_be_stopped(valkey: Valkey) -> None:
    with valkey:
        valkey.pause()
    assert not valkey.process.running


def test_a_server_outlives_the_thread_that_started_it(valkey: Valkey) -> None:
    starter = threading.Thread(target=valkey.start)
    starter.start()
    starter.join()
    assert not wait_until(lambda: not valkey.process.running, timeout=0.3)
    assert ping(valkey)
    valkey.stop()


def test_data_survive_a_crash(tmp_path: Path) -> None:
    with copied_database(tmp_path) as server:
        rows = count(server)
        assert rows > 1000
        server.kill()
        with pytest.raises(psycopg2.OperationalError):
            server.connect()
        server.start()
        assert count(server) == rows


def test_a_server_waits_for_the_sessions_of_the_one_that_was_killed(tmp_path: Path) -> None:
    """They are groups of their own, and may be slow to notice."""
    with copied_database(tmp_path) as server, ThreadPoolExecutor() as threads:
        session = server.connect()
        slow = session.info.backend_pid
        os.kill(slow, signal.SIGSTOP)
        try:
            server.kill()
            starting = threads.submit(server.start)
            assert not wait_until(starting.done, timeout=0.5)
        finally:
            os.kill(slow, signal.SIGCONT)
        starting.result(timeout=30)
        assert count(server) > 1000


def count(server: Postgres) -> int:
    session = server.connect(user="api", password=ENVIRON["POSTGRES_API_PASSWORD"])
    with session.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM api.air_quality_measurements")
        [(rows,)] = cursor.fetchall()
    session.close()
    return int(rows)


def test_a_failed_first_start_leaves_no_data(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("time_instant\n")
    server = Postgres(tmp_path / "data", environ=ENVIRON, sample=bad)
    with pytest.raises(ProcessError, match="wrong number of fields in header line"):
        server.start()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    assert port_is_free(server.port)


def test_another_password_than_the_datas_is_told_at_once(tmp_path: Path) -> None:
    made = copied_database(tmp_path)
    made.prepare()
    server = Postgres(made.data_dir, environ=ENVIRON | {"POSTGRES_PASSWORD": "another"})
    with pytest.raises(ProcessError, match="password authentication failed"):
        server.start()
    server.stop()


def test_a_taken_port_is_told(tmp_path: Path, valkey: Valkey) -> None:
    with valkey:
        second = Valkey(tmp_path / "second", port=valkey.port, environ=ENVIRON)
        with pytest.raises(ProcessError, match=r"Valkey cannot use .*Address already in use"):
            second.start()


def test_nothing_survives_its_parent(tmp_path: Path) -> None:
    """Not even when the parent gets SIGKILL, and not the children's children either."""
    script = f"""
import time
from pathlib import Path
from local.template import ENVIRON, copied_database
from local.valkey import Valkey
folder = Path({str(tmp_path)!r})
with copied_database(folder) as a, Valkey(folder / "valkey", environ=ENVIRON) as b:
    print(a.port, b.port, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        ports = [int(port) for port in parent.stdout.readline().split()]
        assert len(ports) == 2
        assert not any(port_is_free(port) for port in ports)
        parent.kill()
    assert wait_until(lambda: all(port_is_free(port) for port in ports), timeout=10)


def test_what_a_dead_child_left_is_buried_with_it(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    process = Process("Shell", ["sh", "-c", f"sleep 60 & echo $! > {pidfile}; wait"], environ=os.environ)
    process.start()
    assert wait_until(lambda: pidfile.exists() and pidfile.read_text() != "", timeout=5)
    process.signal(signal.SIGKILL)
    assert wait_until(lambda: not process.running, timeout=5)
    assert process.ending == "was killed by SIGKILL"
    assert wait_until(lambda: not lives(int(pidfile.read_text())), timeout=5)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_that_never_gets_ready_is_told_with_its_last_words(tmp_path: Path) -> None:
    process = Process(
        "Shell", ["sh", "-c", "echo farewell; exit 7"], environ=os.environ, output=tmp_path / "log"
    )
    process.start()
    with pytest.raises(ProcessError, match=r"(?s)Shell ended with status 7\..*farewell"):
        process.wait_until_ready(lambda: False, timeout=5)


def test_a_reserved_port_is_nobody_elses() -> None:
    port = free_port()
    assert reserve_port(port) == port
    assert not port_is_free(port)
    assert reserve_port(port) != port
    release_port(port)
    assert port_is_free(port)
