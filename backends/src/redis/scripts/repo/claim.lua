-- Finds what is overdue, and puts it off.
--
-- KEYS     1 due (see commit.lua)
-- ARGV     1 before  2 until when it is put off  3 max, 1 to 256
-- Returns  ids
-- Bounds   at most 256 are found: O(256 log n)

local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[3])
local later = {}
for i, id in ipairs(ids) do
  later[2 * i - 1], later[2 * i] = ARGV[2], id
end
if #ids > 0 then
  redis.call('ZADD', KEYS[1], unpack(later))
end
return ids
