"""The targets beside `make run`: clean, passwords, api-rest, api-cache."""

import re
import stat

from tests.local.checkout import Checkout

PASSWORDS = ("POSTGRES_PASSWORD", "POSTGRES_API_PASSWORD", "REDIS_PASSWORD")


def test_clean_drops_everything_and_nothing_else(checkout: Checkout) -> None:
    kept = sorted({*checkout.folder.iterdir()} - {checkout.local})
    (checkout.local / "postgres").mkdir(parents=True, exist_ok=True)
    assert checkout.make("clean").returncode == 0
    assert sorted(checkout.folder.iterdir()) == kept
    assert checkout.make("clean").returncode == 0


def test_passwords_fills_the_empty_ones_alone(checkout: Checkout) -> None:
    file = checkout.folder / "environment.env"
    before = file.read_text().replace("REDIS_PASSWORD=\n", "REDIS_PASSWORD=chosen\n")
    file.write_text(before)
    (kept := checkout.folder / "kept").hardlink_to(file)
    done = checkout.make("passwords")
    assert kept.read_text() == before  # another file took its place, whole
    after = file.read_text()
    assert done.returncode == 0
    filled = dict(re.findall(r"^(\w+_PASSWORD)=(.{24,})$", after, flags=re.MULTILINE))
    assert sorted(filled) == sorted(re.findall(r"^(\w+_PASSWORD)=$", before, flags=re.MULTILINE))
    assert {"POSTGRES_API_PASSWORD", "POSTGRES_PASSWORD"} <= set(filled)
    assert all(name in done.stdout and value not in done.stdout for name, value in filled.items())
    assert after.splitlines() == [
        line + filled.get(line.removesuffix("="), "") for line in before.splitlines()
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert checkout.make("passwords").returncode == 0
    assert file.read_text() == after


def test_a_service_alone_refuses_empty_passwords_by_name(checkout: Checkout) -> None:
    empty = dict.fromkeys(PASSWORDS, "")
    for service, name in [("api-rest", "POSTGRES_API_PASSWORD"), ("api-cache", "REDIS_PASSWORD")]:
        done = checkout.make(service, **empty)
        assert done.returncode != 0
        sentence = done.stderr.splitlines()[0]
        assert sentence.startswith(name)
        assert "make passwords" in sentence
        assert "Traceback" not in done.stdout + done.stderr
