-- Reads what came after an entry, for those who leave nothing behind.
--
-- KEYS     1 stream
-- ARGV     1 the last entry that was seen, or '$' for the end  2 max, 1 to 256
-- Returns  list of id, fields; and the last id that the stream gave
-- Bounds   at most 256 entries

local entries = {}
if redis.call('EXISTS', KEYS[1]) == 0 then
  return { entries, '0-0' }
end
if ARGV[1] ~= '$' then
  entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
end
return { entries, pairs_of(redis.call('XINFO', 'STREAM', KEYS[1]))['last-generated-id'] }
