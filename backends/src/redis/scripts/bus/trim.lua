-- Removes what every group has settled and what is old enough; nothing where our group is missing.
--
-- KEYS     1 stream
-- ARGV     1 our group  2 how long to keep, in milliseconds  3 how many to remove at most
-- Returns  how many were removed
-- Bounds   O(groups + removed); at most ARGV[3] are removed, whole nodes of the stream only

local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err then
  return string.find(groups.err, 'no such key', 1, true) and 0 or groups
end
local time = redis.call('TIME')
local keep = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[2])
local is_ours_there = false
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
  keep = math.min(keep, tonumber(string.match(oldest, '^%d+')))
end
if not is_ours_there or keep <= 0 then
  return 0
end
local from = string.format('%.0f', keep) .. '-0'
return redis.call('XTRIM', KEYS[1], 'MINID', '~', from, 'LIMIT', ARGV[3])
