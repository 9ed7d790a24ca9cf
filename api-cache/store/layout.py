"""What lies where in Redis, and the scripts that change several keys in one step.

All keys begin with `api-cache:2:` (the number is that of the layout). With <t> for the SHA-256 of the target:

    i:<t>            hash: an encoded entry per variant, at <v>:<id>, and small bodies, at s:<id>:<c>, so that
                     one look finds all that is asked for
    i:<t>:g          the number of a late invalidation of the target, and that of the one before: with a colon
                     between them; what was asked for before is not stored
    e                what stands for that number where there is none; another one each time that all is lost
    p:<t>            exists while answers are known to be uncacheable: nobody waits for another one's answer
    p:<t>:a          the same, of requests with Authorization
    l:<t>:<v>        the lock of the process that asks the origin
    l:<t>:<v>:a      the same, of requests with Authorization
    b:<t>:<id>:<c>   any other body in content coding <c>, never changed once its entry exists
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coding import CODINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

_LAYOUT = "api-cache:2:"
INDEX = _LAYOUT + "i:"


def index(key: str) -> str:
    return INDEX + key


def generation(key: str) -> str:
    return f"{INDEX}{key}:g"


ERA = _LAYOUT + "e"
"""Without it, what was asked for before an invalidation would be stored if Redis lost that one's number, as
it does when it is restarted or emptied."""


def is_next(later: bytes | None, earlier: bytes | None) -> bool:
    """Whether one invalidation, and no other, lies between two generations of a target."""
    if later is None or earlier is None:
        return False
    return later.partition(b":")[2] == earlier.partition(b":")[0]


def is_generation(name: str) -> bool:
    """Of the names that begin with INDEX."""
    return name.endswith(":g")


def key_of(name: str) -> str:
    """The target's key, of the name of its index or its generation."""
    return name[len(INDEX) :][:64]


def marks(key: str) -> tuple[str, str]:
    """Of answers that are uncacheable: to requests without credentials, and to those with them."""
    return f"{_LAYOUT}p:{key}", f"{_LAYOUT}p:{key}:a"


def lock(name: str) -> str:
    return f"{_LAYOUT}l:{name}"


def entries(fields: Mapping[bytes, bytes]) -> list[bytes]:
    """The encoded entries of an index."""
    return [value for field, value in fields.items() if not field.startswith(b"s:")]


def small_body(fields: Mapping[bytes, bytes], body_id: str, coding: str) -> bytes | None:
    """A body that lies in an index."""
    return fields.get(f"s:{body_id}:{coding}".encode())


def bodies(key: str) -> str:
    """What the names of the target's other bodies begin with."""
    return f"{_LAYOUT}b:{key}:"


def body(key: str, body_id: str, coding: str) -> str:
    return f"{_LAYOUT}b:{key}:{body_id}:{coding}"


# ---- scripts

NEW_ERA = """#!lua flags=allow-oom
local era = redis.pcall('GET', KEYS[1])
if type(era) ~= 'string' then
  era = ARGV[1]
  redis.call('SET', KEYS[1], era)
end
return era
"""
"""The era, KEYS[1], which becomes ARGV[1] where there is none."""

_LET_GO = f"""
local function let_go(index, bodies, field)
  local id = string.match(field, '^%x+:(.*)')
  if not id then return end
  for _, coding in ipairs({{{", ".join(f"'{each}'" for each in ("identity", *CODINGS))}}}) do
    redis.call('PEXPIRE', bodies .. id .. ':' .. coding, ARGV[1])
    redis.call('HDEL', index, 's:' .. id .. ':' .. coding)
  end
  redis.call('HDEL', index, field)
end
"""
"""Takes an entry, if the field is one's, and its small bodies out of an index. Others, whose names begin with
`bodies`, are left to those who read them, for ARGV[1] ms."""

