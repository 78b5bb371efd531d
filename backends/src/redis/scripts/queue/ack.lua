-- Removes leased timers, if the lease with this token still runs.
--
-- KEYS     1 leased  2 held (see schedule.lua)
-- ARGV     1 token  then the ids
-- Returns  nothing
-- Bounds   at most 128 ids: O(128 log n)

local token = ARGV[1] .. ' '
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.call('ZMSCORE', KEYS[1], unpack(ARGV, 2))
local states = redis.call('HMGET', KEYS[2], unpack(ARGV, 2))
local gone = {}
for i = 1, #ARGV - 1 do
  local runs = ends[i] and now < tonumber(ends[i])
  if runs and states[i] and string.sub(states[i], 1, #token) == token then
    gone[#gone + 1] = ARGV[i + 1]
  end
end
if #gone > 0 then
  redis.call('ZREM', KEYS[1], unpack(gone))
  redis.call('HDEL', KEYS[2], unpack(gone))
end
