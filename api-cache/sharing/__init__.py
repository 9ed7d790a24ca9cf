"""One answer of the origin for all who ask for it at the same time, in any process.

- `question`  a request on its way to the origin
- `flights`   one question under way: a future within a process, a lock across them
- `fetch`     its answer: read once, stored as it passes
- `buffer`    the content, for readers of any pace, in bounded memory
- `pursuit`   the content for one who cannot keep pace with the others
"""
