"""Everything that the environment may say about api-rest, checked once."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class ConfigError(Exception):
    """All that is wrong with the settings, one sentence a line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:  # pylint: disable=too-many-instance-attributes
    """One field a setting: the field `postgres_host` is the variable POSTGRES_HOST.

    Secrets have no default, and may be given as a path of a file that holds them: POSTGRES_API_PASSWORD_FILE.
    """

    host: str = "0.0.0.0"  # noqa: S104 - a container's own network is the boundary
    port: int = field(default=5000, metadata={"least": 1, "most": 65535})
    web_concurrency: int = field(default=2, metadata={"least": 1, "most": 64})
    graceful_timeout: int = field(default=30, metadata={"least": 1})

    postgres_host: str = "postgres"
    postgres_port: int = field(default=5432, metadata={"least": 1, "most": 65535})
    postgres_db: str = "postgres"
    postgres_api_user: str = "api"
    postgres_api_password: str = field(repr=False, metadata={"secret": True})
    # Read anew for each connection, so that a password can change while we run.
    postgres_api_password_file: str = ""
    postgres_api_schema: str = "api"
    postgres_sslmode: str = field(default="prefer", metadata={"choices": SSL_MODES})
    postgres_sslrootcert: str = ""
    # libpq knows whole seconds, and takes 1 for 2.
    postgres_connect_timeout: int = field(default=3, metadata={"least": 2})
    postgres_api_statement_timeout: int = field(default=300, metadata={"least": 0})
    postgres_pool_size: int = field(default=8, metadata={"least": 1, "most": 100})
    # SQLAlchemy's engine_from_config makes it whole.
    postgres_pool_timeout: int = field(default=2, metadata={"least": 0})

    send_timeout: float = field(default=30.0, metadata={"least": 1})
    cache_control_max_age: int = field(default=30, metadata={"least": 0})
    cache_control_stale_while_revalidate: int = field(default=60, metadata={"least": 0})
    cache_control_stale_if_error: int = field(default=86400, metadata={"least": 0})

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "Config":
        """Read the settings; an empty variable counts as absent.

        Raises:
            ConfigError: naming every variable that is missing or wrong. Never shows the value of a secret.
        """
        values: dict[str, object] = {}
        problems: list[str] = []
        for setting in dataclasses.fields(cls):
            try:
                text = _lookup(setting.name.upper(), environ, secret=setting.metadata.get("secret", False))
                if text is not None:
                    values[setting.name] = _parse(setting, text)
            except ValueError as problem:
                problems.append(str(problem))
        if problems:
            raise ConfigError("\n".join(problems))
        return cls(**values)  # type: ignore[arg-type]


def _lookup(name: str, environ: Mapping[str, str], *, secret: bool) -> str | None:
    text = environ.get(name) or None
    if not secret:
        return text
    path = environ.get(f"{name}_FILE")
    if text is None and path:
        try:
            text = Path(path).read_text(encoding="utf-8").rstrip("\r\n") or None
        except OSError as error:
            raise ValueError(f"{name}_FILE names {path}, which cannot be read: {error}.") from error
        except UnicodeDecodeError:  # whose own words quote the content
            remedy = "write nothing but the password into it, in UTF-8"
            raise ValueError(f"{name}_FILE names {path}, which is not UTF-8 text: {remedy}.") from None
    if text is None:
        raise ValueError(f"{name} must not be empty: set it or {name}_FILE, e.g. by `make passwords`.")
    return text


def _parse(setting: "dataclasses.Field[object]", text: str) -> object:
    name, rules = setting.name.upper(), setting.metadata
    if setting.type is str:
        if "choices" in rules and text not in rules["choices"]:
            raise ValueError(f"{name} is {text!r}; it must be one of {', '.join(rules['choices'])}.")
        return text
    kind = int if setting.type is int else float
    least, most = rules.get("least", 0), rules.get("most", float("inf"))
    try:
        number = kind(text)
    except ValueError:
        number = None
    if number is None or not least <= number <= most or number == float("inf"):
        noun = "a whole number" if kind is int else "a number"
        limit = f"from {least} to {most}" if "most" in rules else f"of at least {least}"
        raise ValueError(f"{name} is {text!r}; it must be {noun} {limit}.")
    return number
