from pathlib import Path

import pytest

from config import Config, ConfigError

GOOD = {"POSTGRES_API_PASSWORD": "secret"}


def test_defaults_suffice_but_for_the_password() -> None:
    config = Config.from_environ(GOOD)
    assert (config.port, config.postgres_host, config.postgres_api_schema) == (5000, "postgres", "api")


def test_all_problems_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_environ({"PORT": "http", "POSTGRES_SSLMODE": "maybe", "SEND_TIMEOUT": "nan"})
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines] == [
        "PORT",
        "POSTGRES_API_PASSWORD",
        "POSTGRES_SSLMODE",
        "SEND_TIMEOUT",
    ]
    assert "'http'" in lines[0]
    assert "65535" in lines[0]


@pytest.mark.parametrize("port", ["0", "65536", "-1", "1.5", " "])
def test_a_port_is_a_port(port: str) -> None:
    with pytest.raises(ConfigError, match=r"PORT is '.*'; it must be a whole number from 1 to 65535"):
        Config.from_environ(GOOD | {"PORT": port})


def test_an_empty_variable_counts_as_absent() -> None:
    """As Compose hands on a variable that is not set."""
    assert Config.from_environ(GOOD | {"PORT": ""}).port == 5000


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("from the file\n")
    assert (
        Config.from_environ({"POSTGRES_API_PASSWORD_FILE": str(path)}).postgres_api_password
        == "from the file"
    )


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="POSTGRES_API_PASSWORD_FILE"):
        Config.from_environ({"POSTGRES_API_PASSWORD_FILE": str(tmp_path / "absent")})


def test_a_file_that_is_no_text_is_named_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b"p\xe9ss")
    with pytest.raises(ConfigError) as caught:
        Config.from_environ({"POSTGRES_API_PASSWORD_FILE": str(path)})
    assert str(caught.value) == (
        f"POSTGRES_API_PASSWORD_FILE names {path}, which is not UTF-8 text: write nothing but the password "
        "into it, in UTF-8."
    )


def test_secrets_never_show() -> None:
    assert "secret" not in repr(Config.from_environ(GOOD))
    with pytest.raises(ConfigError) as caught:
        Config.from_environ(GOOD | {"PORT": "x"})
    assert "secret" not in str(caught.value)
