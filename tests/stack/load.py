"""Clients that ask without pause, and count what they lose; run in a container, on the network of api-cache.

They behave as any client or balancer does: a name has several addresses, and where a connection is refused,
or closed before a byte of the answer came, the next one is tried. All else that is not a whole 200 is lost.
"""

import http.client
import json
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter

HOST, PORT, CLIENTS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ATTEMPTS = 20
over = threading.Event()
counts: Counter[str] = Counter()
slowest = 0.0


def connect() -> http.client.HTTPConnection:
    addresses = [found[4][0] for found in socket.getaddrinfo(HOST, PORT, socket.AF_INET, socket.SOCK_STREAM)]
    return http.client.HTTPConnection(random.choice(addresses), PORT, timeout=20)


def ask(connection: http.client.HTTPConnection, target: str) -> str:
    """What became of one attempt: `ok`, `again` when nothing came back, else what was lost."""
    try:
        connection.request("GET", target)
        response = connection.getresponse()
    except (ConnectionError, http.client.RemoteDisconnected, socket.gaierror):
        connection.close()
        return "again"
    except OSError as error:
        connection.close()
        return repr(error)
    try:
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return repr(error)
    if response.status != 200:
        return f"{response.status} {body[:200]!r}"
    json.loads(body)
    return "ok"


def client(number: int) -> None:
    global slowest  # noqa: PLW0603 - one figure of all clients
    connection = None
    while not over.is_set():
        # Half of the questions are new, and go through to api-rest.
        limit = random.choice([7, random.randrange(10_000, 900_000)])
        target = f"/air_quality?id_entity=aq_salvia&pollutant=no2&to=2016-10-01T06:00:00&limit={limit}"
        started, outcome = time.monotonic(), "again"
        for _ in range(ATTEMPTS):
            try:
                connection = connection or connect()
                outcome = ask(connection, target)
            except OSError as error:
                outcome = repr(error)
            if outcome != "again":
                break
            counts["tried again"] += 1
            connection = None
            time.sleep(0.05)
        if outcome != "ok" or number % 2:
            connection = None  # every other client connects anew for each request
        counts[outcome] += 1
        slowest = max(slowest, time.monotonic() - started)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    print("asking", flush=True)
    over.wait(600)
    over.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"counts": counts, "slowest": slowest}), flush=True)


if __name__ == "__main__":
    main()
