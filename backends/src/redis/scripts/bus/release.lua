-- Gives back what this consumer still holds by this very delivery: each may come again after its
-- delay. Until then it belongs to a consumer that nobody is, so that its receipt is stale.
--
-- KEYS     1 stream  2 visible (see take.lua)
-- ARGV     1 group  2 consumer  3 who holds what is put off  then id, how many times it was
--          delivered, delay in milliseconds, for each
-- Returns  nothing
-- Bounds   at most 128 ids: O(128 log n)

local held, scores = {}, {}
for i = 4, #ARGV, 3 do
  if is_held(ARGV[i], ARGV[i + 1]) then
    held[#held + 1] = ARGV[i]
    local delay = tonumber(ARGV[i + 2])
    -- The time is rounded down: one more, so that a delay does not end early.
    local at = delay > 0 and now + 1 + delay or now
    scores[#scores + 1], scores[#scores + 2] = string.format('%.0f', at), ARGV[i]
  end
end
if #held > 0 then
  held[#held + 1] = 'JUSTID'
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, unpack(held))
  redis.call('ZADD', KEYS[2], unpack(scores))
end
