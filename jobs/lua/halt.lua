-- Halt the account's sending, or let it go on. While an account is halted by what the API answered,
-- one job tries again from time to time (see sweep); while a person halts it, no job does.
-- verb: "halt" | "resume"; by: "api" | "person"; action: a person's, for the list of actions, else ""
-- left_ms: an API's success resumes only what the API halted, before its request left (0: the canary's)
-- Reply: 1 if this call did something, 0 if it was so already or may not be
-- Twice with one action: 1 again.
local A = arguments('verb', 'by', 'action', 'code?', 'message?', 'worker?', 'left_ms?:number')
local by, action = A.by, A.action
if action ~= '' and is_noted(action) then return 1 end
local before = fields(K.account, 'state', 'by', 'halted')
local is_halted = before.state == 'halted'
if A.verb == 'halt' then
  if is_halted and (by == 'api' or before.by == 'person') then return 0 end
  halt_account(by, A.code, A.message, A.worker, CANARY_MS, {})
else
  local left = A.left_ms or 0
  if is_halted and by == 'api' and (before.by == 'person'
      or left > 0 and left <= tonumber(before.halted or 0)) then
    return 0
  end
  local stood_down = by == 'person' and redis.call('EXISTS', K.refused) == 1
  if is_halted or by == 'person' then resume_account(by) end
  if not is_halted and not stood_down then return 0 end
end
if action ~= '' then note_action(action) end
return 1
