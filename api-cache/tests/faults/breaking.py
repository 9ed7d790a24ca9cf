"""Ways to break Redis for SECONDS, while a load goes on."""

from local.client import connect

SECONDS = 2.5


def killed(valkey, load):
    valkey.kill()
    load.go_on(SECONDS)
    valkey.start()


def restarted(valkey, load):
    for _ in range(3):
        valkey.stop()
        valkey.start()
        load.go_on(SECONDS / 3)


def paused(valkey, load):
    valkey.pause()
    load.go_on(SECONDS)
    valkey.resume()


def stuttering(valkey, load):
    for _ in range(10):
        valkey.pause()
        load.go_on(0.15)
        valkey.resume()
        load.go_on(0.1)


def full(valkey, load):
    with connect(valkey, socket_timeout=5) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")
        load.go_on(SECONDS)
        client.config_set("maxmemory", "256mb")


def emptied(valkey, load):
    with connect(valkey, socket_timeout=5) as client:
        for _ in range(10):
            client.flushall()
            load.go_on(SECONDS / 10)
