-- Stores timers: another due time replaces the stored one and ends a lease on it, the same due
-- time changes nothing. Whoever waits is told of a new earliest timer.
--
-- Keys can be lost one by one (an eviction, a DEL): what is held and is in neither set is due again.
--
-- KEYS     1 due     sorted set: id by the time from which it is visible
--          2 leased  sorted set: id by the end of its lease
--          3 held    hash: id to "token due attempts duration", for what is or was leased
-- ARGV     1 channel  then due, id for each timer, no id twice
-- Returns  nothing
-- Bounds   at most 256 timers: O(256 log n)
-- Times are strings of whole milliseconds: Lua's own text of a number has 14 digits.

local function earliest()
  return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
end

-- Of the ids at these places, adds those that neither set has.
local function add_lost(add, ids, places)
  if #places == 0 then
    return
  end
  local asked = {}
  for n, i in ipairs(places) do
    asked[n] = ids[i]
  end
  local visible = redis.call('ZMSCORE', KEYS[1], unpack(asked))
  local ends = redis.call('ZMSCORE', KEYS[2], unpack(asked))
  for n, i in ipairs(places) do
    if not visible[n] and not ends[n] then
      add[#add + 1] = ARGV[2 * i]
      add[#add + 1] = ids[i]
    end
  end
end

local function store(...)
  if redis.call('HLEN', KEYS[3]) == 0 then
    redis.call('ZADD', KEYS[1], ...)
    return
  end
  local ids, add, stale = {}, {}, {}
  for i = 3, #ARGV, 2 do
    ids[#ids + 1] = ARGV[i]
  end
  local states = redis.call('HMGET', KEYS[3], unpack(ids))
  local same = {}
  for i, id in ipairs(ids) do
    local due = ARGV[2 * i]
    local was = states[i] and string.match(states[i], '^%S+ (%S+) ')
    if was == due then
      same[#same + 1] = i
    else
      add[#add + 1] = due
      add[#add + 1] = id
    end
    if states[i] and was ~= due then
      stale[#stale + 1] = id
    end
  end
  add_lost(add, ids, same)
  if #stale > 0 then
    redis.call('ZREM', KEYS[2], unpack(stale))
    redis.call('HDEL', KEYS[3], unpack(stale))
  end
  if #add > 0 then
    redis.call('ZADD', KEYS[1], unpack(add))
  end
end

local before = earliest()
store(unpack(ARGV, 2))
local after = earliest()
if after and (not before or tonumber(after) < tonumber(before)) then
  -- An ACL may forbid the channel: then those who wait look once in a while.
  redis.pcall('PUBLISH', ARGV[1], after)
end
