-- What happened to a job, for a person to read.

-- An entry whose time is 0 is of now. A job's story keeps its beginning and its end: one that is throttled
-- for days must not grow.
local function tell_story(id, story)
  if story == '' then return end
  local FIRST, LAST = 20, 80
  if string.sub(story, 1, 3) == '[0,' then story = '[' .. int(now_ms()) .. string.sub(story, 3) end
  local n = redis.call('HINCRBY', K.job(id), 'told', 1)
  redis.call('HSET', K.job(id), 'story:' .. n, story)
  if n - LAST > FIRST then redis.call('HDEL', K.job(id), 'story:' .. n - LAST) end
end

-- The last try's worker died, or could not say in time what was answered.
local function tell_of_lost_outcome(id, open)
  local left, kind = string.match(open, '^(%d+):(.*)$')
  tell_story(id, '[' .. left .. ',"' .. (kind == 'first' and 'attempt' or kind) .. '","","",null,'
    .. '"outcome not known: its worker was lost, or could not tell it in time"]')
  redis.call('HDEL', K.job(id), 'open')
end
