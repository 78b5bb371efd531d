-- Removes what every group has settled and what is old enough; nothing where our group is missing.
--
-- An end that was ahead of the clock is forgotten once everything up to it is settled.
--
-- KEYS     1 stream  2 ahead (see progress.lua)
-- ARGV     1 our group  2 how long to keep, in milliseconds  3 how many to remove at most
-- Returns  how many were removed
-- Bounds   O(groups + removed); at most ARGV[3] are removed, whole nodes of the stream only

local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err then
  return string.find(groups.err, 'no such key', 1, true) and 0 or groups
end
local settled, is_ours_there = math.huge, false
for _, info in ipairs(groups) do
  local group = {}
  for i = 1, #info, 2 do
    group[info[i]] = info[i + 1]
  end
  is_ours_there = is_ours_there or group.name == ARGV[1]
  local oldest = group['last-delivered-id']
  if group.pending > 0 then
    oldest = redis.call('XPENDING', KEYS[1], group.name)[2] or oldest
  end
  -- Whole milliseconds: a sequence number may be too large for a number of Lua.
  settled = math.min(settled, tonumber(string.match(oldest, '^%d+')))
end
if not is_ours_there then
  return 0
end
local ahead = redis.call('GET', KEYS[2])
if ahead and tonumber(ahead) < settled then
  redis.call('DEL', KEYS[2])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local keep = math.min(settled, now - tonumber(ARGV[2]))
if keep <= 0 then
  return 0
end
local from = string.format('%.0f', keep) .. '-0'
return redis.call('XTRIM', KEYS[1], 'MINID', '~', from, 'LIMIT', ARGV[3])
