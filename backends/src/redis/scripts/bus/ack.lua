-- Settles what this consumer still holds by this very delivery.
--
-- KEYS     1 stream  2 visible (see take.lua)
-- ARGV     1 group  2 consumer  then id, how many times it was delivered, for each
-- Returns  nothing
-- Bounds   at most 128 ids: O(128 log n)

local known = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', 1)
if known.err then
  -- Nothing is held where stream or group are gone.
  return string.find(known.err, 'NOGROUP', 1, true) and {} or known
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function is_held(id, count)
  local ends = redis.call('ZSCORE', KEYS[2], id)
  if not ends or tonumber(ends) <= now then
    return false
  end
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])
  return pending[1] and pending[1][4] == tonumber(count)
end

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
