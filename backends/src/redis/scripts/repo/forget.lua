-- Drops the index entry of an order that is gone: evicted, or deleted by hand.
--
-- KEYS     1 order  2 due (see commit.lua)
-- ARGV     1 id
-- Returns  nothing
-- Bounds   O(log n)

if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])
end
