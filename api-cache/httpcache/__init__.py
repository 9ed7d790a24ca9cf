"""A shared HTTP cache's rules (RFC 9110, 9111, 5861, 8246, 9211, 9213) as values and pure functions.

Nothing here does I/O or reads a clock: messages and `now` come in as arguments, decisions go out as values.
The modules read like the table of contents of RFC 9111:

- `messages`     Headers, Request, Response, Entry, Policy
- `fields`       field values: directives, dates, entity tags, connection-specific fields
- `storing`      §3    may this response be stored, and as what
- `variants`     §4.1  which entry of a URL does a request select (Vary)
- `freshness`    §4.2  lifetimes and ages
- `reuse`        §4    serve, validate, forward or refuse
- `validation`   §4.3  conditions for the origin, freshening by its answers, conditions from clients
- `ranges`       RFC 9110 §14, out of complete entries
- `invalidation` §4.4  what an unsafe request makes stale
- `status`       RFC 9211 and the other fields that a cache adds
"""
