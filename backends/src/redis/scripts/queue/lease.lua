-- Leases what is visible. Leases that ran out become visible first, from the time they ended.
--
-- A clock that was set back leaves leases that seem to run for as long as it was set back: one that
-- has more than twice its duration to go has run out. Twice, so that a small step ends none.
--
-- KEYS     1 due  2 leased  3 held (see schedule.lua)
-- ARGV     1 max, 1 to 128  2 duration in milliseconds  3 token, never used before
--          4 channel on which to tell when these leases end, or ''
-- Returns  now, then id, due, attempts for each; or, where there is none,
--          now, and when the next one becomes visible ('' for never)
-- Bounds   at most 256 return and 128 are leased: O(256 log n). A claim of 500 would hold up the
--          server for 2 to 3 ms at ten million timers.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = { string.format('%.0f', now) }
local max, duration, token = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local CHECKED_MAX = 128

local function first(key)
  return tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
end

local function visible(key)
  return redis.call('ZRANGEBYSCORE', key, '-inf', reply[1], 'WITHSCORES', 'LIMIT', 0, max)
end

-- A full server takes what needs memory only after something was removed.
local function give_back(ids, times)
  local back = {}
  for i, id in ipairs(ids) do
    back[2 * i - 1], back[2 * i] = times[i], id
  end
  if #ids > 0 then
    redis.call('ZREM', KEYS[2], unpack(ids))
    redis.call('ZADD', KEYS[1], unpack(back))
  end
end

local function give_back_ended()
  local ended, ids, times = visible(KEYS[2]), {}, {}
  for i = 1, #ended, 2 do
    ids[#ids + 1], times[#times + 1] = ended[i], ended[i + 1]
  end
  give_back(ids, times)
end

-- Looks at those that end last: the step that left them there was the same for all.
local function give_back_far()
  local least = '(' .. string.format('%.0f', now + 2 * duration)
  local far = redis.call('ZRANGE', KEYS[2], '+inf', least, 'BYSCORE', 'REV', 'LIMIT', 0,
    CHECKED_MAX, 'WITHSCORES')
  if #far == 0 then
    return
  end
  local asked, ids, times = {}, {}, {}
  for i = 1, #far, 2 do
    asked[#asked + 1] = far[i]
  end
  local states = redis.call('HMGET', KEYS[3], unpack(asked))
  for i, id in ipairs(asked) do
    local due, runs = string.match(states[i] or '', '^%S+ (%S+) %d+ (%d+)$')
    if due and tonumber(far[2 * i]) > math.max(now, tonumber(due)) + 2 * runs then
      ids[#ids + 1], times[#times + 1] = id, string.format('%.0f', math.max(now, tonumber(due)))
    end
  end
  give_back(ids, times)
end

local next_end = first(KEYS[2])
if next_end then
  if next_end <= now then
    give_back_ended()
  end
  give_back_far()
  next_end = first(KEYS[2])
end

local next_due = first(KEYS[1])
if not next_due or next_due > now then
  local next_visible = math.min(next_due or math.huge, next_end or math.huge)
  reply[2] = next_visible < math.huge and string.format('%.0f', next_visible) or ''
  return reply
end

local found = visible(KEYS[1])
local ids, states, leases, held = {}, {}, {}, {}
for i = 1, #found, 2 do
  ids[#ids + 1] = found[i]
end
if redis.call('HLEN', KEYS[3]) > 0 then
  states = redis.call('HMGET', KEYS[3], unpack(ids))
end
local usual_end = string.format('%.0f', now + duration)
local tail = ' ' .. ARGV[2]
for i, id in ipairs(ids) do
  local due, attempts = found[2 * i], '1'
  local ends = usual_end
  if states[i] then
    local was, count = string.match(states[i], '^%S+ (%S+) (%d+) %d+$')
    due, attempts = was or due, string.format('%.0f', (count or 0) + 1)
    -- Not even a lease that ends in the past makes a timer visible before its due time.
    if tonumber(due) > now + duration then
      ends = string.format('%.0f', tonumber(due))
    end
  end
  leases[2 * i - 1], leases[2 * i] = ends, id
  held[2 * i - 1], held[2 * i] = id, token .. ' ' .. due .. ' ' .. attempts .. tail
  reply[3 * i - 1], reply[3 * i], reply[3 * i + 1] = id, due, attempts
end
-- A value of more than 64 bytes makes it a hash table: in a list of up to 512 packed entries, each
-- look would cost 3 us.
held[2] = string.sub(held[2], 1, -#tail) .. string.rep('0', 64) .. ARGV[2]
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, #ids - 1)
redis.call('ZADD', KEYS[2], unpack(leases))
redis.call('HSET', KEYS[3], unpack(held))
if ARGV[4] ~= '' then
  redis.pcall('PUBLISH', ARGV[4], string.format('%.0f', now + duration))
end
return reply
