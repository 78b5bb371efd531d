-- Takes over what somebody else's reader of this group left behind: it becomes visible.
--
-- KEYS     1 stream  2 visible (see take.lua)
-- ARGV     1 group  2 idle time in milliseconds  3 where to begin: '-', or what was returned
-- Returns  where to go on; '-' at the end
-- Bounds   at most 128 entries are looked at: O(128 log n)

local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[2], ARGV[3], '+', 128)
if pending.err then
  return '-'
end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
for _, entry in ipairs(pending) do
  redis.call('ZADD', KEYS[2], 'NX', now, entry[1])
end
return #pending == 128 and '(' .. pending[128][1] or '-'
