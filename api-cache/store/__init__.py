"""The two levels of the store: Redis, which all replicas share, and each process's memory of it.

- `stored`   stored responses as values, and their form in Redis
- `found`    what Redis has of one target, made into values only where somebody needs them
- `shared`   Redis: find, put, drop, lock
- `layout`   the keys in Redis, and the scripts that change several at once
- `writer`   writes a new entry as its content passes
- `watch`    tells of every change in Redis, by whomever
- `links`    connections to Redis
- `breaker`  how long Redis is waited for, and left alone
- `memory`   what this process lately read
- `levels`   both levels as one
"""
