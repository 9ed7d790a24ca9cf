"""`make run` as its user meets it: in a terminal, with Ctrl-C, accidents and second thoughts."""

import os
import random
import re
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
import requests
from local.folder import credentials
from local.processes import wait_until
from tests.local.checkout import ROOT, SECONDS_TO_START, Checkout, Run
from tests.local.conftest import USERS

# Where each child of `make run` works, and what its user calls it.
CHILDREN = {
    ".local/postgres": "Postgres",
    ".local/valkey": "Valkey",
    "api-rest": "api-rest",
    "api-cache": "api-cache",
}


def get(url: str) -> list[dict[str, object]]:
    response = requests.get(url, timeout=10)
    response.raise_for_status()
    return response.json()


def modes(folder: Path) -> dict[str, tuple[int, int]]:
    """Mode and owner of everything but .local/, up to the root."""
    paths = [
        path for path in folder.rglob("*") if ".local" not in path.parts and "__pycache__" not in path.parts
    ]
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_uid) for path in [*paths, folder, *folder.parents]
    }


def by_ctrl_c(run: Run) -> None:
    run.ctrl_c()


def by_sigterm(run: Run) -> None:
    os.killpg(os.getpgid(run.make.pid), signal.SIGTERM)


def by_sigkill_of_make(run: Run) -> None:
    run.make.kill()


def by_sigkill_of_the_supervisor(run: Run) -> None:
    os.kill(run.supervisor, signal.SIGKILL)


def by_closing_the_terminal(run: Run) -> None:
    run.close_terminal()


@pytest.mark.parametrize(
    ("user", "endings"),
    [
        (USERS[0], [by_ctrl_c, by_sigkill_of_make]),
        (USERS[-1], [by_sigterm, by_sigkill_of_the_supervisor, by_closing_the_terminal]),
    ],
    ids=["Ctrl-C and the death of make", "SIGTERM, the death of the supervisor, and a hang-up"],
)
def test_however_it_ends_no_process_stays_and_the_data_do(
    new_checkout: Callable[[str], Checkout], user: str, endings: list[Callable[[Run], None]]
) -> None:
    checkout = new_checkout(user)
    before = modes(checkout.folder)
    expected = len((ROOT / "postgres/air_quality_measurements.csv").read_text().splitlines()) - 1
    for end in endings:
        with checkout.run() as run:
            assert f"curl {run.url}/air_quality" in run.output
            assert len(get(f"{run.url}/air_quality")) == expected
            add_measurement(checkout, run)
            expected += 1
            end(run)
            assert run.leaves_nothing(), (end, run.processes())
            assert "Traceback" not in run.output
    assert modes(checkout.folder) == before
    secrets = checkout.local / "secrets" / "POSTGRES_PASSWORD"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (checkout.local, secrets)] == [0o700, 0o600]


def add_measurement(checkout: Checkout, run: Run) -> None:
    port = run.output.split("Postgres on 127.0.0.1:")[1].split(",")[0]
    password = credentials(checkout.local)["POSTGRES_PASSWORD"]
    session = psycopg2.connect(host="127.0.0.1", port=port, user="postgres", password=password)
    with session, session.cursor() as cursor:
        cursor.execute("INSERT INTO api.air_quality_measurements VALUES (now(), 'aq_new')")
    session.close()


@pytest.fixture(scope="module")
def run(checkout: Checkout) -> Iterator[Run]:
    """A running stack, started from a shell with a sourced environment.env and somebody's libpq settings."""
    names = {line.split("=")[0]: line.split("=")[1] for line in settings() if "=" in line}
    secrets = {name: "sourced" for name in names if name.endswith("_PASSWORD")}
    with checkout.run(**{**names, **secrets, "PGHOST": "db.example", "PGPORT": "1"}) as run:
        yield run


def settings() -> list[str]:
    lines = (ROOT / "environment.env").read_text().splitlines()
    return [line for line in lines if not line.startswith(("#", "PORT="))]


def test_a_sourced_environment_does_no_harm(run: Run) -> None:
    # A test before may have killed api-rest: its orphans answer until they notice, and only then make room.
    assert wait_until(lambda: answers(f"{run.url}/air_quality"), timeout=20)


def test_passwords_show_nowhere(run: Run, checkout: Checkout) -> None:
    lines = "\n".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in run.processes())
    logs = "".join(path.read_text() for path in checkout.local.glob("*.log"))
    for secret in credentials(checkout.local).values():
        assert len(secret) >= 24
        assert secret not in run.output + lines + logs


@pytest.mark.parametrize("child", CHILDREN)
def test_a_dead_child_comes_back_alone(run: Run, child: str) -> None:
    assert wait_until(lambda: all(run.pid(name) for name in CHILDREN), timeout=20)
    pids = {name: run.pid(name) for name in CHILDREN}
    seen = len(run.output)
    os.kill(pids[child], signal.SIGKILL)
    assert wait_until(lambda: f"{CHILDREN[child]} " in run.output[seen:], timeout=20)
    assert wait_until(lambda: answers(new_question(run)), timeout=20)
    now = {name: run.pid(name) for name in CHILDREN}
    assert {name for name in CHILDREN if now[name] != pids[name]} == {child}
    assert "Traceback" not in run.output


