"""What the image finds in its data folder after `postgres/serve`, which empties only what it began itself."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SERVE = Path("postgres/serve").resolve()
# In place of the image's entry point, which only the image has: notes what it finds, and breaks off.
ENTRY_POINT = """#!/bin/sh
echo "$@" >"$PGDATA/../arguments"
ls -A "$PGDATA" >"$PGDATA/../found"
echo "$PGDATA" >"$PGDATA/../pgdata"
echo half made >"$PGDATA/PG_VERSION"
exit 137
"""


class Volume:
    def __init__(self, folder: Path) -> None:
        self.data = folder / "18" / "docker"
        self.pgdata = str(self.data)
        self.marker = folder / "18" / "docker.unfinished"
        self.bin = folder / "bin"
        self.bin.mkdir()
        entry_point = self.bin / "docker-entrypoint.sh"
        entry_point.write_text(ENTRY_POINT)
        entry_point.chmod(0o755)

    def start(self, *arguments: str) -> str:
        """Start once, to the bitter end; the messages."""
        environ = {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "PGDATA": self.pgdata}
        done = subprocess.run(
            [SERVE, *arguments], env=environ, capture_output=True, text=True, check=False, timeout=30
        )
        return done.stderr

    def found(self) -> list[str]:
        """What lay in the data folder when the image's entry point looked."""
        return (self.data.parent / "found").read_text().split()


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    (tmp_path / "lost+found").mkdir()
    return Volume(tmp_path)


def test_the_image_gets_an_empty_folder_and_the_arguments(volume: Volume) -> None:
    assert volume.start("-c", "shared_buffers=1GB") == ""
    assert volume.found() == []
    assert (volume.data.parent / "arguments").read_text() == "postgres -c shared_buffers=1GB\n"
    assert "The next one deletes what is there" in volume.marker.read_text()


def test_what_broke_off_begins_anew_as_often_as_need_be(volume: Volume) -> None:
    volume.start()
    for _ in range(2):
        (volume.data / "base").mkdir()
        assert "broke off" in volume.start()
        assert volume.found() == []


def test_a_slash_at_the_end_puts_no_marker_into_the_data(volume: Volume) -> None:
    """initdb takes no folder that holds anything; and init-script.sh has to find the marker."""
    volume.pgdata += "/"
    volume.start()
    assert volume.found() == []
    assert volume.marker.exists()
    assert "broke off" in volume.start()
    assert (volume.data.parent / "pgdata").read_text() == f"{volume.data}\n"


def test_what_was_finished_is_kept(volume: Volume) -> None:
    volume.start()
    volume.marker.unlink()
    assert volume.start() == ""
    assert volume.found() == ["PG_VERSION"]
    assert not volume.marker.exists()


def test_what_has_no_marker_is_kept_however_it_looks(volume: Volume) -> None:
    (volume.data / "mine").mkdir(parents=True)
    assert volume.start() == ""
    assert volume.found() == ["mine"]
    assert not volume.marker.exists()


def test_what_took_the_place_of_a_half_made_folder_is_kept(volume: Volume) -> None:
    volume.start()
    shutil.copytree(volume.data, volume.data.with_name("copy"))
    volume.data.rename(volume.data.with_name("half-made"))
    volume.data.with_name("copy").rename(volume.data)
    assert "another folder" in volume.start()
    assert volume.found() == ["PG_VERSION"]


def test_an_empty_marker_is_no_reason_to_delete(volume: Volume) -> None:
    """Killed between the making of the marker and its text."""
    volume.data.mkdir(parents=True)
    volume.marker.touch()
    assert volume.start() == ""
    assert volume.found() == []
    assert "broke off" in volume.start()


def test_two_first_starts_never_meet(volume: Volume) -> None:
    volume.start()
    with volume.marker.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (volume.data.parent / "found").unlink()
        assert "another container" in volume.start()
        assert not (volume.data.parent / "found").exists()
    assert (volume.data / "PG_VERSION").exists()
