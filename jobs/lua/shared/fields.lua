-- Some fields of a hash, by name; those that it does not have are nil.
local function fields(key, ...)
  local values, named = redis.call('HMGET', key, ...), {}
  for i, name in ipairs({...}) do named[name] = values[i] or nil end
  return named
end
