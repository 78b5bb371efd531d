-- Records how a queue or repository is laid out, unless that was done before. A server without
-- memory for more still says what it has.
--
-- KEYS     1 layout  hash
-- ARGV     1 format  2 number of shards
-- Returns  format, number of shards, as recorded; the time in seconds and microseconds
-- Bounds   O(1)

local layout = redis.call('HMGET', KEYS[1], 'format', 'shards')
if not (layout[1] and layout[2]) then
  redis.call('HSETNX', KEYS[1], 'format', ARGV[1])
  redis.call('HSETNX', KEYS[1], 'shards', ARGV[2])
  layout = redis.call('HMGET', KEYS[1], 'format', 'shards')
end
local time = redis.call('TIME')
return { layout[1], layout[2], time[1], time[2] }
