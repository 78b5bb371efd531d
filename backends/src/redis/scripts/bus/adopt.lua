-- Takes over what somebody else's reader of this group left behind: it becomes visible.
--
-- KEYS     1 stream  2 visible (see take.lua)
-- ARGV     1 group  2 idle time in milliseconds  3 where to begin: '-', or what was returned
--          4 how many to look at
-- Returns  where to go on; '-' at the end
-- Bounds   ARGV[4] entries, at most 500, are looked at, idle or not: O(500 log n)

local max, idle = tonumber(ARGV[4]), tonumber(ARGV[2])
-- Not by IDLE, which looks at all there are.
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], '+', max)
if pending.err then
  return string.find(pending.err, 'NOGROUP', 1, true) and '-' or pending
end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local scores = {}
for _, entry in ipairs(pending) do
  if entry[3] >= idle then
    scores[#scores + 1], scores[#scores + 2] = now, entry[1]
  end
end
if #scores > 0 then
  -- Does nothing, so that ZADD is not the first write: see take.lua.
  redis.call('XACK', KEYS[1], ARGV[1], '0-0')
  redis.call('ZADD', KEYS[2], 'NX', unpack(scores))
end
return #pending == max and '(' .. pending[max][1] or '-'
