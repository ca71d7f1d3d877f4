-- Halt the account's sending, or let it go on. While an account is halted by what the API answered,
-- one job tries again from time to time (see sweep); a person's halt lets none.
-- ARGV: "halt", by ("api" | "person"), action, code, message, worker, canary_ms 
--   | "resume", by, action, left_ms
--   action: a person's, for the list of actions, else ""
--   an API's success resumes only what the API halted, before the request left (0: the canary's)
-- Reply: 1 if this call did something, 0 if it was so already or may not be
-- Twice with one action: 1 again.
local verb, by, action = ARGV[1], ARGV[2], ARGV[3]
if action ~= '' and is_noted(action) then return 1 end
local before = fields(K.account, 'state', 'by', 'halted')
local is_halted = before.state == 'halted'
if verb == 'halt' then
  if is_halted and (by == 'api' or before.by == 'person') then return 0 end
  local canary_ms = tonumber(ARGV[7])
  halt_account(by, ARGV[4], ARGV[5], ARGV[6], canary_ms, canary_ms, now_ms(), {})
else
  local left = tonumber(ARGV[4]) or 0
  if is_halted and by == 'api' and (before.by == 'person'
      or left > 0 and left <= tonumber(before.halted or 0)) then
    return 0
  end
  local stood_down = by == 'person' and redis.call('EXISTS', K.refused) == 1
  if is_halted or by == 'person' then resume_account(by, now_ms()) end
  if not is_halted and not stood_down then return 0 end
end
if action ~= '' then note_action(action) end
return 1
