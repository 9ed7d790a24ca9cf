"""Pylint over folders that must not meet in one run, since each owns an `app` and a `config`.

What they share are the libraries, and to read those is most of the work. So one process lints what has no
such names, and forks one child a service, which knows all that the parent has read.
"""

import io
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from pylint.lint import Run
from pylint.reporters.text import TextReporter

ROOT = Path(__file__).parents[1]


def main(services: list[str], others: list[str]) -> int:
    status, text = lint(ROOT, others)
    print(text, end="")
    with ProcessPoolExecutor(len(services), multiprocessing.get_context("fork")) as pool:
        for service, found in zip(services, pool.map(lint_service, services), strict=True):
            status |= found[0]
            print(f"In {service}:\n{found[1]}" if found[1] else "", end="")
    return status


def lint_service(name: str) -> tuple[int, str]:
    return lint(ROOT / name, ["--ignore", "tests", "."])


def lint(folder: Path, arguments: list[str]) -> tuple[int, str]:
    """Run pylint from within `folder`: its exit status and what it says."""
    os.chdir(folder)
    said = io.StringIO()
    options = ["--rcfile", str(ROOT / ".pylintrc"), "--recursive", "y", "--score", "n"]
    done = Run([*options, *arguments], reporter=TextReporter(said), exit=False)
    return done.linter.msg_status, said.getvalue()


if __name__ == "__main__":
    if "--" not in sys.argv:
        sys.exit("usage: python -m tests.lint SERVICE... -- FOLDER...")
    divider = sys.argv.index("--")
    sys.exit(main(sys.argv[1:divider], sys.argv[divider + 1 :]))
