-- Reads which revisions orders have.
--
-- KEYS     orders  hashes (see commit.lua)
-- Returns  for each its revision, or nil
-- Bounds   O(n), at most 1024 orders

local revisions = {}
for i, key in ipairs(KEYS) do
  revisions[i] = redis.call('HMGET', key, 'revision')[1]
end
return revisions
