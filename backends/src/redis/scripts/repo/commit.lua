-- Writes an order if its revision is still the expected one.
--
-- KEYS     1 order  hash: revision; state, JSON; and while it owes: owes, JSON; since, when it began to
--          2 due    sorted set: id by when it is overdue, of the orders that are open or owe
-- ARGV     1 id  2 expected revision, 0 for none  3 six digits, new for each change  4 state
--          5 owes or ''  6 when it expires, or '' if it is not open
--          7 for how many milliseconds it is kept, or '' for ever
-- Returns  the new revision, or nil for a conflict
-- Bounds   O(log n)
--
-- A revision is the server's time in milliseconds, or the last one's plus one, and the six digits.
-- So it grows also where a record was lost or forgotten in between, and a call that is repeated
-- because its answer was lost knows its own work again.
-- Times are strings of whole milliseconds: Lua's own text of a number has 14 digits.

local id, expected, digits, state, owes, due, keep = unpack(ARGV)

local function foreign(key, what)
  return redis.error_reply('FOREIGN ' .. key .. ' is no ' .. what .. ' of ours')
end

local function is_repeat(revision)
  local was = redis.call('HMGET', KEYS[1], 'state', 'owes')
  return string.sub(revision, -6) == digits and was[1] == state and (was[2] or '') == owes
end

local was = redis.pcall('HMGET', KEYS[1], 'revision', 'since')
if was.err then
  local is_other = string.find(was.err, 'WRONGTYPE', 1, true)
  return is_other and foreign(KEYS[1], 'order') or was
end
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'zset' and kind ~= 'none' then
  return foreign(KEYS[2], 'index')
end
local revision, since = was[1], was[2]
if revision then
  if #revision < 7 or not string.find(revision, '^%d+$') then
    return foreign(KEYS[1], 'order')
  end
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  return foreign(KEYS[1], 'order')
end
if (revision or '0') ~= expected then
  return revision and is_repeat(revision) and revision or false
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = now
if revision then
  at = math.max(now, tonumber(string.sub(revision, 1, -7)) + 1)
end
revision = string.format('%.0f', at) .. digits

-- The hash first: on a full server it is what fails, before anything was done.
if owes == '' then
  redis.call('HSET', KEYS[1], 'revision', revision, 'state', state)
  if since then
    redis.call('HDEL', KEYS[1], 'owes', 'since')
  end
  since = false
else
  since = since or string.format('%.0f', now)
  redis.call('HSET', KEYS[1], 'revision', revision, 'state', state, 'owes', owes, 'since', since)
end
if since and (due == '' or tonumber(since) < tonumber(due)) then
  due = since
end
if due == '' then
  redis.call('ZREM', KEYS[2], id)
else
  redis.call('ZADD', KEYS[2], due, id)
end
if keep == '' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], keep)
end
return revision
