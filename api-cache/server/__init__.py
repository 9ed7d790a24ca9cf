"""HTTP/1.1 for the clients: llhttp parses (httptools), libuv moves the bytes (uvloop).

granian was measured, too (see README.md): it is slower for hits, hands on only decoded paths, and ends a
chunked answer in good order when its content breaks off; here such a connection is cut, so that nobody takes
half an answer for a whole one.

- `application`  what is served, as the server sees it
- `clients`      all connections of a process
- `connection`   one of them: which request is answered when, and how it ends
- `parsing`      requests out of a connection's bytes
- `remembered`   requests whose bytes came before, and need no parsing
- `incoming`     one request, whose content may still be on its way
- `sending`      one answer, as bytes
- `wire`         the transport below: what the client takes, and what we read
"""
