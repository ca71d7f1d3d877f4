-- Lay a job aside until a time. Only for the holder of its lease.
-- reason: "interval" (its number is closed to every job until then) | "too often" (one of the long waits) | ""
-- doubt, counts, story, arrived, undocumented: of the last try, see begin
-- Reply: {"ok", hash of the job as it is now, as JSON} | {"lost"}
-- Twice with one token: ok again.
local A = arguments('id', 'token', 'wait_ms:number', 'code', 'message', 'reason', 'doubt', 'counts', 'story',
  'arrived', 'undocumented?')
local id, token, wait_ms = A.id, A.token, A.wait_ms
note_arrival(A.arrived) -- whoever has the job by now
local job = fields(K.job(id), 'lease', 'state', 'cc', 'num', 'lane', 'batch', 'doubt', 'by')
if job.lease ~= token then return job.by == token and {'ok', cjson.encode(record(id))} or {'lost'} end
local doubt = job.doubt
local doubt_before = settle_try(id, A)
if A.doubt == 'clear' then doubt = doubt_before end
redis.call('HSET', K.job(id), 'by', token, 'code', A.code, 'message', A.message)
if A.reason == 'too often' then redis.call('HINCRBY', K.job(id), 'waits', 1) end
if A.reason == 'interval' then
  close_number(job.cc, job.num, id, NOW + wait_ms)
  redis.call('HSET', K.job(id), 'early', 1) -- begin.lua says why
elseif not doubt then
  open_number(job.cc, job.num, id)
end
park(id, job.batch, job.lane, job.state, NOW + wait_ms, doubt)
return {'ok', cjson.encode(record(id))}
