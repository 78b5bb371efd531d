-- What this consumer still holds by a certain delivery. It stands before ack.lua, release.lua and
-- held.lua.
--
-- KEYS     1 stream  2 visible (see take.lua)
-- ARGV     1 group  2 consumer

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

