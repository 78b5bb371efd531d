-- Writes an order if its revision is still the expected one.
--
-- KEYS     1 order  hash: revision; state, which kind it is, and a field for each of its
--                   properties, as JSON; while it owes: owes, as JSON, and since, when that began.
--                   Redis keeps it in one compact piece while no value has more than 64 bytes.
--          2 due    sorted set: id by when it is overdue, of the orders that are open or owe
-- ARGV     1 id  2 expected revision, 0 for none  3 six digits, new for each change
--          4 when it expires, or '' if it is not open
--          5 for how many milliseconds it is kept, or '' for ever  6 owes, or ''
--          then field, value for each of the state's
-- Returns  the new revision, or nil for a conflict
-- Bounds   at most 64 fields: O(64 + log n)
--
-- A revision is the server's time in milliseconds, or the last one's plus one, and the six digits.
-- So it grows also where a record was lost or forgotten in between, and a call that is repeated
-- because its answer was lost knows its own work again.
-- Times are strings of whole milliseconds: Lua's own text of a number has 14 digits.

local FIELDS_MAX = 64
local id, expected, digits, due, keep, owes = unpack(ARGV, 1, 6)
local fields = { unpack(ARGV, 7) }

local function foreign(key, what)
  return redis.error_reply('FOREIGN ' .. key .. ' is no ' .. what .. ' of ours')
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
local revision, since, count = was[1], was[2], redis.call('HLEN', KEYS[1])
local is_ours = revision and #revision >= 7 and string.find(revision, '^%d+$')
if count > FIELDS_MAX or (count > 0 and not is_ours) then
  return foreign(KEYS[1], 'order')
end

local function is_repeat()
  local stored, left = {}, count - 1
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    stored[all[i]] = all[i + 1]
  end
  if owes ~= '' then
    left = left - 2
  end
  for i = 1, #fields, 2 do
    left = left - 1
    if stored[fields[i]] ~= fields[i + 1] then
      return false
    end
  end
  return left == 0 and (stored.owes or '') == owes and string.sub(revision, -6) == digits
end

if (revision or '0') ~= expected then
  return revision and is_repeat() and revision or false
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = now
if revision then
  at = math.max(now, tonumber(string.sub(revision, 1, -7)) + 1)
end
revision = string.format('%.0f', at) .. digits

local function put(name, value)
  fields[#fields + 1], fields[#fields + 2] = name, value
end

put('revision', revision)
if owes == '' then
  since = false
else
  since = since or string.format('%.0f', now)
  put('owes', owes)
  put('since', since)
end
-- First what fails on a full server, before anything was done.
redis.call('HSET', KEYS[1], unpack(fields))
if redis.call('HLEN', KEYS[1]) > #fields / 2 then
  -- Some are gone. Written anew, since a hash that was large once stays so.
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], unpack(fields))
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
