-- What people did, the newest first.

-- An action as it is noted: done now.
local function dated(action)
  return (string.gsub(action, '"at_ms":0', '"at_ms":' .. int(now_ms()), 1))
end

-- How an action begins, by which it is known again.
local function token_of(action)
  return string.match(action, '^{"token":"[^"]*"') or action
end

local function note_action(action)
  redis.call('LPUSH', K.actions, dated(action))
  redis.call('LTRIM', K.actions, 0, 9999)
end

-- Whether this very action was noted before: its answer was lost, and the client asked again. A few
-- others may have come between.
local function is_noted(action)
  for _, noted in ipairs(redis.call('LRANGE', K.actions, 0, 9)) do
    if token_of(noted) == token_of(action) then return true end
  end
  return false
end
