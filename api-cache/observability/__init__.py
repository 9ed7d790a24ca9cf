"""What can be seen of the cache from outside: one JSON log line a request, and metrics over all workers.

A hit may cost a few microseconds in all, so neither a log handler per line nor prometheus_client's locked and
memory-mapped values are affordable here; its exposition is, once per scrape.

- `counters`    numbers in memory that all workers share
- `exposition`  those numbers as prometheus_client's families
- `gauges`      what a worker holds, noted from time to time
- `log`         lines for stdout, written in batches
- `access`      what is noted of each finished request: a line and a row of counters
"""
