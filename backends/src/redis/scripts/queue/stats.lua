-- Counts.
--
-- KEYS     1 due  2 leased (see schedule.lua)
-- ARGV     none
-- Returns  pending (leases that ran out included), leased, when the next one becomes visible or ''
-- Bounds   O(log n)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ended = redis.call('ZCOUNT', KEYS[2], '-inf', string.format('%.0f', now))
local next_due = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local next_end = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
if not next_due or (next_end and tonumber(next_end) < tonumber(next_due)) then
  next_due = next_end
end
local pending = redis.call('ZCARD', KEYS[1]) + ended
return { pending, redis.call('ZCARD', KEYS[2]) - ended, next_due or '' }
