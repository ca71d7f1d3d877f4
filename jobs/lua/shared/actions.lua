-- What people did, the newest first.

local function note_action(action)
  redis.call('LPUSH', K.actions, action)
  redis.call('LTRIM', K.actions, 0, 9999)
end
