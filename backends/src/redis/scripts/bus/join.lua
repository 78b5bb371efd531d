-- Creates a group that sees everything the stream still has, and the stream, where they are not
-- there; forgets members of ours that ended long ago and hold nothing. On a full server, too: see
-- take.lua.
--
-- KEYS     1 stream  2 visible (see take.lua)
-- ARGV     1 group  2 what names of our members begin with  3 idle time in milliseconds
-- Returns  nothing
-- Bounds   O(members); at most 100 are forgotten

local known = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', 1)
if known.err then
  if not string.find(known.err, 'NOGROUP', 1, true) then
    return known
  end
  redis.call('DEL', KEYS[2])
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
end

local forgotten = 0
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local member = pairs_of(info)
  local is_ours = string.sub(member.name, 1, #ARGV[2]) == ARGV[2]
  if is_ours and member.pending == 0 and member.idle > tonumber(ARGV[3]) and forgotten < 100 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], member.name)
    forgotten = forgotten + 1
  end
end
