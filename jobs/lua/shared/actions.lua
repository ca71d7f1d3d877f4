-- What people did, the newest first.

local function note_action(action)
  redis.call('LPUSH', K.actions, action)
  redis.call('LTRIM', K.actions, 0, 9999)
end

-- Whether this very action was noted before: its answer was lost, and the client asked again. A few
-- others may have come between.
local function is_noted(action)
  for _, noted in ipairs(redis.call('LRANGE', K.actions, 0, 9)) do
    if noted == action then return true end
  end
  return false
end
