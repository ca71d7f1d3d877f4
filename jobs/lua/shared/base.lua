-- What every script stands on: its arguments, calls that get past damaged keys, the clock, and the fields
-- of a hash.

-- A script's arguments by name, in the order in which Python packs them (jobs/scripts.py reads the same
-- declaration): "name", "name:number" (nil if empty), or, the last, "name:rest" for a list of all others.
-- The caller may leave out a name with "?", which is "" or nil then.
local function arguments(...)
  local named = {}
  for i, declared in ipairs({...}) do
    local name, kind = string.match(declared, '^([%l_]+)%??:?(%l*)$')
    if kind == 'rest' then
      local rest = {} -- of any length: `unpack` would take some thousands
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

local noted = {} -- damage that this call found or mended
local server = redis

-- Note what was lost or put right, for `status` and `doctor`, the newest first.
local function note_damage(what)
  local at = server.call('TIME')
  server.pcall('LPUSH', K.damage, cjson.encode({at_ms = at[1] * 1000, what = what}))
  server.pcall('LTRIM', K.damage, 0, 99) -- `check` moves another type aside
  noted[#noted + 1] = what
end

-- A key of a wrong type would stand in every script's way for ever. It is moved aside, kept for 30
-- days, and what needed it goes on without; `check` finds out what is missing then.
local function move_aside(key)
  local kind = server.call('TYPE', key).ok
  local kept = K.quarantine .. ':' .. key
  server.call('RENAME', key, kept)
  server.call('EXPIRE', kept, 30 * 86400)
  note_damage('a ' .. kind .. ' stood where ' .. key .. ' should be: kept as ' .. kept)
end

local redis = setmetatable({call = function(...)
  local reply = server.pcall(...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  local key = select(2, ...)
  -- a ledger without its identity is refused as a whole, and a job ends as a dead letter (set_aside)
  local is_left = key == K.ledger or string.find(key, K.job(''), 1, true) == 1
  if string.find(reply.err, 'WRONGTYPE', 1, true) and not is_left then move_aside(key) end
  return server.call(...) -- an error of another kind is raised as it is
end}, {__index = server})

-- Times are whole milliseconds on this server's clock (µs where named so); NOW is when the script began.
local DAY_MS = 86400000

local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local NOW = math.floor(now_us() / 1000)

-- Redis turns numbers above 2^53 / 100 or so into exponents; this keeps every digit.
local function int(n)
  return string.format('%.0f', n)
end

-- Some fields of a hash, by name; those that it does not have are nil.
local function fields(key, ...)
  local values, named = redis.call('HMGET', key, ...), {}
  for i, name in ipairs({...}) do named[name] = values[i] or nil end
  return named
end
