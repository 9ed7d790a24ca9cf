"""The settings of api-cache, from its environment. Field `cache_ttl` is variable `CACHE_TTL`, and so on."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class ConfigError(Exception):
    """All that is wrong with the settings, one line each, naming the variable and the remedy."""


def _number(minimum: float, *, whole: bool = False) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = int(text) if whole else float(text)
        if not minimum <= value < 2**53:
            raise ValueError
        return value

    parse.__doc__ = f"a {'whole ' if whole else ''}number, at least {minimum:g}"
    return parse


def _port(text: str) -> int:
    """a port number from 1 to 65535"""  # noqa: D403, D415  # a phrase of the message
    if not 1 <= int(text) <= 65_535:
        raise ValueError
    return int(text)


def _text(text: str) -> str:
    """a value"""  # noqa: D403, D415  # a phrase of the message
    if not text:
        raise ValueError
    return text


def _flag(text: str) -> bool:
    """true or false"""  # noqa: D403, D415  # a phrase of the message
    if text not in {"true", "false"}:
        raise ValueError
    return text == "true"


def _by(parser: Callable[[str], object]) -> Mapping[str, Callable[[str], object]]:
    """A field's metadata: how its variable is read. The parser's docstring says what is right."""
    return {"parser": parser}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:  # pylint: disable=too-many-instance-attributes  # one per variable
    """Durations are in seconds, sizes in bytes."""

    host: str = field(default="0.0.0.0", metadata=_by(_text))  # noqa: S104  # the service faces users
    port: int = field(default=8080, metadata=_by(_port))
    redis_host: str = field(default="redis", metadata=_by(_text))
    redis_port: int = field(default=6379, metadata=_by(_port))
    redis_user: str = field(default="default", metadata=_by(_text))
    redis_password: str = field(repr=False, metadata=_by(_text))
    redis_tls: bool = field(default=False, metadata=_by(_flag))
    redis_tls_ca: str = field(default="", metadata=_by(_text))
    backend_host: str = field(default="api-rest", metadata=_by(_text))
    backend_port: int = field(default=5000, metadata=_by(_port))
    cache_ttl: float = field(default=30.0, metadata=_by(_number(0)))
    cache_stale_if_error: float = field(default=86_400.0, metadata=_by(_number(0)))
    cache_memory_bytes: int = field(default=64 * 2**20, metadata=_by(_number(0, whole=True)))
    cache_max_object_bytes: int = field(default=64 * 2**20, metadata=_by(_number(0, whole=True)))
    cache_max_request_bytes: int = field(default=64 * 2**20, metadata=_by(_number(0, whole=True)))
    cache_collapse_wait: float = field(default=5.0, metadata=_by(_number(0)))
    cache_connect_timeout: float = field(default=2.0, metadata=_by(_number(0.001)))
    cache_origin_timeout: float = field(default=30.0, metadata=_by(_number(0.001)))
    cache_client_head_timeout: float = field(default=15.0, metadata=_by(_number(0.001)))
    cache_client_idle_timeout: float = field(default=75.0, metadata=_by(_number(0.001)))
    cache_client_stall_timeout: float = field(default=60.0, metadata=_by(_number(0.001)))
    cache_workers: int = field(default=2, metadata=_by(_number(1, whole=True)))

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Config:
        """Read and check every variable. An empty one counts as absent.

        `X_FILE` may name a file that holds the value of a secret `X`.

        Raises:
            ConfigError: for all problems together.
        """
        values: dict[str, object] = {}
        problems: list[str] = []
        for each in fields(cls):
            name = each.name.upper()
            try:
                text = _given(environ, name, secret=not each.repr)
            except OSError as error:
                problems.append(f"{name}_FILE: cannot be read ({error.strerror}).")
                continue
            except UnicodeDecodeError:  # whose own words quote the content
                problems.append(
                    f"{name}_FILE: is not UTF-8 text: write nothing but the value into it, in UTF-8."
                )
                continue
            if text:
                _parse(each, text, values, problems)
            elif each.default is MISSING:
                problems.append(f"{name} is empty: set it, or run `make passwords`.")
        if problems:
            raise ConfigError("\n".join(problems))
        return cls(**values)  # type: ignore[arg-type]  # each value came from its own field's parser


def _given(environ: Mapping[str, str], name: str, *, secret: bool) -> str:
    path = environ.get(f"{name}_FILE", "") if secret else ""
    return Path(path).read_text("utf-8").rstrip("\r\n") if path else environ.get(name, "")


def _parse(each: Field[object], text: str, values: dict[str, object], problems: list[str]) -> None:
    parser = each.metadata["parser"]
    try:
        values[each.name] = parser(text)
    except ValueError:
        shown = repr(text) if each.repr else "its value"
        problems.append(f"{each.name.upper()}: {shown} is not {parser.__doc__}.")
