-- Accept an event job, if its id is new. The caller publishes its message; if it dies before that,
-- the sweeper does.
-- ARGV: id, cc, num, not_after_ms (0: none), grace_ms, what the caller remembers of the ledger (see
--   identity.lua), call (one token for each call)
-- Reply: {"new" | "known", hash of the job, what to remember from now on} | {"refused"}
-- Twice with one token: "new" again, as the first answer was lost.
local id, cc, num, not_after, call = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[7]
if refused(ARGV[6]) then return {'refused'} end
local now = now_ms()
local seen = grow(now)
if redis.call('EXISTS', K.job(id)) == 1 then
  return {redis.call('HGET', K.job(id), 'call') == call and 'new' or 'known', record(id), seen}
end
redis.call('HSET', K.job(id), 'state', 'queued', 'cc', cc, 'num', num, 'lane', 'event',
  'created', int(now), 'published', int(now), 'attempts', 0, 'tries', 0, 'call', call)
if not_after > 0 then redis.call('HSET', K.job(id), 'not_after', int(not_after)) end
count_event('event', 1)
look_again(id, 'event', now + patience_ms('event', tonumber(ARGV[5])))
return {'new', record(id), seen}
