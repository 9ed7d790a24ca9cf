"""What make takes for granted of the folders."""

import os
import subprocess
from pathlib import Path

from tests.delivery.manifests import ROOT


def test_a_second_run_knows_the_same_suites(tmp_path: Path) -> None:
    """Python leaves a folder beside them in the first one."""
    for folder in ("stack", "__pycache__"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
    (tmp_path / "tests" / "stack" / "test_stories.py").touch()
    command = ["make", "--file", ROOT / "Makefile", "--eval", "suites: ; @echo $(SUITES)", "suites"]
    # A `make` above us, such as that of `make test-delivery`, would have this one say where it is.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["stack"]
