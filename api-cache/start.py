"""Starts api-cache: imports all of it, once for all workers, and serves."""

import gc
import os


def main() -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    # What is imported never goes: to look for garbage in it meanwhile would take a fifth of the start, and a
    # worker that did so later would copy it.
    gc.disable()
    import workers  # noqa: PLC0415  # pylint: disable=import-outside-toplevel

    gc.enable()
    gc.freeze()
    return workers.main()


if __name__ == "__main__":
    # Everything has ended by now: an orderly end of the interpreter would only take its time.
    os._exit(main())
