-- What is done about keys that somebody deleted, set back or replaced: what was lost or put right is
-- noted for `status` and `doctor`, the newest first.

local noted = {}
local server = redis

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
