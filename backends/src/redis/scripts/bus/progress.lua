-- How far a group has come, and since when nothing is left for it.
--
-- Where a group has settled everything, its watermark is the present, and the stream is told that
-- it never gives an older id: so no later message is stamped before the watermark, even if the
-- server's clock is set back.
--
-- KEYS     1 stream
-- ARGV     1 group  2 how many to count at most where the server does not know
-- Returns  waiting, unacked, the watermark in milliseconds
-- Bounds   O(groups), and ARGV[2] entries where the server does not know

local function pairs_of(list)
  local found = {}
  for i = 1, #list, 2 do
    found[list[i]] = list[i + 1]
  end
  return found
end

local function millis(id)
  return string.match(id, '^%d+')
end

if redis.call('EXISTS', KEYS[1]) == 0 then
  -- An empty stream is made by way of a group only.
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
end

local ours
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = pairs_of(info)
  if group.name == ARGV[1] then
    ours = group
  end
end

local from = ours and '(' .. ours['last-delivered-id'] or '-'
local unread = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)[1]
local waiting, unacked, oldest = 0, 0, unread and millis(unread[1])
if unread and not ours then
  waiting = redis.call('XLEN', KEYS[1])
elseif unread then
  waiting = ours.lag or #redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', ARGV[2])
  waiting = math.max(waiting, 1)
end
if ours and ours.pending > 0 then
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
  unacked = pending[1]
  local held = millis(pending[2])
  if not oldest or tonumber(held) < tonumber(oldest) then
    oldest = held
  end
end
if oldest then
  return { waiting, unacked, oldest }
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = millis(pairs_of(redis.call('XINFO', 'STREAM', KEYS[1]))['last-generated-id'])
if now <= tonumber(last) then
  return { waiting, unacked, last }
end
local text = string.format('%.0f', now)
redis.call('XSETID', KEYS[1], text .. '-0')
return { waiting, unacked, text }
