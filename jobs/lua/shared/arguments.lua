-- A script's arguments by name, in the order in which Python packs them (jobs/scripts.py reads the same
-- declaration): "name", "name:number" (nil if empty), or, the last, "name:rest" for a list of all others.
-- A name with "?" may be left out by the caller, and is "" or nil then.
local function arguments(...)
  local named = {}
  for i, declared in ipairs({...}) do
    local name, kind = string.match(declared, '^([%l_]+)%??:?(%l*)$')
    if kind == 'rest' then
      local rest = {}
      for j = i, #ARGV do rest[#rest + 1] = ARGV[j] end
      named[name] = rest
    elseif kind == 'number' then
      named[name] = tonumber(ARGV[i])
    else
      named[name] = ARGV[i]
    end
  end
  return named
end
