-- What XINFO tells, by name. It stands before the scripts that use it.

local function pairs_of(list)
  local found = {}
  for i = 1, #list, 2 do
    found[list[i]] = list[i + 1]
  end
  return found
end

