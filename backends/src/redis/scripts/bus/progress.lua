-- How far a group has come, and since when nothing is left for it.
--
-- Where a group has settled everything, its watermark is the present, and the stream is told that
-- it never gives an older id: so no later message is stamped before the watermark, even if the
-- server's clock is set back.
--
-- A stream whose last id is ahead of the clock (which was set back, or another node took over, or
-- somebody chose the id) gives the same milliseconds again and again: they tell nothing of when an
-- entry was stored, not even once the clock has come there. So whoever looks remembers such an end,
-- and the watermark is 1970 while the first entry that is left is not beyond it.
--
-- KEYS     1 stream  2 ahead: the milliseconds of the last end that was seen ahead of the clock
-- ARGV     1 group  2 how many to count at most where the server does not know
-- Returns  waiting, unacked, the watermark in milliseconds
-- Bounds   O(groups), and ARGV[2] entries where the server does not know

local function millis(id)
  return tonumber(string.match(id, '^%d+'))
end

-- A write that does nothing: what follows is not the first one (see take.lua).
local function write_nothing()
  redis.call('XACK', KEYS[1], ARGV[1], '0-0')
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('EXISTS', KEYS[1]) == 0 then
  write_nothing()
  -- An empty stream is made by way of a group only.
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
end

local last = millis(end_of(KEYS[1], KEYS[2], ARGV[1], now))
local ahead = tonumber(redis.call('GET', KEYS[2]) or 0)
if ahead > last then
  -- Of a stream that was removed since.
  redis.call('DEL', KEYS[2])
  ahead = 0
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
  oldest = math.min(oldest or math.huge, millis(pending[2]))
end
if oldest then
  return { waiting, unacked, oldest > ahead and oldest or 0 }
end

if last < now then
  write_nothing()
  redis.call('XSETID', KEYS[1], string.format('%.0f-0', now))
end
return { waiting, unacked, now }
