-- Removes timers, whatever their state, in one step.
--
-- KEYS     1 due  2 leased  3 held (see schedule.lua)
-- ARGV     the ids
-- Returns  nothing
-- Bounds   at most 256 ids: O(256 log n)

redis.call('ZREM', KEYS[1], unpack(ARGV))
redis.call('ZREM', KEYS[2], unpack(ARGV))
redis.call('HDEL', KEYS[3], unpack(ARGV))