def new_question(run: Run) -> str:
    """The URL of all measurements, in a spelling that api-cache cannot have stored."""
    return f"{run.url}/air_quality?from=0001-01-01T00:00:00.{random.randrange(10**6):06}"


def answers(url: str) -> bool:
    try:
        return len(get(url)) > 1000
    except requests.RequestException:
        return False


def test_the_api_roles_password_changes_while_it_runs(run: Run, checkout: Checkout) -> None:
    before = credentials(checkout.local)
    done = checkout.make("rotate")
    assert (done.returncode, done.stdout) == (0, "The API role has a new password.\n"), done.stderr
    after = credentials(checkout.local)
    assert {name for name in after if after[name] != before[name]} == {"POSTGRES_API_PASSWORD"}
    os.kill(run.pid("api-rest"), signal.SIGKILL)  # the next one has to log in
    assert wait_until(lambda: answers(new_question(run)), timeout=20)


def test_a_second_run_in_the_same_checkout_is_refused(run: Run, checkout: Checkout) -> None:
    done = checkout.make("run")
    assert done.returncode != 0
    assert "runs already" in done.stderr.splitlines()[0]
    assert wait_until(lambda: answers(f"{run.url}/air_quality"), timeout=20)


def test_nothing_is_cleaned_from_under_a_running_stack(run: Run, checkout: Checkout) -> None:
    done = checkout.make("clean")
    assert done.returncode != 0
    assert "Stop it first." in done.stderr.splitlines()[0]
    assert wait_until(lambda: answers(f"{run.url}/air_quality"), timeout=20)


def test_ctrl_c_while_it_starts(new_checkout: Callable[[str], Checkout]) -> None:
    run = new_checkout(USERS[0]).run()
    try:
        run.until("Starting Postgres")
        run.ctrl_c()
        assert run.leaves_nothing(), run.processes()
        assert "Traceback" not in run.output
    finally:
        run.__exit__()


def test_nohup_is_heeded(new_checkout: Callable[[str], Checkout]) -> None:
    run = new_checkout(USERS[0]).run("sh", "-c", 'trap "" HUP && exec "$@"', "sh")
    try:
        run.until("Starting Postgres")
        status = Path(f"/proc/{run.supervisor}/status").read_text()
        ignored = int(status.split("SigIgn:")[1].split()[0], 16)
        assert ignored & 1 << signal.SIGHUP - 1
        run.ctrl_c()
        assert run.leaves_nothing(), run.processes()
    finally:
        run.__exit__()


@pytest.fixture(scope="module")
def killed(new_checkout: Callable[[str], Checkout]) -> Checkout:
    """A checkout whose first start was killed; whichever test comes first begins it anew."""
    checkout = new_checkout(USERS[0])
    csv = checkout.folder / "slow.csv"
    os.mkfifo(csv)
    run = checkout.run(POSTGRES_CSV=str(csv))
    try:
        assert wait_until(lambda: is_read(csv), timeout=SECONDS_TO_START), run.output
        by_sigkill_of_the_supervisor(run)
        assert run.leaves_nothing(), run.processes()
    finally:
        run.__exit__()
    return checkout


def test_a_first_start_that_was_killed_begins_anew_at_any_address(killed: Checkout) -> None:
    with killed.run(HOST="127.0.0.2") as again:
        (curl,) = re.findall(r"curl (\S+)", again.output)
        assert curl == f"http://127.0.0.2:{again.port}/air_quality"
        assert len(get(curl)) > 1000
        # In good order: the next Postgres takes a killed one for alive until process 1 has waited for it.
        again.ctrl_c()
        assert again.leaves_nothing(), again.processes()


def is_read(fifo: Path) -> bool:
    """Whether somebody waits for what is written there."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])  # noqa: S104
def test_a_taken_port_is_one_sentence(checkout_at_rest: Checkout, host: str) -> None:
    with socket.create_server((host, 0)) as other:
        port = str(other.getsockname()[1])
        done = checkout_at_rest.make("run", PORT=port)
    assert done.returncode != 0
    assert done.stdout == ""
    sentence, makes_own = done.stderr.splitlines()
    assert port in sentence
    assert "address already in use" in sentence
    assert "PORT=" in sentence
    assert "Error 1" in makes_own


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1", "80 80"])
def test_a_port_that_is_none_is_one_sentence(checkout_at_rest: Checkout, port: str) -> None:
    done = checkout_at_rest.make("run", PORT=port)
    assert done.returncode != 0
    assert f"PORT={port} is no port" in done.stderr.splitlines()[0]


@pytest.mark.parametrize("host", ["::", "192.0.2.1"])
def test_it_names_the_host_that_is_not_here(checkout_at_rest: Checkout, host: str) -> None:
    done = checkout_at_rest.make("run", HOST=host)
    assert done.returncode != 0
    assert f"HOST={host} is no IPv4 address of this machine" in done.stderr.splitlines()[0]


@pytest.fixture(scope="module")
def checkout_at_rest(new_checkout: Callable[[str], Checkout]) -> Checkout:
    return new_checkout(USERS[0])


def test_a_bad_setting_ends_it_with_the_services_own_words(killed: Checkout) -> None:
    run = killed.run(CACHE_TTL="soon")
    try:
        assert run.status() != 0
        assert "CACHE_TTL" in run.output
        assert "api-cache ended with status" in run.output
        assert run.leaves_nothing()
    finally:
        run.__exit__()
