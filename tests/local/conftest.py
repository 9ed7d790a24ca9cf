import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.local.checkout import Checkout

# Root also tries an ordinary user; an ordinary user can only be itself.
USERS = ["root", "nobody"] if os.geteuid() == 0 else ["me"]

OPEN_TO_ALL = (
    tempfile.gettempdir()
)  # while tests run, TMPDIR is one of pytest's own folders: closed to other users


@pytest.fixture(scope="session")
def new_checkout() -> Iterator[Callable[[str], Checkout]]:
    """Makes checkouts by user; root's lies in a folder that nobody else may enter."""
    folder = Path(tempfile.mkdtemp(dir=OPEN_TO_ALL))
    folder.chmod(0o755)

    def new(user: str) -> Checkout:
        parent = Path(tempfile.mkdtemp(dir=folder))
        parent.chmod(0o755 if user == "nobody" else 0o700)
        (checkout := parent / "a user's checkout").mkdir()
        return Checkout(checkout, user)

    yield new
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def checkout(new_checkout: Callable[[str], Checkout]) -> Checkout:
    return new_checkout(USERS[0])
