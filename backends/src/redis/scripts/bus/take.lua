-- Delivers what is visible again, then what is new. A group that is gone (FLUSHALL, DEL) is made
-- again, to see everything that the stream has.
--
-- A full server refuses what may take memory, but only as the first write of a script. So the first
-- one here is DEL, XCLAIM or XREADGROUP, and whoever drains it is served.
--
-- KEYS     1 stream  2 visible: sorted set of what is delivered and not settled, entry id by the
--          time from which it may come again: the end of its ack deadline, or its release
-- ARGV     1 group  2 consumer  3 max, 1 to 256  4 ack deadline in milliseconds
-- Returns  again: list of id, fields, how many times it was delivered
--          new: list of id, fields
--          and, where both are empty, in how many milliseconds the next one becomes visible ('' for
--          never), and the last id that the stream gave
-- Bounds   at most 256 entries: O(256 log n)

local stream, visible, group, consumer = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local max = tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- The time is rounded down: one more, so that no deadline ends early.
local ends = string.format('%.0f', now + 1 + tonumber(ARGV[4]))
local again, new, scores = {}, {}, {}

local known = redis.pcall('XPENDING', stream, group, '-', '+', 1)
if known.err then
  if not string.find(known.err, 'NOGROUP', 1, true) then
    return known
  end
  redis.call('DEL', visible)
  redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
end

local function hold(id)
  scores[#scores + 1], scores[#scores + 2] = ends, id
end

local due = redis.call('ZRANGEBYSCORE', visible, '-inf', string.format('%.0f', now), 'LIMIT', 0, max)
if #due > 0 then
  local is_there, gone = {}, {}
  -- FORCE: what was deleted with its consumer is not pending any more, and comes again all the same.
  due[#due + 1] = 'FORCE'
  local claimed = redis.call('XCLAIM', stream, group, consumer, 0, unpack(due))
  due[#due] = nil
  for _, entry in ipairs(claimed) do
    if entry and entry[2] then
      local id = entry[1]
      local pending = redis.call('XPENDING', stream, group, id, id, 1)
      again[#again + 1] = { id, entry[2], pending[1][4] }
      is_there[id] = true
      hold(id)
    end
  end
  -- Deleted from the stream: nothing is left to deliver.
  for _, id in ipairs(due) do
    if not is_there[id] then
      gone[#gone + 1] = id
    end
  end
  if #gone > 0 then
    redis.call('XACK', stream, group, unpack(gone))
    redis.call('ZREM', visible, unpack(gone))
  end
end

if #again < max then
  local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', max - #again,
    'STREAMS', stream, '>')
  if read then
    new = read[1][2]
    for _, entry in ipairs(new) do
      hold(entry[1])
    end
  end
end

if #scores > 0 then
  redis.call('ZADD', visible, unpack(scores))
  return { again, new }
end
local first = redis.call('ZRANGE', visible, 0, 0, 'WITHSCORES')[2]
local next_in = first and string.format('%.0f', math.max(tonumber(first) - now, 0)) or ''
local info = redis.call('XINFO', 'STREAM', stream)
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then
    return { again, new, next_in, info[i + 1] }
  end
end
