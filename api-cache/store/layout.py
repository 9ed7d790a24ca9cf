"""What lies where in Redis, and the scripts that change several keys in one step.

All keys begin with `api-cache:1:` (the number is that of the layout). With <t> for the SHA-256 of the target:

    i:<t>            hash: an encoded entry per variant
    i:<t>:g          the number of a late invalidation of the target, and that of the one before: with a colon
                     between them; what was asked for before is not stored
    e                what stands for that number where there is none; another one each time that all is lost
    p:<t>            exists while answers are known to be uncacheable: nobody waits for another one's answer
    p:<t>:a          the same, of requests with Authorization
    l:<t>:<v>        the lock of the process that asks the origin
    l:<t>:<v>:a      the same, of requests with Authorization
    b:<t>:<id>:<c>   a body in content coding <c>, never changed once its entry exists
"""

from __future__ import annotations

from coding import CODINGS

_LAYOUT = "api-cache:1:"
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


def bodies(key: str) -> str:
    """What the names of all the target's bodies begin with."""
    return f"{_LAYOUT}b:{key}:"


def body(key: str, body_id: str, coding: str) -> str:
    return f"{_LAYOUT}b:{key}:{body_id}:{coding}"


# ---- scripts

LOOK = """#!lua flags=allow-oom
local index = redis.call('HGETALL', KEYS[1])
local without, having = redis.call('EXISTS', KEYS[3]), redis.call('EXISTS', KEYS[4])
local generation = redis.call('GET', KEYS[2]) or redis.pcall('GET', KEYS[5])
if type(generation) ~= 'string' then
  local now = redis.call('TIME')
  generation = now[1] .. '.' .. now[2]
  redis.call('SET', KEYS[5], generation)
end
local found = {index, generation, without, having}
if #index == 2 then
  local id = string.sub(index[1], (string.find(index[1], ':') or 0) + 1)
  for i = 3, #ARGV do
    local name = ARGV[1] .. id .. ':' .. ARGV[i]
    local length = redis.pcall('STRLEN', name)
    if type(length) == 'number' and length > 0 then
      if length <= tonumber(ARGV[2]) then found[5], found[6] = ARGV[i], redis.call('GET', name) end
      break
    end
  end
end
return found
"""
"""What there is of a target; of an only entry the body, too, so that a small one takes no second round trip.

KEYS: index, generation, both marks, era. ARGV: what the names of bodies begin with; how many bytes a body may
have; the codings in which it would do, the best first. Returns the index as a flat list, the generation or
the era, whether each mark is there, and perhaps the coding and the body.
"""

_LET_GO = f"""
local function let_go(bodies, field)
  local id = string.match(field, ':(.*)')
  if not id then return end
  for _, coding in ipairs({{{", ".join(f"'{each}'" for each in ("identity", *CODINGS))}}}) do
    redis.call('PEXPIRE', bodies .. id .. ':' .. coding, ARGV[1])
  end
end
"""
"""Leaves an entry's bodies, whose names begin with `bodies`, to those who read them, for ARGV[1] ms. A field
that is none of ours has none."""

PUT = f"""{_LET_GO}
local generation = redis.call('GET', KEYS[2]) or redis.pcall('GET', KEYS[5])
if generation ~= ARGV[3] then return 0 end
if ARGV[9] == '1' then
  for i = 6, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 0 then return 0 end
  end
end
local bodies, variant, field, ttl = ARGV[2], ARGV[4], ARGV[5], tonumber(ARGV[7])
local id = string.sub(field, #variant + 1)
for _, other in ipairs(redis.call('HKEYS', KEYS[1])) do
  if other ~= field and string.sub(other, -#id) == id then
    redis.call('HDEL', KEYS[1], other)
  elseif other ~= field and string.sub(other, 1, #variant + 1) == variant .. ':' then
    let_go(bodies, other)
    redis.call('HDEL', KEYS[1], other)
  end
end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[8]) then
  for _, other in ipairs(redis.call('HKEYS', KEYS[1])) do let_go(bodies, other) end
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], field, ARGV[6])
for i = 6, #KEYS do redis.call('PEXPIRE', KEYS[i], ttl) end
if redis.call('PTTL', KEYS[1]) < ttl then redis.call('PEXPIRE', KEYS[1], ttl) end
redis.call('DEL', KEYS[3], KEYS[4])
return 1
"""
"""Puts an entry in place of its variant's former one, unless the target was invalidated meanwhile; and in
place of its own former self, whose body it has, where a 304 made another variant of it (RFC 9111 §3.2).

KEYS: index, generation, both marks, era, bodies. ARGV: see _LET_GO; what the names of the target's bodies
begin with; the generation, or the era, when the answer was asked for; the variant, the entry's field, the
entry; its time to live in ms; how many variants there may be; 1 if the bodies came just before, so that some
may be missing.
"""

# An invalidation must also work when memory is full, therefore the flag. (It only frees, but for a number.)
# And it must work whatever somebody else wrote there: while one waits, nothing is read (see shared.py).
DROP = f"""#!lua flags=allow-oom
{_LET_GO}
for i = 2, #KEYS, 2 do
  if redis.call('TYPE', KEYS[i]).ok == 'hash' then
    for _, field in ipairs(redis.call('HKEYS', KEYS[i])) do let_go(ARGV[i + 1], field) end
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

_IF_MINE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call({}) end return 0"
UNLOCK = _IF_MINE.format("'DEL', KEYS[1]")
RENEW = _IF_MINE.format("'PEXPIRE', KEYS[1], ARGV[2]")
"""For the lock KEYS[1], if ARGV[1] is its token; ARGV[2] is its new time in ms."""
