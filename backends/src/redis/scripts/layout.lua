-- Records how a queue or repository is laid out, unless that was done before.
--
-- KEYS     1 layout  hash
-- ARGV     1 format  2 number of shards
-- Returns  format, number of shards, as recorded
-- Bounds   O(1)

redis.call('HSETNX', KEYS[1], 'format', ARGV[1])
redis.call('HSETNX', KEYS[1], 'shards', ARGV[2])
return redis.call('HMGET', KEYS[1], 'format', 'shards')
