-- Delivers what is visible again, then what is new: half of each where there is enough of both, so
-- that neither holds up the other. A group that is gone (FLUSHALL, DEL) is made again, to see
-- everything that the stream has.
--
-- A full server refuses what may take memory, but only as the first write of a script. So the first
-- one here is DEL, XCLAIM or XREADGROUP, and whoever drains it is served.
--
-- KEYS     1 stream  2 visible: sorted set of what is delivered and not settled, entry id by the
--          time from which it may come again: the end of its ack deadline, or its release
--          3 ahead (see progress.lua)
-- ARGV     1 group  2 consumer  3 max, 1 to 256  4 ack deadline in milliseconds
--          5 whether what is visible again gets the odd one: 0 or 1
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
local again, new = {}, {}

local known = redis.pcall('XPENDING', stream, group, '-', '+', 1)
if known.err then
  if not string.find(known.err, 'NOGROUP', 1, true) then
    return known
  end
  redis.call('DEL', visible)
  redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
end

local last = end_of(stream, KEYS[3], group, now)

local function hold(entries)
  local scores = {}
  for _, entry in ipairs(entries) do
    scores[#scores + 1], scores[#scores + 2] = ends, entry[1]
  end
  if #scores > 0 then
    redis.call('ZADD', visible, unpack(scores))
  end
end

local function read_new(count)
  local read = count > 0 and redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count,
    'STREAMS', stream, '>')
  local entries = read and read[1][2] or {}
  for _, entry in ipairs(entries) do
    new[#new + 1] = entry
  end
  hold(entries)
end

local due = redis.call('ZRANGEBYSCORE', visible, '-inf', string.format('%.0f', now), 'LIMIT', 0, max)
local share = max - math.min(#due, math.floor((max + tonumber(ARGV[5])) / 2))
read_new(share)
for i = #due, max - #new + 1, -1 do
  due[i] = nil
end
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
    end
  end
  hold(again)
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

-- What was gone left room.
if #new == share then
  read_new(max - #again - #new)
end

if #again + #new > 0 then
  return { again, new }
end
local first = redis.call('ZRANGE', visible, 0, 0, 'WITHSCORES')[2]
local next_in = first and string.format('%.0f', math.max(tonumber(first) - now, 0)) or ''
return { again, new, next_in, last }
