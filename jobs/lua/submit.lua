-- Accept an event job, if its id is new, and the quotas allow it. The caller publishes its message; if it
-- dies before that, the sweeper does.
-- life_ms: after which its code is of no use, 0 for never; term: when that is, for which `num` is sealed, or ""
-- is_last: "1" to accept a term that is too early; reference: the caller's name for it
-- token: the name of the token that asks; key: its idempotency key; both may be ""
-- trace: the traceparent of its acceptance, or ""
-- resend: "1" to send although another event has this number; quotas: see `spend`
-- known: what the caller remembers of the ledger (see identity.lua); call: one token for each call
-- Reply: {"new" | "known", hash of the job, what to remember from now on, outlook}
--      | {"same", hash of the other event's job, what to remember, outlook, its id, when its number opens or 0}
--      | {"bound", the same as of "same"}: the key was answered with that job before
--      | {"reused", the same, but for the last: what differs from when the key was answered with that job}
--   outlook, to reckon when it will be sent: {now, events that wait, limiter's record}
--      | {"quota", place of the quota that refuses, ms until it does not, what to remember} | {"refused"}
--      | {"clock", now}: the term is too far off: nothing was done, seal the number for another one
-- Twice with one token: "new" again, as the first answer was lost; "bound" after "same".
local A = arguments('id', 'cc', 'num', 'life_ms:number', 'term', 'is_last', 'reference', 'token', 'key',
  'trace', 'resend', 'known', 'call', 'quotas:rest')
local LEAST_OFF_MS, MOST_OFF_MS = 100, 1000
local MOST_BOUND = 100 -- keys to one job; a loop that has a new one each time fills no memory
local id = A.id
if refused(A.known) then return {'refused'} end
local remember = grow()
-- What is damaged there is mended by a sweep, and keeps no job out.
local function outlook()
  local waiting, pace = redis.pcall('LLEN', K.event_queue), redis.pcall('HGETALL', K.pace)
  return {int(NOW), type(waiting) == 'number' and waiting or 0, not pace.err and pace or {}}
end
if redis.call('EXISTS', K.job(id)) == 1 then
  local verdict = redis.call('HGET', K.job(id), 'call') == A.call and 'new' or 'known'
  return {verdict, record(id), remember, outlook()}
end
local index, reference = number_digest(A.cc, A.num), redis.sha1hex(A.reference)
-- Have the key answered with the other event's job from now on.
local function bind(other)
  local bound = redis.call('HGET', K.job(other), 'bound') or ''
  local _, count = string.gsub(bound, ',', '')
  if A.key == '' or count >= MOST_BOUND then return end
  redis.call('HSET', K.job(other), 'bound', bound .. id .. ' ' .. A.token .. ',')
  redis.call('HSET', K.bound(id), 'job', other, 'number', index, 'life_ms', int(A.life_ms), 'reference', reference)
  redis.call('PEXPIRE', K.bound(id), int(RETENTION_MS))
end
local function stands(verdict, other, last)
  return {verdict, record(other), remember, outlook(), other, last}
end
local function opens_at(other)
  return IS_SENT[redis.call('HGET', K.job(other), 'state')] and closed_until(A.cc, A.num, id)
end
local bound = fields(K.bound(id), 'job', 'number', 'life_ms', 'reference')
if bound.job and redis.call('EXISTS', K.job(bound.job)) == 1 then
  local differs = bound.number ~= index and 'number' or tonumber(bound.life_ms) ~= A.life_ms and 'expires_in'
    or bound.reference ~= reference and 'reference'
  if differs then return stands('reused', bound.job, differs) end
  if A.resend ~= '1' then return stands('bound', bound.job, int(opens_at(bound.job) or 0)) end
end
local asked = K.asked(index)
local other = A.resend ~= '1' and redis.call('GET', asked)
if other then
  local first = fields(K.job(other), 'state', 'not_after')
  -- one that is of no use any more before this one would be does not stand for it
  local lasts = not first.not_after
    or A.life_ms > 0 and tonumber(first.not_after) >= NOW + A.life_ms
  local opens = opens_at(other)
  if first.state and (opens or lasts and not FINAL[first.state]) then
    bind(other)
    return stands('same', other, int(opens or 0))
  end
end
local off_ms = A.term ~= '' and tonumber(A.term) - A.life_ms - NOW or 0
local tolerance_ms = math.min(MOST_OFF_MS, math.max(LEAST_OFF_MS, A.life_ms / 20))
if off_ms > tolerance_ms or off_ms < -tolerance_ms and A.is_last ~= '1' then return {'clock', int(NOW)} end
local rule, place, wait_ms = spend(A.quotas)
if rule then return {'quota', place, int(wait_ms), remember} end
make_job(id, A.cc, A.num, 'event', nil, A.term)
redis.call('HSET', K.job(id), 'state', 'queued', 'published', int(NOW), 'call', A.call)
if A.term ~= '' then redis.call('HSET', K.job(id), 'not_after', A.term, 'expires_in', int(A.life_ms)) end
for _, name in ipairs({'reference', 'token', 'key', 'trace'}) do
  if A[name] ~= '' then redis.call('HSET', K.job(id), name, A[name]) end
end
redis.call('SET', asked, id, 'PX', DAY_MS)
count_event('event', 1)
schedule(id, 'event', NOW + patience_ms('event'))
return {'new', record(id), remember, outlook()}
