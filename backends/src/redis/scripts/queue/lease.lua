-- Leases what is visible. Leases that ran out become visible first, from the time they ended.
--
-- KEYS     1 due  2 leased  3 held (see schedule.lua)
-- ARGV     1 max, 1 to 128  2 duration in milliseconds  3 token, never used before
--          4 channel on which to tell when these leases end, or ''
-- Returns  now, then id, due, attempts for each; or, where there is none,
--          now, and when the next one becomes visible ('' for never)
-- Bounds   at most 128 return and 128 are leased: O(128 log n). A claim of 500 would hold up the
--          server for 2 to 3 ms at ten million timers.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = { string.format('%.0f', now) }
local max, duration, token = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

local function visible(key)
  return redis.call('ZRANGEBYSCORE', key, '-inf', reply[1], 'WITHSCORES', 'LIMIT', 0, max)
end

local ended = visible(KEYS[2])
if #ended > 0 then
  local back = {}
  for i = 1, #ended, 2 do
    back[i], back[i + 1] = ended[i + 1], ended[i]
  end
  redis.call('ZADD', KEYS[1], unpack(back))
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, #ended / 2 - 1)
end

local found = visible(KEYS[1])
if #found == 0 then
  local next_due = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
  local next_end = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
  if not next_due or (next_end and tonumber(next_end) < tonumber(next_due)) then
    next_due = next_end
  end
  reply[2] = next_due or ''
  return reply
end

local ids, states, leases, held = {}, {}, {}, {}
for i = 1, #found, 2 do
  ids[#ids + 1] = found[i]
end
if redis.call('HLEN', KEYS[3]) > 0 then
  states = redis.call('HMGET', KEYS[3], unpack(ids))
end
for i, id in ipairs(ids) do
  local due, attempts = found[2 * i], 0
  if states[i] then
    local was, count = string.match(states[i], '^%S+ (%S+) (%d+)$')
    due, attempts = was or due, count or 0
  end
  attempts = string.format('%.0f', attempts + 1)
  -- Not even a lease that ends in the past makes a timer visible before its due time.
  local ends = math.max(now + duration, tonumber(due))
  leases[2 * i - 1], leases[2 * i] = string.format('%.0f', ends), id
  held[2 * i - 1], held[2 * i] = id, token .. ' ' .. due .. ' ' .. attempts
  reply[3 * i - 1], reply[3 * i], reply[3 * i + 1] = id, due, attempts
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, #ids - 1)
redis.call('ZADD', KEYS[2], unpack(leases))
redis.call('HSET', KEYS[3], unpack(held))
if ARGV[4] ~= '' then
  redis.pcall('PUBLISH', ARGV[4], string.format('%.0f', now + duration))
end
return reply
