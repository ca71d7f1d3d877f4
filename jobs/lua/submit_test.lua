-- Record the job of a test token, if its id is new. It is recorded as ended: it is in no index, no message
-- is published for it, it closes no number and counts in no quota. Its lane is "test": in every release
-- `claim` grants the lanes event and batch alone, whatever else becomes of the record.
-- life_ms, reference, token, key, known, call: see submit.lua; the others: how it ended (jobs/magic_numbers.py)
-- Reply: {"new" | "known", hash of the job, what to remember from now on} | {"refused"}
-- Twice with one call: "new" again, as the first answer was lost.
local A = arguments('id', 'cc', 'num', 'life_ms:number', 'reference', 'token', 'key', 'state', 'code',
  'message', 'attempts', 'duplicate', 'story', 'known', 'call')
local id = A.id
if refused(A.known) then return {'refused'} end
local remember = grow()
if redis.call('EXISTS', K.job(id)) == 1 then
  return {redis.call('HGET', K.job(id), 'call') == A.call and 'new' or 'known', record(id), remember}
end
make_job(id, A.cc, A.num, 'test', nil)
redis.call('HSET', K.job(id), 'state', A.state, 'code', A.code, 'message', A.message,
  'attempts', A.attempts, 'finished', int(NOW), 'call', A.call)
if A.life_ms > 0 then redis.call('HSET', K.job(id), 'expires_in', int(A.life_ms)) end
if A.duplicate == '1' then redis.call('HSET', K.job(id), 'dup', 1) end
for _, name in ipairs({'reference', 'token', 'key'}) do
  if A[name] ~= '' then redis.call('HSET', K.job(id), name, A[name]) end
end
add_story(id, A.story)
redis.call('HINCRBY', K.totals, 'test', 1)
keep(id, RETENTION_MS)
note_outcome(id, A.state)
return {'new', record(id), remember}
