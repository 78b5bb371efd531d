-- Where a stream ends. It stands before take.lua and progress.lua, behind xinfo.lua.
--
-- An end that is ahead of the clock is remembered: see progress.lua.

local function end_of(stream, ahead, group, now)
  local last = pairs_of(redis.call('XINFO', 'STREAM', stream))['last-generated-id']
  local millis = string.match(last, '^%d+')
  if tonumber(millis) > now and redis.call('GET', ahead) ~= millis then
    -- Does nothing, so that SET is not the first write: see take.lua.
    redis.call('XACK', stream, group, '0-0')
    redis.call('SET', ahead, millis)
  end
  return last
end

