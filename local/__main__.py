"""`make run`: the whole stack on this machine, until Ctrl-C."""

import errno
import os
import signal
import socket
import sys
import time
from types import FrameType

from local.folder import FOLDER, InUseError, exclusive
from local.processes import ProcessError, check_port
from local.stack import Stack

SECONDS_BETWEEN_LOOKS = 0.1


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, interrupt)
    try:
        host, port = os.environ.get("HOST") or "0.0.0.0", chosen_port(os.environ.get("PORT") or "8080")  # noqa: S104
        with exclusive(FOLDER):
            check(host, port)
            run(Stack(FOLDER, os.environ, host=host, port=port))
    except (ProcessError, InUseError) as error:
        sys.exit(f"make run: {error}")
    except KeyboardInterrupt:
        sys.exit("make run: interrupted; what had not stopped yet was killed.")


def run(stack: Stack) -> None:
    parent, at_terminal = os.getppid(), sys.stdout.isatty()
    try:
        say("Starting Postgres, Valkey, api-rest and api-cache ...")
        stack.start()
        welcome(stack)
        # Without make, our parent (should it be killed), or the terminal, nobody could stop us by Ctrl-C any
        # more. When a connection is lost, make alone may hear of it, and it waits for us.
        while os.getppid() == parent and sys.stdout.isatty() == at_terminal:
            stack.revive(say)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    except KeyboardInterrupt:
        say("Stopping ...")
    finally:
        stop_in_peace()
        stack.stop()


def interrupt(_number: int, _frame: FrameType | None) -> None:
    stop_in_peace()
    raise KeyboardInterrupt


def stop_in_peace() -> None:
    """Let only a second Ctrl-C cut the stopping short, not a wish that came twice (by make, too)."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def chosen_port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ProcessError(
            f"PORT={text} is no port: choose a number from 1 to 65535, e.g. PORT=9000 make run."
        )
    return int(text)


def check(host: str, port: int) -> None:
    try:
        check_port(host, port)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise ProcessError(
                f"HOST={host} is no IPv4 address of this machine: choose one, or 0.0.0.0 for all of them."
            ) from None
        raise ProcessError(
            f"{host}:{port} cannot be used ({os.strerror(error.errno or 0).lower()}). "
            "Choose another port, e.g. PORT=9000 make run."
        ) from None


def welcome(stack: Stack) -> None:
    cache = stack.api_cache
    url = f"http://{'localhost' if cache.host == '127.0.0.1' else cache.host}:{cache.port}"
    others = [stack.api_rest, stack.postgres, stack.valkey]
    say(f"Ready: {url}\n\n  curl {url}/air_quality\n")
    say(
        "Behind it: "
        + ", ".join(f"{server.process.name} on {server.host}:{server.port}" for server in others)
        + "."
    )
    say(f"Data, logs and passwords lie in {FOLDER.name}/. Ctrl-C stops all of it; the data stay.")


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
