-- Gives leased timers back, if the lease with this token still runs: each becomes visible so many
-- milliseconds from now, not before its due time. Whoever waits is told of a new earliest timer.
--
-- KEYS     1 due  2 leased  3 held (see schedule.lua)
-- ARGV     1 channel  2 token  then milliseconds from now (below zero for a time that is past), id
--          for each: the clock of whoever gives back may be another than the server's
-- Returns  nothing
-- Bounds   at most 128 ids: O(128 log n)

local token = ARGV[2] .. ' '
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function earliest()
  return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
end

local ids, back, given = {}, {}, {}
for i = 4, #ARGV, 2 do
  ids[#ids + 1] = ARGV[i]
end
local ends = redis.call('ZMSCORE', KEYS[2], unpack(ids))
local states = redis.call('HMGET', KEYS[3], unpack(ids))
for i, id in ipairs(ids) do
  local runs = ends[i] and now < tonumber(ends[i])
  if runs and states[i] and string.sub(states[i], 1, #token) == token then
    local due = string.match(states[i], '^%S+ (%S+) ')
    local at = math.max(now + ARGV[2 * i + 1], tonumber(due))
    back[#back + 1], back[#back + 2] = string.format('%.0f', at), id
    given[#given + 1] = id
  end
end
if #given == 0 then
  return
end
local before = earliest()
redis.call('ZREM', KEYS[2], unpack(given))
redis.call('ZADD', KEYS[1], unpack(back))
local after = earliest()
if not before or tonumber(after) < tonumber(before) then
  redis.pcall('PUBLISH', ARGV[1], after)
end
