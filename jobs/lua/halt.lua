-- Halt the account's sending, or let it go on. While an account is halted by what the API answered,
-- one job tries again from time to time (see sweep); a person's halt lets none.
-- ARGV: "halt", by ("api" | "person"), action, code, message, canary_ms | "resume", by, action
--   action: a person's, for the list of actions, else ""
--   an API's success resumes only what the API halted
-- Reply: 1 if this call did something, 0 if it was so already or may not be
local before = redis.call('HMGET', K.account, 'state', 'by')
local state = before[1] or 'running'
local now = now_ms()
local function note_action()
  if ARGV[3] == '' then return end
  redis.call('LPUSH', K.actions, ARGV[3])
  redis.call('LTRIM', K.actions, 0, 9999)
end
if ARGV[1] == 'halt' then
  if state == 'halted' and (ARGV[2] == 'api' or before[2] == 'person') then
    return 0
  end
  redis.call('DEL', K.account)
  redis.call('HSET', K.account, 'state', 'halted', 'by', ARGV[2], 'code', ARGV[4],
    'message', ARGV[5], 'since', int(now), 'canary_due', int(now + tonumber(ARGV[6])))
  note_action()
  return 1
end
if state == 'halted' and ARGV[2] == 'api' and before[2] == 'person' then
  return 0
end
redis.call('DEL', K.account)
if state ~= 'halted' then return 0 end
note_action()
return 1
