-- What people did, and what happened to each job, for people to read.

-- The list of actions, the newest first.

-- An action as it is noted: done now.
local function dated(action)
  return (string.gsub(action, '"at_ms":0', '"at_ms":' .. int(NOW), 1))
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
  for _, done in ipairs(redis.call('LRANGE', K.actions, 0, 9)) do
    if token_of(done) == token_of(action) then return true end
  end
  return false
end

-- Add an entry to a job's story; its time 0 means now. A story keeps its beginning and its end: that of a
-- job that is throttled for days must not grow.
local function add_story(id, entry)
  if entry == '' then return end
  local FIRST, LAST = 20, 80
  if string.sub(entry, 1, 3) == '[0,' then entry = '[' .. int(NOW) .. string.sub(entry, 3) end
  local n = redis.call('HINCRBY', K.job(id), 'told', 1)
  redis.call('HSET', K.job(id), 'story:' .. n, entry)
  if n - LAST > FIRST then redis.call('HDEL', K.job(id), 'story:' .. n - LAST) end
end

-- The last try's worker died, or could not report the answer in time.
local function note_lost_outcome(id, open)
  local left, kind = string.match(open, '^(%d+):(.*)$')
  add_story(id, '[' .. left .. ',"' .. (kind == 'first' and 'attempt' or kind) .. '","","",null,'
    .. '"outcome not known: its worker was lost, or could not tell it in time"]')
  redis.call('HDEL', K.job(id), 'open')
end
