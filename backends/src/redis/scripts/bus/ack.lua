-- Settles what this consumer still holds by this very delivery.
--
-- KEYS     1 stream  2 visible (see take.lua)
-- ARGV     1 group  2 consumer  then id, how many times it was delivered, for each
-- Returns  nothing
-- Bounds   at most 128 ids: O(128 log n)

local held = {}
for i = 3, #ARGV, 2 do
  if is_held(ARGV[i], ARGV[i + 1]) then
    held[#held + 1] = ARGV[i]
  end
end
if #held > 0 then
  redis.call('XACK', KEYS[1], ARGV[1], unpack(held))
  redis.call('ZREM', KEYS[2], unpack(held))
end
