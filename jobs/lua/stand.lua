-- Find out whether a worker may take work. Each asks every second.
-- Reply: {"working"} | {"stood down" | "halted now" | "halted" (none is left to go on), what is refused
--   of it, JSON}
local A = arguments('entry', 'canary_ms:number')
local entry, canary_ms, now = A.entry, A.canary_ms, now_ms()
local why = refusal_of(entry)
if why then return {stand_down(entry, canary_ms, now), why} end
if not can_send(entry) then return {'working'} end
-- One is here that holds something else: what halted the others is not known to concern it.
local account = fields(K.account, 'state', 'by', 'refused')
if account.state == 'halted' and account.by == 'api' and account.refused then
  redis.call('HSET', K.account, 'state', 'running', 'ended', int(now))
  redis.call('HDEL', K.account, 'canary', 'canary_due', 'refused')
  redis.call('PEXPIRE', K.account, REMEMBERED_MS)
end
return {'working'}
