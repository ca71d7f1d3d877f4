-- Accept an event job, if its id is new. The caller publishes its message; if it dies before that,
-- the sweeper does.
-- life_ms: after which its code is of no use, 0 for never; reference: the caller's name for it
-- known: what the caller remembers of the ledger (see identity.lua); call: one token for each call
-- Reply: {"new" | "known", hash of the job, what to remember from now on} | {"refused"}
-- Twice with one token: "new" again, as the first answer was lost.
local A = arguments('id', 'cc', 'num', 'life_ms:number', 'reference', 'grace_ms:number', 'known', 'call')
local id, now = A.id, now_ms()
if refused(A.known) then return {'refused'} end
local remember = grow(now)
if redis.call('EXISTS', K.job(id)) == 1 then
  return {redis.call('HGET', K.job(id), 'call') == A.call and 'new' or 'known', record(id), remember}
end
make_job(id, A.cc, A.num, 'event', nil, now)
redis.call('HSET', K.job(id), 'state', 'queued', 'published', int(now), 'call', A.call)
if A.life_ms > 0 then
  redis.call('HSET', K.job(id), 'life', int(A.life_ms), 'not_after', int(now + A.life_ms))
end
if A.reference ~= '' then redis.call('HSET', K.job(id), 'reference', A.reference) end
count_event('event', 1)
look_again(id, 'event', now + patience_ms('event', A.grace_ms))
return {'new', record(id), remember}
