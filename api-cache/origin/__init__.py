"""The origin's side: HTTP/1.1 over pooled connections, as strict with answers as `server` is with requests.

- `exchanges`  with the origin, counted; whether it is well
- `outgoing`   a request as the origin gets it
- `loops`      requests that come back to us
- `client`     sends a request, and again where that is harmless
- `pool`     connections, new and idle
- `channel`  one connection
- `answer`   one answer on its way
- `errors`   what may become of a request instead
"""