FRESHENED, IN_BLOCKS, WHOLE = "freshened", "in-blocks", "whole"
PUT = f"""{_LET_GO}
local generation = redis.call('GET', KEYS[2]) or redis.pcall('GET', KEYS[5])
if generation ~= ARGV[3] then return 0 end
local index, bodies, variant, field, ttl = KEYS[1], ARGV[2], ARGV[4], ARGV[5], tonumber(ARGV[7])
local id = string.sub(field, #variant + 2)

local former
local fields = redis.call('HKEYS', index)
for _, other in ipairs(fields) do
  if string.match(other, '^%x+:(.*)') == id then former = other end
end
if ARGV[8] == '{FRESHENED}' and not former then return 0 end
for i = 6, #KEYS do
  if ARGV[8] == '{IN_BLOCKS}' and redis.call('EXISTS', KEYS[i]) == 0 then return 0 end
  redis.call('PEXPIRE', KEYS[i], ttl)
end

local variants, held = 0, 0
for _, other in ipairs(fields) do
  if other == former then
    if other ~= field then redis.call('HDEL', index, other) end
  elseif string.sub(other, 1, #variant + 1) == variant .. ':' then
    let_go(index, bodies, other)
  elseif string.sub(other, 1, 2) ~= 's:' then
    variants = variants + 1
  end
end
if variants >= tonumber(ARGV[9]) then
  for _, other in ipairs(fields) do
    if other ~= former then let_go(index, bodies, other) end
  end
end
for _, other in ipairs(redis.call('HKEYS', index)) do
  if string.sub(other, 1, 2) == 's:' then held = held + redis.call('HSTRLEN', index, other) end
end

for i = 11, #ARGV, 2 do held = held + #ARGV[i + 1] end
for i = 11, #ARGV, 2 do
  local name = id .. ':' .. ARGV[i]
  if held <= tonumber(ARGV[10]) then
    redis.call('HSET', index, 's:' .. name, ARGV[i + 1])
  else
    redis.call('SET', bodies .. name, ARGV[i + 1], 'PX', ttl)
  end
end
redis.call('HSET', index, field, ARGV[6])
if redis.call('PTTL', index) < ttl then redis.call('PEXPIRE', index, ttl) end
redis.call('DEL', KEYS[3], KEYS[4])
return 1
"""
"""Puts an entry in place of its variant's former one, unless the target was invalidated meanwhile; and in
place of its own former self, whose body it has, where a 304 made another variant of it (RFC 9111 §3.2).

KEYS: index, generation, both marks, era, bodies. ARGV: see _LET_GO; what the names of the target's bodies
begin with; the generation, or the era, when the answer was asked for; the variant, the entry's field, the
entry; its time to live in ms; whether it is FRESHENED, and so there already, or its bodies came IN_BLOCKS, of
which some may be missing, or come WHOLE; how many variants there may be; how many bytes of bodies in the
index, beyond which they become keys of their own; the coding and the data of each that comes.
"""

# An invalidation must also work when memory is full, therefore the flag. (It only frees, but for a number.)
# And it must work whatever somebody else wrote there: while one waits, nothing is read (see shared.py).
DROP = f"""#!lua flags=allow-oom
{_LET_GO}
for i = 2, #KEYS, 2 do
  if redis.call('TYPE', KEYS[i]).ok == 'hash' then
    for _, field in ipairs(redis.call('HKEYS', KEYS[i])) do let_go(KEYS[i], ARGV[i + 1], field) end
  end
  redis.call('DEL', KEYS[i])
  local former = redis.pcall('GET', KEYS[i + 1]) or redis.pcall('GET', KEYS[1])
  former = type(former) == 'string' and string.match(former, '^[^:]*') or ''
  redis.call('SET', KEYS[i + 1], ARGV[i + 2] .. ':' .. former, 'PX', ARGV[2])
end
return 1
"""
"""Forgets targets. KEYS: the era; of each target its index and generation. ARGV: see _LET_GO; for how many ms
that is remembered; then of each target what the names of its bodies begin with, and a number that no other
invalidation has."""

FORGET = f"""{_LET_GO}
let_go(KEYS[1], ARGV[2], ARGV[3])
"""
"""Forgets one entry. KEYS: the index. ARGV: see _LET_GO; what the names of the target's bodies begin with;
the entry's field."""

_IF_MINE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call({}) end return 0"
UNLOCK = _IF_MINE.format("'DEL', KEYS[1]")
RENEW = _IF_MINE.format("'PEXPIRE', KEYS[1], ARGV[2]")
"""For the lock KEYS[1], if ARGV[1] is its token; ARGV[2] is its new time in ms."""
