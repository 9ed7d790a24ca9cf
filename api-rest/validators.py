"""ETag and Last-Modified of a snapshot, and the conditions that requests make (RFC 9110 §8.8, §13)."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flask import Request, Response
from sqlalchemy import select
from werkzeug.exceptions import PreconditionFailed

from database import Snapshot, Statement
from models import DATA_VERSION


def _release() -> bytes:
    # Other code may write the same data in another way: that is another representation.
    modules = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(module.read_bytes() for module in modules)).digest()


RELEASE = _release()
NOW = Statement.of(select(DATA_VERSION.c.version, DATA_VERSION.c.changed_at, DATA_VERSION.c.settled))


@dataclass(frozen=True, slots=True)
class Validators:
    version: str
    etag: str
    last_modified: datetime
    settled: bool

    @classmethod
    def read(cls, snapshot: Snapshot, representation: Iterable[str]) -> "Validators":
        """Of the data as the snapshot sees them, for one representation of one URL."""
        ((version, changed_at, settled),) = snapshot.rows(NOW)
        number = f"{version:x}-{round(changed_at.timestamp() * 1e6):x}"
        digest = hashlib.sha256(b"\0".join([RELEASE, *(part.encode() for part in representation)]))
        etag = f"{number}-{digest.hexdigest()[:16]}"
        return cls(number, etag, _last_modified(changed_at, settled=settled), settled)

    def put_on(self, response: Response) -> None:
        response.set_etag(self.etag)
        response.last_modified = self.last_modified

    def satisfied_by(self, request: Request) -> bool:
        """Whether the client has this representation already (RFC 9110 §13.2.2).

        Raises:
            PreconditionFailed: If-Match or If-Unmodified-Since ask for another one.
        """
        if request.if_match and not request.if_match.is_strong(self.etag) and not request.if_match.star_tag:
            raise PreconditionFailed("If-Match names other representations than the present one.")
        since = request.if_unmodified_since
        if not request.if_match and since is not None and self.last_modified > since:
            raise PreconditionFailed("The data have changed after If-Unmodified-Since.")
        if "If-None-Match" in request.headers:
            return request.if_none_match.contains_weak(self.etag)
        # Not "or later": a change that was under way at that date may bear an earlier one.
        return self.settled and request.if_modified_since == self.last_modified


def _last_modified(changed_at: datetime, *, settled: bool) -> datetime:
    """The second of the last change, once no other change can bear it; until then the second before.

    So the date of a settled state stands for no other data, and whoever asks If-Modified-Since with a date
    that was given before gets the data anew.
    """
    second = changed_at.astimezone(UTC).replace(microsecond=0)
    return second if settled else second - timedelta(seconds=1)
