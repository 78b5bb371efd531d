-- Reads what this consumer still holds by this very delivery.
--
-- KEYS     1 stream  2 visible (see take.lua)
-- ARGV     1 group  2 consumer  then id, how many times it was delivered, for each
-- Returns  list of id, fields; what was deleted from the stream is left out
-- Bounds   at most 128 ids: O(128 log n)

local held = {}
for i = 3, #ARGV, 2 do
  if is_held(ARGV[i], ARGV[i + 1]) then
    held[#held + 1] = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  end
end
return held
